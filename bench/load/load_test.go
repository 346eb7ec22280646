package load

import (
	"bytes"
	"context"
	"encoding/json"
	"math/rand"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// short is a watch run of a mode that takes a moment.
func short(mode string) WatchConfig {
	c := DefaultWatchConfig(mode)
	c.Watchers, c.Streams, c.Keys, c.Groups, c.PerSecond, c.Duration = 6, 3, 4, 2, 400, 200*time.Millisecond
	c.Events, c.Settle, c.PatienceTime, c.Workers, c.AsksPerSec = 60, 0, 200*time.Millisecond, 8, 100
	return c
}

// wrong runs and returns the figures that must be 0 and are not.
func wrong(t *testing.T, r *Report, err error) string {
	t.Helper()
	if err != nil {
		return err.Error()
	}
	var names []string
	for _, name := range r.Names() {
		if r.wrong[name] && r.Get(name) != 0 {
			names = append(names, name)
		}
	}
	if (len(names) == 0) != (r.Wrong() == 0) {
		t.Fatalf("%v are wrong, and Wrong says %v", names, r.Wrong())
	}
	return strings.Join(names, " ")
}

// A server without a fault passes in every mode.
func TestNothingWrong(t *testing.T) {
	for _, mode := range []string{WatchLatency, WatchIdle, WatchProgress, WatchSlow, WatchResume} {
		for _, on := range []string{OnKey, OnPrefix, OnAll} {
			t.Run(mode+" "+on, func(t *testing.T) {
				t.Parallel()
				c := short(mode)
				c.On, c.PrevKV, c.PutsPerTxn = on, true, 3
				c.Target = serveFake(t, &fake{})
				c.PID = os.Getpid()
				r, err := Watch(t.Context(), c)
				if got := wrong(t, r, err); got != "" {
					t.Fatal(got)
				}
				want := float64(6 * c.putsTotal())
				if on == OnKey { // six watchers of four keys in turn, each with a quarter of the puts
					want /= 4
				}
				if got := r.Get("delivered"); mode == WatchLatency && got != want {
					t.Errorf("delivered %v, want %v", got, want)
				}
			})
		}
	}
	for _, mode := range []string{LeaseGrant, LeaseKeepAlive, LeaseStorm} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			c := shortLease(mode)
			c.Target = serveFake(t, &fake{})
			r, err := Lease(t.Context(), c)
			if got := wrong(t, r, err); got != "" {
				t.Error(got)
			}
		})
	}
}

func shortLease(mode string) LeaseConfig {
	c := DefaultLeaseConfig(mode)
	c.Leases, c.KeysPerLease, c.Groups, c.Streams, c.PerSecond, c.Duration = 20, 3, 2, 2, 200, 200*time.Millisecond
	c.TTL, c.Settle, c.PatienceTime = 2*time.Second, 0, 300*time.Millisecond
	return c
}

// nth lets a fault happen at one response with events.
func nth(n int, fault func(resp *pb.WatchResponse) []*pb.WatchResponse) func(*pb.WatchResponse) []*pb.WatchResponse {
	return func(resp *pb.WatchResponse) []*pb.WatchResponse {
		if len(resp.Events) > 0 {
			if n--; n == 0 {
				return fault(resp)
			}
		}
		return []*pb.WatchResponse{resp}
	}
}

// TestWatchFaults sees to it that every counter can count.
func TestWatchFaults(t *testing.T) {
	type responses = []*pb.WatchResponse
	var held *pb.WatchResponse
	for _, c := range []struct {
		name, want string
		perTxn     int
		deliver    func(*pb.WatchResponse) []*pb.WatchResponse
	}{
		{"lost", "missing", 1, nth(20, func(*pb.WatchResponse) responses { return nil })},
		{"twice", "surplus split_revision", 1, nth(20, func(r *pb.WatchResponse) responses { return responses{r, r} })},
		{"twice in one", "surplus duplicate", 1, nth(20, func(r *pb.WatchResponse) responses {
			r.Events = append(r.Events, r.Events...)
			return responses{r}
		})},
		{"late", "out_of_order", 1, func(r *pb.WatchResponse) responses {
			switch {
			case len(r.Events) == 0 || r.WatchId != 2 || r.Events[0].Kv.ModRevision < 10 || r.Events[0].Kv.ModRevision > 11:
			case held == nil:
				held = r
				return nil
			default:
				defer func() { held = nil }()
				return responses{r, held}
			}
			return responses{r}
		}},
		{"in parts", "split_revision", 3, nth(20, func(r *pb.WatchResponse) responses {
			rest := proto.Clone(r).(*pb.WatchResponse)
			r.Events, rest.Events = r.Events[:1], rest.Events[1:]
			return responses{r, rest}
		})},
		{"another's value", "missing foreign", 1, nth(20, func(r *pb.WatchResponse) responses {
			r = proto.Clone(r).(*pb.WatchResponse)
			r.Events[0].Kv.Value = nil
			return responses{r}
		})},
		{"no previous value", "prev_kv_missing", 1, nth(60, func(r *pb.WatchResponse) responses {
			r.Events[0].PrevKv = nil
			return responses{r}
		})},
		{"another revision", "other_than_written out_of_order", 1, nth(60, func(r *pb.WatchResponse) responses {
			r = proto.Clone(r).(*pb.WatchResponse)
			r.Events[0].Kv.ModRevision -= 3
			return responses{r}
		})},
		{"canceled", "bench watch resume: watch 1 was canceled: no reason", 1, nth(1, func(r *pb.WatchResponse) responses {
			return responses{{WatchId: 1, Canceled: true, CancelReason: "no reason"}}
		})},
	} {
		cfg := short(WatchResume)
		cfg.Target = serveFake(t, &fake{deliver: c.deliver})
		cfg.PutsPerTxn, cfg.PrevKV, cfg.Workers = c.perTxn, true, 1
		r, err := Watch(t.Context(), cfg)
		if got := wrong(t, r, err); got != c.want {
			t.Errorf("%s: wrong are %q, want %q", c.name, got, c.want)
		}
	}
}

func TestProgressFaults(t *testing.T) {
	n := int64(0)
	answers := func(rev func(int64) int64) func(r *pb.WatchResponse) []*pb.WatchResponse {
		return func(r *pb.WatchResponse) []*pb.WatchResponse {
			if len(r.Events) == 0 {
				n++
				if r.Header.Revision = rev(n); r.Header.Revision == 0 {
					return nil
				}
			}
			return []*pb.WatchResponse{r}
		}
	}
	c := short(WatchProgress)
	c.Target = serveFake(t, &fake{deliver: answers(func(n int64) int64 { return 1000 - n })})
	r, err := Watch(t.Context(), c)
	if got := wrong(t, r, err); got != "progress_went_back" {
		t.Errorf("progress goes back: %q", got)
	}
	n = 0
	c.Target = serveFake(t, &fake{deliver: answers(func(n int64) int64 { return n % 5 })})
	c.AsksPerSec = 25
	if r, err = Watch(t.Context(), c); err != nil || r.Get("unanswered") != 1 || r.Get("asked") != 5 {
		t.Errorf("one ask of five is dropped: %v, unanswered %v", err, r.Get("unanswered"))
	}
}

func TestLeaseFaults(t *testing.T) {
	every := func(resp func(r *pb.LeaseKeepAliveResponse) *pb.LeaseKeepAliveResponse) func(r *pb.LeaseKeepAliveResponse) *pb.LeaseKeepAliveResponse {
		n := 0
		return func(r *pb.LeaseKeepAliveResponse) *pb.LeaseKeepAliveResponse {
			if n++; n == 20 {
				return resp(r)
			}
			return r
		}
	}
	type answer = pb.LeaseKeepAliveResponse
	for _, c := range []struct {
		name, mode, want string
		fake             *fake
	}{
		{"lost keepalive", LeaseKeepAlive, "keepalives_mistaken keepalives_unanswered", &fake{renew: every(func(*answer) *answer { return nil })}},
		{"refused", LeaseKeepAlive, "keepalives_refused", &fake{renew: every(func(r *answer) *answer { return &answer{ID: r.ID} })}},
		{"another's", LeaseKeepAlive, "keepalives_mistaken", &fake{renew: every(func(r *answer) *answer { return &answer{ID: r.ID + 7, TTL: 1} })}},
		{"early", LeaseStorm, "deleted_early", &fake{ttl: 1200 * time.Millisecond}},
		{"at two revisions", LeaseStorm, "leases_at_two_revisions", &fake{expire: func(keys []string) [][]string {
			return [][]string{keys[:1], keys[1:]}
		}}},
		{"a key stays", LeaseStorm, "keys_left deletes_missing", &fake{expire: func(keys []string) [][]string {
			return [][]string{keys[1:]}
		}}},
		{"twice", LeaseStorm, "deleted_twice", &fake{expire: func(keys []string) [][]string {
			return [][]string{append(slices.Clone(keys), keys[0])}
		}}},
		{"never", LeaseStorm, "keys_left deletes_missing", &fake{ttl: time.Hour}},
		{"too early", LeaseGrant, "keys_missing", &fake{ttl: 50 * time.Millisecond}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cfg := shortLease(c.mode)
			if cfg.Target = serveFake(t, c.fake); c.mode == LeaseKeepAlive {
				cfg.Streams, cfg.TTL = 1, time.Hour
			}
			if c.mode == LeaseGrant {
				cfg.Settle = 300 * time.Millisecond
			}
			r, err := Lease(t.Context(), cfg)
			if got := wrong(t, r, err); got != c.want {
				t.Errorf("wrong are %q, want %q", got, c.want)
			}
		})
	}
}

// A stall of the server shows in what was due meanwhile, though hardly anything
// was sent.
func TestNoCoordinatedOmission(t *testing.T) {
	f := &fake{}
	c := short(WatchLatency)
	c.Target = serveFake(t, f)
	c.Workers, c.Duration = 1, 500*time.Millisecond
	stall := time.AfterFunc(100*time.Millisecond, func() {
		f.mu.Lock()
		<-time.After(200 * time.Millisecond)
		f.mu.Unlock()
	})
	defer stall.Stop()
	r, err := Watch(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	// 80 of 200 puts were due in the stall. The one that was under way would have
	// been the only late one.
	if r.Get("put_p90_ms") < 50 || r.Get("delivery_from_due_p90_ms") < 50 {
		t.Errorf("p90 of puts %v ms, of deliveries %v ms", r.Get("put_p90_ms"), r.Get("delivery_from_due_p90_ms"))
	}
}

func TestCanceledRun(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c, l := short(WatchLatency), shortLease(LeaseStorm)
	c.Target = serveFake(t, &fake{})
	l.Target = c.Target
	if _, err := Watch(ctx, c); err == nil {
		t.Error("a watch run that was canceled has a report")
	}
	if _, err := Lease(ctx, l); err == nil {
		t.Error("a lease run that was canceled has a report")
	}
}

func TestHistogram(t *testing.T) {
	rng := rand.New(rand.NewSource(1))
	var h, half Histogram
	var all []time.Duration
	for i := range 10_000 {
		d := time.Duration(rng.Int63n(1 << uint(1+rng.Intn(50))))
		if all = append(all, d); i%2 == 0 {
			h.Add(d)
		} else {
			half.Add(d)
		}
	}
	h.Merge(&half)
	slices.Sort(all)
	for _, q := range []float64{0, 0.1, 0.5, 0.9, 0.99, 1} {
		want := all[int(q*float64(len(all)-1))]
		if got := h.Quantile(q); got < want || got > want+want/64+1 {
			t.Errorf("quantile %v: %d, want %d", q, got, want)
		}
	}
	if (&Histogram{}).Quantile(0.5) != 0 {
		t.Error("an empty histogram")
	}
}

func TestReport(t *testing.T) {
	r := newReport("m")
	r.set("a_ms", 1.5)
	r.must("lost", 0)
	if r.Wrong() != 0 {
		t.Error("nothing is wrong yet")
	}
	r.must("lost", 3)
	var out bytes.Buffer
	if err := r.Print(&out); err != nil || !strings.Contains(out.String(), "WRONG") || r.Wrong() != 3 {
		t.Errorf("%v, wrong %v:\n%s", err, r.Wrong(), out.String())
	}
	raw, err := json.Marshal(r)
	if want := `{"mode":"m","figures":{"a_ms":1.5,"lost":3},"wrong":3}`; err != nil || string(raw) != want {
		t.Errorf("%s, %v; want %s", raw, err, want)
	}
}

func TestBadConfigs(t *testing.T) {
	good := Target{Endpoints: []string{"x"}, Conns: 1}
	for i, change := range []func(c *WatchConfig){
		func(c *WatchConfig) { c.Endpoints = nil }, func(c *WatchConfig) { c.Conns = 0 }, func(c *WatchConfig) { c.PID = -1 },
		func(c *WatchConfig) { c.Mode = "x" }, func(c *WatchConfig) { c.On = "x" }, func(c *WatchConfig) { c.Streams = 7 },
		func(c *WatchConfig) { c.Groups = 1001 }, func(c *WatchConfig) { c.PerSecond = 0 }, func(c *WatchConfig) { c.PutsPerTxn = 5 },
		func(c *WatchConfig) { c.Prefix = "" },
	} {
		c := short(WatchLatency)
		c.Target = good
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		if change(&c); c.Validate() == nil {
			t.Errorf("watch %d was accepted", i)
		}
	}
	for i, change := range []func(c *LeaseConfig){
		func(c *LeaseConfig) { c.Conns = 0 }, func(c *LeaseConfig) { c.Mode = "x" }, func(c *LeaseConfig) { c.Leases = 0 },
		func(c *LeaseConfig) { c.KeysPerLease = 0 }, func(c *LeaseConfig) { c.TTL = time.Millisecond }, func(c *LeaseConfig) { c.Streams = 0 },
		func(c *LeaseConfig) { c.Prefix = "" },
	} {
		c := shortLease(LeaseStorm)
		c.Target = good
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		if change(&c); c.Validate() == nil {
			t.Errorf("lease %d was accepted", i)
		}
	}
}
