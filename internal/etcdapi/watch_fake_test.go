package etcdapi

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/internal/stop"
	"github.com/flotilladb/flotilla/watchfeed"
)

// fakeHub is a hub of one stream, whose responses the test chooses.
type fakeHub struct {
	mu     sync.Mutex
	queue  []watchfeed.Response
	asked  []string      // what it was asked for, in words
	more   chan struct{} // holds a value if queue grew
	auto   int64         // if not 0, creates and cancels are answered at this revision
	max    int           // watches that it takes
	closed bool
	live   map[int64]bool
}

func newFakeHub() *fakeHub {
	return &fakeHub{more: make(chan struct{}, 1), max: 1 << 30, live: make(map[int64]bool)}
}

func (h *fakeHub) open(watchfeed.StreamConfig) (WatchStream, error) { return h, nil }

func (h *fakeHub) push(rs ...watchfeed.Response) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pushLocked(rs...)
}

func (h *fakeHub) pushLocked(rs ...watchfeed.Response) {
	h.queue = append(h.queue, rs...)
	select {
	case h.more <- struct{}{}:
	default:
	}
}

func (h *fakeHub) Create(r watchfeed.CreateRequest) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		return watchfeed.ErrClosed
	case len(h.live) >= h.max:
		return watchfeed.ErrTooManyWatches
	}
	end := fmt.Sprintf("%q", r.End)
	if r.End == nil {
		end = "-"
	}
	line := fmt.Sprintf("create %d [%q %s) start %d", r.ID, r.Key, end, r.Start)
	for word, on := range map[string]bool{
		"prev_kv": r.PrevKV, "progress": r.Progress, "noput": r.NoPut, "nodelete": r.NoDelete, "fragment": r.Fragment,
	} {
		if on {
			line += " " + word
		}
	}
	h.asked = append(h.asked, line)
	h.live[r.ID] = true
	if h.auto != 0 {
		h.pushLocked(watchfeed.Response{Kind: watchfeed.Created, ID: r.ID, Revision: h.auto})
	}
	return nil
}

func (h *fakeHub) Cancel(id int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked = append(h.asked, fmt.Sprintf("cancel %d", id))
	if h.live[id] && h.auto != 0 {
		h.pushLocked(watchfeed.Response{Kind: watchfeed.Canceled, ID: id, Revision: h.auto})
	}
	delete(h.live, id)
}

func (h *fakeHub) RequestProgress() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked = append(h.asked, "progress")
}

func (h *fakeHub) Recv(ctx context.Context, buf []watchfeed.Response) ([]watchfeed.Response, error) {
	for {
		h.mu.Lock()
		if len(h.queue) > 0 { // the two lists change places
			out := h.queue
			h.queue = buf[:0]
			h.mu.Unlock()
			return out, nil
		}
		h.mu.Unlock()
		select {
		case <-h.more:
		case <-ctx.Done():
			return buf, ctx.Err()
		}
	}
}

func (h *fakeHub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	h.asked = append(h.asked, "close")
}

func (h *fakeHub) takeAsked() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := h.asked
	h.asked = nil
	return out
}

// testEvent is a change as the hub hands it out.
func testEvent(ev *mvccpb.Event) *watchfeed.Event {
	kv := ev.Kv
	return &watchfeed.Event{
		Revision: kv.ModRevision, CreateRevision: kv.CreateRevision, Version: kv.Version, Lease: kv.Lease,
		Key: kv.Key, Value: kv.Value, PrevKV: ev.PrevKv, Tombstone: ev.Type == mvccpb.Event_DELETE,
	}
}

// fakeStream is the client's end of a stream, and gRPC.
type fakeStream struct {
	ctx      context.Context
	cancel   context.CancelFunc
	requests chan proto.Message // closed: the client has said all

	mu     sync.Mutex
	sent   []*pb.WatchResponse
	paused chan struct{} // while not nil, the client does not read
}

func newFakeStream(ctx context.Context) *fakeStream {
	s := &fakeStream{requests: make(chan proto.Message, 1<<17)}
	s.ctx, s.cancel = context.WithCancel(ctx)
	return s
}

func (s *fakeStream) Context() context.Context     { return s.ctx }
func (s *fakeStream) SetHeader(metadata.MD) error  { return nil }
func (s *fakeStream) SendHeader(metadata.MD) error { return nil }
func (s *fakeStream) SetTrailer(metadata.MD)       {}

func (s *fakeStream) RecvMsg(m any) error {
	select {
	case req, ok := <-s.requests:
		if !ok {
			return io.EOF
		}
		proto.Reset(m.(proto.Message))
		proto.Merge(m.(proto.Message), req)
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

func (s *fakeStream) SendMsg(m any) error {
	s.mu.Lock()
	paused := s.paused
	s.mu.Unlock()
	if paused != nil {
		select {
		case <-paused:
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
	}
	var resp pb.WatchResponse
	if err := m.(*watchMessage).decode(&resp); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent = append(s.sent, &resp)
	return nil
}

func (s *fakeStream) take() []*pb.WatchResponse {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.sent
	s.sent = nil
	return out
}

// describe says all that is in a response.
func describe(r *pb.WatchResponse) string {
	var b strings.Builder
	fmt.Fprintf(&b, "-> watch %d rev %d", r.WatchId, r.Header.GetRevision())
	for word, on := range map[string]bool{"created": r.Created} {
		if on {
			b.WriteString(" " + word)
		}
	}
	if r.Canceled {
		b.WriteString(" canceled")
	}
	if r.CompactRevision != 0 {
		fmt.Fprintf(&b, " compacted at %d", r.CompactRevision)
	}
	if r.CancelReason != "" {
		fmt.Fprintf(&b, " reason %q", r.CancelReason)
	}
	if r.Fragment {
		b.WriteString(" fragment")
	}
	for _, ev := range r.Events {
		fmt.Fprintf(&b, " %s %s", ev.Type, ev.Kv.Key)
		if v := ev.Kv.Value; len(v) > 40 {
			fmt.Fprintf(&b, "=<%d bytes>", len(v))
		} else if len(v) > 0 {
			fmt.Fprintf(&b, "=%s", v)
		}
		fmt.Fprintf(&b, "@%d", ev.Kv.ModRevision)
		if ev.PrevKv != nil {
			fmt.Fprintf(&b, "(was %s)", ev.PrevKv.Value)
		}
	}
	return b.String()
}

// newTestWatchServer serves watches from a fake hub.
func newTestWatchServer(f *fakeNode, h *fakeHub, st *stop.Stopper) *watchServer {
	return &watchServer{
		open: h.open, id: f, stopper: st, draining: st.Context(), counts: &watchCounts{},
		limit:  3<<19 + recvOverheadBytes,
		config: watchfeed.StreamConfig{WatchesMax: 1 << 20, QueueResponsesMax: 100, QueueBytesMax: 1 << 20},
	}
}
