package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// sharedValue is what every loader writes: the same bytes, since the loaders share the
// processors with the servers.
var sharedValue [256]byte

func value() []byte { return sharedValue[:] }

// txnPuts writes transactions of ten puts. first gives the first byte of the
// jth key of the ith transaction, which decides its range.
func txnPuts(first func(i, j int) byte) func(context.Context, *bench) (Figure, error) {
	return func(ctx context.Context, b *bench) (Figure, error) {
		clients, done, err := b.clientsOf(20, 100)
		if err != nil {
			return Figure{}, err
		}
		defer done()
		total := b.scaled(20_000)
		before := b.server.cpu()
		f, err := closedLoop(ctx, clients, total, func(ctx context.Context, kv pb.KVClient, i int) error {
			txn := &pb.TxnRequest{}
			for j := range 10 {
				key := fmt.Appendf([]byte{first(i, j)}, "t%08d-%d", i, j)
				txn.Success = append(txn.Success, putOp(key))
			}
			_, err := kv.Txn(ctx, txn)
			return err
		})
		f.CPUMicros = float64((b.server.cpu() - before).Microseconds()) / float64(total)
		return f, err
	}
}

func putOp(key []byte) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: key, Value: value()}}}
}

// fill puts keys name(0) to name(n-1), a hundred to a transaction.
func (b *bench) fill(ctx context.Context, n int, name func(i int) []byte) error {
	clients, done, err := b.clientsOf(8, 32)
	if err != nil {
		return err
	}
	defer done()
	const each = 100
	_, err = closedLoop(ctx, clients, n/each, func(ctx context.Context, kv pb.KVClient, i int) error {
		txn := &pb.TxnRequest{}
		for j := range each {
			txn.Success = append(txn.Success, putOp(name(i*each+j)))
		}
		_, err := kv.Txn(ctx, txn)
		return err
	})
	return err
}

// big fills the store, and then measures what etcd finds hard: its memory, its
// restart, and paging through it.
func big(ctx context.Context, b *bench) (Figure, error) {
	begin := time.Now()
	name := func(i int) []byte { return fmt.Appendf(nil, "/registry/pods/namespace-%03d/pod-%09d", i%500, i) }
	if err := b.fill(ctx, b.keys, name); err != nil {
		return Figure{}, err
	}
	more := map[string]float64{"load_s": time.Since(begin).Seconds(), "load_rss_mb": b.server.rssMB(), "disk_mb": b.server.diskMB()}
	// What is still to be tidied up after a load may go on for a moment.
	time.Sleep(10 * time.Second)
	more["idle_rss_mb"] = b.server.rssMB()
	b.server.kill()
	start := time.Now()
	if err := b.server.start(ctx); err != nil {
		return Figure{}, err
	}
	more["restart_s"] = time.Since(start).Seconds()
	f, err := b.pages(ctx, 500)
	f.More = more
	return f, err
}

// pages lists the whole keyspace page by page; an operation is one page.
func (b *bench) pages(ctx context.Context, limit int64) (Figure, error) {
	conn, err := b.server.dial()
	if err != nil {
		return Figure{}, err
	}
	defer conn.Close()
	kv := pb.NewKVClient(conn)
	var took []time.Duration
	var rev, seen int64
	key, start := []byte{0}, time.Now()
	// etcd needs about a second for a page of two million keys: a bounded part
	// of the list is as good for a median.
	for time.Since(start) < time.Minute {
		begin := time.Now()
		resp, err := kv.Range(ctx, &pb.RangeRequest{Key: key, RangeEnd: []byte{0}, Limit: limit, KeysOnly: true, Revision: rev})
		if err != nil {
			return Figure{}, err
		}
		took = append(took, time.Since(begin))
		seen += int64(len(resp.Kvs))
		if rev == 0 {
			rev = resp.Header.Revision
		}
		if !resp.More {
			break
		}
		if resp.Count < int64(len(resp.Kvs)) {
			return Figure{}, fmt.Errorf("count %d of a page of %d", resp.Count, len(resp.Kvs))
		}
		key = append(slices.Clone(resp.Kvs[len(resp.Kvs)-1].Key), 0)
	}
	return figureOf(took, time.Since(start)), nil
}

// compact overwrites keys a million times, and compacts the old versions away
// under a steady load. The figure is the load's during the compaction.
func compact(ctx context.Context, b *bench) (Figure, error) {
	keys := b.scaled(100_000)
	name := func(i int) []byte { return fmt.Appendf(nil, "k%07d", i%keys) }
	if err := b.fill(ctx, 11*keys, name); err != nil {
		return Figure{}, err
	}
	clients, done, err := b.clientsOf(10, 10)
	if err != nil {
		return Figure{}, err
	}
	defer done()
	put := func(ctx context.Context, kv pb.KVClient, i int) error {
		_, err := kv.Put(ctx, &pb.PutRequest{Key: fmt.Appendf(nil, "w%07d", i%1000), Value: value()})
		return err
	}
	const perSecond = 2000
	quiet, err := openLoop(ctx, clients, perSecond, after(10*time.Second), put)
	if err != nil {
		return Figure{}, err
	}
	more := map[string]float64{
		"p99_before_ms": quiet.P99Millis, "failed_before": quiet.More["failed"], "disk_before_mb": b.server.diskMB(),
	}
	finished := make(chan struct{})
	begin := time.Now()
	var compactErr error
	go func() {
		defer close(finished)
		compactErr = b.compactAll(ctx, clients[0])
		more["compact_s"] = time.Since(begin).Seconds()
		// At least as long as before, so that the two p99 are comparable.
		<-after(max(0, 10*time.Second-time.Since(begin)))
	}()
	during, err := openLoop(ctx, clients, perSecond, finished, put)
	if err == nil {
		err = compactErr
	}
	if err != nil {
		return Figure{}, err
	}
	more["failed_during"] = during.More["failed"]
	more["disk_end_mb"] = b.server.diskMB()
	time.Sleep(20 * time.Second)
	more["disk_20s_later_mb"] = b.server.diskMB()
	during.More = more
	return during, nil
}

func (b *bench) compactAll(ctx context.Context, kv pb.KVClient) error {
	resp, err := kv.Range(ctx, &pb.RangeRequest{Key: []byte("k")})
	if err != nil {
		return err
	}
	_, err = kv.Compact(ctx, &pb.CompactionRequest{Revision: resp.Header.Revision, Physical: true})
	return err
}

func after(d time.Duration) <-chan struct{} {
	c := make(chan struct{})
	time.AfterFunc(d, func() { close(c) })
	return c
}
