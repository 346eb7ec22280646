package node

import (
	"testing"

	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/router"
)

// The value of a sequencer that is gone, refused there and sent on by its router, comes to
// the next leader of the system range before that one's first. Taken, it would be below what
// that one said is current, and who leads after it would give that out a second time.
func TestCeilingOfAnOlderTerm(t *testing.T) {
	r := newCoreRun(t, CoreConfig{})
	ask := func(op *placement.CeilingOp) {
		r.request(&router.SystemRequest{Op: op})
		r.run()
	}
	ask(&placement.CeilingOp{Epoch: r.core.epoch, Number: 1, Ceiling: 1000})
	old := r.core.epoch
	cfg := r.core.cfg
	cfg.StoreStart++
	core, err := NewCore(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.core = core
	r.run()
	if core.epoch <= old {
		t.Fatalf("epoch %d after %d", core.epoch, old)
	}
	ask(&placement.CeilingOp{Epoch: old, Number: 2, Ceiling: 500, Exact: true})
	if got := core.system.Ceiling(); got != 1000 {
		t.Errorf("the ceiling is %d", got)
	}
}
