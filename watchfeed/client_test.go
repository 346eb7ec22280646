package watchfeed

import (
	"bytes"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/proto/txnpb"
)

// client is one stream's client. It holds what it gets against what happened.
type client struct {
	w       *world
	id      StreamID
	queue   []Response
	full    bool
	watches map[int64]*watched
	asked   []Revision // requests for progress, unanswered
	nextID  int64
}

// watched is a watch as its client sees it.
type watched struct {
	req     CreateRequest
	created bool
	next    Revision // everything wanted below it was shown
	doomed  bool     // it began below what was compacted
	at      int64    // what it is known to have reached, events apart
	// compacted is what was compacted when it began.
	compacted Revision
}

func (w *world) open(cfg StreamConfig) *client {
	id, err := w.core.Open(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	c := &client{w: w, id: id, watches: map[int64]*watched{}}
	w.streams = append(w.streams, c)
	return c
}

func (c *client) create(req CreateRequest) {
	req.ID = c.nextID
	c.nextID++
	compacted := c.w.core.compacted
	c.watches[req.ID] = &watched{req: req, doomed: req.Start != 0 && Revision(req.Start) < compacted, compacted: compacted}
	c.w.core.Create(c.id, &req, c.w.current)
}

// left is what waits to be taken.
func (c *client) left() (n, bytes int) {
	for i := range c.queue {
		bytes += responseBytes(&c.queue[i])
	}
	return len(c.queue), bytes
}

// take takes some responses and checks them.
func (c *client) take(n int) {
	n = min(n, len(c.queue))
	if n == 0 {
		return
	}
	for i := range c.queue[:n] {
		c.check(&c.queue[i])
	}
	c.queue = slices.Delete(c.queue, 0, n)
	if c.full {
		c.full = len(c.queue) > 0
		left, bytes := c.left()
		c.w.core.Drained(c.id, left, bytes)
	}
}

// wants returns what the watch must be shown from its next revision on.
func (v *watched) wants(w *world) []fact {
	var out []fact
	for _, f := range w.history {
		if f.rev < v.next || f.mut.Tombstone && v.req.NoDelete || !f.mut.Tombstone && v.req.NoPut {
			continue
		}
		key, end := f.mut.Key, v.req.End
		switch {
		case end == nil && !bytes.Equal(key, v.req.Key):
		case bytes.Compare(key, v.req.Key) < 0:
		case len(end) > 0 && bytes.Compare(key, end) >= 0:
		default:
			out = append(out, f)
		}
	}
	return out
}

func (c *client) check(r *Response) {
	t := c.w.t
	t.Helper()
	if r.Kind == StreamProgress {
		if len(c.asked) > 0 && Revision(r.Revision) < c.asked[0] {
			t.Fatalf("stream %d: progress %d, asked at %v", c.id, r.Revision, c.asked)
		}
		if len(c.asked) > 0 {
			c.asked = c.asked[1:] // there may be fewer answers than requests
		}
		for id, v := range c.watches {
			if v.created {
				c.atLeast(id, v, r)
			}
		}
		return
	}
	v := c.watches[r.ID]
	if v == nil || v.created != (r.Kind != Created) {
		t.Fatalf("stream %d watch %d: kind %d out of turn", c.id, r.ID, r.Kind)
	}
	switch r.Kind {
	case Created:
		v.created = true
		if v.next = Revision(v.req.Start); v.next == 0 {
			v.next, v.at = Revision(r.Revision)+1, r.Revision
		}
	case Canceled:
		delete(c.watches, r.ID)
	case Compacted:
		if Revision(r.CompactRevision) != c.w.compacted && Revision(r.CompactRevision) > c.w.compacted || v.next >= c.w.compacted {
			t.Fatalf("stream %d watch %d: compacted at %d, wants %d, compacted is %d", c.id, r.ID, r.CompactRevision, v.next, c.w.compacted)
		}
		delete(c.watches, r.ID)
	case Progress:
		c.atLeast(r.ID, v, r)
	case Events:
		c.events(v, r)
	}
}

// atLeast checks that nothing up to a progress revision is missing.
func (c *client) atLeast(id int64, v *watched, r *Response) {
	if wants := v.wants(c.w); len(wants) > 0 && int64(wants[0].rev) <= r.Revision {
		c.w.t.Fatalf("stream %d watch %d: progress %d before event at %d", c.id, id, r.Revision, wants[0].rev)
	}
	if r.Revision < v.at || Revision(r.Revision) < v.next-1 {
		c.w.t.Fatalf("stream %d watch %d: progress %d goes back from %d, %d", c.id, id, r.Revision, v.at, v.next-1)
	}
	v.at = r.Revision
	v.next = max(v.next, Revision(r.Revision)+1)
}

func (c *client) events(v *watched, r *Response) {
	t, wants := c.w.t, v.wants(c.w)
	t.Helper()
	if v.doomed {
		t.Fatalf("stream %d watch %d: events, and it began at %d, below what was compacted", c.id, r.ID, v.req.Start)
	}
	for i, ev := range r.Events {
		if i >= len(wants) || !c.same(v, ev, &wants[i]) {
			t.Fatalf("stream %d watch %d (%q, %q) from %d: event %d is %q@%d.%d, want %v", c.id, r.ID, v.req.Key, v.req.End, v.next, i,
				ev.Key, ev.Revision, ev.Sub, wants[:min(len(wants), i+1)])
		}
	}
	last := r.Events[len(r.Events)-1].Revision
	if n := len(r.Events); n < len(wants) && int64(wants[n].rev) == last {
		t.Fatalf("stream %d watch %d: revision %d is split", c.id, r.ID, last)
	}
	if last != r.Revision || Revision(last) > c.w.current {
		t.Fatalf("stream %d watch %d: revision %d in the header, %d in the last event, current %d", c.id, r.ID, r.Revision, last, c.w.current)
	}
	v.next = Revision(last) + 1
}

// same compares an event, also as it is on the wire, with what happened.
func (c *client) same(v *watched, ev *Event, f *fact) bool {
	wire := &mvccpb.Event{}
	enc := ev.AppendEncoded(nil, v.req.PrevKV)
	if err := proto.Unmarshal(enc, wire); err != nil || len(enc) != ev.EncodedLen(v.req.PrevKV) {
		c.w.t.Fatalf("encoding of %v: %v, %d bytes of %d", ev, err, len(enc), ev.EncodedLen(v.req.PrevKV))
	}
	want := &mvccpb.Event{Kv: kvOf(f.rev, f.mut)}
	if f.mut.Tombstone {
		want.Type = mvccpb.Event_DELETE
	}
	if v.req.PrevKV && f.prev != nil {
		want.PrevKv = kvOf(0, f.prev)
		for _, old := range c.w.history {
			if old.mut == f.prev {
				want.PrevKv.ModRevision = int64(old.rev)
			}
		}
		if f.rev-1 < v.compacted || wire.PrevKv == nil && f.rev-1 < c.w.removal {
			want.PrevKv = nil
		}
	}
	return ev.Sub == f.mut.Sub && proto.Equal(wire, want)
}

func kvOf(rev Revision, m *txnpb.Mutation) *mvccpb.KeyValue {
	return &mvccpb.KeyValue{Key: m.Key, Value: m.Value, CreateRevision: m.CreateRevision, ModRevision: int64(rev),
		Version: m.Version, Lease: m.Lease}
}
