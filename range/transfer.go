package ranges

import (
	"slices"
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/raftgroup"
)

// A transfer hands a range's leadership to another replica. It waits, as a split
// does, until nothing is locked, though not longer than a lock without an intent
// lives: locks with intents are in the log, and the next leader has them too. It waits
// until the other replica lacks little. Then nothing more is evaluated until what was is
// applied, so that every revision that was given out is used. When the other replica has the whole log it is told to
// take over, and from then on this leader answers nothing from memory: it cannot
// know when the other one begins. What waits in its queue is refused when that has
// happened, and goes there.

type transfer struct {
	to metapb.ReplicaID
	// locksUntil is how long locks are waited for, until when the rest.
	locksUntil, until clock.Time
	frozen            bool // nothing is evaluated
	sent              bool // the other may have been told, at tellAt it is again
	tellAt            clock.Time
}

// stops reports whether nothing may be evaluated.
func (t *transfer) stops() bool { return t != nil && t.frozen }

// Transfer begins to hand the leadership of a range to a store. An error says that
// nothing was begun; else it is done when another store leads the range, or it was
// given up if the replica could not be brought up in time, or its store died: who wants
// to know looks at Leads and Transferring.
func (s *Store) Transfer(id metapb.RangeID, to metapb.StoreID) error {
	r := s.replicas[id]
	if r == nil {
		return peerpb.ErrRangeNotFound
	}
	if r.leading == 0 {
		return peerpb.ErrNotLeader
	}
	repl := r.desc.ReplicaOn(to)
	if repl == nil || to == s.cfg.StoreID || !stays(repl) || !s.Live(to) || r.progressOf(metapb.ReplicaID(repl.ReplicaId)).Snapshot {
		// A snapshot may take far longer than a transfer, which keeps transactions away.
		return peerpb.ErrRefused
	}
	if r.leaving != nil {
		return nil
	}
	timeout := s.peers.live.ElectionTimeout()
	r.leaving = &transfer{
		to:         metapb.ReplicaID(repl.ReplicaId),
		locksUntil: s.now.Add(s.cfg.LockAgeMax),
		until:      s.now.Add(s.cfg.LockAgeMax + 2*timeout),
	}
	r.splits++ // keeps transactions from taking locks
	s.watchClock(r)
	s.mark(r)
	return nil
}

// Heirs returns the stores to which the leadership of a range that is led here could
// go, in order of id: live ones with a voter, and if there are any, those that lack
// little. Entries may be large: one for which they are few may need a snapshot. Nor does one
// count to which a transfer was given up, as where its disk stands still: each time takes long.
func (s *Store) Heirs(id metapb.RangeID) []metapb.StoreID {
	r := s.replicas[id]
	if r == nil || !r.group.IsLeader() {
		return nil
	}
	var near, far []metapb.StoreID
	r.group.Progress(func(p raftgroup.PeerProgress) {
		store := r.storeOf(p.ReplicaID)
		repl := r.desc.ReplicaOn(store)
		switch {
		case repl == nil, store == s.cfg.StoreID, !stays(repl), !s.Live(store), p.Snapshot:
		case r.isNear(p) && p.ReplicaID != r.balked:
			near = append(near, store)
		default:
			far = append(far, store)
		}
	})
	if len(near) == 0 {
		near = far
	}
	slices.Sort(near)
	return near
}

// SetLeaving says that the store is about to stop: its replicas stand for no
// election, for others can.
func (s *Store) SetLeaving(leaving bool) { s.peers.leaving = leaving }

// Transferring reports whether the leadership is being handed over.
func (r *Replica) Transferring() bool { return r.leaving != nil }

// advanceTransfer does the next step of a transfer, if it can be done.
func (r *Replica) advanceTransfer() {
	t, s := r.leaving, r.store
	if t == nil || r.leading == 0 {
		return
	}
	s.watchClock(r)
	if t.sent {
		r.tellAgain()
		return
	}
	if s.now.After(t.until) || !s.Live(r.storeOf(t.to)) {
		r.giveUpTransfer()
		return
	}
	if !t.frozen {
		if r.splitting() || !r.locks.idle() && s.now.Before(t.locksUntil) || !r.caughtUp(t.to) {
			return
		}
		t.frozen = true
	}
	if r.asked == nil && len(r.inflight) == 0 && r.has(t.to) {
		r.tell(t.to)
	}
}

// splitting reports whether a split is under way, which goes first.
func (r *Replica) splitting() bool { return r.frozen || len(r.rights) > 0 }

// has reports whether a replica has the whole log, and knows who counts: else it would not do
// what it is told.
func (r *Replica) has(id metapb.ReplicaID) (all bool) {
	r.group.Progress(func(p raftgroup.PeerProgress) {
		all = all || p.ReplicaID == id && !p.Learner && p.Match == r.group.LastIndex() && p.Known >= r.confIndex
	})
	return all
}

// tell has a replica take over. From here on there is no way back.
func (r *Replica) tell(to metapb.ReplicaID) {
	s, t := r.store, r.leaving
	if r.lead != nil {
		s.peers.live.GiveUp(r.lead)
	}
	if r.expirer != nil {
		r.expirer.Renewals().SetLease(0)
	}
	t.sent, t.to = true, to
	t.tellAt = s.now.Add(tellEvery * s.peers.live.HeartbeatInterval())
	if err := r.group.TransferLeader(to); err != nil {
		s.fail(err)
	}
	s.mark(r)
	r.wake()
}

// tellEvery is after how many heartbeats without effect another replica is told.
const tellEvery time.Duration = 3

// tellAgain tells another replica to take over, when one was told and does not: the
// message may be lost, and this leader is of no use any more.
func (r *Replica) tellAgain() {
	s, t := r.store, r.leaving
	if s.now.Before(t.tellAt) {
		return
	}
	t.tellAt = s.now.Add(tellEvery * s.peers.live.HeartbeatInterval())
	under := r.group.Transferee()
	var next metapb.ReplicaID // the first in turn behind the last
	for _, repl := range r.desc.Replicas {
		id := metapb.ReplicaID(repl.ReplicaId)
		if id == r.id || id == under || !s.Live(metapb.StoreID(repl.StoreId)) || !r.has(id) {
			continue
		}
		if next == 0 || next <= t.to && id > t.to {
			next = id
		}
	}
	if next != 0 {
		r.tell(next)
	}
}

// giveUpTransfer goes on as leader.
func (r *Replica) giveUpTransfer() {
	r.leaving, r.balked = nil, r.leaving.to
	r.splits--
	if r.splits == 0 {
		r.releaseHeld()
	}
	r.store.mark(r)
}
