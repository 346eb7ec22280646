package watchfeed

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// hubWorld is a hub beside a store of three ranges, which begin with a, h and p.
type hubWorld struct {
	t   *testing.T
	hub *Hub
	eng engine.Engine
	rev atomic.Int64
}

func newHubWorld(t *testing.T, cfg HubConfig) *hubWorld {
	t.Helper()
	w := &hubWorld{t: t}
	w.rev.Store(1)
	eng, err := engine.OpenPebble(engine.Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	w.eng = eng
	cfg.Core.Reader = eng
	cfg.Current = func() (Revision, Revision) { return Revision(w.rev.Load()), -1 }
	cfg.Removal = func() Revision { return -1 }
	if w.hub, err = NewHub(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.hub.Stop()
		if left := w.hub.stop.Running(); len(left) > 0 {
			t.Errorf("goroutines left: %v", left)
		}
		if err := eng.Close(); err != nil {
			t.Error(err)
		}
	})
	s := Step{Current: 1, Compacted: -1}
	ends := []string{"h", "p", ""}
	start := keys.UserSpan(nil, nil).Start
	for i, end := range ends {
		d := &metapb.Descriptor{RangeId: uint64(i + 2), Start: start, Generation: 1}
		if end != "" {
			d.End = keys.User([]byte(end))
		}
		start = d.End
		s.Descriptors = append(s.Descriptors, d)
		s.Bounds = append(s.Bounds, RangeBound{d.ID(), NoBound})
	}
	w.hub.Feed(s)
	return w
}

// put applies a put, as the loop of a node does.
func (w *hubWorld) put(key, value string) {
	w.t.Helper()
	rev := w.rev.Load() + 1
	m := &txnpb.Mutation{Key: []byte(key), Value: []byte(value), CreateRevision: rev, Version: 1}
	b := w.eng.NewBatch()
	defer b.Close()
	mvcc.AppendMutation(b, Revision(rev), m)
	if err := w.eng.Commit(b, false); err != nil {
		w.t.Fatal(err)
	}
	id := metapb.RangeID(2)
	if key >= "p" {
		id = 4
	} else if key >= "h" {
		id = 3
	}
	w.rev.Store(rev)
	w.hub.Feed(Step{
		Applied: []RangeUpdates{{id, []*cmdpb.Update{{Revision: rev, Mutations: []*txnpb.Mutation{m}}}}},
		Bounds:  []RangeBound{{id, NoBound}}, Current: Revision(rev), Compacted: -1,
	})
}

func (w *hubWorld) watch(cfg StreamConfig, req CreateRequest) *Stream {
	w.t.Helper()
	s, err := w.hub.Open(cfg)
	if err == nil {
		err = s.Create(req)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// expect receives until the event at revision last has come, and checks that
// every revision from first on has.
func (w *hubWorld) expect(s *Stream, first, last int64) {
	w.t.Helper()
	var buf []Response
	for next := first; next <= last; {
		rs, err := s.Recv(w.t.Context(), buf)
		if err != nil {
			w.t.Fatal(err)
		}
		for i := range rs {
			for _, ev := range rs[i].Events {
				if ev.Revision != next {
					w.t.Fatalf("event at %d, want %d", ev.Revision, next)
				}
				next++
			}
		}
		buf = rs
	}
}

var everything = CreateRequest{Key: []byte{0}, End: []byte{}}

func key(i int) string { return fmt.Sprintf("%c%d", "akz"[i%3], i) }

// A hub that is given more than its inbox may hold forgets what was applied, and
// its watchers do not.
func TestInboxOverflow(t *testing.T) {
	w := newHubWorld(t, HubConfig{InboxBytesMax: 1})
	s := w.watch(StreamConfig{}, everything)
	rs, err := s.Recv(t.Context(), nil)
	if err != nil || rs[0].Kind != Created {
		t.Fatal(rs, err)
	}
	n := 0
	for w.hub.Stats().Scans == 0 && n < 1000000 {
		for range 100 {
			w.put(key(n), "v")
			n++
		}
	}
	w.expect(s, 2, int64(n+1))
	if w.hub.Stats().Scans == 0 {
		t.Error("nothing was lost: the test shows nothing")
	}
}

// A stream that nobody reads holds what it may, delays no other, and goes on
// where it was.
func TestSlowStream(t *testing.T) {
	const bytesMax, events = 4 << 10, 3000
	w := newHubWorld(t, HubConfig{Core: CoreConfig{RingBytesMax: 64 << 10, ResponseBytesMax: 512}})
	all := everything
	all.Start = 2
	slow := w.watch(StreamConfig{QueueBytesMax: bytesMax}, all)
	fast := w.watch(StreamConfig{}, all)
	for _, s := range []*Stream{slow, fast} {
		if err := s.Create(CreateRequest{ID: 1, Key: []byte("unseen"), Start: 1 << 40}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range events {
		w.put(key(i), "v")
		if i%100 == 99 {
			w.expect(fast, int64(i-97), int64(i+2))
		}
	}
	slow.mu.Lock()
	held := slow.mu.bytes
	slow.mu.Unlock()
	if held > bytesMax+1024 {
		t.Errorf("a stream that nobody reads holds %d bytes, may %d", held, bytesMax)
	}
	w.expect(slow, 2, events+1)
	if w.hub.Stats().Scans == 0 {
		t.Error("the rings were long enough: the test shows nothing")
	}
}

// Streams end with their hub; what is asked of them then is refused.
func TestEnd(t *testing.T) {
	w := newHubWorld(t, HubConfig{})
	a := w.watch(StreamConfig{WatchesMax: 1}, everything)
	if err := a.Create(CreateRequest{ID: 1, Key: []byte("k")}); !errors.Is(err, ErrTooManyWatches) {
		t.Errorf("a second watch: %v", err)
	}
	b := w.watch(StreamConfig{}, everything)
	b.Close()
	if _, err := b.Recv(t.Context(), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	w.hub.Stop()
	for {
		if _, err := a.Recv(t.Context(), nil); errors.Is(err, ErrStopping) {
			break
		} else if err != nil {
			t.Fatalf("after Stop: %v", err)
		}
	}
	if err := a.Create(everything); !errors.Is(err, ErrTooManyWatches) && !errors.Is(err, ErrStopping) {
		t.Errorf("create after Stop: %v", err)
	}
	if _, err := w.hub.Open(StreamConfig{}); !errors.Is(err, ErrStopping) {
		t.Errorf("open after Stop: %v", err)
	}
}

// A client that asks for progress and does not read costs its queue and no more,
// and has its answer when it reads.
func TestProgressNobodyReads(t *testing.T) {
	w := newHubWorld(t, HubConfig{})
	s := w.watch(StreamConfig{QueueResponsesMax: 8}, everything)
	w.put("a", "v")
	for i := range 20000 {
		s.RequestProgress()
		w.hub.mu.Lock()
		commands := len(w.hub.mu.commands)
		w.hub.mu.Unlock()
		s.mu.Lock()
		queued := len(s.mu.queue)
		s.mu.Unlock()
		if commands > 3 || queued > 9 {
			t.Fatalf("after %d requests %d wait for the hub and %d answers for the client", i+1, commands, queued)
		}
	}
	w.put("a", "w")
	s.RequestProgress()
	for told := int64(0); told < 3; {
		rs, err := s.Recv(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rs {
			if r.Kind == StreamProgress {
				told = r.Revision
			}
		}
	}
}

// Steps in which nothing was applied take memory too.
func TestInboxOfEmptySteps(t *testing.T) {
	h := &Hub{cfg: HubConfig{InboxBytesMax: 64 << 10}, wakeup: make(chan struct{}, 1)}
	for i := range 100000 {
		h.Feed(Step{Bounds: []RangeBound{{2, Revision(i)}, {3, NoBound}}, Current: Revision(i)})
	}
	if n := len(h.mu.steps); n > 1000 {
		t.Errorf("%d steps wait", n)
	}
	last := h.mu.steps[len(h.mu.steps)-1]
	if last.Current != 99999 || last.Bounds[0].Bound != 99999 || len(last.Lost) > 0 {
		t.Errorf("the last is %+v", last)
	}
}
