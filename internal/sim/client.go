package sim

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/model"
	"github.com/flotilladb/flotilla/lease"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/router"
)

// client asks one thing after the other. It is a coroutine: it runs when resume
// is called, up to its next wait.
//
// It is also the router.Local of its router.Client: the node as seen from the
// goroutine of one request.
type client struct {
	s     *Sim
	id    int
	node  *simNode // its requests go there
	api   *router.Client
	op    *op // under way; nil: none
	wait  func(why wait) bool
	next  func() (wait, bool)
	stop  func()
	waits wait
	turn  uint64 // counts resumes, so that a planned one that is too late is dropped
	// reads draws what a client asks that only reads; nil: it is another. giveUp ends
	// its request, and hungUp says that it did.
	reads  *model.Generator
	giveUp context.CancelFunc
	hungUp bool
	// clingsTo is the lease that it asks about, clings how often it did.
	clingsTo int64
	clings   int
}

// wait is why a client stands still.
type wait int

const (
	waitNot   wait = iota
	waitIdle       // between two requests, or for a node that serves
	waitCall       // for the loop
	waitPause      // between two looks at what the loop published
)

func newClient(s *Sim, id int, n *simNode) *client {
	c := &client{s: s, id: id, node: n}
	api, err := router.NewClient(router.ClientConfig{
		Local: c, PageBytesMax: s.cfg.PageBytes, ChunkBytes: s.cfg.ChunkBytes,
		SerializableWait: time.Hour, // it is counted in true time
	})
	if err != nil {
		panic(err) // the configuration is ours
	}
	c.api = api
	return c
}

// begin starts the client anew, when its node serves.
func (c *client) begin() {
	if c.next != nil {
		return // it outlived an orderly stop
	}
	c.next, c.stop = iter.Pull(c.run)
	c.waits = waitIdle
	c.resumeAfter(between(c.s.load, 0, c.s.cfg.ThinkMax))
}

// kill ends the client with its node: what it asked for has an unknown outcome.
func (c *client) kill() {
	if c.next == nil {
		return
	}
	c.unpause()
	c.turn++
	c.stop()
	c.next, c.stop = nil, nil
	if c.op != nil {
		c.s.tracef("client %d: lost with the node: %s", c.id, describe(c.op.req))
		c.op = nil
	}
}

// goOn has the client ask another node, if its own is gone for good.
func (c *client) goOn() {
	if !c.node.gone {
		return
	}
	if c.node = c.s.refuge(c.node); c.node.serving && !c.s.ending {
		c.begin()
	}
}

func (c *client) resumeAfter(d time.Duration) {
	turn := c.turn
	c.s.after(d, func() {
		switch {
		case c.turn != turn:
		case c.s.now < c.node.frozenUntil:
			c.resumeAfter(c.node.thawed())
		default:
			c.resume()
		}
	})
}

// resume lets the client run to its next wait.
func (c *client) resume() {
	c.turn++
	c.unpause()
	c.waits = waitNot
	why, ok := c.next()
	if !ok {
		c.next, c.stop = nil, nil
		return
	}
	c.waits = why
	switch why {
	case waitIdle:
		think := c.s.cfg.ThinkMax
		if c.reads != nil {
			think = c.s.cfg.Readers.ThinkMax
		}
		c.resumeAfter(between(c.s.load, 0, think))
	case waitPause:
		c.s.pausing = append(c.s.pausing, c)
		c.resumeAfter(between(c.s.load, 0, c.s.cfg.PauseMax))
	}
}

func (c *client) unpause() {
	if c.waits == waitPause {
		i := slices.Index(c.s.pausing, c)
		c.s.pausing = slices.Delete(c.s.pausing, i, i+1)
	}
}

// run is the coroutine.
func (c *client) run(yield func(wait) bool) {
	defer func() {
		if p := recover(); p != nil && p != errGone {
			panic(p)
		}
	}()
	c.wait = yield
	for !c.s.ending {
		if c.node.shunned {
			c.node = c.s.refuge(c.node)
		}
		if n := c.node; n.serving && !n.parting && (!n.stopping || c.s.load.IntN(3) == 0) {
			c.ask()
		}
		c.stand(waitIdle)
	}
}

// stand lets the world go on.
func (c *client) stand(why wait) {
	if !c.wait(why) {
		panic(errGone)
	}
}

// maybePause stands still now and then, as the scheduler may have it.
func (c *client) maybePause() {
	if c.s.load.IntN(100) < c.s.cfg.PausePercent {
		c.stand(waitPause)
	}
}

// ask makes one request.
func (c *client) ask() {
	req := c.draw()
	c.op = c.s.hist.begin(c.id, req)
	c.op.beganAt = c.s.now
	if c.s.trace != nil {
		c.s.tracef("client %d: #%d %s", c.id, c.op.number, describe(req))
	}
	resp, err := c.execute(req)
	if c.s.trace != nil {
		c.s.tracef("client %d: #%d is answered: %s", c.id, c.op.number, describeAnswer(resp, err))
	}
	c.op.endedAt = c.s.now
	c.s.fail(c.s.hist.end(c.op, resp, err, c.s.shown(c.node)))
	c.op = nil
}

// draw draws a request.
func (c *client) draw() any {
	if c.reads != nil {
		c.s.stats.Reads++
		return c.read()
	}
	req := c.s.gen.Next(c.s.hist.known)
	for tooLarge(req, c.s.cfg.Traffic.Limits.RequestBytesMax) {
		req = c.s.gen.Next(c.s.hist.known)
	}
	c.s.stats.Ops++
	return req
}

// tooLarge keeps away from the limit of a request's size: it is the API's.
func tooLarge(req any, max int) bool {
	m, ok := req.(proto.Message)
	return ok && proto.Size(m) > max-64
}

// execute does what the API does with a request: checks its shape, and has the
// router's client do it.
func (c *client) execute(req any) (proto.Message, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c.giveUp, c.hungUp = cancel, false
	if st, ok := req.(model.Stream); ok {
		return c.stream(ctx, st.Range)
	}
	switch r := req.(type) {
	case *pb.CompactionRequest:
		return answer(c.api.Compact(ctx, r))
	case *pb.LeaseGrantRequest:
		return answer(c.api.LeaseGrant(ctx, proto.CloneOf(r)))
	case *pb.LeaseRevokeRequest:
		return answer(c.api.LeaseRevoke(ctx, r))
	case *pb.LeaseTimeToLiveRequest:
		return c.timeToLive(ctx, r)
	case *pb.LeaseLeasesRequest:
		return answer(c.api.LeaseLeases(ctx, r))
	case *pb.LeaseKeepAliveRequest:
		return c.keepAlive(ctx, r)
	}
	if err := mvcc.Validate(req.(proto.Message), c.s.cfg.Traffic.Limits.TxnOpsMax); err != nil {
		return nil, err
	}
	switch r := req.(type) {
	case *pb.RangeRequest:
		return answer(c.api.Range(ctx, r))
	case *pb.PutRequest:
		return answer(c.api.Put(ctx, r))
	case *pb.DeleteRangeRequest:
		return answer(c.api.DeleteRange(ctx, r))
	case *pb.TxnRequest:
		return answer(c.api.Txn(ctx, r))
	}
	panic(fmt.Sprintf("sim: no request: %T", req))
}

// keepAlive answers as the API does: the header is from before, an unknown lease
// has no time left.
func (c *client) keepAlive(ctx context.Context, r *pb.LeaseKeepAliveRequest) (proto.Message, error) {
	current, _ := c.Current()
	resp := &pb.LeaseKeepAliveResponse{Header: &pb.ResponseHeader{Revision: int64(current)}, ID: r.ID}
	at := c.node.clock()
	c.maybePause()
	if ttl, ok := c.node.pub.Renew(lease.ID(r.ID), at, c.clock); ok {
		resp.TTL = ttl
		return resp, nil
	}
	ttl, err := c.api.LeaseRenew(ctx, r.ID)
	if err != nil && !errors.Is(err, lease.ErrNotFound) {
		return nil, err
	}
	resp.TTL = ttl
	return resp, nil
}

// clock reads the node's clock, after a while.
func (c *client) clock() clock.Time {
	c.maybePause()
	return c.node.clock()
}

// timeToLive answers as the API does: an unknown lease is no error.
func (c *client) timeToLive(ctx context.Context, r *pb.LeaseTimeToLiveRequest) (proto.Message, error) {
	resp, err := c.api.LeaseTimeToLive(ctx, r)
	if errors.Is(err, lease.ErrNotFound) {
		current, _ := c.Current()
		return &pb.LeaseTimeToLiveResponse{Header: &pb.ResponseHeader{Revision: int64(current)}, ID: r.ID, TTL: -1}, nil
	}
	return answer(resp, err)
}

// answer keeps a nil response from becoming a message that is not nil.
func answer[M proto.Message](m M, err error) (proto.Message, error) {
	if err != nil {
		return nil, err
	}
	return m, nil
}

// stream merges the chunks of a RangeStream.
func (c *client) stream(ctx context.Context, r *pb.RangeRequest) (proto.Message, error) {
	if err := mvcc.ValidateRangeStream(r); err != nil {
		return nil, err
	}
	whole := &pb.RangeResponse{}
	err := c.api.RangeStream(ctx, r, func(chunk *pb.RangeResponse) error {
		whole.Kvs = append(whole.Kvs, chunk.Kvs...)
		if chunk.Header != nil {
			whole.Header, whole.Count, whole.More = chunk.Header, chunk.Count, chunk.More
		}
		c.maybePause()
		return nil
	})
	return answer(whole, err)
}

// Submit implements router.Local. It returns when the call was answered, so that
// who then waits for it need not wait.
func (c *client) Submit(call *router.Call) error {
	if !c.node.serving {
		return router.ErrStopping
	}
	if c.hungUp {
		return router.ErrTimeout // nobody waits for more
	}
	turn := c.turn
	c.node.submit(call, func() {
		if c.turn == turn { // it waits still
			c.resumeAfter(between(c.s.load, 0, 20*time.Microsecond))
		}
	})
	if c.reads != nil {
		c.s.after(c.s.cfg.Readers.Patience, func() { c.hangUp(call, turn) })
	}
	c.stand(waitCall)
	return nil
}

// hangUp ends a request that waits since a turn, if it waits still.
func (c *client) hangUp(call *router.Call, turn uint64) {
	switch {
	case c.turn != turn, len(call.Done) > 0:
	case c.s.now < c.node.frozenUntil:
		c.s.after(c.node.thawed(), func() { c.hangUp(call, turn) })
	default:
		c.giveUp()
		c.hungUp = true
		c.resume()
	}
}

// Current implements router.Local.
func (c *client) Current() (current, compacted metapb.Revision) {
	c.maybePause()
	return c.node.pub.Current()
}

// Direct implements router.Local.
func (c *client) Leaderless() bool { return false }

func (c *client) Direct() bool { return c.node.core.Direct() }

// Pieces implements router.Local.
func (c *client) Pieces(dst []router.Piece, span metapb.Span, s metapb.Revision) []router.Piece {
	c.maybePause()
	return c.node.pub.Pieces(dst, span, s)
}

// Valid implements router.Local.
func (c *client) Valid(p router.Piece, rev metapb.Revision) bool {
	c.maybePause()
	return c.node.pub.Valid(p, rev)
}

// Reader implements router.Local.
func (c *client) Reader() engine.Reader {
	c.maybePause()
	return c.node.eng
}

// Count implements router.Local.
func (c *client) Count(start, end []byte, rev metapb.Revision) (int64, error) {
	c.maybePause()
	return c.node.counts.Count(start, end, rev)
}
