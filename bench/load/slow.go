package load

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
)

// slowWindow is the flow control window of the slow watcher: a small one, so
// that what it does not read is the server's to keep.
const slowWindow = 1 << 16

// slow measures latency for a while, then for the duration with one more watcher,
// which was there all along, reading nothing; then it reads on.
func (c *WatchConfig) slow(ctx context.Context, r *Report) error {
	conns, done, err := c.dial(c.Conns)
	if err != nil {
		return err
	}
	defer done()
	slowConn, closeSlow, err := c.dial(1, grpc.WithStaticStreamWindowSize(slowWindow), grpc.WithStaticConnWindowSize(slowWindow))
	if err != nil {
		return err
	}
	defer closeSlow()
	quiet := min(c.Duration, 20*time.Second)
	p := newPuts(c.keyspace(), int(c.PerSecond*(quiet+c.Duration).Seconds()), c.ValueBytes)
	g := newGroup(ctx)
	defer g.end()
	streams, err := openStreams(g, conns, c.Streams, c.Watchers, p, c.PrevKV)
	if err != nil {
		return err
	}
	late, err := openStreams(g, slowConn, 1, 1, p, c.PrevKV)
	if err != nil {
		return err
	}
	var stalled atomic.Bool
	resume := make(chan struct{})
	late[0].gate = func(ctx context.Context) {
		if stalled.Load() {
			select {
			case <-resume:
			case <-ctx.Done():
			}
		}
	}
	if err := begin(g, append(late, streams...), c.On, 0); err != nil {
		return err
	}
	written := make(chan error, 1)
	g.run(func(ctx context.Context) error {
		written <- c.write(ctx, p)
		return nil
	})
	if !pause(g.ctx, quiet) {
		return g.failed()
	}
	before, err := c.usage()
	if err != nil {
		return err
	}
	stalled.Store(true)
	for _, s := range streams {
		s.cut.Store(int64(time.Since(p.base)))
	}
	if err := c.peak(g, r, before, written); err != nil {
		return err
	}
	r.set("slow_behind_events", float64(p.n)-float64(late[0].delivered.Load()))
	start := time.Now()
	close(resume)
	if err := awaitAll(g, append(late, streams...), c.On, p, c.PatienceTime); err != nil {
		return err
	}
	r.set("slow_caught_up_s", (time.Since(start) - linger).Seconds())
	if err := g.end(); err != nil {
		return err
	}
	return c.slowReport(r, p, streams, late)
}

// peak waits for the puts to end and watches the server's memory meanwhile.
func (c *WatchConfig) peak(g *group, r *Report, before usage, written <-chan error) error {
	most := before.rss
	for {
		select {
		case err := <-written:
			r.set("server_rss_before_mb", float64(before.rss)/1e6)
			r.set("server_rss_peak_growth_mb", float64(most-before.rss)/1e6)
			return err
		case <-g.ctx.Done():
			return g.failed()
		case <-time.After(200 * time.Millisecond):
			now, err := c.usage()
			if err != nil {
				return err
			}
			most = max(most, now.rss)
		}
	}
}

func (c *WatchConfig) slowReport(r *Report, p *puts, streams, late []*stream) error {
	before, during := &Histogram{}, &Histogram{}
	for _, s := range streams {
		before.Merge(&s.fromReply)
		during.Merge(&s.late)
	}
	r.latencies("others_before", before)
	r.latencies("others_during", during)
	if before.Quantile(0.99) > 0 {
		r.set("others_p99_ratio", float64(during.Quantile(0.99))/float64(before.Quantile(0.99)))
	}
	p.report(r)
	for _, s := range append(late, streams...) {
		s.fromDue, s.fromReply = Histogram{}, Histogram{}
	}
	tally(r, append(late, streams...), c.On, p)
	return nil
}
