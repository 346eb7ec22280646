package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
)

// outLane is a lane to a store, over all its streams.
type outLane struct {
	link *link
	lane Lane
	// wake has a value when the sender, which rests, has something to do.
	wake  chan struct{}
	heard atomic.Uint64 // counts what came back

	mu struct {
		sync.Mutex
		q       sendQueue
		opened  bool // frames are taken. Until the first attempt has failed they are.
		resting bool // the sender waits for wake
		pingDue bool
	}
}

func newOutLane(l *link, lane Lane, cfg *Config) *outLane {
	out := &outLane{link: l, lane: lane, wake: make(chan struct{}, 1)}
	out.mu.opened = true
	out.mu.q = sendQueue{
		ordered: lane != Requests, bytesMax: cfg.Lanes[lane].QueueBytesMax,
		chunkMax: cfg.ChunkBytesMax, batchMax: cfg.BatchBytesMax,
	}
	return out
}

// push queues a frame, or reports that it cannot.
func (o *outLane) push(frame []byte) bool {
	o.link.begin()
	o.mu.Lock()
	ok := o.mu.opened && o.mu.q.push(frame)
	wake := ok && o.restedLocked()
	o.mu.Unlock()
	if wake {
		o.signal()
	}
	return ok
}

// restedLocked reports whether the sender rests; whoever it tells must wake it.
func (o *outLane) restedLocked() bool {
	rested := o.mu.resting
	o.mu.resting = false
	return rested
}

func (o *outLane) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

func (o *outLane) room() int64 {
	o.link.begin()
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.mu.opened {
		return 0
	}
	return max(0, o.mu.q.bytesMax-o.mu.q.bytes-frameOverheadBytes)
}

// open begins a stream.
func (o *outLane) open(credit int64) {
	select {
	case <-o.wake: // of the stream before
	default:
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mu.q.begin(credit)
	o.mu.opened, o.mu.resting, o.mu.pingDue = true, false, false
}

// close refuses frames from now on and forgets those that wait. It reports whether
// the lane was open.
func (o *outLane) close() bool {
	o.mu.Lock()
	was := o.mu.opened
	o.mu.opened, o.mu.resting = false, false
	dropped := o.mu.q.drop()
	o.mu.Unlock()
	o.link.t.counts.dropped[o.lane].Add(uint64(dropped))
	return was
}

func (o *outLane) ping() {
	o.mu.Lock()
	o.mu.pingDue = true
	wake := o.restedLocked()
	o.mu.Unlock()
	if wake {
		o.signal()
	}
}

// take fills p with what to send, and reports whether there is something and
// whether a ping is due. If neither, the sender must rest.
func (o *outLane) take(p *piece) (some, ping bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	ping, o.mu.pingDue = o.mu.pingDue, false
	some = o.mu.q.take(p)
	o.mu.resting = !some && !ping
	return some, ping
}

// send writes to a stream what is queued, until it ends.
func (o *outLane) send(ctx context.Context, stream grpc.ClientStream) error {
	var p piece
	for {
		some, ping := o.take(&p)
		if !some && !ping {
			select {
			case <-o.wake:
				continue
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if ping {
			if err := sendOut(stream, []byte{msgPing}); err != nil {
				return o.sendFailed(ctx, err)
			}
		}
		if some {
			if err := o.sendPiece(ctx, stream, &p); err != nil {
				return o.sendFailed(ctx, err)
			}
		}
	}
}

func (o *outLane) sendPiece(ctx context.Context, stream grpc.ClientStream, p *piece) error {
	var m message
	if p.chunk != nil {
		m.out = chunkMessage(p.head, p.chunk)
	} else {
		m.out = batchMessage(p.frames)
		for _, f := range p.frames {
			o.link.t.cfg.Recycle(f)
		}
		clear(p.frames)
	}
	n := m.out.Len()
	if o.lane == Snapshots {
		if err := o.pace(ctx, n); err != nil {
			return err
		}
	}
	o.link.t.counts.sent(o.lane, p, uint64(n))
	return stream.SendMsg(&m)
}

// pace waits for the turn of n bytes.
func (o *outLane) pace(ctx context.Context, n int) error {
	d := o.link.t.limiter.reserve(time.Now(), n)
	if d == 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// sendFailed waits for the reason: gRPC tells it to who receives.
func (o *outLane) sendFailed(ctx context.Context, err error) error {
	if !errors.Is(err, io.EOF) {
		return fmt.Errorf("lane %s: send: %w", o.lane, err)
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

// answers reads what comes back on a stream, until it ends.
func (o *outLane) answers(stream grpc.ClientStream) error {
	var m message
	for {
		if err := stream.RecvMsg(&m); err != nil {
			return fmt.Errorf("lane %s: %w", o.lane, err)
		}
		if m.kind() != msgAnswer {
			m.free()
			return fmt.Errorf("lane %s: %w from a receiver", o.lane, ErrProtocol)
		}
		credit, err := parseAnswer(m.take())
		if err != nil {
			return fmt.Errorf("lane %s: %w", o.lane, err)
		}
		o.heard.Add(1)
		if credit > 0 {
			o.credit(int64(credit))
		}
	}
}

func (o *outLane) credit(n int64) {
	o.mu.Lock()
	o.mu.q.credit += n
	wake := o.restedLocked()
	o.mu.Unlock()
	if wake {
		o.signal()
	}
}
