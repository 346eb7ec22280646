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
	batch := make([]watchfeed.Response, 0, watchBatchMin)
	for {
		var err error
		if batch, err = w.hub.Recv(ctx, batch[:0]); err != nil {
			return err
		}
		if err := w.sendBatch(batch); err != nil {
			return err
		}
		clear(batch) // events are not kept alive by a stream that is idle
		if n := cap(batch); len(batch) == n && n < watchBatchMax {
			batch = make([]watchfeed.Response, 0, 2*n)
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
	return w.stream.SendMsg(w.enc.message(f, nil))
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
	return nil
}

// sendChain sends the response at i, with those that are chained to it.
func (w *watchStream) sendChain(run []watchfeed.Response, i int, chained bool) error {
	for i >= 0 {
		r := &run[i]
		w.events = w.events[:0]
		bytes := w.addEvents(r)
		last := r
		next := -1
		if chained {
			next = int(w.chain.next[i])
		}
		for next >= 0 && !r.Fragment && bytes < mergedBytesMax {
			last = &run[next]
			bytes += w.addEvents(last)
			next = int(w.chain.next[next])
		}
		f := watchFields{revision: last.Revision, id: r.ID}
		w.counts.events.Add(int64(len(w.events)))
		var err error
		if r.Fragment {
			err = w.enc.fragments(f, w.events, w.limit, w.sendMessage)
		} else {
			err = w.sendMessage(w.enc.message(&f, w.events))
		}
		if err != nil {
			return err
		}
		i = next
	}
	return nil
}

func (w *watchStream) sendMessage(m *watchMessage) error { return w.stream.SendMsg(m) }

// addEvents adds a response's events to the message in the making.
func (w *watchStream) addEvents(r *watchfeed.Response) (bytes int) {
	for _, ev := range r.Events {
		b := ev.Encoded(r.PrevKV)
		bytes += len(b)
		w.events = append(w.events, b)
	}
	return bytes
}

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
