package proc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/flotilladb/flotilla/proto/adminpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// adminTimeout bounds a request about ranges.
const adminTimeout = 5 * time.Second

// admin calls f with a connection to the first node that runs and answers.
func (c *Cluster) admin(ctx context.Context, first int, f func(context.Context, *grpc.ClientConn) error) error {
	var errs []error
	for i := range c.Nodes {
		n := c.Nodes[(first+i)%len(c.Nodes)]
		err := func() error {
			conn, err := n.Dial()
			if err != nil {
				return err
			}
			defer conn.Close()
			ctx, cancel := context.WithTimeout(ctx, adminTimeout)
			defer cancel()
			return f(ctx, conn)
		}()
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Ranges lists all ranges. A node knows most of those that it has a replica of, so all
// that run are asked; who knows the newest has the word.
func (c *Cluster) Ranges(ctx context.Context) (ranges []*adminpb.RangeInfo, err error) {
	newest := make(map[uint64]*adminpb.RangeInfo)
	var errs []error
	for _, n := range c.Nodes {
		got, err := n.ranges(ctx)
		if err != nil {
			errs = append(errs, err)
		}
		for _, r := range got {
			if old := newest[r.Descriptor_.RangeId]; old == nil || newer(r, old) {
				newest[r.Descriptor_.RangeId] = r
			}
		}
	}
	if len(newest) == 0 {
		return nil, errors.Join(errs...)
	}
	for _, r := range newest {
		ranges = append(ranges, r)
	}
	slices.SortFunc(ranges, func(a, b *adminpb.RangeInfo) int { return cmp.Compare(a.Descriptor_.RangeId, b.Descriptor_.RangeId) })
	return ranges, nil
}

// newer says whether a tells more of a range than b.
func newer(a, b *adminpb.RangeInfo) bool {
	return cmp.Or(cmp.Compare(a.Descriptor_.Generation, b.Descriptor_.Generation), cmp.Compare(a.Term, b.Term),
		cmp.Compare(a.LeaderReplicaId, b.LeaderReplicaId)) > 0
}

// ranges are what a node lists.
func (n *Node) ranges(ctx context.Context) ([]*adminpb.RangeInfo, error) {
	conn, err := n.Dial()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	resp, err := adminpb.NewAdminClient(conn).ListRanges(ctx, &adminpb.ListRangesRequest{})
	return resp.GetRanges(), err
}

// Whole waits until each range has a voter on each node.
func (c *Cluster) Whole(ctx context.Context) error {
	last := "nobody answers"
	for {
		ranges, err := c.Ranges(ctx)
		behind, text := 0, ""
		for _, r := range ranges {
			voters := 0
			for _, repl := range r.Descriptor_.Replicas {
				if repl.Kind == metapb.ReplicaKind_VOTER {
					voters++
				}
			}
			if voters != len(c.Nodes) || len(r.Descriptor_.Replicas) != voters {
				behind++
				text += fmt.Sprintf("\nrange %d, leader %d, term %d: %v", r.Descriptor_.RangeId, r.LeaderReplicaId, r.Term, r.Descriptor_.Replicas)
			}
		}
		switch {
		case err == nil && behind == 0:
			return nil
		case err == nil:
			last = fmt.Sprintf("%d of %d ranges are not whole: %s", behind, len(ranges), text)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", last, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// MoveSomewhere takes a replica of a range away from a store that does not lead it,
// and gives the store a new one.
func (c *Cluster) MoveSomewhere(ctx context.Context, rng *rand.Rand) (moved bool, err error) {
	ranges, err := c.Ranges(ctx)
	if err != nil {
		return false, err
	}
	r := ranges[rng.IntN(len(ranges))]
	var from []uint64
	for _, repl := range r.Descriptor_.Replicas {
		if repl.ReplicaId != r.LeaderReplicaId {
			from = append(from, repl.StoreId)
		}
	}
	if len(from) < 2 {
		return false, nil // it is on its way already
	}
	store, by := from[rng.IntN(len(from))], rng.IntN(len(c.Nodes))
	for _, req := range []*adminpb.MoveReplicaRequest{
		{RangeId: r.Descriptor_.RangeId, FromStoreId: store}, {RangeId: r.Descriptor_.RangeId, ToStoreId: store},
	} {
		err := c.admin(ctx, by, func(ctx context.Context, conn *grpc.ClientConn) error {
			_, err := adminpb.NewAdminClient(conn).MoveReplica(ctx, req)
			return err
		})
		if err != nil {
			return false, err // the planner mends it
		}
	}
	return true, nil
}

// KeepMoving takes replicas away and makes them anew, at random moments.
func (c *Cluster) KeepMoving(ctx context.Context, rng *rand.Rand, pause time.Duration) int {
	return Keep(ctx, rng, math.MaxInt, pause, c.MoveSomewhere)
}

// Led counts the ranges that each node leads. Nodes of a static cluster have
// their ids in the order of their names.
func (c *Cluster) Led(ctx context.Context) ([]int, error) {
	ranges, err := c.Ranges(ctx)
	if err != nil {
		return nil, err
	}
	led := make([]int, len(c.Nodes))
	for _, r := range ranges {
		for _, repl := range r.Descriptor_.Replicas {
			if repl.ReplicaId != r.LeaderReplicaId {
				continue
			}
			if repl.NodeId < 1 || int(repl.NodeId) > len(led) {
				return nil, fmt.Errorf("node %d leads range %d", repl.NodeId, r.Descriptor_.RangeId)
			}
			led[repl.NodeId-1]++
		}
	}
	return led, nil
}

// SplitSomewhere cuts a range at a key that is there, or just behind it.
func (c *Cluster) SplitSomewhere(ctx context.Context, rng *rand.Rand) (split bool, err error) {
	pick, behind := rng.IntN(1<<20), rng.IntN(512)
	err = c.admin(ctx, rng.IntN(len(c.Nodes)), func(ctx context.Context, conn *grpc.ClientConn) error {
		resp, err := pb.NewKVClient(conn).Range(ctx, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, KeysOnly: true, Limit: 1000, Serializable: true})
		if err != nil || len(resp.Kvs) == 0 {
			return err
		}
		key := resp.Kvs[pick%len(resp.Kvs)].Key
		if behind < 256 {
			key = append(key, byte(behind))
		}
		answer, err := adminpb.NewAdminClient(conn).SplitRange(ctx, &adminpb.SplitRangeRequest{Key: key})
		split = answer.GetSplit()
		return err
	})
	return split, err
}

// TransferSomewhere hands the leadership of a range to another of its replicas.
func (c *Cluster) TransferSomewhere(ctx context.Context, rng *rand.Rand) error {
	ranges, err := c.Ranges(ctx)
	if err != nil {
		return err
	}
	r := ranges[rng.IntN(len(ranges))]
	var to []uint64
	for _, repl := range r.Descriptor_.Replicas {
		if repl.ReplicaId != r.LeaderReplicaId {
			to = append(to, repl.StoreId)
		}
	}
	if len(to) == 0 {
		return fmt.Errorf("range %d has one replica", r.Descriptor_.RangeId)
	}
	store := to[rng.IntN(len(to))]
	return c.admin(ctx, rng.IntN(len(c.Nodes)), func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := adminpb.NewAdminClient(conn).TransferLeader(ctx, &adminpb.TransferLeaderRequest{RangeId: r.Descriptor_.RangeId, ToStoreId: store})
		return err
	})
}

// Keep calls f at random moments, at most pause apart, until the context ends or
// f was successful so many times. It returns how often it was.
func Keep(ctx context.Context, rng *rand.Rand, most int, pause time.Duration, f func(context.Context, *rand.Rand) (bool, error)) (done int) {
	for done < most {
		select {
		case <-ctx.Done():
			return done
		case <-time.After(time.Duration(rng.Int64N(int64(pause)))):
		}
		if ok, err := f(ctx, rng); err == nil && ok {
			done++
		}
	}
	return done
}

// KeepSplitting cuts at most so many ranges at random moments.
func (c *Cluster) KeepSplitting(ctx context.Context, rng *rand.Rand, most int, pause time.Duration) int {
	return Keep(ctx, rng, most, pause, c.SplitSomewhere)
}

// KeepTransferring hands leaders over at random moments.
func (c *Cluster) KeepTransferring(ctx context.Context, rng *rand.Rand, pause time.Duration) int {
	return Keep(ctx, rng, math.MaxInt, pause, func(ctx context.Context, rng *rand.Rand) (bool, error) {
		err := c.TransferSomewhere(ctx, rng)
		return err == nil, err
	})
}
