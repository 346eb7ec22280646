package load

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// resume makes events and then watches from the first of them on.
func (c *WatchConfig) resume(ctx context.Context, r *Report) error {
	p := newPuts(c.keyspace(), c.Events, c.ValueBytes)
	p.perTxn = c.PutsPerTxn
	start := time.Now()
	if err := c.fill(ctx, p); err != nil {
		return err
	}
	r.set("written_per_s", float64(c.Events)/time.Since(start).Seconds())
	first := slices.Min(p.revisions)
	conns, done, err := c.dial(c.Conns)
	if err != nil {
		return err
	}
	defer done()
	g := newGroup(ctx)
	defer g.end()
	before, err := c.usage()
	if err != nil {
		return err
	}
	streams, err := openStreams(g, conns, c.Streams, c.Watchers, p, c.PrevKV)
	if err != nil {
		return err
	}
	start = time.Now()
	if err := begin(g, streams, c.On, first); err != nil {
		return err
	}
	if err := awaitAll(g, streams, c.On, p, c.PatienceTime); err != nil {
		return err
	}
	elapsed := time.Since(start) - linger
	events := sum(streams, delivered)
	r.set("delivered", float64(events))
	r.set("delivered_per_s", float64(events)/elapsed.Seconds())
	if err := r.usageSince(&c.Target, before, events, 0, "event", ""); err != nil {
		return err
	}
	if err := g.end(); err != nil {
		return err
	}
	for _, s := range streams { // how old an event is says nothing here
		s.fromDue, s.fromReply = Histogram{}, Histogram{}
	}
	tally(r, streams, c.On, p)
	return nil
}

// fill makes the puts as fast as it can, PutsPerTxn to a revision.
func (c *WatchConfig) fill(ctx context.Context, p *puts) error {
	conns, done, err := c.dial(min(c.Conns, writeConnsMax))
	if err != nil {
		return err
	}
	defer done()
	g := newGroup(ctx)
	var next atomic.Int64
	for w := range c.Workers {
		kv := pb.NewKVClient(conns[w%len(conns)])
		g.run(func(ctx context.Context) error {
			for {
				i := int(next.Add(int64(c.PutsPerTxn))) - c.PutsPerTxn
				if i >= c.Events {
					return nil
				}
				if err := c.fillOne(ctx, kv, p, i); err != nil {
					return err
				}
			}
		})
	}
	return g.wait()
}

func (c *WatchConfig) fillOne(ctx context.Context, kv pb.KVClient, p *puts, i int) error {
	now := time.Now()
	txn := &pb.TxnRequest{}
	for j := i; j < min(i+c.PutsPerTxn, c.Events); j++ {
		put := &pb.PutRequest{Key: p.key(p.keyOf(j)), Value: p.value(j, now)}
		txn.Success = append(txn.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: put}})
	}
	resp, err := kv.Txn(ctx, txn)
	if err != nil {
		return err
	}
	for j := range txn.Success {
		p.answered(i+j, resp.Header.Revision, now)
	}
	return nil
}
