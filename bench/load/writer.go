package load

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// keyspace names the keys of a run. They come in groups, whose names begin in
// order, so that a server can be cut at them.
type keyspace struct {
	prefix string
	keys   int
	groups int
}

// GroupStart returns the first key of a group of a prefix: where to cut a server
// that is to have a range for each.
func GroupStart(prefix string, group int) []byte { return fmt.Appendf(nil, "%s%03d/", prefix, group) }

func (k *keyspace) key(i int) []byte {
	return fmt.Appendf(GroupStart(k.prefix, i%k.groups), "%08d", i)
}

// keyOf is the key of the ith put. A stride that is no factor of anything keeps
// neighbours in time apart in space.
func (k *keyspace) keyOf(i int) int { return int(uint64(i) * 7919 % uint64(k.keys)) }

// prefixEnd is the first key that does not begin with a prefix.
func prefixEnd(prefix string) []byte {
	end := []byte(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return []byte{0}
}

// stampLen is how much of a value says which put it is of and when it was due.
const stampLen = 16

// puts are the puts of a run and what became of them.
type puts struct {
	keyspace
	n         int
	valueSize int
	base      time.Time
	replied   []atomic.Int64 // ns since base; 0: not yet
	revisions []int64        // 0: failed or not yet

	latencies []int64 // ns since it was due; 0: failed or not yet

	perTxn int // puts of one transaction, if more than 1
	failed atomic.Int64
}

func newPuts(k keyspace, n, valueSize int) *puts {
	return &puts{
		keyspace: k, n: n, valueSize: max(valueSize, stampLen), base: time.Now(),
		replied: make([]atomic.Int64, n), revisions: make([]int64, n), latencies: make([]int64, n),
	}
}

// value is that of a put.
func (p *puts) value(i int, due time.Time) []byte {
	value := make([]byte, p.valueSize)
	binary.BigEndian.PutUint64(value, uint64(i))
	binary.BigEndian.PutUint64(value[8:], uint64(due.Sub(p.base)))
	return value
}

// put makes one put. What the end of the run cuts off does not count.
func (p *puts) put(ctx context.Context, kv pb.KVClient, i int, due time.Time) {
	resp, err := kv.Put(ctx, &pb.PutRequest{Key: p.key(p.keyOf(i)), Value: p.value(i, due)})
	switch {
	case err == nil:
		p.answered(i, resp.Header.Revision, due)
	case ctx.Err() == nil:
		p.failed.Add(1)
	}
}

func (p *puts) answered(i int, revision int64, due time.Time) {
	now := time.Now()
	p.revisions[i], p.latencies[i] = revision, int64(now.Sub(due))
	p.replied[i].Store(max(1, int64(now.Sub(p.base))))
}

// start begins to write at a rate. The group ends with the last put.
func (p *puts) start(g *group, conns []*grpc.ClientConn, workers int, perSecond float64) {
	clients := make([]pb.KVClient, len(conns))
	for i, c := range conns {
		clients[i] = pb.NewKVClient(c)
	}
	schedule(g, workers, p.n, perSecond, func(ctx context.Context, i int, due time.Time) error {
		p.put(ctx, clients[i%len(clients)], i, due)
		return nil
	})
}

// stamp reads a value back.
func (p *puts) stamp(value []byte) (i int, due time.Duration, ok bool) {
	if len(value) < stampLen {
		return 0, 0, false
	}
	n := binary.BigEndian.Uint64(value)
	return int(n), time.Duration(binary.BigEndian.Uint64(value[8:])), n < uint64(p.n)
}

// sums are how many puts there were and the sum of their revisions.
type sums struct{ count, revisions int64 }

// expected returns what a watcher of everything must have seen, and one of each
// key.
func (p *puts) expected() (all sums, byKey []sums) {
	byKey = make([]sums, p.keys)
	for i, rev := range p.revisions {
		if rev != 0 {
			all.count, all.revisions = all.count+1, all.revisions+rev
			k := &byKey[p.keyOf(i)]
			k.count, k.revisions = k.count+1, k.revisions+rev
		}
	}
	return all, byKey
}

// between returns the latencies of the puts that were due in [from, to), which
// count from base.
func (p *puts) between(from, to time.Duration) *Histogram {
	h := &Histogram{}
	for i, took := range p.latencies {
		due := time.Duration(p.replied[i].Load() - took)
		if took != 0 && due >= from && due < to {
			h.Add(time.Duration(took))
		}
	}
	return h
}

func (p *puts) report(r *Report) {
	h := p.between(math.MinInt64, math.MaxInt64)
	r.set("puts", float64(h.Len()))
	r.must("puts_failed", p.failed.Load())
	r.latencies("put", h)
}
