package node

import (
	"bytes"
	"context"
	"slices"
	"sync"

	"github.com/flotilladb/flotilla/proto/adminpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/router"
)

// damageNotice is where the engine says that bytes are not what was written. It may say so
// before the node is there, from any goroutine, and in the middle of anything.
type damageNotice struct {
	sync.Mutex
	n     *Node
	early [][2][]byte
}

// found takes the keys that may be concerned.
func (d *damageNotice) found(first, last []byte) {
	at := [2][]byte{bytes.Clone(first), bytes.Clone(last)}
	d.Lock()
	n := d.n
	if n == nil {
		d.early = append(d.early, at)
	}
	d.Unlock()
	if n != nil {
		n.doubt(at)
	}
}

// tell tells a node from now on.
func (d *damageNotice) tell(n *Node) {
	d.Lock()
	d.n = n
	early := d.early
	d.early = nil
	d.Unlock()
	for _, at := range early {
		n.doubt(at)
	}
}

// doubt has the loop look at what is between two keys.
func (n *Node) doubt(at [2][]byte) {
	n.inbox.Lock()
	if !n.inbox.closed {
		n.inbox.funcs = append(n.inbox.funcs, func() { n.core.Doubt(at[0], at[1]) })
	}
	n.inbox.Unlock()
	n.wake()
}

// logCorrupt tells of replicas that were found to be corrupt.
func (n *Node) logCorrupt(rd *Ready) {
	for _, x := range rd.Corrupt {
		if x.Trusted {
			n.cfg.Logger.Warn("an operator trusts this replica: it is in service again, the others of the range will be replaced",
				"range", x.Range, "replica", x.Replica, "store", x.Store)
			continue
		}
		if x.Undecided {
			n.cfg.Logger.Error("replicas of a range differ and no majority agrees: the range is out of service",
				"range", x.Range, "replica", x.Replica, "store", x.Store)
			continue
		}
		n.cfg.Logger.Error("the data of a replica is corrupt: it is out of service and will be replaced",
			"range", x.Range, "replica", x.Replica, "store", x.Store)
	}
}

// logHalted tells of replicas that a newer version has to go on with.
func (n *Node) logHalted(rd *Ready) {
	for _, x := range rd.Halted {
		n.cfg.Logger.Error("the log of a replica has an entry of a newer version: it is out of service here; start this node with that version",
			"range", x.Range, "replica", x.Replica, "index", x.Index)
	}
}

// CheckRange implements etcdapi.Admin.
func (n *Node) CheckRange(ctx context.Context, req *adminpb.CheckRangeRequest) (*adminpb.CheckRangeResponse, error) {
	d, err := n.descriptor(ctx, metapb.RangeID(req.RangeId))
	if err != nil {
		return nil, err
	}
	done, err := n.client.CheckRange(ctx, d)
	if err != nil {
		return nil, err
	}
	resp := &adminpb.CheckRangeResponse{Index: done.Index}
	for _, p := range d.Replicas {
		id := metapb.ReplicaID(p.ReplicaId)
		resp.Replicas = append(resp.Replicas, &adminpb.CheckedReplica{
			ReplicaId: p.ReplicaId, StoreId: p.StoreId,
			Corrupt: slices.Contains(done.Corrupt, id),
			Missing: !slices.Contains(done.Corrupt, id) && !slices.Contains(done.Equal, id),
		})
	}
	return resp, nil
}

// TrustReplica implements etcdapi.Admin.
func (n *Node) TrustReplica(ctx context.Context, req *adminpb.TrustReplicaRequest) (*adminpb.TrustReplicaResponse, error) {
	call := &router.Call{
		Req:  &TrustRequest{Range: metapb.RangeID(req.RangeId), Store: metapb.StoreID(req.StoreId)},
		Done: make(chan struct{}, 1),
	}
	if err := n.Submit(call); err != nil {
		return nil, err
	}
	select {
	case <-call.Done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if call.Err != nil {
		return nil, call.Err
	}
	return &adminpb.TrustReplicaResponse{}, nil
}
