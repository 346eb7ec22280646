package etcdapi

import (
	"context"
	"errors"
	"io"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"

	"github.com/flotilladb/flotilla/internal/stop"
	"github.com/flotilladb/flotilla/watchfeed"
)

const (
	// watchControlsMax bounds the creates and cancels of a stream that the client
	// has not read the answers to; beyond it no more requests are read.
	watchControlsMax = 1024
	// watchBatchKept is how long a list of responses or events may be that a stream
	// keeps for the next batch.
	watchBatchKept = 1024
	// mergedBytesMax bounds the responses that are merged into one.
	mergedBytesMax = 64 << 10
)

// watchServer is the Watch service.
type watchServer struct {
	pb.UnsafeWatchServer

	open     func(watchfeed.StreamConfig) (WatchStream, error)
	id       Identity
	config   watchfeed.StreamConfig // of every stream; the rest is the client's
	limit    int                    // bytes from which on a response is cut, if asked for
	stopper  *stop.Stopper
	draining context.Context // done when streams must end
	leader   *leaderWatch
	counts   *watchCounts
}

// Watch serves one stream of watches. This goroutine sends; another one, "watch
// requests", reads what the client asks for.
func (s *watchServer) Watch(stream pb.Watch_WatchServer) error { return s.serve(stream) }

func (s *watchServer) serve(stream grpc.ServerStream) error {
	if err := checkCaller(stream.Context(), s.id); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	defer context.AfterFunc(s.draining, func() { cancel(rpctypes.ErrGRPCStopped) })()

	if wantsLeader(ctx) {
		defer context.AfterFunc(s.leader.lost(), func() { cancel(rpctypes.ErrGRPCNoLeader) })()
	}

	hub, err := s.open(s.streamConfig(ctx))
	if err != nil {
		return toGRPC(err)
	}
	defer hub.Close()
	s.counts.streams.Add(1)
	defer s.counts.streams.Add(-1)
	w := &watchStream{
		watchServer: s, stream: stream, hub: hub,
		enc: newWatchEncoder(s.id), sending: make(chan struct{}, 1), answered: make(chan struct{}, 1),
	}
	defer w.uncount()
	if err := s.stopper.Go("watch requests", func(context.Context) {
		if err := w.receive(ctx); err != nil {
			cancel(err)
		}
	}); err != nil {
		return rpctypes.ErrGRPCStopped
	}
	err = w.send(ctx)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if errors.Is(err, context.Canceled) {
		return rpctypes.ErrGRPCWatchCanceled
	}
	return toGRPC(err)
}

// streamConfig adds what one client wants.
func (s *watchServer) streamConfig(ctx context.Context) watchfeed.StreamConfig {
	c := s.config
	c.RequireLeader = wantsLeader(ctx)
	return c
}

// watchStream is one client's stream.
type watchStream struct {
	*watchServer

	stream grpc.ServerStream
	hub    WatchStream

	// sending holds a value while somebody sends: the sender a batch, or the
	// receiver an answer of its own. No mutex, for the client may not read for
	// hours, and who waits for it must end with the stream.
	sending chan struct{}
	enc     *watchEncoder      // for whoever sends, like events and chain
	events  []*watchfeed.Event // of a message that is made of several responses
	chain   eventChain

	mu struct {
		sync.Mutex
		ids watchIDs
		// unanswered is how many creates and cancels the hub was given and the
		// client not told of. Invariant: 0 to watchControlsMax.
		unanswered int
		closed     bool // the watches are not counted any more
	}
	answered chan struct{} // holds a value if unanswered shrank
}

// receive reads requests until the stream ends, or returns nil when the client
// has said all it had to say: its watches go on.
func (w *watchStream) receive(ctx context.Context) error {
	var req pb.WatchRequest
	for {
		if err := w.stream.RecvMsg(&req); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		var err error
		switch r := req.RequestUnion.(type) {
		case *pb.WatchRequest_CreateRequest:
			if r.CreateRequest != nil {
				err = w.create(ctx, r.CreateRequest)
			}
		case *pb.WatchRequest_CancelRequest:
			if r.CancelRequest != nil {
				err = w.cancel(ctx, r.CancelRequest.WatchId)
			}
		case *pb.WatchRequest_ProgressRequest:
			if r.ProgressRequest != nil {
				w.hub.RequestProgress()
			}
		}
		if err != nil {
			return err
		}
	}
}

// create hands a new watch to the hub, or refuses it: etcd looks at the revision
// first, then at the span, then at the id.
func (w *watchStream) create(ctx context.Context, r *pb.WatchCreateRequest) error {
	if r.StartRevision < 0 {
		return w.refuse(ctx, reasonOf(rpctypes.ErrGRPCCompacted))
	}
	key, end, ok := watchSpan(r)
	if !ok {
		return w.refuse(ctx, reasonEmptySpan)
	}
	req := watchfeed.CreateRequest{
		Key: key, End: end, Start: r.StartRevision,
		PrevKV: r.PrevKv, Progress: r.ProgressNotify, Fragment: r.Fragment,
	}
	for _, f := range r.Filters {
		req.NoPut = req.NoPut || f == pb.WatchCreateRequest_NOPUT
		req.NoDelete = req.NoDelete || f == pb.WatchCreateRequest_NODELETE
	}
	// The hub may have one more question only when the last ones are answered.
	if err := w.waitUnanswered(ctx, watchControlsMax-1); err != nil {
		return err
	}
	id, again, refused := w.take(r.WatchId)
	if refused != "" {
		return w.refuse(ctx, refused)
	}
	if again {
		// The hub has yet to say that the id's last watch is over.
		if err := w.waitUnanswered(ctx, 0); err != nil {
			return err
		}
	}
	req.ID = id
	w.mu.Lock()
	w.mu.unanswered++
	w.mu.Unlock()
	err := w.hub.Create(req)
	if err == nil {
		return nil
	}
	w.mu.Lock()
	w.mu.unanswered--
	w.mu.ids.forget(id)
	w.count(-1)
	w.mu.Unlock()
	if errors.Is(err, watchfeed.ErrTooManyWatches) {
		return w.refuse(ctx, reasonOf(rpctypes.ErrGRPCRequestTooManyRequests))
	}
	return err
}

// take gives a new watch its id, or says why it may not be. Again says that a
// watch of the same id is just being canceled.
func (w *watchStream) take(wanted int64) (id int64, again bool, refused string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if wanted != 0 && w.mu.ids.used.has(wanted) {
		return 0, false, reasonDuplicateID
	}
	if w.mu.ids.used.n >= w.config.WatchesMax {
		return 0, false, reasonOf(rpctypes.ErrGRPCRequestTooManyRequests)
	}
	id, _ = w.mu.ids.choose(wanted)
	w.count(1)
	return id, w.mu.ids.canceling.has(id), ""
}

// cancel ends a watch. An id that the client does not have is no fault.
func (w *watchStream) cancel(ctx context.Context, id int64) error {
	if err := w.waitUnanswered(ctx, watchControlsMax-1); err != nil {
		return err
	}
	w.mu.Lock()
	action := w.mu.ids.cancel(id)
	if action != cancelNothing {
		w.count(-1)
	}
	if action == cancelAsk {
		w.mu.unanswered++
	}
	w.mu.Unlock()
	switch action {
	case cancelAsk:
		w.hub.Cancel(id)
	case cancelAnswer:
		return w.answer(ctx, &watchFields{revision: w.id.Revision(), id: id, canceled: true})
	case cancelNothing:
	}
	return nil
}

// refuse answers a create that made no watch. Clients match answers to creates
// by their order alone, so those before it come first.
func (w *watchStream) refuse(ctx context.Context, reason string) error {
	if err := w.waitUnanswered(ctx, 0); err != nil {
		return err
	}
	return w.answer(ctx, refusal(w.id.Revision(), reason))
}

// answer sends from the receiver. While the client does not read, it waits here
// and reads no more requests.
func (w *watchStream) answer(ctx context.Context, f *watchFields) error {
	select {
	case w.sending <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-w.sending }()
	w.enc.begin(1, w.id.Term())
	return w.stream.SendMsg(w.enc.message(f, watchEvents{}))
}

// waitUnanswered returns when at most so many creates and cancels are not
// answered, or with an error when the stream ends.
func (w *watchStream) waitUnanswered(ctx context.Context, most int) error {
	for {
		w.mu.Lock()
		n := w.mu.unanswered
		w.mu.Unlock()
		if n <= most {
			return nil
		}
		select {
		case <-w.answered:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// count keeps the metric. REQUIRES: mu is held.
func (w *watchStream) count(d int64) {
	if !w.mu.closed {
		w.counts.watches.Add(d)
	}
}

// uncount takes the stream's watches off the metric.
func (w *watchStream) uncount() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count(-int64(w.mu.ids.used.n))
	w.mu.closed = true
}
