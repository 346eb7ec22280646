package placement

import (
	"math/rand"
	"slices"
	"testing"

	"github.com/flotilladb/flotilla/internal/effort"
	"github.com/flotilladb/flotilla/proto/metapb"
)

func askOf(id int) Ask {
	return Ask{Name: AskName{Store: 1, StoreStart: 1, Range: metapb.RangeID(id), Term: 1, Number: 1}, N: 1}
}

func answerTo(a *Ask, epoch uint64) *Answer {
	return &Answer{Name: a.Name, Seq: a.Seq, First: 2, N: a.N, Epoch: epoch}
}

// All ranges of a store ask in one frame: that all are answered takes no time in which the
// store does nothing else, in whatever order the answers come.
func TestAskerOfMany(t *testing.T) {
	for name, turn := range map[string]func([]Ask){
		"in order": func([]Ask) {},
		"backward": slices.Reverse[[]Ask],
		"all but the first": func(a []Ask) {
			first := a[0]
			a[copy(a, a[1:])] = first
		},
	} {
		t.Run(name, func(t *testing.T) {
			effort.Linear(t, 1<<12, 1<<16, func(asks int) func() {
				var a Asker
				for i := range asks {
					a.Add(askOf(i + 1))
				}
				sent := a.Next()
				turn(sent)
				return func() {
					for i := range sent {
						if !a.Answered(answerTo(&sent[i], 1)) {
							t.Fatalf("answer %d does not count", i)
						}
					}
					if !a.Idle() {
						t.Error("something is under way still")
					}
				}
			})
		})
	}
}

// What is sent again is what is not answered, in order; an answer counts once, and what
// the asker says of how far it has answers is true.
func TestAskerRandom(t *testing.T) {
	for seed := range int64(200) {
		rng := rand.New(rand.NewSource(seed))
		var a Asker
		var open, old []Ask // as sent; answered before
		waiting, asked, epoch := 0, 0, uint64(1)
		for range 200 {
			switch rng.Intn(6) {
			case 0:
				asked++
				waiting++
				a.Add(askOf(asked))
			case 1:
				if next := a.Next(); (len(next) > 0) != (len(open) == 0 && waiting > 0) {
					t.Fatalf("seed %d: %d are sent, %d were under way and %d waited", seed, len(next), len(open), waiting)
				} else if len(next) > 0 {
					open, waiting = next, 0
				}
			case 2:
				epoch += uint64(rng.Intn(2))
				a.Saw(epoch)
			default:
				if len(open) > 0 {
					i := rng.Intn(len(open))
					if epoch > 1 && a.Answered(answerTo(&open[i], epoch-1)) {
						t.Fatalf("seed %d: an answer of an older epoch counts", seed)
					}
					if !a.Answered(answerTo(&open[i], epoch)) {
						t.Fatalf("seed %d: ask %d is under way, its answer does not count", seed, open[i].Seq)
					}
					old = append(old, open[i])
					open = slices.Delete(open, i, i+1)
				}
				if len(old) > 0 && a.Answered(answerTo(&old[rng.Intn(len(old))], epoch)) {
					t.Fatalf("seed %d: an answer counts twice", seed)
				}
			}
			again := a.Again()
			same := func(a, b Ask) bool { return a.Name == b.Name && a.Seq == b.Seq }
			if !slices.EqualFunc(again, open, same) {
				t.Fatalf("seed %d: sent again are %v, under way %v", seed, again, open)
			}
			if a.Idle() != (len(open)+waiting == 0) || a.HasNext() != (len(open) == 0 && waiting > 0) {
				t.Fatalf("seed %d: idle %v, has a next %v; %d are under way and %d wait", seed, a.Idle(), a.HasNext(), len(open), waiting)
			}
			if upTo := a.AnsweredUpTo(); len(open) > 0 && upTo != open[0].Seq-1 || len(open) == 0 && upTo != uint64(asked-waiting) {
				t.Fatalf("seed %d: answered up to %d", seed, upTo)
			}
		}
	}
}
