package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// loadPerSecond is the open load under which things fail, in puts a second.
const loadPerSecond = 1000

// underLoad runs do under an open load on the nodes, and returns the load's figures.
func (b *bench) underLoad(ctx context.Context, ranges int, do func() error) (Figure, error) {
	clients, done, err := b.clientsOf(6, 24)
	if err != nil {
		return Figure{}, err
	}
	defer done()
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- do(); close(stop) }()
	f, err := openLoop(ctx, clients, loadPerSecond, stop, func(ctx context.Context, kv pb.KVClient, i int) error {
		_, err := kv.Put(ctx, &pb.PutRequest{Key: keyIn(i%ranges, ranges, "load"), Value: value()})
		return err
	})
	if err != nil {
		return Figure{}, err
	}
	return f, <-ended
}

// saturate keeps all cores busy with others, twice over, and counts elections.
func saturate(d time.Duration) func(context.Context, *bench) (Figure, error) {
	return func(ctx context.Context, b *bench) (Figure, error) {
		d := d
		if b.quick {
			d /= 10
		}
		time.Sleep(b.settle())
		before, err := b.server.elections()
		if err != nil {
			return Figure{}, err
		}
		busy, cancel := context.WithCancel(ctx)
		defer cancel()
		for range 2 * runtime.NumCPU() {
			if err := exec.CommandContext(busy, "sh", "-c", "while :; do :; done").Start(); err != nil {
				return Figure{}, err
			}
		}
		f, err := b.underLoad(ctx, max(1, b.server.ranges), func() error { time.Sleep(d); return nil })
		if err != nil {
			return Figure{}, err
		}
		after, err := b.server.elections()
		f.More["elections"], f.More["seconds"] = after-before, d.Seconds()
		return f, err
	}
}

// elections is how often a replica of any node came to lead its range.
func (s *server) elections() (sum float64, err error) {
	for _, p := range s.nodes {
		resp, err := http.Get("http://" + p.addr + "/metrics")
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		found := false
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			if rest, ok := strings.CutPrefix(lines.Text(), "flotilla_leaders_elected_total "); ok {
				n, err := strconv.ParseFloat(rest, 64)
				if err != nil {
					return 0, err
				}
				sum, found = sum+n, true
			}
		}
		if !found {
			return 0, fmt.Errorf("%s shows no elections", p.addr)
		}
	}
	return sum, nil
}

// rolling stops and starts each node in order, under load to the others.
func rolling(ctx context.Context, b *bench) (Figure, error) {
	ranges, s := max(1, b.server.ranges), b.server
	before, err := b.underLoad(ctx, ranges, func() error { time.Sleep(10 * time.Second); return nil })
	if err != nil {
		return Figure{}, err
	}
	all := Figure{More: map[string]float64{"before_p99_ms": before.P99Millis, "failed": before.More["failed"]}}
	for i, p := range s.nodes {
		others := &bench{options: b.options, server: &server{name: s.name, ranges: s.ranges}}
		for j, o := range s.nodes {
			if j != i {
				others.server.nodes = append(others.server.nodes, o)
			}
		}
		f, err := others.underLoad(ctx, ranges, func() error {
			time.Sleep(time.Second)
			p.stop()
			if err := p.start(); err != nil {
				return err
			}
			defer time.Sleep(2 * time.Second)
			return p.firstRead(ctx)
		})
		if err != nil {
			return Figure{}, err
		}
		all.More["failed"] += f.More["failed"]
		all.P50Millis, all.P99Millis = max(all.P50Millis, f.P50Millis), max(all.P99Millis, f.P99Millis)
		all.PerSecond += f.PerSecond / float64(len(s.nodes))
	}
	all.More["p99_ratio"] = all.P99Millis / before.P99Millis
	return all, nil
}
