package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Modes of a lease run.
const (
	LeaseGrant     = "grant"     // many leases with keys; memory
	LeaseKeepAlive = "keepalive" // renewals at a rate
	LeaseStorm     = "storm"     // all leases expire at once under puts at a rate
)

// LeaseConfig says what to do.
type LeaseConfig struct {
	Target
	Mode         string
	Leases       int
	KeysPerLease int
	TTL          time.Duration // whole seconds

	Streams    int     // of keepalives
	PerSecond  float64 // keepalives, or puts of a storm
	Duration   time.Duration
	Workers    int
	ValueBytes int
	Prefix     string
	Groups     int // of keys; see GroupStart

	Settle       time.Duration
	PatienceTime time.Duration // for what has not come when it should have
}

// DefaultLeaseConfig returns a small run of a mode.
func DefaultLeaseConfig(mode string) LeaseConfig {
	c := LeaseConfig{
		Target: Target{Conns: 8}, Mode: mode, Leases: 10_000, KeysPerLease: 1, TTL: time.Hour,
		Streams: 8, PerSecond: 1000, Duration: 10 * time.Second, Workers: 256, ValueBytes: 64, Prefix: "bench/l/", Groups: 1,
		Settle: 10 * time.Second, PatienceTime: 10 * time.Minute,
	}
	if mode == LeaseStorm {
		c.TTL = 30 * time.Second
	}
	return c
}

// Validate reports what is wrong with a configuration.
func (c *LeaseConfig) Validate() error {
	if err := c.Target.Validate(); err != nil {
		return err
	}
	switch c.Mode {
	case LeaseGrant, LeaseKeepAlive, LeaseStorm:
	default:
		return fmt.Errorf("mode %q: want %s, %s or %s", c.Mode, LeaseGrant, LeaseKeepAlive, LeaseStorm)
	}
	switch {
	case c.Leases <= 0 || c.KeysPerLease < 0 || c.KeysPerLease > 100:
		return errors.New("leases: want at least 1, with at most 100 keys each")
	case c.Mode == LeaseStorm && c.KeysPerLease == 0:
		return errors.New("a storm of leases without keys cannot be seen: want at least 1 key")
	case c.TTL < time.Second || c.TTL%time.Second != 0:
		return errors.New("TTL: want whole seconds")
	case c.Streams <= 0 || !(c.PerSecond > 0) || c.Duration <= 0 || c.Workers <= 0:
		return errors.New("streams, rate, duration and workers: want more than 0")
	case c.Prefix == "" || c.Groups <= 0 || c.Groups > 1000 || c.ValueBytes < 0 || c.Settle < 0 || c.PatienceTime < 0:
		return errors.New("a prefix and 1 to 1000 groups are needed, and sizes and times of 0 or more")
	}
	return nil
}

// Lease makes a run. The error is about the run; what the server did wrong is in
// the report.
func Lease(ctx context.Context, c LeaseConfig) (*Report, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	r := newReport("lease " + c.Mode)
	conns, done, err := c.dial(c.Conns)
	if err != nil {
		return nil, err
	}
	defer done()
	l := &leases{LeaseConfig: c, conns: conns, base: 1 + rand.Int64N(1<<62), begun: time.Now(), sent: make([]atomic.Int64, c.Leases)}
	r.set("leases", float64(c.Leases))
	r.set("keys_per_lease", float64(c.KeysPerLease))
	switch c.Mode {
	case LeaseGrant:
		err = l.measureGrants(ctx, r)
	case LeaseKeepAlive:
		err = l.measureKeepAlives(ctx, r)
	case LeaseStorm:
		err = l.storm(ctx, r)
	}
	if err != nil {
		return nil, fmt.Errorf("bench lease %s: %w", c.Mode, err)
	}
	r.set("retried", float64(l.retried.Load()))
	return r, nil
}

// leases are those of a run: ids from base on.
type leases struct {
	LeaseConfig
	conns []*grpc.ClientConn
	base  int64
	// sent is when the last renewal of a lease, or its grant, was sent: it must
	// not die before its TTL after that.
	sent  []atomic.Int64 // ns since begun
	begun time.Time

	retried atomic.Int64
}

func (l *leases) sending(i int) { l.sent[i].Store(int64(time.Since(l.begun))) }

// deadline is when a lease may die.
func (l *leases) deadline(i int) time.Time {
	return l.begun.Add(time.Duration(l.sent[i].Load()) + l.TTL)
}

// key is the jth key of the ith lease. Those of one lease lie in
// different groups.
func (l *leases) key(i, j int) []byte {
	return fmt.Appendf(GroupStart(l.Prefix, (i+j)%l.Groups), "%08d-%02d", i, j)
}

// grantAll grants all leases and puts their keys.
func (l *leases) grantAll(ctx context.Context) error {
	g := newGroup(ctx)
	var next atomic.Int64
	value := make([]byte, l.ValueBytes)
	for w := range l.Workers {
		conn := l.conns[w%len(l.conns)]
		lease, kv := pb.NewLeaseClient(conn), pb.NewKVClient(conn)
		g.run(func(ctx context.Context) error {
			for {
				i := int(next.Add(1)) - 1
				if i >= l.Leases {
					return nil
				}
				if err := l.grant(ctx, lease, kv, i, value); err != nil {
					return fmt.Errorf("lease %d: %w", i, err)
				}
			}
		})
	}
	return g.wait()
}

// grant grants a lease and puts its keys. Both may be done again, so a request
// that failed is: a disk that stalls for longer than a request may take must not
// end an hour's run. It shows in retried.
func (l *leases) grant(ctx context.Context, lease pb.LeaseClient, kv pb.KVClient, i int, value []byte) error {
	id, ttl := l.base+int64(i), int64(l.TTL/time.Second)
	l.sending(i)
	err := l.retry(ctx, func() error {
		resp, err := lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: id, TTL: ttl})
		if status.Code(err) == codes.FailedPrecondition {
			return nil // it exists: the first try was heard
		}
		if err == nil && (resp.Error != "" || resp.ID != id || resp.TTL < ttl) {
			return fmt.Errorf("asked for %d for %d s, granted %v", id, ttl, resp)
		}
		return err
	})
	for j := 0; err == nil && j < l.KeysPerLease; j++ {
		err = l.retry(ctx, func() error {
			_, err := kv.Put(ctx, &pb.PutRequest{Key: l.key(i, j), Value: value, Lease: id})
			return err
		})
	}
	return err
}

const (
	triesMax   = 10
	retryDelay = 100 * time.Millisecond
)

func (l *leases) retry(ctx context.Context, do func() error) (err error) {
	for range triesMax {
		if err = do(); err == nil {
			return nil
		}
		l.retried.Add(1)
		if !pause(ctx, retryDelay) {
			return context.Cause(ctx)
		}
	}
	return err
}

func (l *leases) measureGrants(ctx context.Context, r *Report) error {
	before, err := l.usage()
	if err != nil {
		return err
	}
	start := time.Now()
	if err := l.grantAll(ctx); err != nil {
		return err
	}
	r.set("granted_per_s", float64(l.Leases)/time.Since(start).Seconds())
	if !pause(ctx, l.Settle) {
		return context.Cause(ctx)
	}
	if err := r.usageSince(&l.Target, before, int64(l.Leases), int64(l.Leases), "lease", "lease"); err != nil {
		return err
	}
	return l.countKeys(ctx, r, "keys_missing", int64(l.Leases*l.KeysPerLease))
}

// countKeys counts the keys of all leases against how many must be there.
func (l *leases) countKeys(ctx context.Context, r *Report, name string, want int64) error {
	resp, err := pb.NewKVClient(l.conns[0]).Range(ctx, &pb.RangeRequest{Key: []byte(l.Prefix), RangeEnd: prefixEnd(l.Prefix), CountOnly: true})
	if err != nil {
		return err
	}
	r.must(name, max(want-resp.Count, resp.Count-want))
	return nil
}

func (l *leases) measureKeepAlives(ctx context.Context, r *Report) error {
	if err := l.grantAll(ctx); err != nil {
		return err
	}
	before, err := l.usage()
	if err != nil {
		return err
	}
	n := max(1, int(l.PerSecond*l.Duration.Seconds()))
	start := time.Now()
	k, err := l.keepAlive(ctx, n, l.PerSecond)
	if err != nil {
		return err
	}
	r.set("keepalives", float64(k.took.Len()))
	r.set("keepalives_per_s", float64(k.took.Len())/time.Since(start).Seconds())
	r.latencies("keepalive_from_due", &k.took)
	if err := r.usageSince(&l.Target, before, int64(n), 0, "keepalive", ""); err != nil {
		return err
	}
	k.report(r)
	return nil
}

// keepAlives is what became of renewals.
type keepAlives struct {
	took                          Histogram
	refused, mistaken, unanswered int64
}

func (k *keepAlives) report(r *Report) {
	r.must("keepalives_refused", k.refused)
	r.must("keepalives_mistaken", k.mistaken)
	r.must("keepalives_unanswered", k.unanswered)
}

// keepAlive renews the leases in turn, n times in all.
func (l *leases) keepAlive(ctx context.Context, n int, perSecond float64) (*keepAlives, error) {
	receive, send := newGroup(ctx), newGroup(ctx)
	defer receive.end()
	streams := make([]*aliveStream, l.Streams)
	for i := range streams {
		client, err := pb.NewLeaseClient(l.conns[i%len(l.conns)]).LeaseKeepAlive(receive.ctx)
		if err != nil {
			return nil, err
		}
		streams[i] = &aliveStream{client: client, leases: l}
		receive.run(streams[i].receive)
	}
	schedule(send, min(l.Workers, 2*l.Streams), n, perSecond, func(_ context.Context, i int, due time.Time) error {
		return streams[i%len(streams)].send(i%l.Leases, due)
	})
	if err := send.wait(); err != nil {
		return nil, err
	}
	k := &keepAlives{}
	for end := time.Now().Add(l.PatienceTime); time.Now().Before(end); {
		if k.unanswered = 0; !pause(receive.ctx, time.Millisecond) {
			return nil, receive.failed()
		}
		for _, s := range streams {
			k.unanswered += int64(s.waiting())
		}
		if k.unanswered == 0 {
			break
		}
	}
	if err := receive.end(); err != nil {
		return nil, err
	}
	for _, s := range streams {
		k.took.Merge(&s.took)
		k.refused += s.refused
		k.mistaken += s.mistaken
	}
	return k, nil
}

// aliveStream is one stream of keepalives. A server answers them in order.
type aliveStream struct {
	client pb.Lease_LeaseKeepAliveClient
	leases *leases

	mu   sync.Mutex
	open []renewal

	took              Histogram // of the receiver
	refused, mistaken int64
}

type renewal struct {
	lease int
	due   time.Time
}

func (s *aliveStream) send(lease int, due time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = append(s.open, renewal{lease, due})
	s.leases.sending(lease)
	return s.client.Send(&pb.LeaseKeepAliveRequest{ID: s.leases.base + int64(lease)})
}

func (s *aliveStream) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

func (s *aliveStream) receive(ctx context.Context) error {
	for {
		resp, err := s.client.Recv()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("keepalive stream: %w", err)
		}
		now := time.Now()
		s.mu.Lock()
		if len(s.open) == 0 {
			s.mu.Unlock()
			s.mistaken++
			continue
		}
		asked := s.open[0]
		s.open = s.open[1:]
		s.mu.Unlock()
		s.took.Add(now.Sub(asked.due))
		switch {
		case resp.ID != s.leases.base+int64(asked.lease):
			s.mistaken++
		case resp.TTL <= 0:
			s.refused++
		}
	}
}
