package node

import (
	"context"
	"fmt"

	"github.com/flotilladb/flotilla/internal/frame"
	"github.com/flotilladb/flotilla/internal/rpc"
	"github.com/flotilladb/flotilla/internal/stop"
	"github.com/flotilladb/flotilla/internal/wire"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// peerLink carries frames between the loop and other nodes. What does not arrive
// is the core's business: it sends again what must.
type peerLink struct {
	n    *Node
	t    *rpc.Transport
	stop *stop.Stopper
}

// peerFrame is a frame on its way into the loop. The sender has its bytes back when
// the loop has taken it.
type peerFrame struct {
	frame *frame.Frame
	lane  rpc.Lane
	bytes int
}

// framesBytesMax bounds the frames that wait for the loop. What comes above that is
// dropped, as frames may be.
const framesBytesMax = 64 << 20

// startPeers begins to talk to the other stores of the cluster, if there are any.
func (n *Node) startPeers(start uint64) error {
	if n.core.Direct() {
		return nil
	}
	p := &peerLink{n: n, stop: stop.New(context.Background())}
	var err error
	p.t, err = rpc.New(rpc.Config{
		Self: rpc.Identity{
			ClusterID: n.ident.ClusterId, Node: metapb.NodeID(n.ident.NodeId), Store: metapb.StoreID(n.ident.StoreId), Start: start,
		},
		Listen:      n.cfg.PeerListener,
		Resolve:     n.cfg.PeerAddress,
		TLS:         n.cfg.PeerTLS,
		Deliver:     p.deliver,
		Unreachable: func(metapb.StoreID, rpc.Lane) {},
		Refused:     p.refused,
		Stopper:     p.stop,
		Logger:      n.cfg.Logger.With("part", "peers"),
		Registerer:  n.cfg.Registerer,
		Seed:        start<<16 | n.ident.StoreId,
	})
	if err != nil {
		return fmt.Errorf("talk to other nodes: %w", err)
	}
	n.peers.Store(p)
	return nil
}

// refused tells why another node does not let this one in.
func (p *peerLink) refused(to metapb.StoreID, err error) {
	p.n.cfg.Logger.Error("a node does not let this one in", "store", to, "err", err)
}

// deliver takes bytes of another store.
func (p *peerLink) deliver(from metapb.StoreID, lane rpc.Lane, raw []byte) (held bool) {
	f, err := wire.Decode(raw)
	if err != nil || f.From != from {
		p.n.cfg.Logger.Error("a frame that cannot be read is passed over", "store", from, "lane", lane, "err", err)
		return false
	}
	n := p.n
	n.inbox.Lock()
	if n.inbox.closed || n.inbox.frameBytes+len(raw) > framesBytesMax {
		n.inbox.Unlock()
		return false
	}
	n.inbox.frames = append(n.inbox.frames, peerFrame{f, lane, len(raw)})
	n.inbox.frameBytes += len(raw)
	n.inbox.Unlock()
	if !n.turnHere() {
		n.wake()
	}
	return true
}

// send hands the frames of a step to the transport.
func (p *peerLink) send(frames []*frame.Frame) {
	for _, f := range frames {
		raw, err := wire.Append(nil, f)
		if err != nil {
			p.n.cfg.Logger.Error("a frame cannot be sent", "store", f.To, "err", err)
			continue
		}
		p.t.Send(f.To, laneOf(f), raw) // it says no where nobody can be reached: the frame is lost
	}
}

func laneOf(f *frame.Frame) rpc.Lane {
	switch f.Lane {
	case frame.Raft:
		return rpc.Raft
	case frame.Liveness:
		return rpc.Liveness
	}
	return rpc.Requests
}

// takeFrames hands what came to the core.
func (n *Node) takeFrames(frames []peerFrame) error {
	p := n.peers.Load()
	for i := range frames {
		f := &frames[i]
		if err := n.core.Step(f.frame); err != nil {
			return err
		}
		p.t.Credit(f.frame.From, f.lane, f.bytes)
	}
	return nil
}

// stopPeers ends the talk.
func (n *Node) stopPeers(ctx context.Context) error {
	p := n.peers.Load()
	if p == nil {
		return nil
	}
	p.stop.Quiesce()
	return p.stop.Wait(ctx)
}
