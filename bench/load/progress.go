package load

import (
	"context"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// progressPatience is how long an ask for progress waits. etcd drops one that
// comes at a bad moment.
const progressPatience = time.Second

// progress asks for progress on idle keys, at a rate, while others are written.
func (c *WatchConfig) progress(ctx context.Context, r *Report) error {
	conns, done, err := c.dial(c.Conns)
	if err != nil {
		return err
	}
	defer done()
	busy := newPuts(c.keyspace(), c.putsTotal(), c.ValueBytes)
	space := c.keyspace()
	space.prefix = "idle/" + space.prefix
	g := newGroup(ctx)
	defer g.end()
	streams, err := openStreams(g, conns, 1, c.Watchers, newPuts(space, 1, 0), false)
	if err != nil {
		return err
	}
	answers := make(chan int64, 1024)
	streams[0].progress = func(rev int64) {
		select {
		case answers <- rev:
		default: // nobody asked for so many
		}
	}
	if err := begin(g, streams, OnPrefix, 0); err != nil {
		return err
	}
	before, err := c.usage()
	if err != nil {
		return err
	}
	a := asker{client: streams[0].client, answers: answers, perSecond: c.AsksPerSec, n: int(c.AsksPerSec * c.Duration.Seconds())}
	asked := newGroup(g.ctx)
	asked.run(a.run)
	if err := c.write(g.ctx, busy); err != nil {
		return err
	}
	if err := asked.wait(); err != nil {
		return err
	}
	if err := r.usageSince(&c.Target, before, 0, 0, "", ""); err != nil {
		return err
	}
	if err := g.end(); err != nil {
		return err
	}
	r.set("asked", float64(a.n))
	r.set("unanswered", float64(a.unanswered))
	r.latencies("progress_from_due", &a.took)
	r.must("progress_went_back", a.back)
	r.must("foreign", streams[0].wrongs.foreign)
	busy.report(r)
	return nil
}

// asker asks for progress, one at a time: an answer does not say which ask it
// is for. An ask that had to wait for the one before counts from its own due.
type asker struct {
	client    pb.Watch_WatchClient
	answers   chan int64
	perSecond float64
	n         int

	took       Histogram
	unanswered int64
	back       int64
	last       int64
}

func (a *asker) run(ctx context.Context) error {
	start := time.Now()
	for i := range a.n {
		due := start.Add(time.Duration(float64(i) / a.perSecond * float64(time.Second)))
		if !pause(ctx, time.Until(due)) {
			return nil
		}
		for len(a.answers) > 0 { // to an ask that was given up
			a.note(<-a.answers)
		}
		req := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}
		if err := a.client.Send(req); err != nil {
			return err
		}
		select {
		case rev := <-a.answers:
			a.took.Add(time.Since(due))
			a.note(rev)
		case <-time.After(progressPatience):
			a.unanswered++
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

func (a *asker) note(rev int64) {
	if rev < a.last {
		a.back++
	}
	a.last = max(a.last, rev)
}
