package ranges

import (
	"fmt"
	"time"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/raftgroup"
)

// needed returns up to where every replica has the log. One on a dead store counts:
// as long as no snapshot can bring it up, it has to find its entries.
func (r *Replica) needed() uint64 {
	lowest := r.state.index
	r.group.Progress(func(p raftgroup.PeerProgress) {
		if p.ReplicaID != r.id {
			lowest = min(lowest, p.Match)
		}
	})
	return lowest
}

// cutLogsEvery is how often logs are cut. Each cut deletes a span, and the first reader after
// that of the rows that the engine has in memory puts all such spans in order again: with
// thousands of ranges the logs of many are cut together.
const cutLogsEvery = 100 * time.Millisecond

// cutLater has the log cut, when it has grown too long, with those of others.
func (r *Replica) cutLater() {
	if r.group.LogBytes() >= r.cutAt {
		r.cutSoon()
	}
}

// cutSoon has the log cut with those of others.
func (r *Replica) cutSoon() {
	if !r.uncut {
		r.uncut = true
		r.store.uncut = append(r.store.uncut, r)
	}
}

// cutsDue reports whether logs are to be cut now.
func (s *Store) cutsDue() bool { return len(s.uncut) > 0 && !s.now.Before(s.cutLogsAt) }

// cutLogs cuts the logs whose turn it is.
func (s *Store) cutLogs() error {
	if !s.cutsDue() {
		return nil
	}
	s.cutLogsAt = s.now.Add(cutLogsEvery)
	for _, r := range s.uncut {
		r.uncut = false
		if r.gone {
			continue
		}
		if err := r.cutLog(s.applyBatch()); err != nil {
			return fmt.Errorf("range %d: %w", r.desc.RangeId, err)
		}
	}
	clear(s.uncut)
	s.uncut = s.uncut[:0]
	return nil
}

// cutLog cuts a log that has grown too long. Alone in its group a replica
// needs nothing that it has applied: the effects come before the cut in the same
// engine log. With others it keeps what one of them may lack, up to a point.
//
// What is cut before the engine writes its memory out never reaches a table. So all
// logs of a store together are kept small beside that memory.
func (r *Replica) cutLog(b engine.Batch) error {
	if err := r.dropHolds(); err != nil {
		return err
	}
	index := r.state.index
	if !r.single() {
		needed := r.group.CutHint()
		if r.group.IsLeader() {
			needed = r.needed()
		}
		if needed < index {
			behind, err := r.group.CutIndex(r.store.cfg.LogBehindBytesMax)
			if err != nil {
				return err
			}
			index = min(index, max(needed, behind))
		}
	}
	if err := r.group.Truncate(b, index); err != nil {
		return err
	}
	r.cutAt = r.group.LogBytes() + r.store.logShare()
	return nil
}

// dropHolds gives snapshots up that take so long that the log grows too much behind
// them.
func (r *Replica) dropHolds() error {
	held, err := r.group.HeldBytes()
	if err != nil || held <= r.store.cfg.LogHeldBytesMax {
		return err
	}
	r.endSnapshots()
	return nil
}

// endSnapshots has all snapshots of the replica given up.
func (r *Replica) endSnapshots() {
	for _, to := range r.group.DropHolds() {
		r.store.out.SnapshotsLost = append(r.store.out.SnapshotsLost, WantedSnapshot{Range: r.desc.ID(), To: r.storeOf(to), Replica: to})
	}
}

// logShare is by how much a log grows until it is cut.
func (s *Store) logShare() uint64 {
	return max(s.cfg.LogBytesMax/uint64(max(len(s.replicas), 1)), s.cfg.LogShareMin)
}

// A range at rest needs no log: all its replicas have everything. A start of a store would
// read the last entry of each, and of ten thousand ranges with large values that is what it
// would do for most of the time. So a leader that has rested for long cuts its log, if that is
// not small, and says so in a last heartbeat.

const (
	// restedAfter is how long a range rests until its log is cut: one that is written to now
	// and then does it when the log has grown.
	restedAfter = 5 * time.Second
	// restsMax bounds the ranges of which a heartbeat says so at once: together they begin
	// to rest when their store does.
	restsMax = 256
)

// rest is a leader that began to rest at some time, or earlier.
type rest struct {
	r  *Replica
	at clock.Time
}

// longLog reports whether the log is larger than that of a range at rest should be.
func (r *Replica) longLog() bool { return r.group.LogBytes() > r.store.cfg.LogRestBytesMax }

// rests notes that this leader rests.
func (r *Replica) rests() {
	if r.restedAt = r.store.now; !r.restNoted && r.longLog() {
		r.restNoted = true
		r.store.peers.resting = append(r.store.peers.resting, rest{r, r.restedAt})
	}
}

// tickRests has those leaders cut their logs that have rested long enough.
func (s *Store) tickRests() {
	p := &s.peers
	for range restsMax {
		if len(p.resting) == 0 || s.now.Before(p.resting[0].at.Add(restedAfter)) {
			break
		}
		x := p.resting[0]
		p.resting[0] = rest{} // it may be gone for good
		p.resting = p.resting[1:]
		switch r := x.r; {
		case r.gone || r.awake || !r.group.IsLeader() || !r.longLog():
			r.restNoted = false // when it rests again it is noted again
		case r.restedAt.After(x.at):
			p.resting = append(p.resting, rest{r, r.restedAt})
		default:
			r.restNoted = false
			r.cutSoon()
			if err := r.heartbeat(); err != nil {
				s.fail(fmt.Errorf("range %d: %w", r.desc.RangeId, err))
			}
		}
	}
}

// heardRest cuts the log of a follower when its leader says that nobody needs any of it.
func (r *Replica) heardRest() {
	if last := r.group.LastIndex(); r.longLog() && last == r.state.index && last <= r.group.CutHint() {
		r.cutSoon()
	}
}
