package node

import (
	"cmp"
	"maps"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/router"
)

// In a cluster of several stores a read asks here for its S. All that come while
// the sequencer is asked share the next S. Then the ranges that they read are
// closed there, and the reader goes on by itself, on this node's own replicas.

// reads are the tickets of readers.
type reads struct {
	fresh      []*read // their S is to be asked for
	askedReads []*read // the sequencer was asked
	// waiting have their S, and it is to be seen whether their ranges are closed there.
	waiting []*read
	// parked wait for a range that was not, each for one of its: a range that does not get
	// on must not have all that wait for it looked at whenever another one does. parkedCount
	// is their number.
	parked      map[metapb.RangeID][]*read
	parkedCount int
	// askingS: the sequencer was asked, and has not answered.
	askingS bool
	current metapb.Revision // the highest known to be given out. Invariant: grows.
	serves  bool
}

// read is one reader.
type read struct {
	id       uint64 // of the call
	spans    []metapb.Span
	rev      metapb.Revision // asked for; 0: S
	reply    *router.ReadReply
	deadline clock.Time
}

// readNumber is the number of our own asks for what is current. The router's are
// others.
const readNumber = 1 << 63

// readTimeout is when a reader is told that it took too long.
const readTimeout = 7 * time.Second

// readsMax bounds the readers that wait.
const readsMax = 1 << 16

// requestRead takes a reader's ticket; false if the request is another.
func (c *Core) requestRead(id uint64, req any) bool {
	rd := &read{id: id, deadline: c.now.Add(readTimeout)}
	switch q := req.(type) {
	case *router.ReadTicket:
		rd.spans, rd.rev, rd.reply = q.Spans, q.Revision, &router.ReadReply{}
	case *router.CloseTicket:
		rd.spans, rd.rev = []metapb.Span{q.Span}, q.S
	default:
		return false
	}
	switch {
	case c.endBy != 0, c.stopping && len(rd.spans) > 0:
		// What only wants a header is done, and must be answered, until MayEnd has stopped the
		// sequencer: then there was none.
		c.results = append(c.results, router.Result{ID: id, Err: router.ErrStopping})
	case len(c.fresh)+len(c.askedReads)+len(c.waiting)+c.parkedCount >= readsMax:
		c.results = append(c.results, router.Result{ID: id, Err: router.ErrTooManyRequests})
	case rd.reply == nil:
		c.waiting = append(c.waiting, rd)
		c.advanced = true
	default:
		c.fresh = append(c.fresh, rd)
	}
	return true
}

// flushReads asks for the S of those that came.
func (c *Core) flushReads() bool {
	if c.askingS || len(c.fresh) == 0 && c.serves {
		return false
	}
	c.askingS = true
	c.askedReads, c.fresh = c.fresh, nil
	c.alloc(placement.Ask{Name: placement.AskName{
		Store: c.cfg.StoreID, StoreStart: c.cfg.StoreStart, Number: readNumber,
	}})
	return true
}

// readsGranted takes the S of those that it was asked for.
func (c *Core) readsGranted(a *placement.Answer) {
	c.askingS = false
	if !c.serves {
		c.serves = true
		c.wantAll(a.First)
	}
	for _, rd := range c.askedReads {
		rd.reply.S, rd.reply.Compacted = a.First, a.Compacted
		switch {
		case rd.rev <= 0:
			rd.rev = a.First
		case rd.rev > a.First:
			rd.spans = nil // it is refused
		}
		c.waiting = append(c.waiting, rd)
	}
	c.askedReads = nil
	c.advanced = true
}

// checkReads answers those whose ranges are closed.
func (c *Core) checkReads() {
	if !c.advanced {
		return
	}
	c.advanced = false
	for _, rd := range c.waiting {
		var lacks metapb.RangeID
		for _, span := range rd.spans {
			lacks = cmp.Or(lacks, c.notClosed(span, rd.rev))
		}
		if lacks == 0 {
			c.endRead(rd, nil)
			continue
		}
		if c.parked == nil {
			c.parked = make(map[metapb.RangeID][]*read)
		}
		c.parked[lacks] = append(c.parked[lacks], rd)
		c.parkedCount++
	}
	clear(c.waiting)
	c.waiting = c.waiting[:0]
}

// unpark has those looked at again that wait for a range and of which it is true.
func (c *Core) unpark(id metapb.RangeID, which func(*read) bool) {
	all := c.parked[id]
	left := all[:0]
	for _, rd := range all {
		if which(rd) {
			c.waiting = append(c.waiting, rd)
			c.advanced = true
		} else {
			left = append(left, rd)
		}
	}
	c.keepParked(id, all, left)
}

// keepParked has only these of all wait for a range.
func (c *Core) keepParked(id metapb.RangeID, all, left []*read) {
	c.parkedCount -= len(all) - len(left)
	clear(all[len(left):])
	if len(left) == 0 {
		delete(c.parked, id)
	} else {
		c.parked[id] = left
	}
}

func (c *Core) endRead(rd *read, err error) {
	res := router.Result{ID: rd.id, Err: err}
	if rd.reply != nil && err == nil {
		res.Resp = rd.reply
	}
	c.results = append(c.results, res)
}

// tickReads tells those who waited too long, and looks again at those whose range has gone, or
// is out of service here.
func (c *Core) tickReads() {
	for _, list := range []*[]*read{&c.fresh, &c.askedReads, &c.waiting} {
		left := c.endLate(*list)
		clear((*list)[len(left):])
		*list = left
	}
	for _, id := range slices.Sorted(maps.Keys(c.parked)) {
		all := c.parked[id]
		c.keepParked(id, all, c.endLate(all))
		if !c.store.Shown(id) {
			c.unpark(id, func(*read) bool { return true })
		}
	}
}

// endLate tells those of a list who waited too long, and leaves the others.
func (c *Core) endLate(list []*read) []*read {
	left := list[:0]
	for _, rd := range list {
		if rd.deadline.After(c.now) {
			left = append(left, rd)
		} else {
			c.endRead(rd, router.ErrTimeout)
		}
	}
	return left
}

// sawCurrent notes a revision that was given out.
func (c *Core) sawCurrent(rev metapb.Revision) { c.current = max(c.current, rev) }

// sawDone notes the revision that a client is about to be told. Where another node led,
// this one may not have heard of it.
func (c *Core) sawDone(res *router.Result) {
	if resp, ok := res.Resp.(interface{ GetHeader() *pb.ResponseHeader }); ok {
		c.sawCurrent(metapb.Revision(resp.GetHeader().GetRevision()))
	}
}

// SawCompacted notes what is compacted, which a client is about to be told.
func (c *Core) SawCompacted(rev metapb.Revision) { c.store.SetCompacted(rev) }
