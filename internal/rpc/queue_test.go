package rpc

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestQueue runs the scripts of sendQueue. A frame is written as a letter and a
// size: a30 is 30 bytes of the letter.
func TestQueue(t *testing.T) {
	datadriven.Walk(t, "testdata/queue", func(t *testing.T, path string) {
		var q sendQueue
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "new":
				q = sendQueue{}
				q.ordered = d.HasArg("ordered")
				var room, chunk, batch, credit int
				d.ScanArgs(t, "room", &room)
				d.ScanArgs(t, "chunk", &chunk)
				d.ScanArgs(t, "batch", &batch)
				d.ScanArgs(t, "credit", &credit)
				q.bytesMax, q.chunkMax, q.batchMax = int64(room), chunk, batch
				q.begin(int64(credit))
				return ""
			case "push":
				var out strings.Builder
				for _, f := range strings.Fields(d.Input) {
					var n int
					fmt.Sscanf(f[1:], "%d", &n)
					if !q.push([]byte(strings.Repeat(f[:1], n))) {
						fmt.Fprintf(&out, "%s: no room\n", f)
					}
				}
				return out.String() + q.state()
			case "take":
				var out strings.Builder
				var p piece
				for i, n := 0, countArg(t, d); i < n && q.take(&p); i++ {
					out.WriteString(p.String() + "\n")
				}
				return out.String() + q.state()
			case "credit":
				q.credit += int64(countArg(t, d))
				return q.state()
			case "drop":
				return fmt.Sprintf("%d frames lost\n%s", q.drop(), q.state())
			default:
				t.Fatalf("unknown command %s", d.Cmd)
				return ""
			}
		})
	})
}

func countArg(t *testing.T, d *datadriven.TestData) int {
	t.Helper()
	var n int
	d.ScanArgs(t, "n", &n)
	return n
}

func (q *sendQueue) state() string {
	return fmt.Sprintf("waiting=%d turns=%d bytes=%d credit=%d\n",
		q.fifo.len()+q.large.len(), len(q.turns), q.bytes, q.credit)
}

func (p *piece) String() string {
	if p.chunk != nil {
		return fmt.Sprintf("chunk of frame %d: %c%d of %d", p.head.ID, p.chunk[0], len(p.chunk), p.head.Total)
	}
	var names []string
	for _, f := range p.frames {
		names = append(names, fmt.Sprintf("%c%d", f[0], len(f)))
	}
	return "batch " + strings.Join(names, " ")
}

// TestQueueAgainstTwin puts random frames through a queue and an assembler, with
// credit given back late, and compares with what a plain list would deliver.
func TestQueueAgainstTwin(t *testing.T) {
	for seed := range uint64(300) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { runTwin(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

func runTwin(t *testing.T, rng *rand.Rand) {
	ordered := rng.IntN(2) == 0
	const window, chunk = 500, 64
	q := sendQueue{ordered: ordered, bytesMax: 4000, chunkMax: chunk, batchMax: 100}
	q.begin(window)
	asm := assembler{frameMax: 1 << 20}
	var sent, gotSmall, gotLarge []string
	var all []string
	var held, outstanding int64
	deliver := func(f []byte) {
		all = append(all, string(f))
		if len(f) > chunk {
			gotLarge = append(gotLarge, string(f))
		} else {
			gotSmall = append(gotSmall, string(f))
		}
		held += int64(len(f))
	}
	takeOne := func() bool {
		var p piece
		if !q.take(&p) {
			return false
		}
		for _, f := range p.frames {
			outstanding += int64(len(f))
			deliver(f)
		}
		if p.chunk != nil {
			f, charge, err := asm.add(p.head, p.chunk)
			if err != nil {
				t.Fatal(err)
			}
			if outstanding += charge; f != nil {
				deliver(f)
			}
		}
		if most := int64(window + largeTurnsMax*300); outstanding > most {
			t.Fatalf("%d bytes without credit", outstanding)
		}
		return true
	}
	for i := range 400 {
		switch rng.IntN(4) {
		case 0, 1:
			f := fmt.Sprintf("%d:%s", i, strings.Repeat("x", rng.IntN(20)))
			if rng.IntN(4) == 0 {
				f += strings.Repeat("y", rng.IntN(260))
			}
			if q.push([]byte(f)) {
				sent = append(sent, f)
			}
		case 2:
			takeOne()
		case 3:
			n := rng.Int64N(held + 1)
			held, outstanding = held-n, outstanding-n
			q.credit += n
		}
		if q.bytes > q.bytesMax || q.bytes < 0 {
			t.Fatalf("%d bytes wait, at most %d", q.bytes, q.bytesMax)
		}
	}
	for i := 0; len(all) < len(sent); i++ {
		if i > 100_000 {
			t.Fatalf("stuck: %s", q.state())
		}
		takeOne()
		outstanding -= held
		q.credit += held
		held = 0
	}
	if q.bytes != 0 || q.credit != window || asm.bytes != 0 {
		t.Fatalf("at the end: %sin pieces %d", q.state(), asm.bytes)
	}
	want, got := sent, all
	if !ordered {
		want = nil
		for _, f := range sent {
			if len(f) <= chunk {
				want = append(want, f)
			}
		}
		got = gotSmall
		if len(gotSmall)+len(gotLarge) != len(sent) {
			t.Fatalf("%d of %d frames", len(gotSmall)+len(gotLarge), len(sent))
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("order:\n%q\nwant\n%q", got, want)
	}
}
