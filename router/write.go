package router

import (
	"errors"

	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// newOp makes the operation of a client's request.
func (r *Router) newOp(req any) (op, error) {
	switch q := req.(type) {
	case *pb.PutRequest:
		return r.newWriteOp(q), nil
	case *pb.TxnRequest:
		return r.newWriteOp(q), nil
	case *pb.DeleteRangeRequest:
		return r.newWriteOp(q), nil
	case *pb.CompactionRequest:
		return newCompactOp(q), nil
	case *CloseTicket:
		return &closeOp{ticket: q}, nil
	case *PageRequest:
		return &pageOp{req: q}, nil
	case *SpanRequest:
		return &spanOp{req: q}, nil
	case *SplitRequest:
		return newSplitOp(q)
	case *SystemRequest:
		return &systemOp{op: q.Op}, nil
	case *AddressRequest:
		return &addressOp{req: q}, nil
	case *pb.LeaseGrantRequest:
		return newGrantOp(q)
	case *RevokeRequest:
		return &revokeOp{req: q}, nil
	case *pb.LeaseTimeToLiveRequest:
		return &ttlOp{req: q}, nil
	case *pb.LeaseLeasesRequest:
		return &leasesOp{}, nil
	}
	return nil, ErrBadRequest
}

// writeOp takes a client's modifying request to the one range that holds all its
// keys; if it takes several, or does after a split, or if it is too large for one
// entry of the range's log, it becomes a TxnOp.
//
// It is the hot path: writeOps are used again, and what a range gets is one
// allocation.
type writeOp struct {
	opBase
	req proto.Message
}

// writeRequest is a request with its body in one piece. The range may keep it
// for longer than the op lives, so it is not used again.
type writeRequest struct {
	peerpb.Request
	body peerpb.Write
}

func (r *Router) newWriteOp(req proto.Message) *writeOp {
	var o *writeOp
	if n := len(r.writes); n > 0 {
		o = r.writes[n-1]
		r.writes = r.writes[:n-1]
	} else {
		o = &writeOp{}
	}
	o.opBase = opBase{}
	o.req = req
	return o
}

// freeWrite takes back an op that ended.
func (r *Router) freeWrite(o *writeOp) {
	o.req = nil
	if len(r.writes) < cap(r.live) {
		r.writes = append(r.writes, o)
	}
}

func (o *writeOp) start(r *Router) {
	desc, err := r.oneRange(o.req)
	if err == nil && desc == nil {
		o.become(r)
		return
	}
	if err != nil {
		o.failed(r, err)
		return
	}
	q := &writeRequest{body: peerpb.Write{Req: o.req}}
	q.Range, q.Generation, q.Body = desc.ID(), desc.Generation, &q.body
	r.sendRequest(o, 0, &q.Request)
}

// become goes on as a transaction.
func (o *writeOp) become(r *Router) {
	r.become(o, newTxnOp(r, o.req))
	r.freeWrite(o)
}

func (o *writeOp) reply(r *Router, _ int, body any, err error) {
	if err != nil {
		o.failed(r, err)
		return
	}
	r.finish(o, body, nil)
	r.freeWrite(o)
}

func (o *writeOp) failed(r *Router, err error) {
	if (errors.Is(err, peerpb.ErrTooLarge) || errors.Is(err, peerpb.ErrNeedsTxn)) && !o.answered {
		o.become(r)
		return
	}
	if r.retry(o, err) {
		return
	}
	r.finish(o, nil, err)
	r.freeWrite(o)
}

func (o *writeOp) tick(r *Router) {
	if o.answered { // too late: nobody waits
		r.end(o)
		r.freeWrite(o)
		return
	}
	o.start(r)
}

func (*writeOp) granted(*Router, placement.Answer) {}
