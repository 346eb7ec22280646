package placement

import (
	"math/rand"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// Whether a ceiling that was not answered in time is in the log is not known. However that
// was, the sequencer goes on when the log does, and no revision is given out twice.
func TestCeilingsOfUnknownOutcome(t *testing.T) {
	rng := rand.New(rand.NewSource(1))
	for round := range 300 {
		sys, high := NewSystem(), metapb.Revision(1)
		now := clock.Time(time.Hour)
		for epoch := uint64(1); epoch < 5; epoch++ {
			s, err := NewSequencer(SequencerConfig{Epoch: epoch, Last: max(1, sys.Ceiling())})
			if err != nil {
				t.Fatal(err)
			}
			step := func(n int64, lost bool) (waits bool) {
				now = now.Add(time.Duration(rng.Intn(40)) * time.Millisecond)
				s.Tick(now)
				var rd SequencerReady
				if n > 0 { // else all stores wait for their answers
					if a, ok := s.Alloc(Ask{N: n}); ok {
						rd.Answers = append(rd.Answers, a)
					}
				}
				for again := true; again; again = rd.Ceiling != nil || len(rd.Answers) > 0 {
					for i := range rd.Answers {
						a := &rd.Answers[i]
						if a.First <= high || s.Last() > sys.Ceiling() {
							t.Fatalf("round %d: %d was given out after %d, under a ceiling of %d", round, a.First, high, sys.Ceiling())
						}
						high = a.First + metapb.Revision(a.N) - 1
					}
					if op := rd.Ceiling; op != nil {
						rows, _, err := sys.Evaluate(op)
						sys.Apply(rows)
						for ticks := rng.Intn(30); lost && ticks > 0; ticks-- { // until it is given up
							now = now.Add(100 * time.Millisecond)
							s.Tick(now)
						}
						if err != nil || lost {
							s.PersistFailed(op)
						} else {
							s.Persisted(op)
						}
					}
					rd = s.Ready()
				}
				return len(s.waiting) > 0
			}
			for range 3 {
				for range rng.Intn(100) {
					step(1+rng.Int63n(300), false)
				}
				for range rng.Intn(20) {
					step(1+rng.Int63n(300), true)
				}
				for range rng.Intn(100) {
					step(0, rng.Intn(3) == 0)
				}
			}
			if step(0, false); step(0, false) {
				t.Fatalf("round %d: epoch %d waits for a ceiling above %d, the log has %d", round, epoch, s.Last(), sys.Ceiling())
			}
		}
	}
}
