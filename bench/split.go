package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/flotilladb/flotilla/proto/adminpb"
)

// keyAt is where the ith of n equal parts of the loaders' keys begins. etcd's
// benchmark tool writes a number, doubled, as a varint: its first byte is one of
// the 64 even ones from 0x80 to 0xfe, the second runs evenly through 0x80 to 0xff,
// and so does the third.
func keyAt(i, n int) []byte {
	const first, second, third = 64, 128, 128
	at := i * first * second * third / n
	key := []byte{byte(0x80 + 2*(at/(second*third)))}
	if rest := at % (second * third); rest != 0 {
		key = append(key, byte(0x80+rest/third), byte(0x80+rest%third))
	}
	return key
}

// splitters is how many splits are under way at once.
const splitters = 8

// split cuts a system into as many ranges as it is to have, for the keys of etcd's
// tool and of our own loaders.
func (s *server) split(ctx context.Context) error {
	if s.ranges == 0 {
		return nil
	}
	if err := s.splitInto(ctx, s.ranges); err != nil || !s.cluster() {
		return err
	}
	return s.spread(ctx)
}

// prepare does the same for a cluster that runs already.
func prepare(ctx context.Context, addrs []string, ranges int) error {
	s := &server{ranges: ranges, addr: addrs[0]}
	for _, addr := range addrs {
		s.nodes = append(s.nodes, &process{addr: addr})
	}
	return s.split(ctx)
}

// splitInto cuts the keyspace at n-1 keys: the middle first, then the middles of
// both halves, so that many ranges can be cut at once.
func (s *server) splitInto(ctx context.Context, n int) error {
	step := 1
	for step < n {
		step *= 2
	}
	for ; step >= 1; step /= 2 {
		var at []int
		for i := step; i < n; i += 2 * step {
			at = append(at, i)
		}
		if err := s.splitAt(ctx, at, n); err != nil {
			return err
		}
	}
	return nil
}

func (s *server) splitAt(ctx context.Context, at []int, n int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int, len(at))
	for _, i := range at {
		next <- i
	}
	close(next)
	var wg sync.WaitGroup
	for w := range min(splitters, len(at)) {
		conn, err := dial(s.nodes[w%len(s.nodes)].addr)
		if err != nil {
			return err
		}
		defer conn.Close()
		admin := adminpb.NewAdminClient(conn)
		wg.Go(func() {
			for i := range next {
				req := &adminpb.SplitRangeRequest{Key: keyAt(i, n)}
				// Who has not applied an earlier split yet does not know the range.
				err := patiently(ctx, func(ctx context.Context) error {
					_, err := admin.SplitRange(ctx, req)
					return err
				})
				if err != nil {
					cancel(fmt.Errorf("split %d of %d: %w; %s", i, n, err, s.describe(req.Key)))
					return
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// patiently asks again until that works, for two minutes at most.
func patiently(ctx context.Context, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return until(ctx, ask)
}

// describe tells what each node knows of the range of a key.
func (s *server) describe(key []byte) (all string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, p := range s.nodes {
		conn, err := dial(p.addr)
		if err != nil {
			continue
		}
		resp, err := adminpb.NewAdminClient(conn).ShowRange(ctx, &adminpb.ShowRangeRequest{Key: key})
		conn.Close()
		all += fmt.Sprintf("\n%s: %v %v", p.addr, resp, err)
	}
	return all
}

// spread hands leaders on until every node leads about as many ranges, in turn by
// their place in the keyspace.
func (s *server) spread(ctx context.Context) error {
	conn, err := dial(s.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	admin := adminpb.NewAdminClient(conn)
	resp, err := admin.ListRanges(ctx, &adminpb.ListRangesRequest{})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan *adminpb.TransferLeaderRequest, len(resp.Ranges))
	for i, r := range resp.Ranges {
		if to := uint64(i%len(s.nodes) + 1); r.LeaderReplicaId != to {
			next <- &adminpb.TransferLeaderRequest{RangeId: r.Descriptor_.RangeId, ToStoreId: to}
		}
	}
	close(next)
	var wg sync.WaitGroup
	for range splitters {
		wg.Go(func() {
			for req := range next {
				err := patiently(ctx, func(ctx context.Context) error {
					_, err := admin.TransferLeader(ctx, req)
					return err
				})
				if err != nil {
					cancel(fmt.Errorf("transfer range %d to store %d: %w", req.RangeId, req.ToStoreId, err))
					return
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}
