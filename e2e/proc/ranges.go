package proc

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/flotilladb/flotilla/proto/adminpb"
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

// Ranges lists all ranges.
func (c *Cluster) Ranges(ctx context.Context) (ranges []*adminpb.RangeInfo, err error) {
	err = c.admin(ctx, 0, func(ctx context.Context, conn *grpc.ClientConn) error {
		resp, err := adminpb.NewAdminClient(conn).ListRanges(ctx, &adminpb.ListRangesRequest{})
		ranges = resp.GetRanges()
		return err
	})
	return ranges, err
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
