package robustness

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/e2e/proc"
	"go.etcd.io/etcd/tests/v3/robustness/client"
	"go.etcd.io/etcd/tests/v3/robustness/identity"
	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.etcd.io/etcd/tests/v3/robustness/report"
	"go.etcd.io/etcd/tests/v3/robustness/traffic"
	"go.etcd.io/etcd/tests/v3/robustness/validate"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"golang.org/x/sync/errgroup"
)

var (
	flotilla = flag.String("flotilla", "../../bin/flotilla", "the program under test")
	runs     = flag.Int("runs", 1, "how many runs")
	first    = flag.Int("first", 0, "number of the first run; a number names what happens in it")
	length   = flag.Duration("length", 10*time.Second, "how long each run has traffic and faults")
	patience = flag.Duration("patience", 5*time.Minute, "how long the check of a history may take")
	results  = flag.String("results", filepath.Join(os.TempDir(), "flotilla-robustness"), "folder for the records of runs that fail; none if empty")
)

var again = flag.String("record", "", "folder of a record that -results left, to be judged again")

// rangesMax is how many ranges a run makes at most.
const rangesMax = 30

// diskMegabytes is how big a disk is that is filled.
const diskMegabytes = 512

// wholeTimeout bounds how long ranges may lack replicas at the end.
const wholeTimeout = time.Minute

func TestRobustness(t *testing.T) {
	for n := *first; n < *first+*runs; n++ {
		s := pick(n)
		t.Run(fmt.Sprintf("%d,%s", n, s), func(t *testing.T) { runScenario(t, n, s) })
	}
}

// TestRecord judges what a run left behind, as one in which leaders were lost.
func TestRecord(t *testing.T) {
	if *again == "" {
		t.Skip("-record names what to look at")
	}
	all, err := report.LoadClientReports(*again)
	if err != nil {
		t.Fatal(err)
	}
	detail, err := report.LoadTrafficDetail(*again)
	if err != nil {
		t.Fatal(err)
	}
	rec := &recorded{unique: detail.ExpectUniqueRevision}
	for _, r := range all {
		if len(r.Watch) > 0 && r.Watch[0].Request.Key == "" {
			rec.watchers = append(rec.watchers, r)
		} else {
			rec.clients = append(rec.clients, r)
		}
	}
	judge(t, rec)
}

func runScenario(t *testing.T, n int, s scenario) {
	cfg := proc.ClusterConfig{Bin: *flotilla}
	if s.fault.victim == follower {
		// Leaders stay where they are, so that there is a node without any.
		cfg.Args = []string{"--planner=false"}
	}
	if s.fault.net {
		cfg.Net = proc.StartNet(t, 3)
	}
	c := &cluster{rng: rand.New(rand.NewPCG(uint64(n), 1))}
	if s.fault.disk {
		c.disks = proc.SmallDisks(t, 3, diskMegabytes)
		for _, d := range c.disks {
			cfg.Dirs = append(cfg.Dirs, d.Dir)
		}
	}
	c.Cluster = proc.StartCluster(t, cfg)
	// Starting is over when the nodes have found their leaders.
	before, err := c.terms(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rec := record(t, c, n, s)
	if t.Failed() {
		return
	}
	after, err := c.terms(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rec.exact = sameLeaders(before, after)
	t.Logf("%d faults, %d ranges, same leaders: %v", rec.faults, len(after), rec.exact)
	judge(t, rec)
	if t.Failed() && *results != "" {
		rec.save(t, filepath.Join(*results, fmt.Sprint(n)))
	}
}

// recorded is what the clients of a run saw.
type recorded struct {
	clients  []report.ClientReport // those that write and read
	watchers []report.ClientReport // one for each node, of everything
	unique   bool                  // each request writes one key
	exact    bool                  // no leader was lost
	faults   int
}

// record runs the traffic and the faults.
func record(t *testing.T, c *cluster, n int, s scenario) *recorded {
	lg := zaptest.NewLogger(t, zaptest.Level(zap.InfoLevel))
	ctx, cancel := context.WithTimeout(t.Context(), *length+5*time.Minute)
	defer cancel()
	rng := rand.New(rand.NewPCG(uint64(n), 0))
	base, ids := time.Now(), identity.NewIDProvider()
	rec := &recorded{unique: s.load.traffic.ExpectUniqueRevision()}
	injected := make(chan report.FailpointInjection, 1)
	last := make(chan int64, 1)
	trafficSet, watchSet := client.NewSet(ids, base), client.NewSet(ids, base)
	defer trafficSet.Close()
	defer watchSet.Close()

	var g errgroup.Group
	g.Go(func() error {
		defer close(injected)
		done, err := hurt(ctx, c, s.fault, rng)
		rec.faults = done
		if err != nil {
			cancel()
			return err
		}
		injected <- report.FailpointInjection{Name: s.fault.name, Start: time.Second, End: time.Since(base)}
		return nil
	})
	g.Go(func() error {
		defer close(last)
		reports := traffic.SimulateTraffic(ctx, t, lg, c.asEtcd(), s.profile(), s.load.traffic, injected, trafficSet)
		last <- report.OperationsMaxRevision(reports)
		return nil
	})
	g.Go(func() error {
		return client.CollectClusterWatchEvents(ctx, client.CollectClusterWatchEventsParam{
			Lg: lg, Endpoints: c.Endpoints(), MaxRevisionChan: last, ClientSet: watchSet,
		})
	})
	if err := g.Wait(); err != nil {
		t.Error(err)
		return nil
	}
	if err := client.CheckEndOfTestHashKV(ctx, c.asEtcd()); err != nil {
		t.Errorf("the nodes differ: %v", err)
	}
	rec.clients, rec.watchers = trafficSet.Reports(), watchSet.Reports()
	return rec
}

// hurt injects the fault again and again and ends when all is well.
func hurt(ctx context.Context, c *cluster, f fault, rng *rand.Rand) (done int, err error) {
	moves, cancel := context.WithCancel(ctx)
	defer cancel()
	var g errgroup.Group
	g.Go(func() error {
		c.KeepSplitting(moves, rand.New(rand.NewPCG(rng.Uint64(), 0)), rangesMax, time.Second)
		return nil
	})
	if f.transfers {
		g.Go(func() error {
			done = c.KeepTransferring(moves, rand.New(rand.NewPCG(rng.Uint64(), 0)), time.Second)
			return nil
		})
	}
	if f.moves {
		g.Go(func() error {
			done += c.KeepMoving(moves, rand.New(rand.NewPCG(rng.Uint64(), 0)), time.Second)
			return nil
		})
	}
	hits := 0
	for end := time.Now().Add(*length); err == nil && ctx.Err() == nil; {
		wait(ctx, time.Second+time.Duration(rng.Int64N(int64(time.Second))))
		if time.Now().After(end) {
			break
		}
		if f.do == nil {
			continue
		}
		var hit bool
		if hit, err = hurtOnce(ctx, c, f, rng); hit {
			hits++
		}
	}
	cancel()
	_ = g.Wait()
	if f.moves && err == nil {
		ctx, cancel := context.WithTimeout(ctx, wholeTimeout)
		defer cancel()
		err = c.Whole(ctx)
	}
	return done + hits, errors.Join(err, ctx.Err())
}

func hurtOnce(ctx context.Context, c *cluster, f fault, rng *rand.Rand) (hit bool, err error) {
	i, ok, err := c.choose(ctx, f.victim, rng)
	if err != nil || !ok {
		return false, err
	}
	if err := f.do(c, i); err != nil {
		return false, fmt.Errorf("%s %d: %w", f.name, i, err)
	}
	wait(ctx, max(f.least, 100*time.Millisecond)+time.Duration(rng.Int64N(int64(f.hold))))
	if err := f.undo(c, i); err != nil {
		return true, fmt.Errorf("after %s %d: %w", f.name, i, err)
	}
	return true, c.Serving(servingTimeout)
}

// wait lets traffic run; nothing is waited for.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// judge holds what was recorded against etcd's model.
func judge(t *testing.T, rec *recorded) {
	lg := zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel))
	told, err := newHistory(rec.watchers)
	if err != nil {
		t.Error(err)
		return
	}
	clients, watchers := rec.clients, rec.watchers
	var persisted []model.EtcdRequest
	switch whole := told.whole(report.OperationsMaxRevision(rec.clients)); {
	case whole:
		if err := newSources(rec.clients).answered(told); err != nil {
			t.Error(err)
			return
		}
		n := newNumbering(told.used())
		stalled := stalls(rec.clients)
		t.Logf("%d writes, %d gaps, %d transactions stalled", len(n.used), n.gaps(), stalled)
		if rec.exact && n.gaps() > stalled {
			t.Errorf("no leader was lost, %d transactions stalled, and of the revisions below %d there are %d without a write: %v",
				stalled, n.used[len(n.used)-1], n.gaps(), n.missing(10))
		}
		clients, watchers = n.reports(clients), n.reports(watchers)
		if told, err = newHistory(watchers); err != nil {
			t.Fatal(err)
		}
		if persisted, err = told.requests(clients); err != nil {
			t.Error(err)
			return
		}
		if err := told.replayed(persisted); err != nil {
			t.Error(err)
		}
		if clients, err = settle(clients, told); err != nil {
			t.Error(err)
			return
		}
	case !rec.exact:
		t.Log("nothing is checked: compactions were faster than the watches, so nobody knows which revisions have no write")
		return
	}
	result := validate.ValidateAndReturnVisualize(lg, validate.Config{ExpectRevisionUnique: rec.unique},
		slices.Concat(clients, watchers), persisted, *patience)
	if err := result.Error(); err != nil {
		t.Errorf("etcd's validators: %v", err)
	}
}

// save keeps the record of a run that failed.
func (rec *recorded) save(t *testing.T, dir string) {
	r, err := report.NewTestReport(zap.NewNop(), dir, nil, &report.TrafficDetail{ExpectUniqueRevision: rec.unique})
	if err == nil {
		r.SetClientReports(slices.Concat(rec.clients, rec.watchers))
		err = r.SaveEtcdData()
	}
	t.Logf("what clients saw is in %s, %v", dir, err)
}
