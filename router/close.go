package router

import (
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// closeOp has every range over a span close at S. Closing twice does no harm, so
// a part that a range did not answer is asked for again, cut anew.
type closeOp struct {
	opBase
	ticket *CloseTicket
	asked  []metapb.Span // by tag; a zero Span: answered
	redo   []metapb.Span // to be cut and asked again
	open   int           // asked and not answered
}

func (o *closeOp) start(r *Router) {
	o.redo = append(o.redo, o.ticket.Span)
	o.tick(r)
}

// tick asks for all that is to be asked again.
func (o *closeOp) tick(r *Router) {
	if o.answered {
		r.end(o)
		return
	}
	var pieces []piece
	for len(o.redo) > 0 {
		var err error
		if pieces, err = divide(r.cache, pieces[:0], o.redo[0]); err != nil {
			r.wakeAt(o, r.now.Add(r.backoff(o.tries)))
			o.tries++
			return
		}
		o.redo = o.redo[1:]
		for _, p := range pieces {
			tag := len(o.asked)
			o.asked = append(o.asked, p.span)
			o.open++
			r.send(o, tag, p.desc.ID(), p.desc.Generation,
				&peerpb.Close{S: o.ticket.S, Spans: []metapb.Span{p.span}})
		}
	}
	if o.open == 0 {
		r.finish(o, nil, nil)
	}
}

func (o *closeOp) reply(r *Router, tag int, _ any, err error) {
	o.open--
	switch {
	case err != nil:
		o.redo = append(o.redo, o.asked[tag])
		if !r.retry(o, safe(err)) {
			r.finish(o, nil, err)
		}
	case o.open == 0 && len(o.redo) == 0:
		r.finish(o, nil, nil)
	}
}

func (*closeOp) granted(*Router, placement.Answer) {}
