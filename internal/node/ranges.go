package node

import (
	"bytes"
	"context"
	"slices"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/adminpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/range"
)

// What operators see of the ranges that have a replica here, those that are out of
// service among them.

// ListRanges implements etcdapi.Admin.
func (n *Node) ListRanges(ctx context.Context) ([]*adminpb.RangeInfo, error) {
	var out []*adminpb.RangeInfo
	err := n.inLoop(ctx, func() {
		for _, id := range n.core.Store().IDs() {
			out = append(out, n.rangeInfo(n.core.Store().Replica(id)))
		}
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(out, func(a, b *adminpb.RangeInfo) int { return bytes.Compare(a.Descriptor_.Start, b.Descriptor_.Start) })
	for _, in := range out {
		if err := n.measure(in); err != nil {
			return nil, err
		}
	}
	return out, nil
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

// measure fills in what a range's span holds. What is out of service is not read.
func (n *Node) measure(in *adminpb.RangeInfo) error {
	span := in.Descriptor_.Span()
	for _, table := range keys.Tables(span) {
		bytes, err := n.eng.DiskUsage(engine.Span(table))
		if err != nil {
			return err
		}
		in.SizeBytes += bytes
	}
	own := in.Descriptor_.ReplicaOn(metapb.StoreID(n.ident.StoreId))
	if in.Undecided || own != nil && slices.Contains(in.CorruptReplicaIds, own.ReplicaId) {
		return nil
	}
	in.LiveKeys = 0
	start, end, ok := keys.UserBounds(span)
	if !ok {
		return nil
	}
	current, _ := n.Current()
	var err error
	in.LiveKeys, err = n.Count(start, end, current)
	return err
}

// ShowRange implements etcdapi.Admin.
func (n *Node) ShowRange(ctx context.Context, req *adminpb.ShowRangeRequest) (*adminpb.RangeInfo, error) {
	var out *adminpb.RangeInfo
	err := n.inLoop(ctx, func() {
		for _, id := range n.core.Store().IDs() {
			r := n.core.Store().Replica(id)
			if id == metapb.RangeID(req.RangeId) || req.RangeId == 0 && r.Descriptor().Contains(keys.User(req.Key)) {
				out = n.rangeInfo(r)
			}
		}
	})
	switch {
	case err != nil:
		return nil, err
	case out == nil:
		return nil, peerpb.ErrRangeNotFound
	}
	return out, n.measure(out)
}
