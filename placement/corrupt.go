package placement

import (
	"cmp"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// A replica whose data is corrupt is noted in the system range, so that whoever plans
// has it replaced. The note goes when the range's descriptor is without the replica;
// the alarm stays until an operator has seen it and disarms it, as in etcd.
//
// In etcd the alarm CORRUPT ends all service, because nobody knows who is right. Here
// the replicas that agree are known, and nothing is served from the others: the alarm
// is contained, and what it names is only to be looked at. It ends service if no
// majority of replicas agrees, for the range, and if an operator raises it. Of such
// replicas there is only the alarm: an operator may say that one of them is right, and
// what was noted here could come behind that.

// Corrupt is a replica whose data was found to be corrupt.
type Corrupt struct {
	Range   metapb.RangeID
	Replica metapb.ReplicaID
	// Undecided: replicas differ, and nobody can say which of them are right. Older
	// versions noted such.
	Undecided bool
}

func compareCorrupt(a, b Corrupt) int {
	return cmp.Or(cmp.Compare(a.Range, b.Range), cmp.Compare(a.Replica, b.Replica))
}

// Corrupt returns the replicas whose data was found to be corrupt, by range and
// replica. It must not be changed.
func (s *System) Corrupt() []Corrupt { return s.applied.corrupt }

func (f *facts) setCorrupt(name string, value []byte, deleted bool) error {
	c, err := decodeCorrupt(name, value)
	if err != nil {
		return err
	}
	i, ok := slices.BinarySearchFunc(f.corrupt, c, compareCorrupt)
	// Not changed in place: others have the slice.
	switch {
	case deleted && ok:
		f.corrupt = slices.Delete(slices.Clone(f.corrupt), i, i+1)
	case !deleted && !ok:
		f.corrupt = slices.Insert(slices.Clone(f.corrupt), i, c)
	case !deleted:
		f.corrupt = slices.Clone(f.corrupt)
		f.corrupt[i] = c
	}
	return nil
}

// condemn notes that a replica is corrupt, if it is there.
func (f *facts) condemn(o *CorruptOp) ([]*cmdpb.Row, any) {
	there := false
	f.dir.Visit(metapb.Span{}, func(d *metapb.Descriptor) bool {
		there = d.ID() == o.Range && slices.ContainsFunc(d.Replicas, func(r *metapb.Replica) bool { return r.ReplicaId == uint64(o.Replica) })
		return d.ID() != o.Range
	})
	if !there {
		return nil, &AlarmReply{}
	}
	c := Corrupt{Range: o.Range, Replica: o.Replica, Undecided: o.Undecided}
	a := Alarm{Type: pb.AlarmType_CORRUPT, Member: o.Member, Contained: true}
	reply := &AlarmReply{Alarms: []Alarm{a}}
	var rows []*cmdpb.Row
	if !o.Undecided {
		if i, ok := slices.BinarySearchFunc(f.corrupt, c, compareCorrupt); ok && f.corrupt[i] == c {
			return nil, reply
		}
		rows = append(rows, setRow(corruptName(c), []byte{0}))
	}
	if _, active := f.active(a); !active {
		rows = append(rows, alarmRow(a))
	}
	return rows, reply
}

// mended forgets corrupt replicas that are not in their range any more.
func (f *facts) mended(d *metapb.Descriptor) (rows []*cmdpb.Row) {
	for _, c := range f.corrupt {
		if c.Range == d.ID() && !slices.ContainsFunc(d.Replicas, func(r *metapb.Replica) bool { return r.ReplicaId == uint64(c.Replica) }) {
			rows = append(rows, deleteRow(corruptName(c)))
		}
	}
	return rows
}
