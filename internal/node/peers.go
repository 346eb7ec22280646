package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

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
	// free has memory of frames that were sent.
	free sync.Pool

	mu    sync.Mutex
	taken map[metapb.StoreID]time.Time // since when each says that the id is in use
}

// peerFrame is a frame on its way into the loop. The sender has its bytes back when
// the loop has taken it.
type peerFrame struct {
	frame *frame.Frame
	lane  rpc.Lane
	bytes int
}

// framesBytesMax bounds the frames that wait for the loop. What comes above that is
// dropped, as frames may be, but for what keeps promises alive: of that there is little,
// and overload is not to look like failure.
const framesBytesMax = 64 << 20

// startPeers begins to talk to the other stores of the cluster, if there are any.
func (n *Node) startPeers(start uint64) error {
	if n.cfg.PeerListener == nil {
		if !n.core.Direct() {
			return errors.New("the node is one of several: it needs --listen-peer-urls")
		}
		return nil
	}
	p := &peerLink{n: n, stop: stop.New(context.Background()), taken: make(map[metapb.StoreID]time.Time)}
	var err error
	p.t, err = rpc.New(rpc.Config{
		Self: rpc.Identity{
			ClusterID: n.ident.ClusterId, Node: metapb.NodeID(n.ident.NodeId), Store: metapb.StoreID(n.ident.StoreId), Start: start,
		},
		Listen:      n.cfg.PeerListener,
		ListenMore:  n.cfg.MorePeerListeners,
		Resolve:     n.resolve,
		Advertise:   hostOf(n.cfg.PeerURLs),
		Heard:       n.book.hear,
		Answer:      n.answerPeer,
		TLS:         n.cfg.PeerTLS,
		Deliver:     p.deliver,
		Recycle:     p.recycle,
		Unreachable: func(metapb.StoreID, rpc.Lane) {},
		Refused:     p.refused,
		Reachable:   p.reached,
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

// takenMax is for how long others may say that a store's id is in use until it is
// believed: after a quick start they may not have seen the end of the one before.
const takenMax = 5 * time.Second

// refused is called at each attempt that another node refuses; the transport has logged
// why. Where that is for good the node ends: it is the second one with the store's id.
func (p *peerLink) refused(to metapb.StoreID, err error) {
	if !errors.Is(err, rpc.ErrStoreTaken) && !errors.Is(err, rpc.ErrOwnStore) {
		return
	}
	p.mu.Lock()
	since, known := p.taken[to]
	if !known {
		since = time.Now()
		p.taken[to] = since
	}
	p.mu.Unlock()
	if time.Since(since) >= takenMax {
		p.n.failSoon(fmt.Errorf("another process runs with this store's id: %w", err))
	}
}

// reached forgets that a store refused this one.
func (p *peerLink) reached(to metapb.StoreID, _ rpc.Lane, _ uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.taken, to)
}

// deliver takes bytes of another store.
func (p *peerLink) deliver(from metapb.StoreID, lane rpc.Lane, raw []byte) (held bool) {
	f, err := wire.Decode(raw)
	if err != nil || f.From != from {
		p.n.cfg.Logger.Error("a frame that cannot be read is passed over", "store", from, "lane", lane, "err", err)
		return false
	}
	n := p.n
	if n.onTrial.Load() || n.peers.Load() == nil { // nil: it came before startPeers was done
		return false
	}
	n.inbox.Lock()
	if n.inbox.closed || lane != rpc.Liveness && n.inbox.frameBytes+len(raw) > framesBytesMax {
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

// Memory of frames that were sent is used again, but for very large ones.
const (
	frameBytesUsual  = 4 << 10
	recycledBytesMax = 64 << 10
)

// buffer returns memory for a frame.
func (p *peerLink) buffer() []byte {
	if b, ok := p.free.Get().(*[]byte); ok {
		return (*b)[:0]
	}
	return make([]byte, 0, frameBytesUsual)
}

// recycle takes the memory of a frame that was sent.
func (p *peerLink) recycle(raw []byte) {
	if cap(raw) <= recycledBytesMax {
		p.free.Put(&raw)
	}
}

// send hands the frames of a step to the transport.
func (p *peerLink) send(frames []*frame.Frame) {
	for _, f := range frames {
		raw, err := wire.Append(p.buffer(), f)
		if err != nil {
			p.n.cfg.Logger.Error("a frame cannot be sent", "store", f.To, "err", err)
			continue
		}
		if !p.t.Send(f.To, laneOf(f), raw) {
			p.recycle(raw) // nobody can be reached there: the frame is lost
		}
	}
}

func laneOf(f *frame.Frame) rpc.Lane {
	switch f.Lane {
	case frame.Raft:
		return rpc.Raft
	case frame.Liveness:
		return rpc.Liveness
	case frame.Snapshots:
		return rpc.Snapshots
	}
	return rpc.Requests
}

// takeFrames hands what came to the core: what keeps promises alive first, for of the
// rest there may be much.
func (n *Node) takeFrames(frames []peerFrame) error {
	p := n.peers.Load()
	for _, first := range []bool{true, false} {
		for i := range frames {
			f := &frames[i]
			if (f.lane == rpc.Liveness) != first {
				continue
			}
			if err := n.core.Step(f.frame); err != nil {
				return err
			}
			p.t.Credit(f.frame.From, f.lane, f.bytes)
		}
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
