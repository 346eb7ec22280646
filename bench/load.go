package main

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// clientsOf opens connections to all nodes and returns one client per worker, spread
// over them.
func (b *bench) clientsOf(conns, workers int) (kvs []pb.KVClient, closeAll func(), err error) {
	var closers []func() error
	closeAll = func() {
		for _, c := range closers {
			_ = c()
		}
	}
	for i := range conns {
		conn, err := dial(b.server.nodes[i%len(b.server.nodes)].addr)
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		closers = append(closers, conn.Close)
		kvs = append(kvs, pb.NewKVClient(conn))
	}
	for len(kvs) < workers {
		kvs = append(kvs, kvs[len(kvs)%conns])
	}
	return kvs[:workers], closeAll, nil
}

// closedLoop lets every client send its next operation when the last one was
// answered. It ends at the first error.
func closedLoop(ctx context.Context, clients []pb.KVClient, total int, op func(ctx context.Context, kv pb.KVClient, i int) error) (Figure, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	took := make([][]time.Duration, len(clients))
	start := time.Now()
	for c, kv := range clients {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= total {
					return
				}
				begin := time.Now()
				if err := op(ctx, kv, i); err != nil {
					cancel(err)
					return
				}
				took[c] = append(took[c], time.Since(begin))
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return Figure{}, err
	}
	return figureOf(slices.Concat(took...), time.Since(start)), nil
}

// openLoop sends operations at a steady rate until stop is closed, answered or
// not. Latency counts from when an operation was due, so that a stall shows in
// every operation that it delayed.
func openLoop(ctx context.Context, clients []pb.KVClient, perSecond int, stop <-chan struct{}, op func(ctx context.Context, kv pb.KVClient, i int) error) (Figure, error) {
	var mu sync.Mutex
	var took []time.Duration
	var failed float64
	var wg sync.WaitGroup
	start := time.Now()
	for i := 0; ; i++ {
		due := start.Add(time.Duration(i) * time.Second / time.Duration(perSecond))
		select {
		case <-time.After(time.Until(due)):
		case <-stop:
			elapsed := time.Since(start)
			wg.Wait()
			f := figureOf(took, elapsed)
			f.More = map[string]float64{"failed": failed}
			return f, nil
		case <-ctx.Done():
			wg.Wait()
			return Figure{}, ctx.Err()
		}
		wg.Go(func() {
			err := op(ctx, clients[i%len(clients)], i)
			d := time.Since(due)
			mu.Lock()
			defer mu.Unlock()
			took = append(took, d)
			if err != nil {
				failed++
			}
		})
	}
}

func figureOf(took []time.Duration, elapsed time.Duration) Figure {
	if len(took) == 0 {
		return Figure{}
	}
	slices.Sort(took)
	at := func(q float64) float64 { return took[int(q*float64(len(took)-1))].Seconds() * 1000 }
	return Figure{PerSecond: float64(len(took)) / elapsed.Seconds(), P50Millis: at(0.5), P99Millis: at(0.99)}
}
