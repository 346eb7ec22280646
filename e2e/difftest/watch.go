package difftest

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/flotilladb/flotilla/internal/model"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

const (
	// watchEvery is one in so many requests at which a watch is made or ended.
	watchEvery = 8
	// drainEvery is when the events are compared, even if nothing else asks for it.
	drainEvery = 50
	// watchesMax is what is open on a stream.
	watchesMax = 12
	// progressEvery is when progress is asked for again: etcd drops the question
	// while a watch catches up.
	progressEvery = 20 * time.Millisecond
)

// watching makes and ends watches beside a run, the same on every server, and
// holds what comes against the model: replies in full, events one by one.
//
// What etcd leaves open is kept out. Where the outcome depends on how far a watch
// has come (compaction, cancel, the pair before), it is waited for first. Watches
// of the future have a stream of their own, as they keep progress back.
type watching struct {
	rng  *rand.Rand
	rows []*watchRow
	seen map[string]int // what was met, so that a test can ask for it
	n    int
}

// watchRow is one stream on each server, with the same watches.
type watchRow struct {
	future  bool
	streams []*watchStream
	nextID  int64 // the next that a server chooses
	open    map[int64]*openWatch
}

// openWatch is a watch that every server has.
type openWatch struct {
	model.Watch
	id     int64
	live   bool // it never had to catch up
	upTo   int64
	expect []*mvccpb.Event // not compared yet
}

func newWatching(ctx context.Context, seed uint64, servers map[string]*remote) (*watching, error) {
	w := &watching{rng: rand.New(rand.NewPCG(seed, 3)), seen: make(map[string]int)}
	for i := range 3 {
		row := &watchRow{future: i == 2, open: make(map[int64]*openWatch)}
		for name, r := range servers {
			s, err := openStream(ctx, name, r)
			if err != nil {
				return nil, err
			}
			row.streams = append(row.streams, s)
		}
		w.rows = append(w.rows, row)
	}
	return w, nil
}

// before is called before each request.
func (w *watching) before(ctx context.Context, req any, g *model.Generator, now *model.State) error {
	_, compaction := req.(*pb.CompactionRequest)
	if w.n++; compaction || w.n%drainEvery == 0 {
		if err := w.drain(ctx); err != nil {
			return err
		}
	}
	if w.rng.IntN(watchEvery) != 0 {
		return nil
	}
	row := w.rows[w.rng.IntN(len(w.rows))]
	if len(row.open) > 0 && w.rng.IntN(3) == 0 || len(row.open) >= watchesMax {
		return w.cancel(ctx, row, now)
	}
	return w.create(ctx, row, g.Watch(now), now)
}

// after is called after each request with the state that it left.
func (w *watching) after(now *model.State) {
	for _, row := range w.rows {
		for _, o := range row.open {
			o.expect = append(o.expect, now.WatchEvents(o.Watch, o.upTo+1, now.Revision())...)
			o.upTo = max(o.upTo, now.Revision())
		}
	}
}

// end compares what is left and closes the streams.
func (w *watching) end(ctx context.Context, now *model.State) error {
	if err := w.drain(ctx); err != nil {
		return err
	}
	for _, row := range w.rows {
		for len(row.open) > 0 {
			if err := w.cancel(ctx, row, now); err != nil {
				return err
			}
		}
		for _, s := range row.streams {
			s.cancel()
			for id, o := range s.left() {
				return fmt.Errorf("%s: %d events came for watch %d after it ended, the first %s", s.server, len(o), id, text(o[0]))
			}
		}
	}
	return nil
}

// create makes a watch on every server.
func (w *watching) create(ctx context.Context, row *watchRow, req *pb.WatchCreateRequest, now *model.State) error {
	switch w.rng.IntN(8) {
	case 0:
		req.WatchId = []int64{1, 3, 5, 8, -5, math.MaxInt64}[w.rng.IntN(6)]
	case 1:
		req.WatchId = w.anOpen(row)
	}
	switch {
	case row.future && req.StartRevision > 0:
		req.StartRevision = now.Revision() + 1 + w.rng.Int64N(20)
	case row.future:
	case now.Compacted() > 1 && w.rng.IntN(8) == 0:
		req.StartRevision = 1 + w.rng.Int64N(now.Compacted()-1)
	default:
		req.StartRevision = min(req.StartRevision, now.Revision()) // one that is to come keeps progress back
	}
	watch, refusal := model.NewWatch(req, now.Revision())
	want := &pb.WatchResponse{Header: &pb.ResponseHeader{Revision: now.Revision()}, WatchId: -1, Created: true}
	switch _, used := row.open[req.WatchId]; {
	case refusal != "":
	case used && req.WatchId != 0:
		refusal = "mvcc: duplicate watch ID provided on the WatchStream"
	default:
		want.WatchId = row.choose(req.WatchId)
	}
	want.Canceled, want.CancelReason = refusal != "", refusal
	w.seen[refusal]++
	if err := row.ask(ctx, create(req), want); err != nil || refusal != "" {
		return err
	}
	o := &openWatch{Watch: watch, id: want.WatchId, live: watch.Start > now.Revision(), upTo: watch.Start - 1}
	row.open[o.id] = o
	if watch.Start < now.Compacted() {
		return w.compacted(ctx, row, o, now)
	}
	w.after(now)
	if row.future {
		return nil
	}
	return row.sync(ctx, now.Revision())
}

// choose is the id that a watch gets.
func (row *watchRow) choose(asked int64) int64 {
	if asked != 0 {
		return asked
	}
	for row.open[row.nextID] != nil {
		row.nextID++
	}
	row.nextID++
	return row.nextID - 1
}

// compacted waits until a watch that began too late is ended by the server. Its
// id stays in use until the client ends it too.
func (w *watching) compacted(ctx context.Context, row *watchRow, o *openWatch, now *model.State) error {
	w.seen["compacted"]++
	want := &pb.WatchResponse{Header: &pb.ResponseHeader{}, WatchId: o.id, Canceled: true, CompactRevision: now.Compacted()}
	for _, s := range row.streams {
		var got *pb.WatchResponse
		err := s.until(ctx, "the end of a compacted watch", func() bool {
			got = s.mu.watches[o.id].compacted
			return got != nil
		})
		if err != nil {
			return err
		}
		if err := sameResponse(s, got, want); err != nil {
			return err
		}
	}
	return w.cancelOne(ctx, row, o, now)
}

// cancel ends a watch, or tries to end one that is not there.
func (w *watching) cancel(ctx context.Context, row *watchRow, now *model.State) error {
	if w.rng.IntN(6) == 0 {
		w.seen["unknown"]++
		for _, s := range row.streams {
			if err := s.rpc.Send(cancelWatch(1_000_000)); err != nil {
				return err
			}
		}
	}
	o := row.open[w.anOpen(row)]
	if err := w.drainOne(ctx, row, o); err != nil {
		return err
	}
	w.seen["canceled"]++
	return w.cancelOne(ctx, row, o, now)
}

func (w *watching) cancelOne(ctx context.Context, row *watchRow, o *openWatch, now *model.State) error {
	delete(row.open, o.id)
	return row.ask(ctx, cancelWatch(o.id), &pb.WatchResponse{
		Header: &pb.ResponseHeader{Revision: now.Revision()}, WatchId: o.id, Canceled: true,
	})
}

// anOpen draws the id of an open watch, 0 if there is none.
func (w *watching) anOpen(row *watchRow) int64 {
	var ids []int64
	for id := range row.open {
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return 0
	}
	slices.Sort(ids)
	return ids[w.rng.IntN(len(ids))]
}

// ask sends a request to each server and compares the replies.
func (row *watchRow) ask(ctx context.Context, req *pb.WatchRequest, want *pb.WatchResponse) error {
	for _, s := range row.streams {
		if err := s.rpc.Send(proto.CloneOf(req)); err != nil {
			return fmt.Errorf("%s: %w", s.server, err)
		}
	}
	for _, s := range row.streams {
		got, err := s.reply(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", text(req), err)
		}
		if err := sameResponse(s, got, want); err != nil {
			return fmt.Errorf("%s: %w", text(req), err)
		}
	}
	return nil
}

func sameResponse(s *watchStream, got, want *pb.WatchResponse) error {
	got = proto.CloneOf(got)
	if got.Header != nil {
		got.Header.ClusterId, got.Header.MemberId, got.Header.RaftTerm = 0, 0, 0
	}
	if !proto.Equal(got, want) {
		return fmt.Errorf("%s answers %s, want %s", s.server, text(got), text(want))
	}
	return nil
}

// sync asks for progress until all watches of the row are said to have come to
// the newest revision.
func (row *watchRow) sync(ctx context.Context, rev int64) error {
	for _, s := range row.streams {
		s.mu.Lock()
		s.mu.progress = nil
		s.mu.Unlock()
		there := func() bool { return slices.Contains(s.mu.progress, rev) }
		deadline := time.Now().Add(requestTimeout)
		for {
			if err := s.rpc.Send(progress()); err != nil {
				return fmt.Errorf("%s: %w", s.server, err)
			}
			short, cancel := context.WithTimeout(ctx, progressEvery)
			err := s.until(short, "progress", there)
			cancel()
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("%s: no progress to %d: %w", s.server, rev, err)
			}
		}
		s.mu.Lock()
		wrong := slices.ContainsFunc(s.mu.progress, func(p int64) bool { return p > rev })
		s.mu.Unlock()
		if wrong {
			return fmt.Errorf("%s: progress beyond %d", s.server, rev)
		}
	}
	return nil
}

// drain compares the events of all watches.
func (w *watching) drain(ctx context.Context) error {
	for _, row := range w.rows {
		for _, o := range row.open {
			if err := w.drainOne(ctx, row, o); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *watching) drainOne(ctx context.Context, row *watchRow, o *openWatch) error {
	for _, s := range row.streams {
		got, behind, err := s.take(ctx, o.id, len(o.expect))
		if err != nil {
			return fmt.Errorf("watch %d %+v: %w; expected %v", o.id, o.Watch, err, o.expect)
		}
		if behind && o.live {
			return fmt.Errorf("%s: watch %d never had to catch up, but a header was not that of its event", s.server, o.id)
		}
		for i := range max(len(got), len(o.expect)) {
			switch {
			case i == len(o.expect):
				return fmt.Errorf("%s: watch %d %+v: event %s should not be", s.server, o.id, o.Watch, text(got[i]))
			case !proto.Equal(got[i], o.expect[i]):
				return fmt.Errorf("%s: watch %d %+v: event %s should be %s", s.server, o.id, o.Watch, text(got[i]), text(o.expect[i]))
			}
		}
		w.seen["events"] += len(got)
	}
	o.expect = nil
	return nil
}
