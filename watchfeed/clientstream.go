package watchfeed

import (
	"bytes"
	"context"
	"sync"
)

// Stream is one client's stream of watches. Its methods are safe for concurrent
// use, but only one goroutine calls Recv.
type Stream struct {
	hub   *Hub
	cfg   StreamConfig
	id    StreamID      // the hub's
	ready chan struct{} // has room for one: there is something for Recv

	mu struct {
		sync.Mutex
		queue []Response
		bytes int // of events in it
		// full: the hub wants to hear that something was taken.
		full bool
		// unread counts what was created and whose answer was not taken, created
		// the watches there are or may be.
		unread, created int
		// asking: the hub has a request for progress of the stream that it has not
		// looked at, and that those after it may join; asked is what was current at
		// the last of them.
		asking bool
		asked  Revision
		err    error
		closed bool
		laters
	}
}

// Open begins a stream.
func (h *Hub) Open(cfg StreamConfig) (*Stream, error) {
	cfg.setDefaults()
	s := &Stream{hub: h, cfg: cfg, ready: make(chan struct{}, 1)}
	return s, h.send(command{kind: doOpen, stream: s})
}

// Create begins a watch. It does not block; Recv has the answer.
// ErrTooManyWatches: the stream has as many as it may have, or as many answers
// wait to be read.
func (s *Stream) Create(req CreateRequest) error {
	s.mu.Lock()
	if s.mu.created >= s.cfg.WatchesMax || s.mu.unread >= s.cfg.WatchesMax {
		s.mu.Unlock()
		return ErrTooManyWatches
	}
	s.mu.created++
	s.mu.unread++
	s.mu.asking = false // who asks after this asks for this watch too
	s.mu.Unlock()
	req.Key = bytes.Clone(req.Key)
	if req.End != nil {
		req.End = append([]byte{}, req.End...)
	}
	// Now, and not when the hub comes to it: what is current then may be above
	// events that the client must get.
	now, ok := s.hub.known()
	if !ok && req.Start != 0 {
		now, _ = s.hub.cfg.Current() // it may be behind
	}
	c := command{kind: doCreate, stream: s, create: req, now: now}
	if later, err := s.later(c, ok || req.Start != 0); later || err != nil {
		return err
	}
	return s.hub.send(c)
}

// Cancel ends a watch. An id that is not there gets no answer.
func (s *Stream) Cancel(id int64) {
	c := command{kind: doCancel, stream: s, id: id}
	if later, err := s.later(c, true); !later && err == nil {
		_ = s.hub.send(c) // a hub that stops ends all watches
	}
}

// RequestProgress asks for a StreamProgress. It comes when everything up to now
// was delivered, and perhaps never.
func (s *Stream) RequestProgress() {
	now, ok := s.hub.known()
	if later, err := s.later(command{kind: doProgress, stream: s}, ok); !later && err == nil {
		s.askProgress(now)
	}
}

func (s *Stream) askProgress(now Revision) {
	s.mu.Lock()
	joins := s.mu.asking
	s.mu.asking, s.mu.asked = true, max(s.mu.asked, now)
	s.mu.Unlock()
	if !joins {
		_ = s.hub.send(command{kind: doProgress, stream: s})
	}
}

// takeAsked returns what was current at the last request for progress.
func (s *Stream) takeAsked() Revision {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.asking = false
	return s.mu.asked
}

// Close ends the stream. Recv returns ErrClosed.
func (s *Stream) Close() {
	s.mu.Lock()
	closed := s.mu.closed
	s.mu.closed = true
	s.mu.Unlock()
	if !closed {
		_ = s.hub.send(command{kind: doClose, stream: s})
	}
	s.end(ErrClosed)
}

// Recv waits for responses and returns all there are, in the order in which to
// send them. The memory of buf, from an earlier call, may be used again.
func (s *Stream) Recv(ctx context.Context, buf []Response) ([]Response, error) {
	for {
		s.mu.Lock()
		if n := len(s.mu.queue); n > 0 {
			clear(buf[:cap(buf)])
			out := s.mu.queue
			s.mu.queue, s.mu.bytes = buf[:0], 0
			full := s.mu.full
			s.mu.full = false
			s.tookLocked(out)
			s.mu.Unlock()
			if full {
				_ = s.hub.send(command{kind: doDrained, stream: s})
			}
			return out, nil
		}
		err := s.mu.err
		s.mu.Unlock()
		if err != nil {
			return nil, err
		}
		select {
		case <-s.ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (s *Stream) tookLocked(out []Response) {
	for i := range out {
		switch out[i].Kind {
		case Created:
			s.mu.unread--
		case Canceled, Compacted:
			s.mu.created--
		}
	}
}

// put queues what the hub has for the client, and returns what is queued.
func (s *Stream) put(out *Output) (responses, bytes int) {
	s.mu.Lock()
	if s.mu.err != nil {
		s.mu.Unlock()
		return 0, 0
	}
	s.mu.queue = append(s.mu.queue, out.Responses...)
	for i := range out.Responses {
		s.mu.bytes += responseBytes(&out.Responses[i])
	}
	s.mu.full = out.Full
	responses, bytes = len(s.mu.queue), s.mu.bytes
	s.mu.Unlock()
	if len(out.Responses) > 0 {
		s.signal()
	}
	return responses, bytes
}

func (s *Stream) signal() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// end has Recv return an error.
func (s *Stream) end(err error) {
	s.mu.Lock()
	if s.mu.err == nil {
		s.mu.err = err
		s.mu.queue = nil
	}
	s.mu.Unlock()
	s.signal()
}
