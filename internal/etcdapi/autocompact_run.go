package etcdapi

import (
	"context"
	"errors"
	"log/slog"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/stop"
	"github.com/flotilladb/flotilla/mvcc"
)

// CompactorConfig says what to compact by itself: either KeepRevisions or
// KeepPeriod is set.
type CompactorConfig struct {
	KV       KV
	Identity Identity
	Stopper  *stop.Stopper
	Logger   *slog.Logger
	// KeepRevisions is how many revisions to keep, looked at every five minutes.
	KeepRevisions int64
	// KeepPeriod is how much time's history to keep; at least 10 ns.
	KeepPeriod time.Duration
}

// Validate reports what is missing.
func (c *CompactorConfig) Validate() error {
	switch {
	case c.KV == nil, c.Identity == nil, c.Stopper == nil, c.Logger == nil:
		return errors.New("etcdapi: compactor: a part is missing")
	case (c.KeepRevisions > 0) == (c.KeepPeriod > 0):
		return errors.New("etcdapi: compactor: keep either revisions or a period")
	case c.KeepRevisions < 0, c.KeepPeriod < 0, c.KeepPeriod > 0 && c.KeepPeriod < compactSamples:
		return errors.New("etcdapi: compactor: nothing to keep")
	}
	return nil
}

// StartCompactor compacts by itself until the Stopper ends it.
func StartCompactor(cfg CompactorConfig) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	return cfg.Stopper.Go("compactor", cfg.run)
}

func (c *CompactorConfig) run(ctx context.Context) {
	begin := time.Now()
	now := func() clock.Time { return clock.Time(time.Since(begin)) }
	var p *compactPolicy
	if c.KeepRevisions > 0 {
		p = newRevisionPolicy(c.KeepRevisions)
	} else {
		p = newPeriodicPolicy(c.KeepPeriod, now())
	}
	for {
		p.Sample(c.Identity.Revision())
		if !wait(ctx, p.Interval()) {
			return
		}
		rev, ok := p.Due(now(), c.Identity.Revision())
		if !ok {
			continue
		}
		_, err := c.KV.Compact(ctx, &pb.CompactionRequest{Revision: rev})
		switch {
		case err == nil, errors.Is(err, mvcc.ErrCompacted): // somebody else did
			p.Done(now(), rev)
			c.Logger.Info("compacted by itself", "revision", rev)
		case ctx.Err() != nil:
			return
		default:
			c.Logger.Warn("automatic compaction failed and will be tried again", "revision", rev, "error", err)
		}
	}
}
