package router

import (
	"errors"
	"slices"

	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// txnEnd tells the ranges of a transaction how it ended, until each has
// confirmed it; then it has the record of a committed one forgotten. Nobody
// waits for it. If it gives up the ranges find out by themselves.
type txnEnd struct {
	opBase
	id     *txnpb.TxnID
	commit bool
	// locksOnly says that no intent was sent.
	locksOnly bool
	parts     []txnEndPart
	anchor    []byte // nil unless commit
	open      int
	last      bool // only the record is left
}

type txnEndPart struct {
	addr []byte // one of the range's
	done bool
}

// endTriesMax bounds the rounds of asking.
const endTriesMax = 12

func (o *txnEnd) start(r *Router) { o.tick(r) }

// tick asks every range that has not confirmed.
func (o *txnEnd) tick(r *Router) {
	if o.slots > 0 {
		return
	}
	if o.tries > endTriesMax {
		r.end(o)
		return
	}
	if o.last {
		o.ask(r, 0, o.anchor, &peerpb.Forget{Txn: o.id, Anchor: o.anchor})
		return
	}
	var body peerpb.Body = &peerpb.Resolve{Txn: o.id, Commit: o.commit}
	if o.locksOnly {
		body = &peerpb.Release{Txn: o.id}
	}
	for i := range o.parts {
		if p := &o.parts[i]; !p.done {
			o.ask(r, i, p.addr, body)
		}
	}
}

// later has tick called after a while that grows.
func (o *txnEnd) later(r *Router) {
	r.wakeAt(o, r.now.Add(r.backoff(o.tries)))
	o.tries++
}

func (o *txnEnd) ask(r *Router, tag int, addr []byte, body peerpb.Body) {
	d := r.cache.Lookup(addr)
	if d == nil {
		o.later(r)
		return
	}
	o.open++
	r.send(o, tag, d.ID(), d.Generation, body)
}

func (o *txnEnd) reply(r *Router, tag int, _ any, err error) {
	o.open--
	var moved *peerpb.MovedError
	if errors.As(err, &moved) {
		r.Descriptors(moved.Newer)
	}
	if err == nil && !o.last {
		o.parts[tag].done = true
	}
	switch {
	case o.open > 0:
	case o.last && err == nil:
		r.end(o)
	case o.last, slices.ContainsFunc(o.parts, func(p txnEndPart) bool { return !p.done }):
		o.later(r)
	case !o.commit:
		r.end(o)
	default:
		o.last = true
		o.tick(r)
	}
}

func (*txnEnd) granted(*Router, placement.Answer) {}

// txnKeep takes the answers of ranges that were told that a transaction lives, while that
// waits for something else. What they say its intents hear as well.
type txnKeep struct {
	opBase
	open int
}

func (*txnKeep) start(*Router) {}

func (o *txnKeep) reply(r *Router, _ int, _ any, _ error) {
	if o.open--; o.open == 0 {
		r.end(o)
	}
}

func (*txnKeep) granted(*Router, placement.Answer) {}
func (*txnKeep) tick(*Router)                      {}
