package node

import (
	"bytes"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/internal/frame"
	"github.com/flotilladb/flotilla/internal/rpc"
	"github.com/flotilladb/flotilla/internal/wire"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/raftgroup"
)

// While the loop is held up, what others have to say of their ranges may fill its inbox. What
// keeps promises alive has room all the same: overload is not to look like failure.
func TestHeartbeatsHaveRoom(t *testing.T) {
	n := &Node{wakeup: make(chan struct{}, 1)}
	n.turn.Lock() // nobody takes a turn
	defer n.turn.Unlock()
	p := &peerLink{n: n}
	n.peers.Store(p)
	deliver := func(lane rpc.Lane, f *frame.Frame) bool {
		t.Helper()
		f.From = 2
		raw, err := wire.Append(nil, f)
		if err != nil {
			t.Fatal(err)
		}
		return p.deliver(2, lane, raw)
	}
	n.inbox.frameBytes = framesBytesMax
	if deliver(rpc.Requests, &frame.Frame{Lane: frame.Requests}) {
		t.Error("a full inbox takes requests")
	}
	beat := &frame.Frame{Lane: frame.Liveness, Liveness: &raftgroup.LivenessMessage{FromStart: 1, Beat: true}}
	if !deliver(rpc.Liveness, beat) || len(n.inbox.frames) != 1 {
		t.Error("a heartbeat finds no room")
	}
}

// A node that is not let in tries for ever. The transport says so, once.
func TestRefusalsDoNotFillTheLog(t *testing.T) {
	var log bytes.Buffer
	p := &peerLink{
		n:     &Node{cfg: Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}},
		taken: make(map[metapb.StoreID]time.Time),
	}
	for range 2 {
		p.refused(2, errors.New("another cluster"))
		p.refused(2, rpc.ErrStoreTaken)
	}
	if log.Len() > 0 {
		t.Errorf("said besides: %s", &log)
	}
}

// The first frame of another node, which has waited for this one to listen, may come while
// this one still begins to. It is passed over, as frames may be.
func TestFrameWhileBeginningToListen(t *testing.T) {
	n := open(t, t.TempDir())
	defer closeNode(t, n)
	p := &peerLink{n: n}
	raw, err := wire.Append(nil, &frame.Frame{
		Lane: frame.Liveness, From: 2, To: 1, Liveness: &raftgroup.LivenessMessage{FromStart: 1, Beat: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	if p.deliver(2, rpc.Liveness, raw) {
		t.Error("it is held")
	}
	if err := n.inLoop(t.Context(), func() {}); err != nil {
		t.Errorf("then: %v", err)
	}
}
