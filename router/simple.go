package router

import (
	"bytes"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// AddressRequest asks whichever range holds an address. Its response is the body
// of the range's reply. The body must do no harm when it is asked twice.
type AddressRequest struct {
	Address []byte
	Body    peerpb.Body
	// Decided is the range, which holds the address, as it was when somebody decided to ask.
	// Another generation of it is not asked: then the answer is peerpb.ErrMoved. nil: any is.
	Decided *metapb.Descriptor
}

// addressOp carries an AddressRequest.
type addressOp struct {
	opBase
	req *AddressRequest
}

func (o *addressOp) start(r *Router) {
	d := r.cache.Lookup(o.req.Address)
	if d == nil {
		o.reply(r, 0, nil, ErrNoRange)
		return
	}
	if was := o.req.Decided; was != nil && (d.ID() != was.ID() || d.Generation > was.Generation) {
		r.finish(o, nil, &peerpb.MovedError{Range: was.ID(), Newer: []*metapb.Descriptor{d}})
		return
	}
	r.send(o, 0, d.ID(), d.Generation, o.req.Body)
}

func (o *addressOp) reply(r *Router, _ int, body any, err error) {
	if err == nil || !r.retry(o, safe(err)) {
		r.finish(o, body, err)
	}
}

func (o *addressOp) tick(r *Router) {
	if o.answered {
		r.end(o)
		return
	}
	o.start(r)
}

func (*addressOp) granted(*Router, placement.Answer) {}

// systemOp carries an operation of package placement to the system range.
type systemOp struct {
	opBase
	op any
}

func (o *systemOp) start(r *Router) { r.sendSystem(o, o.op) }

func (o *systemOp) reply(r *Router, _ int, body any, err error) {
	if harmless(o.op) {
		err = safe(err)
	}
	if err == nil || !r.retry(o, err) {
		r.finish(o, body, err)
	}
}

// harmless reports whether an operation may be asked for twice.
func harmless(op any) bool {
	switch op.(type) {
	case *placement.MembersOp, *placement.LookupOp, *placement.JoinOp, *placement.AnnounceOp, *placement.DirectoryOp:
		return true
	}
	return false
}

func (o *systemOp) tick(r *Router) {
	if o.answered {
		r.end(o)
		return
	}
	o.start(r)
}

func (*systemOp) granted(*Router, placement.Answer) {}

// sendSystem sends an operation to the system range, and has the op try later
// if that is not known.
func (r *Router) sendSystem(o op, what any) {
	d := r.system
	if d == nil {
		o.reply(r, 0, nil, ErrNoRange)
		return
	}
	r.send(o, 0, d.ID(), d.Generation, &peerpb.System{Op: what})
}

// compactOp takes Current, since only what exists can be compacted, and then
// has the system range agree.
type compactOp struct {
	opBase
	req     *pb.CompactionRequest
	current metapb.Revision // 0: not yet known
}

func newCompactOp(req *pb.CompactionRequest) *compactOp { return &compactOp{req: req} }

func (o *compactOp) start(r *Router) {
	if o.current == 0 {
		r.ask(o, 0)
		return
	}
	r.sendSystem(o, &placement.CompactOp{Revision: metapb.Revision(o.req.Revision), Current: o.current})
}

func (o *compactOp) granted(r *Router, a placement.Answer) {
	if a.Err != nil {
		r.finish(o, nil, a.Err)
		return
	}
	o.current = a.First
	o.start(r)
}

func (o *compactOp) reply(r *Router, _ int, _ any, err error) {
	if err != nil {
		if !r.retry(o, err) {
			r.finish(o, nil, compactError(err))
		}
		return
	}
	header := &pb.ResponseHeader{Revision: int64(o.current)}
	r.finish(o, &pb.CompactionResponse{Header: header}, nil)
}

// compactError says in the data model's words what the system range refused.
func compactError(err error) error {
	switch {
	case errors.Is(err, placement.ErrCompacted):
		return mvcc.ErrCompacted
	case errors.Is(err, placement.ErrFutureRevision):
		return mvcc.ErrFutureRevision
	}
	return err
}

func (o *compactOp) tick(r *Router) {
	if o.answered {
		r.end(o)
		return
	}
	o.start(r)
}

// splitOp gets an id for the right side, then has the range cut.
type splitOp struct {
	opBase
	at    []byte // address
	right metapb.RangeID
}

func newSplitOp(q *SplitRequest) (op, error) {
	if len(q.Address) > 0 {
		return &splitOp{at: q.Address}, nil
	}
	if len(q.Key) == 0 {
		return nil, ErrBadSplitKey
	}
	return &splitOp{at: keys.User(q.Key)}, nil
}

func (o *splitOp) start(r *Router) {
	if o.right == 0 {
		r.sendSystem(o, &placement.AllocIDsOp{Kind: placement.RangeIDs, N: 1})
		return
	}
	d := r.cache.Lookup(o.at)
	if d == nil {
		o.reply(r, 0, nil, ErrNoRange)
		return
	}
	r.send(o, 0, d.ID(), d.Generation, &peerpb.Split{At: bytes.Clone(o.at), RightID: o.right})
}

func (o *splitOp) reply(r *Router, _ int, body any, err error) {
	if err != nil {
		if !r.retry(o, err) {
			r.finish(o, nil, err)
		}
		return
	}
	switch b := body.(type) {
	case *placement.AllocIDsReply:
		o.right = metapb.RangeID(b.First)
		o.start(r)
	case *peerpb.SplitDone:
		r.Descriptors([]*metapb.Descriptor{b.Left, b.Right})
		r.finish(o, b, nil)
	default:
		r.finish(o, nil, ErrBadRequest)
	}
}

func (o *splitOp) tick(r *Router) {
	if o.answered {
		r.end(o)
		return
	}
	o.start(r)
}

func (*splitOp) granted(*Router, placement.Answer) {}
