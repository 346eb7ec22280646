package node

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/adminpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/range"
)

// What operators see of ranges: all there is to know of those that have a replica here,
// those that are out of service among them, and of the others what the directory has.

// directoryWait is how long a list of ranges waits for the directory: when that cannot be
// reached somebody wants to know what the node itself has.
const directoryWait = 2 * time.Second

// ListRanges implements etcdapi.Admin.
func (n *Node) ListRanges(ctx context.Context) (*adminpb.ListRangesResponse, error) {
	until := countUntil(ctx)
	reading, cancel := context.WithTimeout(ctx, directoryWait)
	all, unread := n.directory(reading)
	cancel()
	resp := &adminpb.ListRangesResponse{OnlyHere: unread != nil}
	var at metapb.Revision
	err := n.inLoop(ctx, func() {
		at = n.core.Store().Revision()
		for _, id := range n.core.Store().IDs() {
			resp.Ranges = append(resp.Ranges, n.rangeInfo(n.core.Store().Replica(id)))
		}
		for _, d := range all {
			if n.core.Store().Replica(d.ID()) == nil {
				resp.Ranges = append(resp.Ranges, n.elsewhere(d))
			}
		}
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(resp.Ranges, func(a, b *adminpb.RangeInfo) int { return bytes.Compare(a.Descriptor_.Start, b.Descriptor_.Start) })
	for _, in := range resp.Ranges {
		if err := n.measure(in, at, time.Now().Before(until)); err != nil {
			return nil, err
		}
	}
	return resp, nil
}

// countUntil is until when a list of ranges counts keys: a node that has just started has to
// read them all, and a list without some counts is better than none. What was counted is
// known to the next list.
func countUntil(ctx context.Context) time.Time {
	now := time.Now()
	if end, ok := ctx.Deadline(); ok {
		return now.Add(end.Sub(now) / 2)
	}
	return now.Add(time.Hour)
}

// directory returns all ranges as the directory has them, and tells the router of them.
// A cluster of one store has a replica of each range, and needs none.
func (n *Node) directory(ctx context.Context) (all []*metapb.Descriptor, err error) {
	if n.Direct() {
		return nil, nil
	}
	for op := (&placement.LookupOp{Max: lookupPage}); op != nil; {
		got, err := n.client.System(ctx, op)
		if err != nil {
			return nil, err
		}
		page := got.(*placement.LookupReply)
		all = append(all, page.Descriptors...)
		op = page.Next(lookupPage)
	}
	return all, n.inLoop(ctx, func() { n.core.router.Descriptors(all) })
}

// descriptor returns a range as this node has it, or as the directory has.
func (n *Node) descriptor(ctx context.Context, id metapb.RangeID) (*metapb.Descriptor, error) {
	var d *metapb.Descriptor
	look := func() {
		if r := n.core.Store().Replica(id); r != nil {
			d = r.Descriptor()
			return
		}
		d = n.core.router.Find(id)
	}
	err := n.inLoop(ctx, look)
	if err == nil && d == nil {
		if _, err = n.directory(ctx); err == nil {
			err = n.inLoop(ctx, look)
		}
	}
	if err == nil && d == nil {
		err = peerpb.ErrRangeNotFound
	}
	return d, err
}

// elsewhere is what this node knows of a range without a replica here. REQUIRES: turn is
// held.
func (n *Node) elsewhere(d *metapb.Descriptor) *adminpb.RangeInfo {
	in := &adminpb.RangeInfo{Descriptor_: d, LiveKeys: -1, Elsewhere: true}
	if hint, ok := n.core.leaderOf(d.ID()); ok {
		if leader := d.ReplicaOn(hint.store); leader != nil {
			in.LeaderReplicaId, in.Term = leader.ReplicaId, hint.term
		}
	}
	return in
}

// rangeInfo is what the loop knows of a range. REQUIRES: turn is held.
func (n *Node) rangeInfo(r *ranges.Replica) *adminpb.RangeInfo {
	in := r.Info()
	info := &adminpb.RangeInfo{
		Descriptor_:         r.Descriptor(),
		LeaderReplicaId:     in.Leader,
		Term:                in.Term,
		AppliedIndex:        in.Applied,
		FirstIndex:          in.First,
		LastIndex:           in.Last,
		LogBytes:            in.LogBytes,
		LiveKeys:            -1,
		WritesPerSecond:     in.WritesPerSecond,
		WriteBytesPerSecond: in.WriteBytesPerSecond,
	}
	info.Undecided, info.CorruptReplicaIds = n.core.Doubtful(r)
	return info
}

// measure fills in what a range's span holds, as it was at a revision, and if wanted how many
// keys. What is out of service is not read.
func (n *Node) measure(in *adminpb.RangeInfo, at metapb.Revision, count bool) error {
	if in.Elsewhere {
		return nil
	}
	span := in.Descriptor_.Span()
	for _, table := range keys.Tables(span) {
		bytes, err := n.eng.DiskUsage(engine.Span(table))
		if err != nil {
			return err
		}
		in.SizeBytes += bytes
	}
	own := in.Descriptor_.ReplicaOn(metapb.StoreID(n.ident.StoreId))
	if !count || in.Undecided || own != nil && slices.Contains(in.CorruptReplicaIds, own.ReplicaId) {
		return nil
	}
	in.LiveKeys = 0
	start, end, ok := keys.UserBounds(span)
	if !ok {
		return nil
	}
	var err error
	in.LiveKeys, err = n.Count(start, end, at)
	return err
}

// ShowRange implements etcdapi.Admin.
func (n *Node) ShowRange(ctx context.Context, req *adminpb.ShowRangeRequest) (*adminpb.RangeInfo, error) {
	wanted := func(d *metapb.Descriptor) bool {
		return d.RangeId == req.RangeId || req.RangeId == 0 && d.Contains(keys.User(req.Key))
	}
	var out *adminpb.RangeInfo
	var at metapb.Revision
	err := n.inLoop(ctx, func() {
		at = n.core.Store().Revision()
		for _, id := range n.core.Store().IDs() {
			if r := n.core.Store().Replica(id); wanted(r.Descriptor()) {
				out = n.rangeInfo(r)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	if out != nil {
		return out, n.measure(out, at, true)
	}
	all, err := n.directory(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, wanted)
	if i < 0 {
		return nil, peerpb.ErrRangeNotFound
	}
	err = n.inLoop(ctx, func() { out = n.elsewhere(all[i]) })
	return out, err
}
