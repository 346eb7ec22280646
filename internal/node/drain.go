package node

import (
	"context"
	"time"

	"github.com/flotilladb/flotilla/proto/adminpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// drainTimeout bounds how long the leaders of a node that stops may take to leave.
// It is above what locks and elections may cost them.
const drainTimeout = 10 * time.Second

// Drain has all leaders leave the node, which goes on serving. It returns when no
// leader is left that another store could take, or after a while: what follows is a
// stop, which loses nothing, but who writes to a range that was led here may then
// have to wait, or learn that an outcome is unknown.
func (n *Node) Drain(ctx context.Context) {
	if n.Direct() || n.drains.Swap(true) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	var leaders int
	done := make(chan struct{})
	begun := time.Now()
	err := n.inLoop(ctx, func() {
		leaders = n.core.Leaders()
		n.drained = done
		n.core.Drain(true)
		n.noteDrained()
	})
	if err != nil {
		return
	}
	n.cfg.Logger.Info("leaders leave this node", "ranges", leaders)
	select {
	case <-done:
	case <-ctx.Done():
	case <-n.loopDone:
	}
	stay := leaders
	_ = n.inLoop(context.Background(), func() { stay = n.core.Leaders() }) // the loop is over: it does not matter
	if stay > 0 {
		n.cfg.Logger.Warn("leaders stay on this node: no other can take them now", "ranges", stay, "took", time.Since(begun))
		return
	}
	n.cfg.Logger.Info("all leaders left this node", "ranges", leaders, "took", time.Since(begun))
}

// noteDrained tells who waits for it that no leader is left. REQUIRES: turn is held.
func (n *Node) noteDrained() {
	if n.drained != nil && n.core.Drained() {
		close(n.drained)
		n.drained = nil
	}
}

// TransferLeader implements etcdapi.Admin.
func (n *Node) TransferLeader(ctx context.Context, req *adminpb.TransferLeaderRequest) (*adminpb.TransferLeaderResponse, error) {
	d, err := n.descriptor(ctx, metapb.RangeID(req.RangeId))
	if err != nil {
		return nil, err
	}
	done, err := n.client.Transfer(ctx, d, metapb.StoreID(req.ToStoreId))
	if err != nil {
		return nil, err
	}
	return &adminpb.TransferLeaderResponse{LeaderStoreId: uint64(done.Leader)}, nil
}

// MoveLeader implements etcdapi.Maintenance. The store of a node has its id.
func (n *Node) MoveLeader(ctx context.Context, node uint64) error {
	done, err := n.TransferLeader(ctx, &adminpb.TransferLeaderRequest{RangeId: uint64(metapb.SystemRange), ToStoreId: node})
	if err == nil && done.LeaderStoreId != node {
		return peerpb.ErrRefused // an election came in between
	}
	return err
}
