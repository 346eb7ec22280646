package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/proto/adminpb"
)

// three are the systems with three nodes.
var three = []string{"etcd3", "flotilla3", "flotilla3x64", "flotilla3x1000"}

// clusterWorkloads need several nodes, and make their own ranges.
func clusterWorkloads() []workload {
	one := []string{"etcd3", "flotilla3"}
	return []workload{
		{"idle10k", "10,000 idle ranges on three nodes, and the first writes to them", []string{"flotilla3"}, idle(10_000)},
		{"kill3k", "kill -9 of a node that leads, with 3,000 ranges under 1,000 puts/s", one, killLeader(3000)},
		{"restart10k", "restart of a node with 10,000 ranges and 5 GB", []string{"flotilla3"}, restart(10_000)},
		{"rolling", "each node of three is stopped in order and started under 1,000 puts/s", []string{"flotilla3", "flotilla3x64"}, rolling},
		{"saturated", "ten minutes with two busy processes a core and 1,000 puts/s", []string{"flotilla3", "flotilla3x64"}, saturate(10 * time.Minute)},
	}
}

// keyIn is a key in the ith of n parts.
func keyIn(i, n int, suffix string) []byte { return append(keyAt(i, n), "\x00"+suffix...) }

// leaders counts the ranges that each node leads, by the node that it asks.
func (s *server) leaders(ctx context.Context, p *process) (counts map[uint64]int, err error) {
	conn, err := dial(p.addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	resp, err := adminpb.NewAdminClient(conn).ListRanges(ctx, &adminpb.ListRangesRequest{})
	if err != nil {
		return nil, err
	}
	counts = make(map[uint64]int)
	for _, r := range resp.Ranges {
		counts[r.LeaderReplicaId]++
	}
	return counts, nil
}

// idle measures what ranges cost that nobody uses, and how fast they wake.
func idle(ranges int) func(context.Context, *bench) (Figure, error) {
	return func(ctx context.Context, b *bench) (Figure, error) {
		ranges, s := b.scaled(ranges), b.server
		begin := time.Now()
		if err := s.splitInto(ctx, ranges); err != nil {
			return Figure{}, err
		}
		more := map[string]float64{"splits_s": time.Since(begin).Seconds()}
		time.Sleep(b.settle())
		const watched = 10 * time.Second
		before := make([]time.Duration, len(s.nodes))
		for i, p := range s.nodes {
			before[i] = p.cpu()
		}
		time.Sleep(watched)
		for i, p := range s.nodes {
			more["idle_"+nodeNames[i]+"_core_percent"] = 100 * (p.cpu() - before[i]).Seconds() / watched.Seconds()
			more["idle_"+nodeNames[i]+"_rss_mb"] = p.rssMB()
		}
		for _, what := range []string{"_core_percent", "_rss_mb"} {
			for _, n := range nodeNames {
				more["idle_most"+what] = max(more["idle_most"+what], more["idle_"+n+what])
			}
		}
		f, err := b.firstWrites(ctx, ranges)
		f.More = more
		return f, err
	}
}

// settle is how long a cluster is left alone before it counts as idle.
func (b *bench) settle() time.Duration { return 10 * time.Second }

// firstWrites puts one key each to ranges that rest, one after the other.
func (b *bench) firstWrites(ctx context.Context, ranges int) (Figure, error) {
	clients, done, err := b.clientsOf(len(b.server.nodes), len(b.server.nodes))
	if err != nil {
		return Figure{}, err
	}
	defer done()
	for i, kv := range clients { // connections and caches, not ranges, are warm
		if _, err := kv.Put(ctx, &pb.PutRequest{Key: keyIn(0, ranges, fmt.Sprint(i))}); err != nil {
			return Figure{}, err
		}
	}
	var took []time.Duration
	begin := time.Now()
	for i := range min(500, ranges-1) {
		at := 1 + rand.IntN(ranges-1)
		start := time.Now()
		_, err := clients[i%len(clients)].Put(ctx, &pb.PutRequest{Key: keyIn(at, ranges, "w"), Value: value()})
		if err != nil {
			return Figure{}, err
		}
		took = append(took, time.Since(start))
	}
	return figureOf(took, time.Since(begin)), nil
}

// killLeader ends the node that leads most while puts go on, and measures until when
// every range has taken one again. Etcd has one group.
func killLeader(ranges int) func(context.Context, *bench) (Figure, error) {
	return func(ctx context.Context, b *bench) (Figure, error) {
		n, s := 1, b.server
		more := make(map[string]float64)
		victim := 0
		if s.flotilla() {
			n = b.scaled(ranges)
			if err := s.splitInto(ctx, n); err != nil {
				return Figure{}, err
			}
			if err := s.spread(ctx); err != nil {
				return Figure{}, err
			}
			led, err := s.leaders(ctx, s.nodes[0])
			if err != nil {
				return Figure{}, err
			}
			for i := range s.nodes {
				more["led_by_"+nodeNames[i]] = float64(led[uint64(i+1)])
			}
			victim = s.victim(led)
		} else if victim = s.etcdLeader(ctx); victim < 0 {
			return Figure{}, errors.New("no node leads")
		}
		f, err := b.killUnderLoad(ctx, victim, n)
		if err != nil {
			return Figure{}, err
		}
		maps.Copy(f.More, more)
		return f, nil
	}
}

// victim is the node whose leaders are nearest to a third of all.
func (s *server) victim(led map[uint64]int) int {
	all := 0
	for _, n := range led {
		all += n
	}
	far := func(i int) int { d := 3*led[uint64(i+1)] - all; return max(d, -d) }
	best := 0
	for i := range s.nodes {
		if far(i) < far(best) {
			best = i
		}
	}
	return best
}

func (s *server) etcdLeader(ctx context.Context) int {
	for i, p := range s.nodes {
		conn, err := dial(p.addr)
		if err != nil {
			return -1
		}
		st, err := pb.NewMaintenanceClient(conn).Status(ctx, &pb.StatusRequest{})
		conn.Close()
		if err == nil && st.Leader == st.Header.MemberId {
			return i
		}
	}
	return -1
}

func (b *bench) killUnderLoad(ctx context.Context, victim, ranges int) (Figure, error) {
	var kvs []pb.KVClient
	for i, p := range b.server.nodes {
		for range 8 {
			if i == victim {
				continue
			}
			conn, err := dial(p.addr)
			if err != nil {
				return Figure{}, err
			}
			defer conn.Close()
			kvs = append(kvs, pb.NewKVClient(conn))
		}
	}
	stop := make(chan struct{})
	var load Figure
	var loadErr error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		load, loadErr = openLoop(ctx, kvs, 1000, stop, func(ctx context.Context, kv pb.KVClient, i int) error {
			_, err := kv.Put(ctx, &pb.PutRequest{Key: keyIn(i%ranges, ranges, "load"), Value: value()})
			return err
		})
	}()
	time.Sleep(5 * time.Second)
	killed := time.Now()
	b.server.nodes[victim].kill()
	took, err := probe(ctx, kvs, killed, ranges)
	slices.Sort(took)
	if err == nil {
		time.Sleep(2 * time.Second)
	}
	close(stop)
	<-ended
	if err := errors.Join(err, loadErr); err != nil {
		return Figure{}, err
	}
	f := figureOf(took, time.Since(killed))
	f.More = map[string]float64{
		"writable_99_ms": f.P99Millis, "writable_all_ms": slices.Max(took).Seconds() * 1000,
		"writable_90_ms": took[9*len(took)/10].Seconds() * 1000,
		"load_failed":    load.More["failed"], "load_p99_ms": load.P99Millis,
	}
	return f, nil
}

// probe puts a key to each range, again until it is taken, and returns how long
// after the kill each was. A put that was under way to who was killed may wait for
// its time-out, and says nothing about the range.
func probe(ctx context.Context, kvs []pb.KVClient, killed time.Time, ranges int) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	took, errs := make([]time.Duration, ranges), make([]error, ranges)
	patience := time.Second
	if ranges == 1 {
		patience = 100 * time.Millisecond
	}
	var wg sync.WaitGroup
	for i := range ranges {
		wg.Go(func() {
			kv, key := kvs[i%len(kvs)], keyIn(i, ranges, "probe")
			errs[i] = until(ctx, func(ctx context.Context) error {
				ctx, done := context.WithTimeout(ctx, patience)
				defer done()
				_, err := kv.Put(ctx, &pb.PutRequest{Key: key, Value: value()})
				return err
			})
			took[i] = time.Since(killed)
		})
	}
	wg.Wait()
	return took, errors.Join(errs...)
}

// restarts is how often restart does so; its figures are those of the slowest.
const restarts = 3

// restart fills a cluster, kills a node, and measures until it answers again, and
// until it has answered for every range.
func restart(ranges int) func(context.Context, *bench) (Figure, error) {
	return func(ctx context.Context, b *bench) (Figure, error) {
		ranges, s := b.scaled(ranges), b.server
		if err := s.splitInto(ctx, ranges); err != nil {
			return Figure{}, err
		}
		begin := time.Now()
		if err := b.fillRanges(ctx, ranges, b.scaled(b.megabytes)); err != nil {
			return Figure{}, err
		}
		more := map[string]float64{"load_s": time.Since(begin).Seconds(), "disk_mb": s.nodes[2].diskMB()}
		for range restarts {
			// What the fill left to be merged keeps all three busy on this one machine.
			if err := s.calm(ctx); err != nil {
				return Figure{}, err
			}
			s.nodes[2].kill()
			time.Sleep(2 * time.Second)
			begin = time.Now()
			if err := s.nodes[2].start(); err != nil {
				return Figure{}, err
			}
			if err := s.nodes[2].firstRead(ctx); err != nil {
				return Figure{}, err
			}
			first := time.Since(begin)
			if err := s.nodes[2].readRanges(ctx, ranges); err != nil {
				return Figure{}, err
			}
			more["restart_s"] = max(more["restart_s"], first.Seconds())
			more["restart_all_s"] = max(more["restart_all_s"], time.Since(begin).Seconds())
			more["restart_rss_mb"] = max(more["restart_rss_mb"], s.nodes[2].rssMB())
		}
		return Figure{More: more}, nil
	}
}

// calm waits until the processes together use less than a fifth of a processor.
func (s *server) calm(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	const look = 5 * time.Second
	for {
		before := s.cpu()
		select {
		case <-ctx.Done():
			return fmt.Errorf("the servers do not come to rest: %w", ctx.Err())
		case <-time.After(look):
		}
		if s.cpu()-before < look/5 {
			return nil
		}
	}
}

// readRanges reads a key of each range through a node.
func (p *process) readRanges(ctx context.Context, ranges int) error {
	conn, err := dial(p.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	clients := slices.Repeat([]pb.KVClient{pb.NewKVClient(conn)}, 32)
	_, err = closedLoop(ctx, clients, ranges, func(ctx context.Context, kv pb.KVClient, i int) error {
		req := &pb.RangeRequest{Key: keyIn(i, ranges, "none")}
		return until(ctx, func(ctx context.Context) error { _, err := kv.Range(ctx, req); return err })
	})
	return err
}

// fillRanges spreads so many megabytes of values of 64 KiB over all ranges.
func (b *bench) fillRanges(ctx context.Context, ranges, megabytes int) error {
	clients, done, err := b.clientsOf(6, 24)
	if err != nil {
		return err
	}
	defer done()
	const each = 64 << 10
	noise := make([]byte, each) // does not compress
	rng := rand.NewChaCha8([32]byte{})
	_, _ = rng.Read(noise)
	_, err = closedLoop(ctx, clients, megabytes*1_000_000/each, func(ctx context.Context, kv pb.KVClient, i int) error {
		req := &pb.PutRequest{Key: keyIn(i%ranges, ranges, fmt.Sprint(i)), Value: noise}
		return until(ctx, func(ctx context.Context) error { _, err := kv.Put(ctx, req); return err })
	})
	return err
}
