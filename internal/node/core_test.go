package node

import (
	"testing"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/range"
	"github.com/flotilladb/flotilla/router"
)

// coreRun drives a core on an engine in memory, as a node's loop does.
type coreRun struct {
	t       testing.TB
	eng     *engine.Mem
	core    *Core
	ids     uint64
	now     clock.Time
	results map[uint64]router.Result
	applied int // changes
}

func newCoreRun(t testing.TB, cfg CoreConfig) *coreRun {
	return newCoreRunOn(t, cfg, func(r engine.Reader) engine.Reader { return r })
}

// newCoreRunOn has the core read through what wrap makes of the engine.
func newCoreRunOn(t testing.TB, cfg CoreConfig, wrap func(engine.Reader) engine.Reader) *coreRun {
	eng := engine.NewMem()
	eng.DriveSyncs()
	ident, err := Identify(eng, "test")
	if err != nil {
		t.Fatal(err)
	}
	start, err := NextStart(eng)
	if err != nil {
		t.Fatal(err)
	}
	cfg.NodeID, cfg.StoreID, cfg.StoreStart = 1, 1, start
	if ident.StoreId != 1 {
		t.Fatalf("store id %d", ident.StoreId)
	}
	cfg.Reader, cfg.NewBatch = wrap(eng), eng.NewBatch
	core, err := NewCore(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r := &coreRun{t: t, eng: eng, core: core, results: make(map[uint64]router.Result)}
	r.run()
	if !core.Serving() {
		t.Fatal("the core does not serve")
	}
	return r
}

// step takes one Ready through the engine.
func (r *coreRun) step() {
	rd, err := r.core.Ready()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, a := range rd.Applied {
		for _, u := range a.Updates {
			r.applied += len(u.Mutations)
		}
	}
	if rd.Apply != nil {
		if err := r.eng.Commit(rd.Apply, false); err != nil {
			r.t.Fatal(err)
		}
	}
	r.core.Advance(&rd)
	r.core.Store().Touched(func(*ranges.Replica) {})
	for _, res := range rd.Results {
		if _, ok := r.results[res.ID]; ok {
			r.t.Fatalf("request %d has two results", res.ID)
		}
		r.results[res.ID] = res
	}
	if rd.Append == nil {
		return
	}
	err = r.eng.CommitAsync(rd.Append, func(err error) {
		if err == nil {
			err = r.core.Synced(rd.Token)
		}
		if err != nil {
			r.t.Fatal(err)
		}
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// run steps until nothing is left to do.
func (r *coreRun) run() {
	for round := 0; r.core.HasReady() || r.eng.PendingSyncs() > 0; round++ {
		if round > 10000 {
			r.t.Fatal("the core does not come to rest")
		}
		if r.core.HasReady() {
			r.step()
		} else {
			r.eng.CompleteSync(1)
		}
	}
}

func (r *coreRun) request(req any) uint64 {
	r.ids++
	r.core.Request(r.ids, req)
	return r.ids
}

func (r *coreRun) tick(d clock.Time) {
	r.now += d
	r.core.Tick(r.now)
	r.run()
}

// A split that is applied when the node stops already has something to tell the
// directory, which no request can any more. That must not keep the loop.
func TestSplitWhileStopping(t *testing.T) {
	r := newCoreRun(t, CoreConfig{})
	id := r.request(&router.SplitRequest{Key: []byte("m")})
	for range 100 { // until the range has got the split
		r.step()
		if r.eng.PendingSyncs() > 0 {
			break
		}
	}
	r.core.Stop()
	r.run()
	if res, ok := r.results[id]; !ok || res.Err != nil {
		t.Errorf("split: %+v %v", res, ok)
	}
	if n := len(r.core.Store().IDs()); n != 3 {
		t.Fatalf("%d ranges, want 3", n)
	}
}

// A router that is full takes no report either. It comes again later, and the
// loop goes on meanwhile.
func TestDirectoryIsToldLater(t *testing.T) {
	r := newCoreRun(t, CoreConfig{})
	d := r.core.Store().Replica(DataRange).Descriptor()
	r.core.reporting = &placement.DirectoryOp{Descriptors: []*metapb.Descriptor{d}}
	r.core.reported(router.ErrTooManyRequests)
	if r.core.HasReady() {
		t.Error("the directory is told again at once")
	}
	r.tick(clock.Time(reportDelay))
	if len(r.core.report) != 0 || r.core.reporting != nil {
		t.Errorf("the directory was not told: %v", r.core.report)
	}
}
