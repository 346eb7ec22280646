package difftest

import (
	"context"
	"fmt"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// watchStream is one stream of watches to one server, and all that came on it.
type watchStream struct {
	server string
	rpc    pb.Watch_WatchClient
	cancel context.CancelFunc

	mu struct {
		sync.Mutex
		changed chan struct{} // closed when something came
		// control are the replies to creations and cancels, not taken yet.
		control  []*pb.WatchResponse
		progress []int64
		watches  map[int64]*received
		err      error
	}
}

// received is what came for one watch and was not taken yet.
type received struct {
	events    []*mvccpb.Event
	last      int64 // the revision of the last event that ever came
	fragments bool  // the last response goes on in the next
	behind    bool  // a header was not that of its last event
	compacted *pb.WatchResponse
}

func openStream(ctx context.Context, server string, r *remote) (*watchStream, error) {
	ctx, cancel := context.WithCancel(ctx)
	rpc, err := r.watch.Watch(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	s := &watchStream{server: server, rpc: rpc, cancel: cancel}
	s.mu.changed, s.mu.watches = make(chan struct{}), make(map[int64]*received)
	go s.receive()
	return s, nil
}

// receive runs until the stream ends.
func (s *watchStream) receive() {
	for {
		resp, err := s.rpc.Recv()
		s.mu.Lock()
		if err == nil {
			err = s.takeLocked(resp)
		}
		if s.mu.err == nil {
			s.mu.err = err
		}
		close(s.mu.changed)
		s.mu.changed = make(chan struct{})
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (s *watchStream) takeLocked(resp *pb.WatchResponse) error {
	w := s.mu.watches[resp.WatchId]
	switch {
	case resp.Created || resp.Canceled && resp.CompactRevision == 0:
		s.mu.control = append(s.mu.control, resp)
		if !resp.Canceled {
			s.mu.watches[resp.WatchId] = &received{}
		}
	case resp.WatchId == -1:
		if len(resp.Events) > 0 {
			return fmt.Errorf("events came for no watch: %s", text(resp))
		}
		s.mu.progress = append(s.mu.progress, resp.Header.Revision)
	case w == nil:
		return fmt.Errorf("something came for a watch that was not created: %s", text(resp))
	case resp.Canceled:
		w.compacted = resp
	case len(resp.Events) > 0:
		return w.take(resp)
	}
	return nil
}

// take adds a response's events. A revision must not go on in another response,
// but in a fragment of the same.
func (w *received) take(resp *pb.WatchResponse) error {
	if first := resp.Events[0].Kv.ModRevision; first <= w.last && !w.fragments {
		return fmt.Errorf("watch %d: revision %d after %d: %s", resp.WatchId, first, w.last, text(resp))
	}
	w.events = append(w.events, resp.Events...)
	w.last = resp.Events[len(resp.Events)-1].Kv.ModRevision
	w.fragments = resp.Fragment
	if resp.Header.Revision < w.last {
		return fmt.Errorf("watch %d: header %d below event %d", resp.WatchId, resp.Header.Revision, w.last)
	}
	w.behind = w.behind || resp.Header.Revision != w.last && !resp.Fragment
	return nil
}

// until waits until done says so. It is called under the mutex.
func (s *watchStream) until(ctx context.Context, what string, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	for {
		s.mu.Lock()
		ok, err, changed := done(), s.mu.err, s.mu.changed
		s.mu.Unlock()
		switch {
		case ok:
			return nil
		case err != nil:
			return fmt.Errorf("%s, while waiting for %s: %w", s.server, what, err)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%s: %s did not come", s.server, what)
		}
	}
}

// reply waits for the reply to a creation or cancel.
func (s *watchStream) reply(ctx context.Context) (resp *pb.WatchResponse, err error) {
	err = s.until(ctx, "a reply", func() bool {
		if len(s.mu.control) == 0 {
			return false
		}
		resp, s.mu.control = s.mu.control[0], s.mu.control[1:]
		return true
	})
	return resp, err
}

// take waits for so many events of a watch and returns all that came.
func (s *watchStream) take(ctx context.Context, id int64, n int) (events []*mvccpb.Event, behind bool, err error) {
	err = s.until(ctx, fmt.Sprintf("%d events of watch %d", n, id), func() bool {
		w := s.mu.watches[id]
		if len(w.events) < n || w.fragments {
			return false
		}
		events, w.events, behind = w.events, nil, w.behind
		return true
	})
	return events, behind, err
}

// left is what came and was not taken.
func (s *watchStream) left() map[int64][]*mvccpb.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := make(map[int64][]*mvccpb.Event)
	for id, w := range s.mu.watches {
		if len(w.events) > 0 {
			of[id] = w.events
		}
	}
	return of
}

func create(r *pb.WatchCreateRequest) *pb.WatchRequest {
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}}
}

func cancelWatch(id int64) *pb.WatchRequest {
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}}}
}

func progress() *pb.WatchRequest {
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}
}
