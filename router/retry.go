package router

import (
	"errors"
	"time"

	"github.com/flotilladb/flotilla/proto/peerpb"
)

// verdict is what an op does about a range's error.
type verdict int

const (
	// verdictFail: the error is the client's answer.
	verdictFail verdict = iota
	// verdictUnknown: the outcome is not known; the client is told so.
	verdictUnknown
	// verdictRefresh: the router looked at an old picture. Learn what the error
	// brings, then send again.
	verdictRefresh
	// verdictLater: certainly not done; send again after a while.
	verdictLater
)

// verdictRow says what an error of a range means to a router.
type verdictRow struct {
	err     error
	verdict verdict
}

// verdicts is the whole table; the first row that matches counts, and what
// matches none is the client's. An unknown outcome is never sent again: that
// would be a double apply.
func verdicts() [8]verdictRow {
	return [...]verdictRow{
		{peerpb.ErrUnknown, verdictUnknown},
		{peerpb.ErrMoved, verdictRefresh},
		{peerpb.ErrRangeNotFound, verdictRefresh},
		{peerpb.ErrRefused, verdictLater},
		{peerpb.ErrNotLeader, verdictLater},
		{peerpb.ErrOverloaded, verdictLater},
		{peerpb.ErrStopping, verdictLater},
		{ErrNoRange, verdictLater},
	}
}

// judge looks an error up.
func judge(err error) verdict {
	for _, row := range verdicts() {
		if errors.Is(err, row.err) {
			return row.verdict
		}
	}
	return verdictFail
}

// triesAtOnceMax bounds the retries without a wait, so that two ranges that
// each point to the other do not make a loop.
const triesAtOnceMax = 8

// retry does for an op what an error asks for, short of failing: it mends the
// cache and calls the op's tick, which sends again, now or after a while. It
// returns false if the error is final.
func (r *Router) retry(o op, err error) bool {
	v := judge(err)
	if v != verdictRefresh && v != verdictLater {
		return false
	}
	b := o.base()
	var moved *peerpb.MovedError
	if v == verdictRefresh && errors.As(err, &moved) && len(moved.Newer) > 0 {
		r.Descriptors(moved.Newer)
		if b.tries < triesAtOnceMax {
			b.tries++
			o.tick(r)
			return true
		}
	}
	var not *peerpb.NotLeaderError
	if errors.As(err, &not) && not.Leader != 0 && b.tries < triesAtOnceMax {
		b.tries++
		o.tick(r) // whoever sends has heard of it
		return true
	}
	delay := r.backoff(b.tries)
	if errors.Is(err, peerpb.ErrNotLeader) {
		delay = min(delay, r.cfg.LeaderDelayMax)
		if not != nil {
			b.awaits = not.Range
		}
	}
	r.wakeAt(o, r.now.Add(delay))
	b.tries++
	return true
}

// safe says of an unknown outcome that the request may be sent again: asking twice
// does no harm.
func safe(err error) error {
	if err != nil && judge(err) == verdictUnknown {
		return peerpb.ErrRefused
	}
	return err
}

// backoff is how long to wait before a request is sent for the nth time again.
func (r *Router) backoff(tries int) time.Duration {
	d := r.cfg.RetryDelayMin
	for range min(tries, 16) {
		d *= 2
		if d >= r.cfg.RetryDelayMax {
			return r.cfg.RetryDelayMax
		}
	}
	return d
}
