package rpc

import (
	"context"
	"net"
	"time"
)

// outLane is a lane to a store, over all connections. Its link's mutex guards it.
type outLane struct {
	link *link
	lane Lane
	q    sendQueue
}

func newOutLane(l *link, lane Lane, cfg *Config) *outLane {
	return &outLane{link: l, lane: lane, q: sendQueue{
		ordered: lane != Requests, bytesMax: cfg.Lanes[lane].QueueBytesMax,
		chunkMax: cfg.ChunkBytesMax, batchMax: cfg.BatchBytesMax,
	}}
}

// push queues a frame, or reports that it cannot.
func (o *outLane) push(frame []byte) bool {
	l := o.link
	l.begin()
	l.mu.Lock()
	ok := l.mu.opened && o.q.push(frame)
	wake := ok && l.restedLocked()
	l.mu.Unlock()
	if wake {
		l.signal()
	}
	return ok
}

func (o *outLane) room() int64 {
	l := o.link
	l.begin()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.mu.opened {
		return 0
	}
	return max(0, o.q.bytesMax-o.q.bytes-frameOverheadBytes)
}

// restedLocked reports whether the sender rests; whoever it tells must wake it.
func (l *link) restedLocked() bool {
	rested := l.mu.resting
	l.mu.resting = false
	return rested
}

func (l *link) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// load is what leaves in one write: a ping, and a piece of each lane.
type load struct {
	ping   bool
	pieces [laneCount]piece
	some   [laneCount]bool // which of them have something
	buf    []byte
}

// writeBufferBytes is what a connection that rests keeps for its next write.
const writeBufferBytes = 64 << 10

// send writes what is queued, until the connection ends.
func (l *link) send(ctx context.Context, conn net.Conn) error {
	var w load
	for {
		if !l.take(&w) {
			if cap(w.buf) > writeBufferBytes {
				w.buf = nil
			}
			select {
			case <-l.wake:
				continue
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		l.encode(&w)
		if l.class == classSnapshots {
			if err := l.pace(ctx, len(w.buf)); err != nil {
				return err
			}
		}
		if _, err := conn.Write(w.buf); err != nil {
			return err
		}
	}
}

// take fills w with what to send. If there is nothing, the sender must rest.
func (l *link) take(w *load) (due bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w.ping, l.mu.pingDue = l.mu.pingDue, false
	due = w.ping
	for _, out := range l.lanes {
		w.some[out.lane] = out.q.take(&w.pieces[out.lane])
		due = due || w.some[out.lane]
	}
	l.mu.resting = !due
	return due
}

// encode writes the messages of w into its buffer. Frames are copied: one write of
// many small pieces would cost more than their bytes.
func (l *link) encode(w *load) {
	w.buf = w.buf[:0]
	if w.ping {
		w.buf = appendPing(w.buf)
	}
	for _, out := range l.lanes {
		if !w.some[out.lane] {
			continue
		}
		p, before := &w.pieces[out.lane], len(w.buf)
		if p.chunk != nil {
			w.buf = appendChunk(w.buf, out.lane, p.head, p.chunk)
		} else {
			w.buf = appendFrames(w.buf, out.lane, p.frames)
			for _, f := range p.frames {
				l.t.cfg.Recycle(f)
			}
			clear(p.frames)
		}
		l.t.counts.sent(out.lane, p, uint64(len(w.buf)-before))
		p.chunk = nil
	}
}

// pace waits for the turn of n bytes.
func (l *link) pace(ctx context.Context, n int) error {
	d := l.t.limiter.reserve(time.Now(), n)
	if d == 0 {
		return nil
	}
	return sleep(ctx, d)
}
