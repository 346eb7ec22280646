package mvcc

import (
	"math/rand"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// waiting is what an overlay holds, the slow way.
type waiting struct {
	batch uint64
	rev   Revision
	muts  []*txnpb.Mutation
}

// An overlay over an engine reads like an engine to which everything was
// applied, whatever was added, applied and dropped.
func TestOverlay(t *testing.T) {
	for seed := range int64(40) {
		rng := rand.New(rand.NewSource(seed))
		g := &generator{rng: rng}
		w := newWorld(t)
		o := NewOverlay()
		var held []waiting
		batch, next := uint64(0), Revision(2)
		for range 150 {
			switch k := rng.Intn(10); {
			case k < 5:
				batch += uint64(rng.Intn(2))
				if batch == 0 {
					batch = 1
				}
				g.rev = int64(next)
				req := g.write()
				if Validate(req, 128) != nil {
					continue
				}
				st := NewEngineState(w.eng, nil, nil)
				env := Env{Revision: next, Known: next - 1, Compacted: -1, Lease: leaseState}
				res, err := Evaluate(o.Over(st), env, req)
				must(t, st.Close())
				if err != nil || !res.Changed {
					continue
				}
				o.Add(batch, next, res.Mutations)
				held = append(held, waiting{batch, next, res.Mutations})
				next++
			case k < 7 && len(held) != 0:
				upTo := held[0].batch
				for len(held) != 0 && held[0].batch <= upTo {
					w.apply(held[0].rev, held[0].muts)
					held = held[1:]
				}
				o.Applied(upTo)
			case k < 8 && len(held) != 0 && rng.Intn(3) == 0:
				from := held[rng.Intn(len(held))].batch
				for len(held) != 0 && held[len(held)-1].batch >= from {
					held = held[:len(held)-1]
				}
				o.Drop(from)
				batch++ // a batch number is not used again
			}
			checkOverlay(t, w, o, held, next, rng)
		}
		if len(held) == 0 && !o.Empty() {
			t.Fatal("an overlay of nothing is not empty")
		}
		if o.Drop(0); !o.Empty() || o.BytesHeld() != 0 || o.tree.Len() != 0 {
			t.Fatalf("after dropping all: %d bytes, %d keys", o.BytesHeld(), o.tree.Len())
		}
	}
}

func checkOverlay(t *testing.T, w *world, o *Overlay, held []waiting, next Revision, rng *rand.Rand) {
	t.Helper()
	all := &world{t: t, versions: append([]Version(nil), w.versions...)}
	for _, h := range held {
		for _, m := range h.muts {
			v := Version{Key: m.Key, Revision: h.rev, Sub: m.Sub, Value: Value{Tombstone: m.Tombstone}}
			if !m.Tombstone {
				v.Value = Value{Create: Revision(m.CreateRevision), Version: m.Version, Lease: m.Lease, Raw: m.Value}
			}
			all.versions = append(all.versions, v)
		}
	}
	g := &generator{rng: rng}
	at := Latest
	if rng.Intn(2) == 0 {
		at = max(next-1-Revision(rng.Intn(6)), 1)
	}
	start, end := g.key(), g.key()
	if rng.Intn(2) == 0 {
		end = nil
	}
	st := NewEngineState(w.eng, nil, nil)
	st.DeadMax = rng.Intn(3) // scans pause
	defer func() { must(t, st.Close()) }()
	o.ResetTouched()
	want := all.live(start, end, at)
	checkRows(t, "scan", scanAll(t, o.Over(st), start, end, at), want)
	// What was touched is the newest batch that the read had a version of.
	var touched uint64
	for _, h := range held {
		for _, m := range h.muts {
			if h.rev <= at && string(m.Key) >= string(start) && (end == nil || string(m.Key) < string(end)) && newestAt(held, m.Key, at) == h.batch {
				touched = max(touched, h.batch)
			}
		}
	}
	if o.Touched() != touched {
		t.Fatalf("touched %d, want %d", o.Touched(), touched)
	}
	accesses := []Access{{Start: start, End: end, Revision: at, NeedValues: true}}
	var paged []Row
	for next := (&peerpb.Cursor{}); next != nil; {
		page, err := CollectRows(o.Over(st), accesses, *next, Budget{RowsMax: 1 + rng.Intn(3), BytesMax: 1 << 20})
		must(t, err)
		paged, next = append(paged, page.Rows[0]...), page.Next
	}
	checkRows(t, "pages", paged, want)
	row, ok, err := o.Over(st).Get(start, at)
	must(t, err)
	point := all.live(start, append(append([]byte(nil), start...), 0), at)
	if ok != (len(point) == 1) || ok && !sameRow(row, point[0]) {
		t.Fatalf("get %q at %d: %v, %v, want %v", start, at, row, ok, point)
	}
}

func newestAt(held []waiting, key []byte, at Revision) (batch uint64) {
	for _, h := range held {
		for _, m := range h.muts {
			if string(m.Key) == string(key) && h.rev <= at {
				batch = h.batch
			}
		}
	}
	return batch
}

// A batch's open revisions are above all known ones until they are filled in.
func TestOverlayFill(t *testing.T) {
	o := NewOverlay()
	base := NewRowsState()
	put := func(batch uint64, rev Revision, key string) *txnpb.Mutation {
		m := &txnpb.Mutation{Key: []byte(key), CreateRevision: int64(rev), Version: 1}
		o.Add(batch, rev, []*txnpb.Mutation{m})
		return m
	}
	put(1, 7, "a")
	m := put(2, OpenRevision, "a")
	put(2, OpenRevision+1, "b")
	get := func(key string, at Revision) int64 {
		row, _, err := o.Over(base).Get([]byte(key), at)
		must(t, err)
		return row.ModRevision
	}
	if got := [3]int64{get("a", 100), get("b", 100), get("a", Latest)}; got != [3]int64{7, 0, int64(OpenRevision)} {
		t.Fatalf("before: %v", got)
	}
	o.Fill(2, 20)
	if got := [3]int64{get("a", 100), get("b", 100), get("a", 19)}; got != [3]int64{20, 21, 7} {
		t.Fatalf("after: %v", got)
	}
	if m.CreateRevision != 20 {
		t.Fatalf("mutation: %v", proto.Message(m))
	}
	o.Applied(1)
	if get("a", 19) != 0 {
		t.Fatal("an applied effect is still seen under a newer one")
	}
}
