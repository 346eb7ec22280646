package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sort"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/model"
	"github.com/flotilladb/flotilla/lease"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/proto/txnpb"
	"github.com/flotilladb/flotilla/range"
	"github.com/flotilladb/flotilla/router"
)

// op is one request of a client and what it knows of it.
type op struct {
	number, client int
	req            any
	// begun and ended count beginnings and ends together, so they order them.
	// ended is 0 while there is no answer, and for good if the node died first.
	begun, ended     int
	beganAt, endedAt clock.Time
	// low is the highest revision in any answer before the request began: what it
	// sees is not older. high is what was current when it was answered.
	low, high int64
	resp      proto.Message
	err       error // one of etcd's
	cause     error // what the node said
	fate      fate
}

// fate is what a client knows about its request.
type fate int

const (
	// fateUnknown: it may have taken effect, or may still.
	fateUnknown fate = iota
	// fateAnswered: resp or err is the API's answer.
	fateAnswered
	// fateRefused: it certainly had no effect, for a reason that is not the
	// data's.
	fateRefused
)

// history is everything that clients did and everything that was applied.
type history struct {
	ops     []*op
	moments int
	seen    int64 // the highest revision in any answer
	// known is about what the server holds, for drawing requests near it.
	known *model.State
	// effects are the applied changes by revision, as replicas reported them.
	effects map[int64][]*txnpb.Mutation
	highest int64 // revision of effects
	// applied is when the first effect of a revision was applied.
	applied map[int64]moment
	// generations are the newest of each range.
	generations map[metapb.RangeID]uint64
	// replicas are the next ids of replicas of each range, added how many were given
	// out since the range was first seen.
	replicas map[metapb.RangeID]uint64
	added    int
}

// moment is a point in a run.
type moment struct {
	n  int // in the order of beginnings and ends
	at clock.Time
}

func newHistory(l model.Limits) (*history, error) {
	known, err := model.New(l)
	return &history{
		known: known, effects: make(map[int64][]*txnpb.Mutation), highest: 1, seen: 1,
		generations: make(map[metapb.RangeID]uint64), replicas: make(map[metapb.RangeID]uint64), applied: make(map[int64]moment),
	}, err
}

func (h *history) begin(client int, req any) *op {
	h.moments++
	o := &op{number: len(h.ops), client: client, req: req, begun: h.moments, low: h.seen}
	h.ops = append(h.ops, o)
	return o
}

// end takes the answer, and the revision that was current when it came. An error is one that must never be.
func (h *history) end(o *op, resp proto.Message, err error, current int64) error {
	h.moments++
	o.high = current
	if err != nil {
		o.cause = err
		var known bool
		if o.err, o.fate, known = fateOf(err); !known {
			return fmt.Errorf("#%d %s: error %w", o.number, describe(o.req), err)
		}
		if o.fate != fateUnknown {
			o.ended = h.moments
		}
		return nil
	}
	o.ended, o.fate, o.resp = h.moments, fateAnswered, resp
	h.seen = max(h.seen, headerOf(resp))
	h.learn(o)
	return nil
}

// learn keeps known near to what the server holds.
func (h *history) learn(o *op) {
	rev := headerOf(o.resp)
	switch r := o.req.(type) {
	case *pb.CompactionRequest:
		h.known, _, _ = model.Step(h.known, o.req)
		return
	case *pb.LeaseGrantRequest:
		id := o.resp.(*pb.LeaseGrantResponse).ID
		h.known, _, _ = model.Step(h.known, &pb.LeaseGrantRequest{ID: id, TTL: r.TTL})
		return
	case *pb.LeaseRevokeRequest:
		h.known, _, _ = model.Step(h.known, o.req)
		return
	case *pb.LeaseKeepAliveRequest:
		if o.resp.(*pb.LeaseKeepAliveResponse).TTL == 0 {
			h.known, _, _ = model.Step(h.known, model.Expire{ID: r.ID})
		}
		return
	}
	switch {
	case changed(o.resp) && rev > h.known.Revision():
		h.known, _, _ = model.Step(h.known.Skip(rev-1), o.req)
	}
}

// apiErrors are the errors that are answers, as the API says them.
func apiErrors() map[error]error {
	return map[error]error{
		mvcc.ErrEmptyKey:          rpctypes.ErrGRPCEmptyKey,
		mvcc.ErrKeyNotFound:       rpctypes.ErrGRPCKeyNotFound,
		mvcc.ErrValueProvided:     rpctypes.ErrGRPCValueProvided,
		mvcc.ErrLeaseProvided:     rpctypes.ErrGRPCLeaseProvided,
		mvcc.ErrInvalidSortOption: rpctypes.ErrGRPCInvalidSortOption,
		mvcc.ErrTooManyOps:        rpctypes.ErrGRPCTooManyOps,
		mvcc.ErrDuplicateKey:      rpctypes.ErrGRPCDuplicateKey,
		mvcc.ErrLeaseNotFound:     rpctypes.ErrGRPCLeaseNotFound,
		mvcc.ErrCompacted:         rpctypes.ErrGRPCCompacted,
		mvcc.ErrFutureRevision:    rpctypes.ErrGRPCFutureRev,
		lease.ErrExists:           rpctypes.ErrGRPCLeaseExist,
		lease.ErrTTLTooLarge:      rpctypes.ErrGRPCLeaseTTLTooLarge,
	}
}

// fateOf says what an error tells a client.
func fateOf(err error) (api error, f fate, known bool) {
	for is, to := range apiErrors() {
		if errors.Is(err, is) {
			return to, fateAnswered, true
		}
	}
	switch {
	case errors.Is(err, mvcc.ErrStreamSort), errors.Is(err, mvcc.ErrStreamFilter):
		return err, fateRefused, true // the model has the text of these
	case errors.Is(err, peerpb.ErrUnknown), errors.Is(err, router.ErrTimeout), errors.Is(err, context.Canceled):
		return nil, fateUnknown, true
	case errors.Is(err, router.ErrStopping), errors.Is(err, peerpb.ErrDiskFull),
		errors.Is(err, router.ErrTooManyRequests), errors.Is(err, router.ErrRangesMoved):
		return nil, fateRefused, true
	}
	return nil, fateUnknown, false
}

// headerOf returns the revision in a response's header.
func headerOf(m proto.Message) int64 {
	return m.(interface{ GetHeader() *pb.ResponseHeader }).GetHeader().GetRevision()
}

// changed reports whether an answer tells of a change: then its header is the
// revision of that, and of nothing else.
func changed(m proto.Message) bool {
	switch m := m.(type) {
	case *pb.PutResponse:
		return true
	case *pb.DeleteRangeResponse:
		return m.Deleted > 0
	case *pb.TxnResponse:
		for _, r := range m.Responses {
			switch r := r.Response.(type) {
			case *pb.ResponseOp_ResponsePut:
				return true
			case *pb.ResponseOp_ResponseDeleteRange:
				if r.ResponseDeleteRange.Deleted > 0 {
					return true
				}
			case *pb.ResponseOp_ResponseTxn:
				if changed(r.ResponseTxn) {
					return true
				}
			}
		}
	}
	return false
}

// apply notes what replicas applied. After a crash they may apply the same
// again, but never another thing at the same revision.
func (h *history) apply(applied []ranges.Applied, now clock.Time) error {
	for _, a := range applied {
		for _, u := range a.Updates {
			if _, known := h.applied[u.Revision]; !known && len(u.Mutations) > 0 {
				h.moments++
				h.applied[u.Revision] = moment{h.moments, now}
			}
			if err := h.applyUpdate(a.Range, u); err != nil {
				return err
			}
		}
	}
	return nil
}

func (h *history) applyUpdate(id metapb.RangeID, u *cmdpb.Update) error {
	muts := h.effects[u.Revision]
	for _, m := range u.Mutations {
		i := sort.Search(len(muts), func(i int) bool { return muts[i].Sub >= m.Sub })
		switch {
		case i == len(muts) || muts[i].Sub != m.Sub:
			muts = append(muts[:i:i], append([]*txnpb.Mutation{m}, muts[i:]...)...)
		case !sameMutation(muts[i], m):
			return fmt.Errorf("range %d applies %v at (%d, %d), where %v was applied before", id, m, u.Revision, m.Sub, muts[i])
		}
	}
	h.effects[u.Revision] = muts
	h.highest = max(h.highest, u.Revision)
	return nil
}

func sameMutation(a, b *txnpb.Mutation) bool {
	return a == b || bytes.Equal(a.Key, b.Key) && a.Sub == b.Sub && a.Tombstone == b.Tombstone &&
		a.CreateRevision == b.CreateRevision && a.Version == b.Version && a.Lease == b.Lease && bytes.Equal(a.Value, b.Value)
}

// descriptors notes what ranges became.
func (h *history) descriptors(descs []*metapb.Descriptor) {
	for _, d := range descs {
		if was := h.replicas[d.ID()]; d.NextReplicaId > was {
			if was > 0 {
				h.added += int(d.NextReplicaId - was)
			}
			h.replicas[d.ID()] = d.NextReplicaId
		}
		h.generations[d.ID()] = max(h.generations[d.ID()], d.Generation)
	}
}
