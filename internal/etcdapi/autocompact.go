package etcdapi

import (
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/invariant"
)

const (
	// compactEvery is how often compaction by revision looks, as in etcd.
	compactEvery = 5 * time.Minute
	// compactPeriodMax is the longest time between periodic compactions: a
	// longer history is cut every hour.
	compactPeriodMax = time.Hour
	// compactSamples is how often a period is sampled, and how soon a failed
	// compaction is tried again.
	compactSamples = 10
)

// compactPolicy decides what to compact and when, as etcd's --auto-compaction
// does. It is a core: the shell samples the revision, waits Interval, asks Due,
// compacts, says Done if that went well, and begins again.
//
// By revision it keeps a number of revisions behind the current one. Periodic
// it keeps a window of samples, the oldest of which is a period old: that one
// is due, the first time when a period has passed, then at most every hour.
type compactPolicy struct {
	keepRevisions int64         // if > 0: by revision
	period        time.Duration // else: periodic

	window []int64 // samples, oldest first; periodic only
	wait   time.Duration
	last   int64 // what was compacted last
	lastAt clock.Time
}

// newRevisionPolicy keeps so many revisions. REQUIRES: keep > 0.
func newRevisionPolicy(keep int64) *compactPolicy {
	invariant.Check(keep > 0, "keep %d revisions", keep)
	return &compactPolicy{keepRevisions: keep}
}

// newPeriodicPolicy keeps the history of a time. REQUIRES: period >= 10 ns.
func newPeriodicPolicy(period time.Duration, now clock.Time) *compactPolicy {
	invariant.Check(period >= compactSamples, "period %v", period)
	return &compactPolicy{period: period, wait: period, lastAt: now}
}

// Interval is the time from a sample to the question what is due.
func (p *compactPolicy) Interval() time.Duration {
	if p.keepRevisions > 0 {
		return compactEvery
	}
	return min(p.period, compactPeriodMax) / compactSamples
}

// Sample notes the current revision.
func (p *compactPolicy) Sample(revision int64) {
	if p.keepRevisions > 0 {
		return
	}
	p.window = append(p.window, revision)
	if len(p.window) > int(p.period/p.Interval())+1 {
		p.window = p.window[1:]
	}
}

// Due returns what to compact now; ok is false if nothing.
func (p *compactPolicy) Due(now clock.Time, revision int64) (compact int64, ok bool) {
	if p.keepRevisions > 0 {
		compact = revision - p.keepRevisions
		return compact, compact > 0 && compact != p.last
	}
	if len(p.window) == 0 || now.Sub(p.lastAt) < p.wait || p.window[0] == p.last {
		return 0, false
	}
	p.wait = min(p.period, compactPeriodMax) // only the first waits for a whole long period
	return p.window[0], true
}

// Done notes that a compaction took place, now.
func (p *compactPolicy) Done(now clock.Time, compacted int64) {
	p.last, p.lastAt = compacted, now
}
