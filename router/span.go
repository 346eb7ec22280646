package router

import (
	"bytes"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// SpanRequest asks whoever leads the range that holds the start of a span of user
// keys. Its response is a *SpanReply. Body makes what is asked for the part of the
// span that lies in that range; asking twice must do no harm.
type SpanRequest struct {
	Start, End []byte
	Body       func(start, end []byte) peerpb.Body
}

// SpanReply answers SpanRequest.
type SpanReply struct {
	Body any
	// Next is where the rest of the span begins, nil: there is none.
	Next []byte
}

// spanOp carries a SpanRequest.
type spanOp struct {
	opBase
	req  *SpanRequest
	next []byte
}

func (o *spanOp) start(r *Router) {
	d := r.cache.Lookup(keys.User(o.req.Start))
	if d == nil {
		o.reply(r, 0, nil, ErrNoRange)
		return
	}
	to := o.req.End
	o.next = nil
	if _, end, _ := keys.UserBounds(d.Span()); len(end) > 0 && (len(to) == 0 || bytes.Compare(end, to) < 0) {
		o.next, to = end, end
	}
	r.send(o, 0, metapb.RangeID(d.RangeId), d.Generation, o.req.Body(o.req.Start, to))
}

func (o *spanOp) reply(r *Router, _ int, body any, err error) {
	switch {
	case err == nil:
		r.finish(o, &SpanReply{Body: body, Next: o.next}, nil)
	case !r.retry(o, safe(err)):
		r.finish(o, nil, err)
	}
}

func (o *spanOp) tick(r *Router) {
	if o.answered {
		r.end(o)
		return
	}
	o.start(r)
}

func (*spanOp) granted(*Router, placement.Answer) {}
