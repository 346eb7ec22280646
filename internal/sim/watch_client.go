package sim

import (
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/internal/model"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/router"
	"github.com/flotilladb/flotilla/watchfeed"
)

// watchClient watches over one stream at a time. It makes and ends watches, asks
// for progress, reads slowly, and hangs up; when the stream is gone, by its own
// will or with the node, it opens another and goes on with each watch from the
// last revision that it knows to have all of.
type watchClient struct {
	s    *Sim
	id   int
	node *simNode

	conn      int // counts streams, so that what comes for an older one is dropped
	connected bool
	stream    watchfeed.StreamID // 0: the hub has not come to it
	watches   map[int64]*simWatch
	nextID    int64
	slow      time.Duration

	queue   []watchfeed.Response
	full    bool // the hub wants to hear when something was taken
	reading bool

	// progressed is the newest progress of the stream.
	progressed int64

	all []*simWatch // that are not ended, in order of creation
}

// simWatch is a watch as its client sees it, over all streams on which it was.
type simWatch struct {
	req watchfeed.CreateRequest // without id and start
	rec *model.WatchRecord
	// next is the first revision that the client lacks, 0 while it does not know
	// where its watch begins.
	next    int64
	low     int64 // what was acknowledged before it was asked for
	id      int64 // on this stream
	created bool  // on this stream
	going   bool  // it was asked to end
}

const watchesMax = 12

func newWatchClient(s *Sim, id int, n *simNode) *watchClient {
	w := &watchClient{s: s, id: id, node: n}
	w.planAct()
	return w
}

// planAct plans what the client does next of its own will.
func (w *watchClient) planAct() {
	s := w.s
	s.after(between(s.watching, 0, 2*s.cfg.WatchThink), func() {
		if !s.ending {
			w.act()
			w.planAct()
		}
	})
}

func (w *watchClient) act() {
	s := w.s
	if !w.connected {
		w.connect()
		return
	}
	switch n := s.watching.IntN(20); {
	case n < 10 && len(w.all) < watchesMax:
		w.create()
	case n < 14 && len(w.all) > 0:
		w.cancel(w.all[s.watching.IntN(len(w.all))])
	case n < 18:
		w.askProgress()
	case n < 19:
		s.tracef("watcher %d hangs up", w.id)
		stream := w.stream
		w.node.hub.send(func(c *watchfeed.Core) { c.Close(stream) })
		w.lose()
	}
}

// connect opens a stream and goes on with all watches.
func (w *watchClient) connect() {
	if w.node.gone || w.s.ending && w.node.away() {
		w.node = w.s.refuge(w.node)
	}
	if !w.node.serving || w.node.stopping || w.connected {
		return
	}
	s := w.s
	w.conn++
	w.connected, w.stream, w.queue, w.full, w.reading = true, 0, nil, false, false
	w.watches, w.progressed = make(map[int64]*simWatch), 0
	w.slow = pick(s.watching, 100*time.Microsecond, 5*time.Millisecond, s.cfg.WatchSlow)
	w.node.hub.open(w, drawStream(s.watching))
	w.all = slices.DeleteFunc(w.all, func(x *simWatch) bool { return x.going })
	for _, x := range w.all {
		w.ask(x)
	}
}

// lose forgets the stream and what was not read of it.
func (w *watchClient) lose() {
	w.conn++
	w.connected, w.queue, w.watches = false, nil, nil
	if w.s.ending {
		w.s.after(between(w.s.watching, time.Millisecond, 20*time.Millisecond), w.reconnect)
	}
}

// reconnect tries until it is done, when the client does nothing else any more.
func (w *watchClient) reconnect() {
	if w.connect(); !w.connected {
		w.s.after(10*time.Millisecond, w.reconnect)
	}
}

// create makes a new watch.
func (w *watchClient) create() {
	req := w.s.gen.Watch(w.s.hist.known)
	watch, refusal := model.NewWatch(req, 0)
	if refusal != "" {
		return // the API's affair
	}
	x := &simWatch{
		req: watchfeed.CreateRequest{
			Key: watch.Key, End: watch.End, PrevKV: watch.PrevKV, NoPut: watch.NoPut, NoDelete: watch.NoDelete,
			Progress: req.ProgressNotify, Fragment: req.Fragment,
		},
		rec: &model.WatchRecord{Watch: watch}, next: req.StartRevision,
	}
	x.rec.Watch.Start = req.StartRevision // 0 is not known yet
	switch {
	case len(watch.End) == 0:
		x.req.End = nil
	case len(watch.End) == 1 && watch.End[0] == 0:
		x.req.End = []byte{}
	}
	w.s.stats.Watches++
	w.s.watched = append(w.s.watched, x)
	w.all = append(w.all, x)
	w.ask(x)
}

// ask asks for a watch on this stream.
func (w *watchClient) ask(x *simWatch) {
	if !w.connected {
		return
	}
	w.nextID++
	x.id, x.created, x.low = w.nextID, false, w.s.hist.seen
	w.watches[x.id] = x
	req := x.req
	req.ID, req.Start = x.id, x.next
	w.current(func(now metapb.Revision) {
		w.s.tracef("watcher %d: watch %d of %q to %q from %d, now %d", w.id, req.ID, req.Key, req.End, req.Start, now)
		w.send(func(c *watchfeed.Core) { c.Create(w.stream, &req, now) })
	})
}

// current tells what is current, at once if the node need not ask.
func (w *watchClient) current(do func(now metapb.Revision)) {
	if w.node.core.Direct() {
		now, _ := w.node.pub.Current()
		do(now)
		return
	}
	conn := w.conn
	call := &router.Call{Req: &router.ReadTicket{}, Done: make(chan struct{}, 1)}
	w.node.submit(call, func() {
		switch {
		case w.conn != conn:
		case call.Err != nil:
			w.s.after(10*time.Millisecond, func() {
				if w.conn == conn {
					w.current(do)
				}
			})
		default:
			do(call.Resp.(*router.ReadReply).S)
		}
	})
}

// send has the hub do something for this stream.
func (w *watchClient) send(do func(c *watchfeed.Core)) {
	conn := w.conn
	w.node.hub.send(func(c *watchfeed.Core) {
		if w.conn == conn {
			do(c)
		}
	})
}

func (w *watchClient) cancel(x *simWatch) {
	if !x.created && !w.node.core.Direct() {
		return // it may be on its way to the hub still
	}
	x.going = true
	w.send(func(c *watchfeed.Core) { c.Cancel(w.stream, x.id) })
}

func (w *watchClient) askProgress() {
	w.current(func(now metapb.Revision) {
		w.send(func(c *watchfeed.Core) { c.RequestProgress(w.stream, now) })
	})
}

// put queues what the hub has for the client, and says how much is queued.
func (w *watchClient) put(out *watchfeed.Output) (responses, bytes int) {
	w.queue = append(w.queue, out.Responses...)
	w.full = out.Full
	for i := range w.queue {
		for _, e := range w.queue[i].Events {
			bytes += len(e.Key) + len(e.Value) + 160
		}
	}
	if !w.reading && len(w.queue) > 0 {
		w.reading = true
		conn := w.conn
		w.s.after(w.s.lateness(w.slow), func() {
			if w.conn == conn {
				w.read()
			}
		})
	}
	return len(w.queue), bytes
}

// read takes all that is queued.
func (w *watchClient) read() {
	w.reading = false
	queue := w.queue
	w.queue = nil
	if w.full {
		w.full = false
		w.send(func(c *watchfeed.Core) { c.Drained(w.stream, 0, 0) })
	}
	for i := range queue {
		if err := w.take(&queue[i]); err != nil {
			w.s.fail(fmt.Errorf("watcher %d, %v of watch %d at %d: %w", w.id, queue[i].Kind, queue[i].ID, queue[i].Revision, err))
			return
		}
	}
}

// take takes one response.
func (w *watchClient) take(r *watchfeed.Response) error {
	w.s.tracef("watcher %d: kind %d of watch %d at %d, %d events", w.id, r.Kind, r.ID, r.Revision, len(r.Events))
	if r.Kind == watchfeed.StreamProgress {
		w.progressed = r.Revision
		for _, x := range w.all {
			if x.created {
				x.bookmark(r.Revision)
			}
		}
		return nil
	}
	x := w.watches[r.ID]
	if x == nil {
		return fmt.Errorf("there is no such watch")
	}
	if x.created == (r.Kind == watchfeed.Created) {
		return fmt.Errorf("created: %t", x.created)
	}
	switch r.Kind {
	case watchfeed.Created:
		return x.begin(r.Revision)
	case watchfeed.Events:
		return w.events(x, r)
	case watchfeed.Progress:
		x.bookmark(r.Revision)
	case watchfeed.Canceled:
		if !x.going {
			return fmt.Errorf("nobody asked for it")
		}
		w.end(x)
	case watchfeed.Compacted:
		if x.next >= r.CompactRevision || r.CompactRevision > w.s.compacted {
			return fmt.Errorf("it is said to be compacted at %d, wants %d, and %d is compacted", r.CompactRevision, x.next, w.s.compacted)
		}
		w.end(x)
		w.s.stats.WatchesCompacted++
	default:
		return fmt.Errorf("unexpected")
	}
	return nil
}

// begin takes the answer to a creation.
func (x *simWatch) begin(rev int64) error {
	x.created = true
	if rev < x.low {
		return fmt.Errorf("%d was acknowledged before it was asked for", x.low)
	}
	if x.next == 0 {
		x.next = rev + 1
	}
	if x.rec.Watch.Start == 0 {
		x.rec.Watch.Start = x.next
	}
	return nil
}

// bookmark notes that the client has everything up to a revision.
func (x *simWatch) bookmark(rev int64) {
	x.rec.Responses = append(x.rec.Responses, model.WatchResponse{Bookmark: rev})
	x.next = max(x.next, rev+1)
}

func (w *watchClient) events(x *simWatch, r *watchfeed.Response) error {
	resp := model.WatchResponse{Bookmark: r.Revision, Compacted: w.s.compacted}
	for _, e := range r.Events {
		decoded := &mvccpb.Event{}
		if err := proto.Unmarshal(e.AppendEncoded(nil, r.PrevKV), decoded); err != nil {
			return err
		}
		resp.Events = append(resp.Events, decoded)
	}
	n := len(resp.Events)
	if n == 0 || resp.Events[n-1].Kv.ModRevision != r.Revision {
		return fmt.Errorf("its last of %d events is of another revision", n)
	}
	w.s.stats.WatchEvents += n
	x.rec.Responses = append(x.rec.Responses, resp)
	x.next = r.Revision + 1
	return nil
}

// end forgets a watch that is over.
func (w *watchClient) end(x *simWatch) {
	delete(w.watches, x.id)
	w.all = slices.DeleteFunc(w.all, func(o *simWatch) bool { return o == x })
}

// busy says what the client waits for still.
func (w *watchClient) busy(current int64) string {
	switch {
	case !w.connected:
		return fmt.Sprintf("watcher %d has no stream", w.id)
	case len(w.queue) > 0 || w.reading:
		return fmt.Sprintf("watcher %d has not read all", w.id)
	}
	ahead := false
	for _, x := range w.all {
		if !x.created || x.going {
			return fmt.Sprintf("watcher %d waits for watch %d", w.id, x.id)
		}
		ahead = ahead || x.next > current+1
	}
	if len(w.all) > 0 && !ahead && w.progressed < current {
		w.askProgress()
		return fmt.Sprintf("watcher %d waits for progress to %d, has %d", w.id, current, w.progressed)
	}
	return ""
}
