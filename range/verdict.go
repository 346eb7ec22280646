package ranges

import (
	"slices"

	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// Verdict is what a check says about the replicas of a range. Each is in one of the
// lists, by id.
type Verdict struct {
	Equal, Corrupt, Missing []metapb.ReplicaID
	// Undecided: some differ, and there is no majority that agrees. They are in none
	// of the lists.
	Undecided []metapb.ReplicaID
}

// Judge compares what the replicas of a range answered to a check. A majority of all
// voters decides: fewer could be those that are corrupt. Who cannot read what it has
// is corrupt whatever others have, if only one of them can.
func Judge(d *metapb.Descriptor, answers map[metapb.ReplicaID]peerpb.CheckMessage) Verdict {
	voters, readable := 0, 0
	votes := make(map[string]int)
	best := ""
	for _, p := range d.Replicas {
		a, ok := answers[metapb.ReplicaID(p.ReplicaId)]
		done := ok && a.State == peerpb.CheckDone
		if done {
			readable++
		}
		if p.Kind == metapb.ReplicaKind_LEARNER {
			continue
		}
		voters++
		if done {
			votes[string(a.Sum)]++
			if votes[string(a.Sum)] > votes[best] {
				best = string(a.Sum)
			}
		}
	}
	decided := 2*votes[best] > voters
	var v Verdict
	for _, p := range d.Replicas {
		id := metapb.ReplicaID(p.ReplicaId)
		switch a := answers[id]; {
		case a.State == peerpb.CheckUnreadable && readable > 0:
			v.Corrupt = append(v.Corrupt, id)
		case a.State == peerpb.CheckUnreadable:
			v.Undecided = append(v.Undecided, id)
		case a.State != peerpb.CheckDone:
			v.Missing = append(v.Missing, id)
		case decided && string(a.Sum) != best:
			v.Corrupt = append(v.Corrupt, id)
		case decided || len(votes) <= 1:
			v.Equal = append(v.Equal, id)
		default:
			v.Undecided = append(v.Undecided, id)
		}
	}
	for _, ids := range []*[]metapb.ReplicaID{&v.Equal, &v.Corrupt, &v.Missing, &v.Undecided} {
		slices.Sort(*ids)
	}
	return v
}

// Clone returns a copy.
func (v Verdict) Clone() Verdict {
	return Verdict{slices.Clone(v.Equal), slices.Clone(v.Corrupt), slices.Clone(v.Missing), slices.Clone(v.Undecided)}
}

// Confirms reduces a verdict to what an earlier one said as well.
func (v Verdict) Confirms(first Verdict) Verdict {
	v.Corrupt = slices.DeleteFunc(v.Corrupt, func(id metapb.ReplicaID) bool { return !slices.Contains(first.Corrupt, id) })
	v.Undecided = slices.DeleteFunc(v.Undecided, func(id metapb.ReplicaID) bool { return !slices.Contains(first.Undecided, id) })
	return v
}
