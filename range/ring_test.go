package ranges

import (
	"math/rand/v2"
	"testing"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// TestRing writes what replicas applied through the ring, step by step, and looks
// after each whether a start would find exactly that. Some go and come again under
// another id; some starts are real ones, after which the ring begins anew.
func TestRing(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		eng := engine.NewMem()
		var ring stepRing
		replicas := make([]*Replica, 1+rng.IntN(12))
		for i := range replicas {
			replicas[i] = &Replica{id: 1, desc: &metapb.Descriptor{RangeId: uint64(i + 1)}}
			b := eng.NewBatch()
			writeApplied(b, replicas[i].desc.ID(), replicas[i].state)
			mustCommit(t, eng, b)
		}
		for range 500 {
			b := eng.NewBatch()
			for i, r := range replicas {
				switch n := rng.IntN(40); {
				case n < 2*i:
					r.state = appliedState{index: r.state.index + 1 + uint64(rng.IntN(300)), term: 1 + uint64(rng.IntN(3)), revision: r.state.revision + 7}
					ring.note(r)
				case n == 39:
					r.gone = true
					if r.ringStep != 0 {
						r.writeState(b)
					}
					next := &Replica{id: r.id + 1, desc: r.desc}
					next.state.index = r.state.index / 2
					replicas[i] = next
				}
			}
			if len(ring.now) > 0 {
				ring.flush(b)
			}
			for _, r := range replicas {
				if r.id > 1 && r.ringStep == 0 && !r.noted {
					writeApplied(b, r.desc.ID(), r.state) // as its snapshot did, after all that the one before it wrote
				}
			}
			mustCommit(t, eng, b)
			got, err := readRing(eng)
			if err != nil {
				t.Fatal(err)
			}
			again := rng.IntN(50) == 0
			for _, r := range replicas {
				own, err := readApplied(eng, r.desc.ID())
				if err != nil {
					t.Fatal(err)
				}
				if st := own.newest(got, r.desc.ID(), r.id); st != r.state {
					t.Fatalf("seed %d: a start finds %+v, applied is %+v", seed, st, r.state)
				}
				if again {
					b := eng.NewBatch()
					writeApplied(b, r.desc.ID(), r.state)
					mustCommit(t, eng, b)
					r.ringStep = 0
				}
			}
			if again {
				ring = stepRing{}
			}
		}
	}
}

func mustCommit(t *testing.T, eng engine.Engine, b engine.Batch) {
	t.Helper()
	if err := eng.Commit(b, false); err != nil {
		t.Fatal(err)
	}
}

func TestRingDamaged(t *testing.T) {
	for _, row := range []string{"", "\x02", "\x01\x01", "\x01\x01\x01\x01\x01", "\x01\x01\x01\x01\x01\x01\xff"} {
		eng := engine.NewMem()
		b := eng.NewBatch()
		b.Set(keys.AppliedStep(3), []byte(row))
		mustCommit(t, eng, b)
		if _, err := readRing(eng); err == nil {
			t.Errorf("%q is taken", row)
		}
	}
}
