package etcdapi

import (
	"context"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/status"

	"github.com/flotilladb/flotilla/watchfeed"
)

// The reasons that etcd gives on a stream of watches.
const (
	reasonEmptySpan   = "mvcc: watcher range is empty"
	reasonDuplicateID = "mvcc: duplicate watch ID provided on the WatchStream"
)

// reasonOf is the text of an error as a cancel reason.
func reasonOf(err error) string { return status.Convert(err).Message() }

// send passes on what the hub has for the client until the stream ends.
func (w *watchStream) send(ctx context.Context) error {
	var batch []watchfeed.Response
	for {
		var err error
		if batch, err = w.hub.Recv(ctx, batch[:0]); err != nil {
			return err
		}
		if err := w.sendBatch(batch); err != nil {
			return err
		}
		// A stream that is idle keeps neither events alive nor what it needed
		// when it was behind.
		clear(batch)
		if cap(batch) > watchBatchKept {
			batch = nil
		}
	}
}

func (w *watchStream) sendBatch(batch []watchfeed.Response) error {
	w.sending <- struct{}{} // the receiver's answer ends with the stream
	defer func() { <-w.sending }()
	w.enc.begin(len(batch), w.id.Term())
	for i := 0; i < len(batch); {
		n := 1
		var err error
		if batch[i].Kind == watchfeed.Events {
			for i+n < len(batch) && batch[i+n].Kind == watchfeed.Events {
				n++
			}
			err = w.sendEvents(batch[i : i+n])
		} else {
			err = w.sendControl(&batch[i])
		}
		if err != nil {
			return err
		}
		i += n
	}
	return nil
}

// sendControl sends what is not events.
func (w *watchStream) sendControl(r *watchfeed.Response) error {
	f := watchFields{revision: r.Revision, id: r.ID}
	switch r.Kind {
	case watchfeed.Created:
		f.created = true
		if err := w.sendFields(&f); err != nil {
			return err
		}
		w.noteAnswered()
	case watchfeed.Canceled:
		w.mu.Lock()
		tell, asked := w.mu.ids.canceled(r.ID)
		w.mu.Unlock()
		if !tell {
			return nil
		}
		f.canceled = true
		if err := w.sendFields(&f); err != nil {
			return err
		}
		if asked {
			w.noteAnswered()
		}
	case watchfeed.Compacted:
		return w.sendCompacted(r)
	case watchfeed.NoLeader:
		return rpctypes.ErrGRPCNoLeader
	case watchfeed.StreamProgress:
		f.id = noWatch
		return w.sendFields(&f)
	case watchfeed.Progress:
		return w.sendFields(&f)
	case watchfeed.Events: // see sendEvents
	}
	return nil
}

// sendCompacted ends a watch whose next revision is gone. Its header has no
// revision, as in etcd. A cancel that crossed it is answered too.
func (w *watchStream) sendCompacted(r *watchfeed.Response) error {
	w.mu.Lock()
	asked := w.mu.ids.compacted(r.ID)
	w.mu.Unlock()
	if err := w.sendFields(&watchFields{id: r.ID, canceled: true, compactRevision: r.CompactRevision}); err != nil {
		return err
	}
	if !asked {
		return nil
	}
	if err := w.sendFields(&watchFields{revision: w.id.Revision(), id: r.ID, canceled: true}); err != nil {
		return err
	}
	w.noteAnswered()
	return nil
}

func (w *watchStream) sendFields(f *watchFields) error {
	return w.stream.SendMsg(w.enc.message(f, watchEvents{}))
}

// noteAnswered lets the receiver go on.
func (w *watchStream) noteAnswered() {
	w.mu.Lock()
	w.mu.unanswered--
	w.mu.Unlock()
	select {
	case w.answered <- struct{}{}:
	default:
	}
}

// sendEvents sends a run of changes. What one watch has in it at several
// revisions goes out as one response, as etcd does for a watch that is behind.
func (w *watchStream) sendEvents(run []watchfeed.Response) error {
	var chained bool
	for i := 1; i < len(run) && !chained; i++ {
		// A watch has one response for a revision, so that a run at one
		// revision, which is the usual one, has nothing to merge.
		chained = run[i].Revision != run[0].Revision
	}
	if chained {
		w.chain.link(run)
	}
	for i := range run {
		if chained && w.chain.follows[i] {
			continue
		}
		if err := w.sendChain(run, i, chained); err != nil {
			return err
		}
	}
	clear(w.events[:cap(w.events)])
	if cap(w.events) > watchBatchKept {
		w.events = nil
	}
	return nil
}

// sendChain sends the response at i, with those that are chained to it.
func (w *watchStream) sendChain(run []watchfeed.Response, i int, chained bool) error {
	for i >= 0 {
		r := &run[i]
		last, next := r, -1
		events := watchEvents{list: r.Events, prev: r.PrevKV, shared: true}
		if chained {
			next = int(w.chain.next[i])
		}
		if next >= 0 && !r.Fragment {
			last, next = w.merge(run, i)
			events = watchEvents{list: w.events, prev: r.PrevKV}
		}
		f := watchFields{revision: last.Revision, id: r.ID}
		w.counts.events.Add(int64(len(events.list)))
		var err error
		if r.Fragment {
			err = w.enc.fragments(f, events, w.limit, w.sendMessage)
		} else {
			err = w.sendMessage(w.enc.message(&f, events))
		}
		if err != nil {
			return err
		}
		i = next
	}
	return nil
}

// merge gathers the events of the response at i, and of those chained to it as
// long as they do not get too long. It returns the last of them and the next.
func (w *watchStream) merge(run []watchfeed.Response, i int) (last *watchfeed.Response, next int) {
	w.events = w.events[:0]
	for bytes := 0; i >= 0 && (last == nil || bytes < mergedBytesMax); i = int(w.chain.next[i]) {
		last = &run[i]
		for _, ev := range last.Events {
			bytes += len(ev.Key) + len(ev.Value)
		}
		w.events = append(w.events, last.Events...)
	}
	return last, i
}

func (w *watchStream) sendMessage(m *watchMessage) error { return w.stream.SendMsg(m) }

// eventChain links the responses of each watch in a run.
type eventChain struct {
	next    []int32 // the next response of the same watch, or -1
	follows []bool  // whether it is the next of one
	last    map[int64]int32
}

// link makes the chains of a run. A watch's responses keep their order.
func (c *eventChain) link(run []watchfeed.Response) {
	if c.last == nil {
		c.last = make(map[int64]int32)
	}
	clear(c.last)
	c.next, c.follows = c.next[:0], c.follows[:0]
	for i := range run {
		c.next = append(c.next, -1)
		before, ok := c.last[run[i].ID]
		c.follows = append(c.follows, ok)
		if ok {
			c.next[before] = int32(i)
		}
		c.last[run[i].ID] = int32(i)
	}
}
