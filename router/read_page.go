package router

import (
	"bytes"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// PageRequest reads the first page of a span of user keys from whoever leads the
// range that its start is in. Its response is a *peerpb.ReadPage, whose Next is empty
// only at the end of the span.
type PageRequest struct {
	Read peerpb.Read
}

// pageOp carries a PageRequest. Reading twice does no harm.
type pageOp struct {
	opBase
	req *PageRequest
	// end is the end of the page's range, nil if the span ends in it.
	end []byte
}

func (o *pageOp) start(r *Router) {
	d := r.cache.Lookup(keys.User(o.req.Read.Start))
	if d == nil {
		o.reply(r, 0, nil, ErrNoRange)
		return
	}
	body := o.req.Read
	o.end = nil
	_, end, _ := keys.UserBounds(d.Span())
	if len(end) > 0 && (len(body.End) == 0 || bytes.Compare(end, body.End) < 0) {
		o.end, body.End = end, end
	}
	r.send(o, 0, metapb.RangeID(d.RangeId), d.Generation, &body)
}

func (o *pageOp) reply(r *Router, _ int, body any, err error) {
	if err != nil {
		if !r.retry(o, safe(err)) {
			r.finish(o, nil, err)
		}
		return
	}
	page, ok := body.(*peerpb.ReadPage)
	if !ok {
		r.finish(o, nil, ErrBadRequest)
		return
	}
	if len(page.Next) == 0 {
		page.Next = o.end
	}
	r.finish(o, page, nil)
}

func (o *pageOp) tick(r *Router) {
	if o.answered {
		r.end(o)
		return
	}
	o.start(r)
}

func (*pageOp) granted(*Router, placement.Answer) {}
