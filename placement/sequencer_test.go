package placement

import (
	"errors"
	"fmt"
	"math/rand"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// seqScript drives one sequencer after the other: "new" is a change of leader.
type seqScript struct {
	s        *Sequencer
	now      clock.Time
	ceilings []*CeilingOp // proposed, in order
}

func TestSequencerScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/sequencer", func(t *testing.T, path string) {
		sc := &seqScript{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			return sc.run(t, d) + sc.ready()
		})
	})
}

func num(t *testing.T, d *datadriven.TestData, name string) (n int64) {
	d.MaybeScanArgs(t, name, &n)
	return n
}

func (sc *seqScript) run(t *testing.T, d *datadriven.TestData) string {
	switch d.Cmd {
	case "new":
		s, err := NewSequencer(SequencerConfig{
			Epoch: uint64(num(t, d, "epoch")), Last: metapb.Revision(num(t, d, "last")),
			OneStore: d.HasArg("one-store"), Compacted: -1, AheadMin: num(t, d, "ahead"), UnackedMax: 4,
		})
		if err != nil {
			return err.Error() + "\n"
		}
		sc.s = s
	case "alloc":
		return sc.alloc(t, d)
	case "ack":
		sc.s.Ack(askName(t, d), uint64(num(t, d, "seq")))
	case "persisted":
		sc.s.Persisted(sc.ceilings[num(t, d, "op")-1])
	case "failed":
		sc.s.PersistFailed(sc.ceilings[num(t, d, "op")-1])
	case "applied":
		sc.s.Applied(metapb.Revision(num(t, d, "rev")))
	case "compacted":
		sc.s.Compacted(metapb.Revision(num(t, d, "rev")))
	case "stop":
		sc.s.Stop()
	case "resume":
		sc.s.Resume()
	case "second-store":
		sc.s.EndOneStore()
	case "tick":
		sc.now = sc.now.Add(time.Duration(num(t, d, "ms")) * time.Millisecond)
		sc.s.Tick(sc.now)
	default:
		d.Fatalf(t, "unknown command %s", d.Cmd)
	}
	return ""
}

// askName is that of the ask with a number at a store's range.
func askName(t *testing.T, d *datadriven.TestData) AskName {
	return AskName{
		Store: metapb.StoreID(max(num(t, d, "store"), 1)), StoreStart: uint64(max(num(t, d, "start"), 1)),
		Range: 2, Term: 5, Number: uint64(num(t, d, "number")),
	}
}

func (sc *seqScript) alloc(t *testing.T, d *datadriven.TestData) string {
	a, ok := sc.s.Alloc(Ask{
		Name: askName(t, d), N: num(t, d, "n"), Seq: uint64(num(t, d, "seq")), Epoch: uint64(num(t, d, "seen")),
	})
	if !ok {
		return "waits\n"
	}
	return showAnswer(&a)
}

func showAnswer(a *Answer) string {
	if a.Err != nil {
		return fmt.Sprintf("answer to %d: %v\n", a.Name.Number, a.Err)
	}
	return fmt.Sprintf("answer to %d: first=%d n=%d epoch=%d compacted=%d\n", a.Name.Number, a.First, a.N, a.Epoch, a.Compacted)
}

func (sc *seqScript) ready() string {
	if sc.s == nil {
		return ""
	}
	var b strings.Builder
	rd := sc.s.Ready()
	for i := range rd.Answers {
		b.WriteString(showAnswer(&rd.Answers[i]))
	}
	if rd.Ceiling != nil {
		sc.ceilings = append(sc.ceilings, rd.Ceiling)
		fmt.Fprintf(&b, "propose %d: ceiling=%d exact=%v end-one-store=%v\n",
			len(sc.ceilings), rd.Ceiling.Ceiling, rd.Ceiling.Exact, rd.Ceiling.EndOneStore)
	}
	fmt.Fprintf(&b, "current=%d last=%d waiting=%d stopped=%v\n",
		sc.s.Current(), sc.s.Last(), len(sc.s.waiting), sc.s.Stopped())
	return b.String()
}

// Over random lives of sequencers (crashes, orderly stops, lost proposals) no
// revision is given out twice, and none below one that was given out before.
func TestSequencerNeverRepeats(t *testing.T) {
	rng := rand.New(rand.NewSource(1))
	for round := range 200 {
		durable, high := metapb.Revision(1), metapb.Revision(1)
		given := func(a *Answer) {
			if a.Err != nil || a.N == 0 {
				return
			}
			if a.First <= high {
				t.Fatalf("round %d: %d was given out after %d", round, a.First, high)
			}
			high = a.First + metapb.Revision(a.N) - 1
		}
		for epoch := uint64(1); epoch < 6; epoch++ {
			s, err := NewSequencer(SequencerConfig{Epoch: epoch, Last: durable, AheadMin: 20})
			if err != nil {
				t.Fatal(err)
			}
			var log []*CeilingOp
			for range rng.Intn(60) {
				switch rng.Intn(8) {
				case 0:
					s.Tick(clock.Time(rng.Int63n(int64(10 * time.Second))))
				case 1:
					if rng.Intn(5) == 0 {
						s.Stop()
					} else {
						s.Resume()
					}
				case 2, 3: // an entry of the log is applied: first proposed, first applied
					if len(log) > 0 {
						durable = log[0].Ceiling
						s.Persisted(log[0])
						log = log[1:]
					}
				default:
					if a, ok := s.Alloc(Ask{N: rng.Int63n(9)}); ok {
						given(&a)
					}
				}
				rd := s.Ready()
				for i := range rd.Answers {
					given(&rd.Answers[i])
				}
				if rd.Ceiling != nil {
					log = append(log, rd.Ceiling)
				}
			}
			// The leader is gone. What it proposed may be applied, up to anywhere.
			for range rng.Intn(len(log) + 1) {
				durable, log = log[0].Ceiling, log[1:]
			}
		}
	}
}

func TestSequencerConfig(t *testing.T) {
	for _, cfg := range []SequencerConfig{{}, {Last: 1, AheadMin: -1}, {Last: 1, UnackedMax: -1}} {
		if _, err := NewSequencer(cfg); err == nil {
			t.Errorf("%+v was accepted", cfg)
		}
	}
}

func TestAllocBounds(t *testing.T) {
	s, err := NewSequencer(SequencerConfig{Last: 1, OneStore: true, AskMax: 10})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int64{-1, 11} {
		if a, ok := s.Alloc(Ask{N: n}); !ok || !errors.Is(a.Err, ErrBadAsk) {
			t.Errorf("an ask for %d revisions: %+v", n, a)
		}
	}
}

func BenchmarkAlloc(b *testing.B) {
	for _, one := range []bool{true, false} {
		b.Run(fmt.Sprintf("one-store=%v", one), func(b *testing.B) {
			s, err := NewSequencer(SequencerConfig{Last: 1, OneStore: one, Compacted: -1, AheadMin: 1 << 20})
			if err != nil {
				b.Fatal(err)
			}
			if _, ok := s.Alloc(Ask{N: 1}); !ok { // the first waits for a ceiling
				s.Persisted(s.Ready().Ceiling)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := s.Alloc(Ask{N: 1}); !ok {
					b.Fatal("it waits")
				}
				if s.ready.Ceiling != nil {
					s.Persisted(s.Ready().Ceiling)
				}
			}
		})
	}
}
