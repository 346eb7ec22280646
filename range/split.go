package ranges

import (
	"bytes"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// A split is one entry: two descriptors, no data moved. It takes its turn in
// the pipeline, alone in its batch. Nothing is evaluated between its proposal
// and its application, because what is evaluated then would carry the old
// generation and be applied as nothing.
//
// Transactions hold locks in memory that a split would have to hand over. It
// waits instead until there are none; new ones wait behind it, so that it comes
// to its turn also where transactions never cease. Not for a lock that does not go:
// the range of its anchor may have no leader for long, and all transactions here would
// wait for that. Then it is refused.

// evaluateSplit takes a split into the batch if it is alone there and nothing
// is locked.
func (r *Replica) evaluateSplit(b *batch, w *work, body *peerpb.Split) verdict {
	if !w.split {
		w.split = true
		r.splits++
	}
	span := r.desc.Span()
	switch {
	case !span.Contains(body.At):
		r.splits--
		r.store.reply(w.req.ID, nil, r.moved(w.req))
		return taken
	case bytes.Equal(body.At, span.Start):
		r.splits--
		r.store.reply(w.req.ID, &peerpb.SplitDone{Left: r.desc}, nil)
		return taken
	case isJoint(r.desc) || r.locks.stuck(r.store.now):
		r.splits--
		r.store.reply(w.req.ID, nil, peerpb.ErrRefused)
		return taken
	case !r.locks.idle():
		r.hold(w) // so that the work passes that ends the locks
		return parks
	case !b.empty() || r.asked != nil:
		return cuts
	}
	left, right := r.divided(body)
	b.command(&cmdpb.Command{Kind: &cmdpb.Command_Split{Split: &cmdpb.SplitCommand{Left: left, Right: right}}})
	b.done(w.req.ID, &peerpb.SplitDone{Split: true, Left: left, Right: right})
	b.splits = 1
	r.frozen = true
	return taken
}

// divided returns the descriptors of the two sides.
func (r *Replica) divided(body *peerpb.Split) (left, right *metapb.Descriptor) {
	left = proto.Clone(r.desc).(*metapb.Descriptor)
	left.End = bytes.Clone(body.At)
	left.Generation++
	right = &metapb.Descriptor{
		RangeId:       uint64(body.RightID),
		Start:         bytes.Clone(body.At),
		End:           r.desc.End,
		NextReplicaId: 1,
		Generation:    left.Generation,
	}
	for _, repl := range r.desc.Replicas {
		right.Replicas = append(right.Replicas, &metapb.Replica{
			ReplicaId: right.NextReplicaId,
			StoreId:   repl.StoreId,
			NodeId:    repl.NodeId,
			Kind:      repl.Kind,
		})
		right.NextReplicaId++
	}
	return left, right
}

// applySplit writes both descriptors and the right side's first state. The
// right side begins with the left's revision: none up to it is issued again.
func (r *Replica) applySplit(b engine.Batch, c *cmdpb.SplitCommand) error {
	if err := c.Left.Validate(); err != nil {
		return err
	}
	r.setDescriptor(c.Left) // the span's start stays, so its place in the store does
	r.txns.dropOutside(c.Left)
	r.advanceLater()
	if self := c.Right.ReplicaOn(r.store.cfg.StoreID); self == nil || metapb.ReplicaID(self.ReplicaId) < r.store.lowest(c.Right.ID()) ||
		metapb.ReplicaID(self.ReplicaId) < r.store.absent[c.Right.ID()].replica {
		if err := r.splitOff(b, c.Right); err != nil {
			return err
		}
		return writeDescriptor(b, c.Left)
	}
	if err := Bootstrap(b, c.Right, r.state.revision); err != nil {
		return err
	}
	if r.condemned {
		kind := byte(rowCorrupt)
		if r.undecided {
			kind = rowUndecided
		}
		row := condemnedRow(c.Right.ID(), metapb.ReplicaID(c.Right.ReplicaOn(r.store.cfg.StoreID).ReplicaId), kind, 0)
		b.Set(row.Key, row.Value)
	}
	mark, err := ReadRemovalMark(r.store.cfg.Reader, r.desc.ID())
	if err != nil {
		return err
	}
	if mark >= 0 {
		WriteRemovalMark(b, c.Right.ID(), mark)
	}
	r.rights = append(r.rights, bornRange{c.Right, r.splitLeases(c.Right)})
	return writeDescriptor(b, c.Left)
}

// splitOff gives up the right side's span: its replica here was removed, or another
// one is to come, before this replica had applied the split. The rows go with the next
// log rows: until readers know of the split they take what is in the engine for all
// there is.
//
// Until then there is a descriptor without replicas: a start takes what it names away.
func (r *Replica) splitOff(b engine.Batch, right *metapb.Descriptor) error {
	s := r.store
	r.splitLeases(right)
	nobody := proto.Clone(right).(*metapb.Descriptor)
	nobody.Replicas = nil
	if err := writeDescriptor(b, nobody); err != nil {
		return err
	}
	if s.append == nil {
		s.append = s.cfg.NewBatch()
	}
	s.append.Delete(keys.Descriptor(right.ID()))
	for _, sp := range keys.Tables(right.Span()) {
		s.append.DeleteRange(sp.Start, sp.End)
	}
	s.out.Removed = append(s.out.Removed, r.desc.ID())
	if r.before == nil {
		r.before = r.desc
	}
	s.installs = true
	return nil
}

// bornRange is the right side of a split that is not loaded yet.
type bornRange struct {
	desc   *metapb.Descriptor
	leases *leases
}

// finishSplit brings the right sides to life when their rows can be read, and
// sends away who waits here for keys that went there. There is one, or where the
// replica was behind, several.
func (r *Replica) finishSplit() {
	s := r.store
	rights, leads := r.rights, r.frozen
	r.rights, r.frozen = nil, false
	s.out.Descriptors = append(s.out.Descriptors, r.desc)
	for _, born := range rights {
		right := born.desc
		if err := s.load(right, born.leases, s.cfg.Reader); err != nil {
			// Its rows were committed a moment ago: the engine cannot be read.
			s.fail(err)
			return
		}
		s.replicas[right.ID()].bornOf = r.desc.ID()
		s.born(r, s.replicas[right.ID()], leads)
		s.out.Descriptors = append(s.out.Descriptors, right)
	}
	items := append(r.queue.items, r.held...)
	aside := r.queue.aside
	for _, w := range r.held {
		aside -= w.bytes
	}
	r.queue, r.held = workQueue{aside: aside}, nil // some wait for registrations
	for _, w := range items {
		s.reply(w.req.ID, nil, r.moved(w.req))
		if c, ok := w.req.Body.(*peerpb.CheckpointLeases); ok {
			r.checkpointsDone(c.Leases, peerpb.ErrRefused)
		}
	}
	r.splits = 0
	if r.leaving != nil {
		r.splits = 1 // it keeps transactions from taking locks
	}
	if r.before != nil {
		r.finishChange()
	}
	s.installs = s.installs || len(s.incoming) > 0
}

// hold keeps a request out of the queue until locks go or a split is done.
func (r *Replica) hold(w *work) {
	r.held = append(r.held, w)
	r.queue.aside += w.bytes
	r.store.watchClock(r)
}

// releaseHeld lets what was held take its turn again, behind what waits.
func (r *Replica) releaseHeld() {
	if len(r.held) == 0 {
		return
	}
	for _, w := range r.held {
		r.queue.aside -= w.bytes
		r.queue.push(w)
	}
	r.held = nil
	r.store.mark(r)
}

// holds reports whether the range holds all that a request names.
func (r *Replica) holds(body peerpb.Body) bool {
	switch body := body.(type) {
	case *peerpb.Write:
		if put, ok := body.Req.(*pb.PutRequest); ok {
			return keys.HoldsUser(r.desc.Span(), put.Key)
		}
		for _, a := range accessesOf(body.Req) {
			if !r.desc.Span().ContainsSpan(keys.UserSpan(a.Start, a.End)) {
				return false
			}
		}
	case *peerpb.Read:
		return r.desc.Span().ContainsSpan(keys.UserSpan(body.Start, body.End))
	case *peerpb.Hash:
		return r.desc.Span().ContainsSpan(keys.UserSpan(body.Start, body.End))
	case *peerpb.History:
		return r.desc.Span().ContainsSpan(keys.UserSpan(body.Start, body.End))
	case *peerpb.WriteRecord:
		return r.desc.Contains(body.Anchor)
	case *peerpb.Push:
		return r.desc.Contains(body.Anchor)
	case *peerpb.Forget:
		return r.desc.Contains(body.Anchor)
	case *peerpb.GrantLease:
		return r.desc.Contains(keys.Lease(body.ID))
	case *peerpb.RegisterLease:
		return r.desc.Contains(keys.Lease(body.ID))
	case *peerpb.RevokeLease:
		return r.desc.Contains(keys.Lease(body.ID))
	case *peerpb.RemoveLease:
		return r.desc.Contains(keys.Lease(body.ID))
	case *peerpb.EnsureMarks:
		return !slices.ContainsFunc(body.Uses, func(u peerpb.LeaseUse) bool { return !keys.HoldsUser(r.desc.Span(), u.Key) })
	}
	return true
}
