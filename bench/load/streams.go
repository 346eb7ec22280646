package load

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	mvccpb "go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
)

// Where a watcher looks.
const (
	OnKey    = "key"
	OnPrefix = "prefix"
	OnAll    = "all"
)

// watcher is what one watcher saw. A million of them may be idle.
type watcher struct {
	last int64
	seen sums
}

// wrongs counts what a watcher must not see.
type wrongs struct {
	duplicate, disorder, split, foreign, prevKV int64
}

// stream is one gRPC stream with its watchers, received by one goroutine.
type stream struct {
	client   pb.Watch_WatchClient
	puts     *puts
	first    int // number of the first watcher
	watchers []watcher
	prevKV   bool

	created   atomic.Int64
	delivered atomic.Int64
	gate      func(ctx context.Context) // called before each receive, if not nil
	progress  func(rev int64)

	// What was due at or after cut, in ns since base, is counted in late instead of fromReply.
	cut                      atomic.Int64
	fromDue, fromReply, late Histogram
	wrongs                   wrongs
}

// watchSpan returns the key and range_end of the ith watcher.
func watchSpan(on string, k *keyspace, i int) (key, end []byte) {
	switch on {
	case OnKey:
		return k.key(i % k.keys), nil
	case OnPrefix:
		return []byte(k.prefix), prefixEnd(k.prefix)
	}
	return []byte{0}, []byte{0}
}

// openStreams opens streams over connections and divides watchers among them.
func openStreams(g *group, conns []*grpc.ClientConn, streams, watchers int, p *puts, prevKV bool) ([]*stream, error) {
	out := make([]*stream, streams)
	for i := range out {
		client, err := pb.NewWatchClient(conns[i%len(conns)]).Watch(g.ctx)
		if err != nil {
			return nil, err
		}
		first, next := i*watchers/streams, (i+1)*watchers/streams
		out[i] = &stream{client: client, puts: p, first: first, watchers: make([]watcher, next-first), prevKV: prevKV}
	}
	return out, nil
}

// create sends the creates of all watchers of a stream and does not wait.
func (s *stream) create(on string, from int64) error {
	for i := range s.watchers {
		key, end := watchSpan(on, &s.puts.keyspace, s.first+i)
		err := s.client.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
			Key: key, RangeEnd: end, StartRevision: from, PrevKv: s.prevKV, WatchId: int64(i) + 1,
		}}})
		if err != nil {
			return err
		}
	}
	return nil
}

// receive takes in responses until the stream ends.
func (s *stream) receive(ctx context.Context) error {
	for {
		if s.gate != nil {
			s.gate(ctx)
		}
		resp, err := s.client.Recv()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("watch stream: %w", err)
		}
		if err := s.take(resp, time.Since(s.puts.base)); err != nil {
			return err
		}
	}
}

func (s *stream) take(resp *pb.WatchResponse, now time.Duration) error {
	switch {
	case resp.Canceled:
		return fmt.Errorf("watch %d was canceled: %s", resp.WatchId, resp.CancelReason)
	case resp.Created:
		s.created.Add(1)
		return nil
	case len(resp.Events) == 0:
		if s.progress != nil {
			s.progress(resp.Header.Revision)
		}
		return nil
	}
	i := resp.WatchId - 1
	if i < 0 || i >= int64(len(s.watchers)) {
		return fmt.Errorf("events for watch %d, which does not exist", resp.WatchId)
	}
	w := &s.watchers[i]
	for n, ev := range resp.Events {
		s.see(w, ev, n == 0, now)
	}
	s.delivered.Add(int64(len(resp.Events)))
	return nil
}

// see takes in one event. first: it begins a response.
func (s *stream) see(w *watcher, ev *mvccpb.Event, first bool, now time.Duration) {
	rev := ev.Kv.ModRevision
	number, due, ok := s.puts.stamp(ev.Kv.Value)
	if !ok || ev.Type != mvccpb.Event_PUT {
		s.wrongs.foreign++
		return
	}
	switch {
	case rev < w.last:
		s.wrongs.disorder++
	case rev == w.last && first:
		s.wrongs.split++ // or the same once more
	case rev == w.last && s.puts.perTxn <= 1:
		s.wrongs.duplicate++
	}
	w.last = max(w.last, rev)
	w.seen.count, w.seen.revisions = w.seen.count+1, w.seen.revisions+rev
	if s.prevKV && ev.Kv.Version > 1 && (ev.PrevKv == nil || ev.PrevKv.Version != ev.Kv.Version-1) {
		s.wrongs.prevKV++
	}
	s.fromDue.Add(now - due)
	after := time.Duration(0) // if the event came before the put's own reply
	if replied := s.puts.replied[number].Load(); replied != 0 {
		after = now - time.Duration(replied)
	}
	if cut := s.cut.Load(); cut != 0 && int64(due) >= cut {
		s.late.Add(after)
	} else {
		s.fromReply.Add(after)
	}
}

// tally adds up what all streams saw against what they had to see. The streams
// must have ended.
func tally(r *Report, streams []*stream, on string, p *puts) {
	all, byKey := p.expected()
	var missing, surplus, different int64
	var w wrongs
	fromDue, fromReply := &Histogram{}, &Histogram{}
	for _, s := range streams {
		for i := range s.watchers {
			want, got := all, s.watchers[i].seen
			if on == OnKey {
				want = byKey[(s.first+i)%p.keys]
			}
			missing += max(0, want.count-got.count)
			surplus += max(0, got.count-want.count)
			if want.count == got.count && want.revisions != got.revisions {
				different++
			}
		}
		w.add(&s.wrongs)
		fromDue.Merge(&s.fromDue)
		fromReply.Merge(&s.fromReply)
	}
	if fromReply.Len() > 0 {
		r.latencies("delivery_from_due", fromDue)
		r.latencies("delivery_from_reply", fromReply)
	}
	r.must("missing", missing)
	r.must("surplus", surplus)
	r.must("other_than_written", different)
	w.report(r)
}

func (w *wrongs) add(o *wrongs) {
	w.duplicate += o.duplicate
	w.disorder += o.disorder
	w.split += o.split
	w.foreign += o.foreign
	w.prevKV += o.prevKV
}

func (w *wrongs) report(r *Report) {
	r.must("duplicate", w.duplicate)
	r.must("out_of_order", w.disorder)
	r.must("split_revision", w.split)
	r.must("foreign", w.foreign)
	r.must("prev_kv_missing", w.prevKV)
}

// begin receives on all streams, creates all watchers, and returns when all are
// created.
func begin(g *group, streams []*stream, on string, from int64) error {
	total := int64(0)
	for _, s := range streams {
		total += int64(len(s.watchers))
		g.run(s.receive)
		g.run(func(ctx context.Context) error {
			if err := s.create(on, from); err != nil && ctx.Err() == nil {
				return fmt.Errorf("create watches: %w", err)
			}
			return nil
		})
	}
	for sum(streams, created) < total {
		if !pause(g.ctx, time.Millisecond) {
			return g.failed()
		}
	}
	return nil
}

func created(s *stream) int64   { return s.created.Load() }
func delivered(s *stream) int64 { return s.delivered.Load() }

func sum(streams []*stream, of func(*stream) int64) (total int64) {
	for _, s := range streams {
		total += of(s)
	}
	return total
}

// linger is how long a run waits for what must not come.
const linger = 100 * time.Millisecond

// awaitAll waits until the streams have delivered what they must, and a moment
// for more than that; or until the patience ends.
func awaitAll(g *group, streams []*stream, on string, p *puts, patience time.Duration) error {
	all, byKey := p.expected()
	want := int64(0)
	for _, s := range streams {
		for i := range s.watchers {
			if on == OnKey {
				want += byKey[(s.first+i)%p.keys].count
			} else {
				want += all.count
			}
		}
	}
	for end := time.Now().Add(patience); sum(streams, delivered) < want && time.Now().Before(end); {
		if !pause(g.ctx, time.Millisecond) {
			return g.failed()
		}
	}
	if !pause(g.ctx, linger) {
		return g.failed()
	}
	return nil
}
