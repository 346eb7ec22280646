package ranges

import (
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/invariant"
	"github.com/flotilladb/flotilla/lease"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/raftgroup"
)

// A change of replicas is one entry that carries the next descriptor, and raft's
// configuration is what that says: the entry makes both apply, or neither. Like a
// split it takes its turn in the pipeline when nothing is locked, alone in its
// batch, and nothing is evaluated until it is applied: what is evaluated before has
// the old generation.
//
// What a move has done is in the descriptor alone: a learner that is there, a joint
// configuration. Whoever leads next goes on from that. A joint configuration is left
// by its leader without being asked. What is to become of a learner whose driver has
// ended is not for the range to say: whether it is needed depends on stores that it
// knows nothing of. The planner sees it in the descriptor, and makes it a voter or takes
// it out.

// caughtUpMax is how many entries a learner may lack when it becomes a voter.
const caughtUpMax = 256

// confOf returns the configuration that a descriptor describes.
func confOf(d *metapb.Descriptor) raftgroup.Conf {
	var c raftgroup.Conf
	joint := isJoint(d)
	for _, repl := range d.Replicas {
		id := metapb.ReplicaID(repl.ReplicaId)
		switch repl.Kind {
		case metapb.ReplicaKind_LEARNER:
			c.Learners = append(c.Learners, id)
		case metapb.ReplicaKind_VOTER:
			c.Voters = append(c.Voters, id)
			if joint {
				c.VotersOutgoing = append(c.VotersOutgoing, id)
			}
		case metapb.ReplicaKind_INCOMING:
			c.Voters = append(c.Voters, id)
		case metapb.ReplicaKind_OUTGOING:
			c.VotersOutgoing = append(c.VotersOutgoing, id)
		}
	}
	return c
}

// isJoint reports whether a range is between two sets of voters.
func isJoint(d *metapb.Descriptor) bool {
	return slices.ContainsFunc(d.Replicas, func(r *metapb.Replica) bool {
		return r.Kind == metapb.ReplicaKind_INCOMING || r.Kind == metapb.ReplicaKind_OUTGOING
	})
}

// stays reports whether a replica votes, and will when no change of voters is under way any
// more.
func stays(p *metapb.Replica) bool {
	return p.Kind == metapb.ReplicaKind_VOTER || p.Kind == metapb.ReplicaKind_INCOMING
}

// hasReplica reports whether a replica id is in a descriptor.
func hasReplica(d *metapb.Descriptor, id metapb.ReplicaID) bool {
	return slices.ContainsFunc(d.Replicas, func(r *metapb.Replica) bool { return r.ReplicaId == uint64(id) })
}

// evaluateChange takes a change of replicas into the batch if it is alone there and
// nothing is locked.
func (r *Replica) evaluateChange(b *batch, w *work, body *peerpb.ChangeReplicas) verdict {
	if !w.split {
		w.split = true
		r.splits++
	}
	next, err := r.nextReplicas(body)
	if err == nil && r.locks.stuck(r.store.now) { // as a split
		err = peerpb.ErrRefused
	}
	switch {
	case err != nil:
		r.splits--
		r.store.reply(w.req.ID, nil, err)
		return taken
	case !r.locks.idle():
		r.hold(w)
		return parks
	case !b.empty() || r.asked != nil:
		return cuts
	}
	b.command(&cmdpb.Command{Kind: &cmdpb.Command_Replicas{Replicas: &cmdpb.ReplicasCommand{Descriptor_: next}}})
	b.done(w.req.ID, &peerpb.ReplicasChanged{Descriptor: next})
	b.replicas = next
	b.splits = 1
	r.frozen = true
	return taken
}

// nextReplicas returns the descriptor that a change leads to.
func (r *Replica) nextReplicas(body *peerpb.ChangeReplicas) (*metapb.Descriptor, error) {
	next := proto.Clone(r.desc).(*metapb.Descriptor)
	next.Generation++
	joint := isJoint(next)
	if joint != body.Leave {
		return nil, peerpb.ErrBadChange
	}
	if body.Leave {
		if r.leavesItself() {
			return nil, peerpb.ErrLeaderLeaves
		}
		next.Replicas = slices.DeleteFunc(next.Replicas, func(p *metapb.Replica) bool {
			return p.Kind == metapb.ReplicaKind_OUTGOING
		})
		for _, p := range next.Replicas {
			if p.Kind == metapb.ReplicaKind_INCOMING {
				p.Kind = metapb.ReplicaKind_VOTER
			}
		}
		return next, nil
	}
	if body.Learner != 0 {
		if len(body.Promote)+len(body.Remove) > 0 || next.ReplicaOn(body.Learner) != nil {
			return nil, peerpb.ErrBadChange
		}
		next.Replicas = append(next.Replicas, &metapb.Replica{
			ReplicaId: next.NextReplicaId, StoreId: uint64(body.Learner), NodeId: uint64(body.Node),
			Kind: metapb.ReplicaKind_LEARNER,
		})
		next.NextReplicaId++
		return next, nil
	}
	return next, r.swap(next, body)
}

// swap turns learners into voters that come, and has replicas go.
func (r *Replica) swap(next *metapb.Descriptor, body *peerpb.ChangeReplicas) error {
	voters := len(body.Promote) > 0
	for _, store := range body.Promote {
		p := next.ReplicaOn(store)
		if p == nil || p.Kind != metapb.ReplicaKind_LEARNER {
			return peerpb.ErrBadChange
		}
		if !r.caughtUp(metapb.ReplicaID(p.ReplicaId)) {
			r.awaited = awaited{metapb.ReplicaID(p.ReplicaId), r.store.now.Add(awaitedFor)}
			return peerpb.ErrNotCaughtUp
		}
		p.Kind = metapb.ReplicaKind_INCOMING
	}
	for _, store := range body.Remove {
		p := next.ReplicaOn(store)
		switch {
		case p == nil || p.Kind == metapb.ReplicaKind_INCOMING || p.Kind == metapb.ReplicaKind_OUTGOING:
			return peerpb.ErrBadChange
		case store == r.store.cfg.StoreID:
			return peerpb.ErrLeaderLeaves
		case p.Kind == metapb.ReplicaKind_LEARNER && r.isAwaited(p):
			return peerpb.ErrNotCaughtUp // it is to be a voter, or nobody asks any more
		case p.Kind == metapb.ReplicaKind_LEARNER:
			next.Replicas = slices.DeleteFunc(next.Replicas, func(q *metapb.Replica) bool { return q == p })
		default:
			p.Kind, voters = metapb.ReplicaKind_OUTGOING, true
		}
	}
	if n := len(body.Promote) + len(body.Remove); n == 0 || n > 1 && !voters {
		return peerpb.ErrBadChange
	}
	if voters && len(body.Remove) > 0 {
		return r.leavesMajority(next)
	}
	return nil
}

// awaited is a learner that somebody asked to make a voter, before it was caught up. Until
// then it stays: who takes it away may not know of the move, which begins anew.
type awaited struct {
	replica metapb.ReplicaID
	until   clock.Time
}

// awaitedFor is how long one question counts. Whoever waits asks each second.
const awaitedFor = 3 * time.Second

func (r *Replica) isAwaited(p *metapb.Replica) bool {
	return r.awaited.replica == metapb.ReplicaID(p.ReplicaId) && r.store.now.Before(r.awaited.until) && r.store.Live(metapb.StoreID(p.StoreId))
}

// leavesMajority looks whether those who will vote can decide something: one that
// cannot be reached does not count. Who takes the live ones away loses the range.
//
// Nor does one of which nothing was heard in this term. It may not be there: a split
// counts the right side's replicas as its own are, and the store of one may have lost
// its left side before it applied the split. A leader brings that one a snapshot, but
// without it nobody could be elected if that leader went.
func (r *Replica) leavesMajority(next *metapb.Descriptor) error {
	voters, live, there := 0, 0, 0
	heard := make(map[uint64]bool)
	r.group.Progress(func(p raftgroup.PeerProgress) { heard[uint64(p.ReplicaID)] = p.Match > 0 })
	for _, p := range next.Replicas {
		if !stays(p) {
			continue
		}
		voters++
		if r.store.Live(metapb.StoreID(p.StoreId)) {
			live++
			if heard[p.ReplicaId] || metapb.ReplicaID(p.ReplicaId) == r.id {
				there++
			}
		}
	}
	switch {
	case voters == 0:
		return peerpb.ErrLastReplica
	case live <= voters/2:
		return peerpb.ErrNoMajority
	case there <= voters/2:
		return peerpb.ErrNotCaughtUp
	}
	return nil
}

// caughtUp reports whether a learner has about all of the log, and its store lives: one
// that is dead would count for the majority.
func (r *Replica) caughtUp(id metapb.ReplicaID) bool {
	p := r.progressOf(id)
	return p.ReplicaID == id && r.isNear(p) && r.store.Live(r.storeOf(id))
}

// progressOf returns what this leader knows of a replica; nothing if it is none of the range.
func (r *Replica) progressOf(id metapb.ReplicaID) (found raftgroup.PeerProgress) {
	r.group.Progress(func(p raftgroup.PeerProgress) {
		if p.ReplicaID == id {
			found = p
		}
	})
	return found
}

// isNear reports whether a replica lacks little of the log, and gets it.
func (r *Replica) isNear(p raftgroup.PeerProgress) bool {
	return !p.Probing && p.Match+caughtUpMax >= r.group.LastIndex()
}

// applyReplicas makes a descriptor and raft's configuration apply.
func (r *Replica) applyReplicas(b engine.Batch, e *raftgroup.Entry, c *cmdpb.ReplicasCommand) error {
	if err := c.Descriptor_.Validate(); err != nil {
		return err
	}
	if e.Type != raftgroup.EntryConfChange {
		return errBadChange
	}
	conf, err := r.group.ApplyConf(b, *e)
	if err != nil {
		return err
	}
	invariant.Must(conf.Equal(confOf(c.Descriptor_)), "range %d: configuration %v is not that of %v", r.desc.RangeId, conf, c.Descriptor_)
	if r.before == nil {
		r.before = r.desc
	}
	r.confIndex = e.Index
	leader, store := r.group.Leader(), r.Leader()
	r.setDescriptor(c.Descriptor_)
	if store != 0 && r.Leader() == 0 {
		r.meet(leader, store) // it leads until it has handed over, or is lost
	}
	r.advanceLater()
	return writeDescriptor(b, r.desc)
}

// finishChange is called when a new descriptor can be read.
func (r *Replica) finishChange() {
	s, before := r.store, r.before
	r.before = nil
	r.strangers = slices.DeleteFunc(r.strangers, func(x stranger) bool { return x.id != r.group.Leader() })
	s.addPeers(r.desc)
	if r.leading == 0 {
		return
	}
	for _, p := range before.Replicas {
		if r.memberOf(metapb.ReplicaID(p.ReplicaId)) == 0 {
			r.parting = append(r.parting, parting{Gone{To: metapb.StoreID(p.StoreId), Range: r.desc.ID(), Replica: metapb.ReplicaID(p.ReplicaId)}, r.state.index})
			s.mark(r)
		}
	}
	r.beginLead(r.leading)
	if (len(before.Replicas) == 1) != r.single() {
		r.leaseRenewals()
	}
	r.leaveJoint()
}

// leaseRenewals is called when a leader is alone no more, or is so now: what may be
// answered from memory depends on it.
func (r *Replica) leaseRenewals() {
	switch {
	case r.expirer == nil:
	case r.single():
		r.expirer.Renewals().SetLease(lease.Forever)
	default:
		r.expirer.Renewals().SetLease(r.lead.Until())
		r.store.peers.homes = append(r.store.peers.homes, r)
	}
}

// leavesItself reports whether the end of the joint configuration takes the replica out.
func (r *Replica) leavesItself() bool {
	own := r.desc.ReplicaOn(r.store.cfg.StoreID)
	return own != nil && own.Kind == metapb.ReplicaKind_OUTGOING
}

// leaveJoint asks for the end of a joint configuration, or for a leader that stays.
func (r *Replica) leaveJoint() {
	if r.leading == 0 || !isJoint(r.desc) {
		return
	}
	r.store.watchClock(r) // so that it is asked for again if it comes to nothing
	if r.leavesItself() {
		if heirs := r.store.Heirs(r.desc.ID()); len(heirs) > 0 {
			_ = r.store.Transfer(r.desc.ID(), heirs[0]) // refused: at the next look
		}
		return
	}
	if !r.frozen && r.before == nil && !slices.ContainsFunc(r.queue.items, isLeave) && !slices.ContainsFunc(r.held, isLeave) {
		r.queue.push(r.store.work(&peerpb.Request{
			Range: r.desc.ID(), Generation: r.desc.Generation, Body: &peerpb.ChangeReplicas{Leave: true},
		}))
		r.store.mark(r)
	}
}

func isLeave(w *work) bool {
	c, ok := w.req.Body.(*peerpb.ChangeReplicas)
	return ok && c.Leave
}

// checkConf reports an error if the engine's descriptor and configuration differ.
func (r *Replica) checkConf() error {
	if conf := r.group.Conf(); !conf.Equal(confOf(r.desc)) {
		return fmt.Errorf("raft's configuration %v is not that of the descriptor, %v", conf, r.desc.Replicas)
	}
	return nil
}
