package ranges

import (
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/raftgroup"
)

// Until stores promise each other what section 6 of the design says, silence
// elects: a replica that heard nothing of a leader for some time stands for
// election. That is right only as long as who is silent is dead.
type standIn struct {
	heardAt clock.Time
}

const (
	silenceMax   = 400 * time.Millisecond
	silenceStep  = 150 * time.Millisecond
	groupTickMin = 50 * time.Millisecond
)

// holdsLease reports whether this leader may answer from memory at this moment.
func (r *Replica) holdsLease() bool { return r.leading != 0 }

// firstVoter reports whether the replica is the one that leads when all is well.
func (s *Store) firstVoter(r *Replica) bool {
	return r.desc.Replicas[0].StoreId == uint64(s.cfg.StoreID)
}

// heardFrom notes a message of a leader.
func (r *Replica) heardFrom(m *raftgroup.Message) {
	if m.GetTerm() >= r.group.Term() {
		r.heardAt = r.store.now
	}
}

// tickGroups lets leaders repeat what was lost, and others stand for election.
func (s *Store) tickGroups() {
	if s.now.Sub(s.groupsAt) < groupTickMin {
		return
	}
	s.groupsAt = s.now
	for _, id := range s.IDs() {
		r := s.replicas[id]
		if len(r.desc.Replicas) == 1 {
			continue
		}
		if r.group.IsLeader() {
			r.heardAt = s.now
			s.try(r, r.group.Tick())
			continue
		}
		place := 0
		for i, repl := range r.desc.Replicas {
			if repl.StoreId == uint64(s.cfg.StoreID) {
				place = i
			}
		}
		if r.heardAt == 0 {
			r.heardAt = s.now
		}
		if s.now.Sub(r.heardAt) < silenceMax+time.Duration(place)*silenceStep {
			continue
		}
		r.heardAt = s.now
		s.try(r, r.group.ForgetLeader())
		s.campaign(r)
	}
}

func (s *Store) try(r *Replica, err error) {
	if err != nil {
		s.fail(err)
	}
	s.mark(r)
}

// neededBelow returns up to where a log may be cut that is to be cut at index: no
// replica lacks what goes. Who does not lead does not know.
func (r *Replica) neededBelow(index uint64) uint64 {
	if len(r.desc.Replicas) == 1 {
		return index
	}
	if !r.group.IsLeader() {
		return 0
	}
	r.group.Progress(func(p raftgroup.PeerProgress) { index = min(index, p.Match) })
	return index
}
