package node

import (
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/frame"
)

const (
	// linkResend is when a frame that is not acknowledged is sent again, and linkResendMax where
	// frames take longer, as large ones do on a slow link: sent again while they are on their
	// way they would leave no room for others. It doubles with each time. Acknowledgements are
	// not kept back for longer than a tick.
	linkResend    = 100 * time.Millisecond
	linkResendMax = 800 * time.Millisecond
	// linkBytesFew is how many bytes a second go over all but the slowest links: what has more
	// than frameContentMax is not sent again before the rest of it had that time.
	linkBytesFew = 2 << 20
)

// resender says when a link sends again what is not acknowledged, and how much of it. What lies
// below loses frames only with a connection, so most of what is not acknowledged is not lost but
// slow: the first time comes after twice what frames take, and is about little.
type resender struct {
	at    clock.Time
	times int // in a row
	// takes is how long the frame took that was acknowledged last of those that were timed;
	// timed is the number of one that is, since timedAt, 0: none.
	takes   time.Duration
	timed   uint64
	timedAt clock.Time
	// last is the last frame that was sent again, at lastAt, 0: none. Those up to suspect,
	// which were on their way when the first was sent again, may be lost with it.
	last, suspect uint64
	lastAt        clock.Time
	// bytesMax is how many bytes may be sent again at the next time, or frameContentMax.
	bytesMax int
}

// sent notes that a frame leaves; first: no other waits to be acknowledged.
func (r *resender) sent(number uint64, first bool, now clock.Time) {
	if r.timed == 0 {
		r.timed, r.timedAt = number, now
	}
	if first {
		r.begin(now)
	}
}

// begin says that nothing was sent again since something was acknowledged.
func (r *resender) begin(now clock.Time) { r.at, r.times = now.Add(r.after()), 0 }

// after is when what is not acknowledged is sent again for the first time.
func (r *resender) after() time.Duration { return min(max(linkResend, 2*r.takes), linkResendMax) }

// large is how much later a frame is sent again that has more than frameContentMax. Where those
// before it were lost it is not on its way.
func (r *resender) large(f *frame.Frame) time.Duration {
	if f.Number > r.last && f.Number <= r.suspect {
		return 0
	}
	return restOf(f, linkBytesFew)
}

// acked notes that frames were acknowledged, up to a number.
func (r *resender) acked(upTo uint64, now clock.Time) {
	if r.timed != 0 && r.timed <= upTo {
		r.takes, r.timed = now.Sub(r.timedAt), 0
	}
	r.begin(now)
	switch {
	case upTo > r.last:
		r.suspect = 0
	case upTo == r.last && upTo < r.suspect: // so far it looks as if all were lost
		r.at = now.Add(min(now.Sub(r.lastAt)+linkResend, linkResendMax))
		r.bytesMax = 2 * max(r.bytesMax, frameContentMax)
	}
}

// due returns how many frames of those that are not acknowledged are to be sent again now.
func (r *resender) due(unacked []*frame.Frame, now clock.Time) (n int) {
	if len(unacked) == 0 || now.Before(r.at) || now.Before(r.at.Add(r.large(unacked[0]))) {
		return 0
	}
	r.times++
	r.at = now.Add(r.after() << min(r.times, 4))
	if unacked[0].Number > r.suspect {
		r.suspect, r.bytesMax = unacked[len(unacked)-1].Number, 0
	}
	for bytes := 0; n < len(unacked); n++ {
		if bytes += frameBytes(unacked[n]); n > 0 && bytes > max(r.bytesMax, frameContentMax) {
			break // when these are acknowledged
		}
	}
	r.last, r.lastAt = unacked[n-1].Number, now
	return n
}

// reset forgets the frames of a session; how long they take it remembers.
func (r *resender) reset() { r.timed, r.last, r.suspect = 0, 0, 0 }
