package model

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// GeneratorConfig says what a Generator draws from.
type GeneratorConfig struct {
	// Keys is the size of the keyspace. A few keys get most of the requests.
	Keys int
	// ValueBytesMax bounds usual values. One in a thousand is 100 times as
	// long, and one in ten thousand requests is over the server's limit.
	ValueBytesMax int
	// InvalidPercent is the share of requests that are broken on purpose. Others
	// fail by chance.
	InvalidPercent int
	// CompactPerMille is the share of compactions.
	CompactPerMille int
	// LeasePercent is the share of requests about leases. With 0 no request has
	// anything to do with leases, but for unknown ones in puts.
	LeasePercent int
	// LeaseTTLLow and LeaseTTLHigh bound usual TTLs, in seconds.
	LeaseTTLLow, LeaseTTLHigh int64
	// Limits are the server's, so that requests can go just over them.
	Limits Limits
}

// DefaultGeneratorConfig suits a run of some ten thousand requests.
func DefaultGeneratorConfig() GeneratorConfig {
	return GeneratorConfig{Keys: 200, ValueBytesMax: 64, InvalidPercent: 5, CompactPerMille: 3, Limits: DefaultLimits()}
}

// Validate reports a configuration that nothing can be drawn from.
func (c GeneratorConfig) Validate() error {
	if c.Keys < 2 || c.ValueBytesMax < 1 {
		return errors.New("model: a generator needs two keys and values of a byte")
	}
	if c.InvalidPercent < 0 || c.InvalidPercent > 100 || c.CompactPerMille < 0 || c.CompactPerMille > 1000 {
		return errors.New("model: a share is out of bounds")
	}
	if c.LeasePercent < 0 || c.LeasePercent > 100 || c.LeasePercent > 0 && (c.LeaseTTLLow < 1 || c.LeaseTTLHigh < c.LeaseTTLLow) {
		return errors.New("model: leases need TTLs")
	}
	return c.Limits.Validate()
}

// Generator draws requests. The same random numbers and the same states give
// the same requests.
type Generator struct {
	cfg  GeneratorConfig
	rng  *rand.Rand
	keys [][]byte // in key order
}

// NewGenerator returns a generator that draws from rng, and from nothing else.
func NewGenerator(cfg GeneratorConfig, rng *rand.Rand) (*Generator, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	g := &Generator{cfg: cfg, rng: rng}
	// The corners first: the smallest key, one that needs escaping, prefixes of
	// each other, and the largest.
	odd := []string{"\x00", "\x00\x00\x01", "k", "k\x00", "k\x00\xff", "\xff", "\xff\xff\xff"}
	for i := range cfg.Keys {
		key := fmt.Sprintf("k/%03d", i)
		if i%2 == 1 && i/2 < len(odd) {
			key = odd[i/2]
		}
		g.keys = append(g.keys, []byte(key))
	}
	slices.SortFunc(g.keys, bytes.Compare)
	return g, nil
}

// Next draws a request. The state is the server's as far as the caller knows
// it; revisions and compares are drawn near what it holds, and no transaction
// is drawn that would crash etcd there.
func (g *Generator) Next(s *State) any {
	if g.oneIn(10_000) {
		return &pb.PutRequest{Key: g.key(), Value: make([]byte, g.cfg.Limits.RequestBytesMax+1024)}
	}
	if g.rng.IntN(1000) < g.cfg.CompactPerMille {
		return &pb.CompactionRequest{Revision: g.compactRevision(s), Physical: g.oneIn(4)}
	}
	if g.cfg.LeasePercent > 0 && g.rng.IntN(100) < g.cfg.LeasePercent {
		return g.leaseRequest(s)
	}
	switch n := g.rng.IntN(100); {
	case n < 28:
		return g.put(s)
	case n < 50:
		return g.rangeRequest(s)
	case n < 56:
		return g.stream(s)
	case n < 64:
		return g.deleteRange()
	default:
		r := g.txn(s, 0)
		for crashesEtcd(s, r) {
			r = g.txn(s, 0)
		}
		return r
	}
}

// SplitKey draws a place to split at, often a key that is in use. It draws from
// a generator of its own, so that splits leave the requests as they are.
func (g *Generator) SplitKey(rng *rand.Rand) []byte {
	key := bytes.Clone(g.keys[rng.IntN(len(g.keys))])
	if rng.IntN(4) == 0 {
		return append(key, byte(rng.IntN(256)))
	}
	return key
}

func (g *Generator) oneIn(n int) bool { return g.rng.IntN(n) == 0 }

// invalid decides whether one field is to be broken.
func (g *Generator) invalid() bool { return g.rng.IntN(100) < g.cfg.InvalidPercent }

// key draws a key; half of all draws give one of four hot ones.
func (g *Generator) key() []byte {
	if g.oneIn(2) {
		return g.keys[g.rng.IntN(4)*(len(g.keys)-1)/3]
	}
	return g.keys[g.rng.IntN(len(g.keys))]
}

// maybeKey is a key, or sometimes the empty one, which no request may name.
func (g *Generator) maybeKey() []byte {
	if g.invalid() && g.oneIn(2) {
		return nil
	}
	return g.key()
}

// span draws a key and an end: mostly one key, else a short span, a prefix, a
// span without an upper bound, or one that holds nothing.
func (g *Generator) span() (key, end []byte) {
	key = g.maybeKey()
	switch n := g.rng.IntN(20); {
	case n < 9:
		return key, nil
	case n < 15:
		return key, g.keys[g.rng.IntN(len(g.keys))]
	case n < 17:
		return []byte("k"), []byte("l")
	case n < 18:
		return key, []byte{0}
	case n < 19:
		return []byte{0}, []byte{0}
	default:
		return key, append(bytes.Clone(key), 0)
	}
}

func (g *Generator) value() []byte {
	switch {
	case g.oneIn(10):
		return nil
	case g.oneIn(2):
		return []byte{byte('a' + g.rng.IntN(4))} // few, so that compares hit and sorts tie
	case g.oneIn(1000):
		return []byte(strings.Repeat("v", 100*g.cfg.ValueBytesMax))
	}
	v := make([]byte, 1+g.rng.IntN(g.cfg.ValueBytesMax))
	for i := range v {
		v[i] = byte(g.rng.IntN(256))
	}
	return v
}

// revision draws 0, mostly, or one around the compacted or the newest one.
func (g *Generator) revision(s *State) int64 {
	switch n := g.rng.IntN(20); {
	case n < 12:
		return 0
	case n < 17:
		low := max(s.Compacted(), 1)
		return low + g.rng.Int64N(max(s.Revision()-low, 0)+1)
	case n < 18:
		return s.Compacted() - 1 + g.rng.Int64N(3)
	case n < 19:
		return s.Revision() - 1 + g.rng.Int64N(4)
	default:
		return -g.rng.Int64N(3)
	}
}

func (g *Generator) compactRevision(s *State) int64 {
	if g.oneIn(5) {
		return g.revision(s)
	}
	low := max(s.Compacted(), 0)
	return low + g.rng.Int64N(max(s.Revision()-low, 0)+1)
}

func (g *Generator) put(s *State) *pb.PutRequest {
	r := &pb.PutRequest{Key: g.maybeKey(), Value: g.value(), PrevKv: g.oneIn(4)}
	if g.oneIn(12) {
		r.IgnoreValue = true
		if !g.invalid() {
			r.Value = nil
		}
	}
	r.IgnoreLease = g.oneIn(12)
	if g.cfg.LeasePercent > 0 && g.oneIn(3) && (!r.IgnoreLease || g.invalid()) {
		r.Lease = g.lease(s)
	}
	if g.invalid() {
		r.Lease = 1 + g.rng.Int64N(1<<40)
	}
	return r
}

func (g *Generator) deleteRange() *pb.DeleteRangeRequest {
	key, end := g.span()
	return &pb.DeleteRangeRequest{Key: key, RangeEnd: end, PrevKv: g.oneIn(3)}
}

func (g *Generator) rangeRequest(s *State) *pb.RangeRequest {
	key, end := g.span()
	r := &pb.RangeRequest{
		Key: key, RangeEnd: end, Revision: g.revision(s), Serializable: g.oneIn(8),
		KeysOnly: g.oneIn(6), CountOnly: g.oneIn(8),
	}
	if g.oneIn(3) {
		r.Limit = int64(g.rng.IntN(30) - 1)
	}
	if g.oneIn(3) {
		r.SortOrder = pb.RangeRequest_SortOrder(g.rng.IntN(3))
		r.SortTarget = pb.RangeRequest_SortTarget(g.rng.IntN(5))
	}
	if g.oneIn(6) {
		for _, bound := range []*int64{&r.MinModRevision, &r.MaxModRevision, &r.MinCreateRevision, &r.MaxCreateRevision} {
			if g.oneIn(3) {
				*bound = g.revision(s)
			}
		}
	}
	if g.invalid() && g.oneIn(2) {
		r.SortOrder, r.SortTarget = pb.RangeRequest_SortOrder(g.rng.IntN(5)), pb.RangeRequest_SortTarget(g.rng.IntN(8))
	}
	return r
}

// stream draws no order by another target than the key: without an explicit
// order etcd sorts each chunk by itself and takes the next chunk's first key
// from the last row, so its chunks do not add up to any answer.
func (g *Generator) stream(s *State) Stream {
	r := g.rangeRequest(s)
	if r.SortOrder == pb.RangeRequest_NONE || !g.invalid() {
		r.SortTarget = pb.RangeRequest_KEY
	}
	if !g.invalid() {
		r.MinModRevision, r.MaxModRevision, r.MinCreateRevision, r.MaxCreateRevision = 0, 0, 0, 0
		if r.SortOrder == pb.RangeRequest_DESCEND {
			r.SortOrder = pb.RangeRequest_ASCEND
		}
	}
	return Stream{Range: r}
}

// present draws a pair that is alive, nil if none is found quickly.
func (g *Generator) present(s *State) *mvccpb.KeyValue {
	for range 4 {
		if kvs := s.Live(g.key(), nil, s.Revision()); len(kvs) > 0 {
			return kvs[0]
		}
	}
	return nil
}
