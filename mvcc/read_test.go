package mvcc

import (
	"bytes"
	"fmt"
	"math/rand"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/flotilladb/flotilla/internal/keys"
)

func rowsOf(kvs []*mvccpb.KeyValue) []Row {
	var rows []Row
	for _, kv := range kvs {
		rows = append(rows, Row{Key: kv.Key, Value: kv.Value, CreateRevision: kv.CreateRevision,
			ModRevision: kv.ModRevision, Version: kv.Version, Lease: kv.Lease})
	}
	return rows
}

func TestReads(t *testing.T) {
	for seed := range int64(40) {
		rng := rand.New(rand.NewSource(seed))
		w := randomWorld(t, rng, 120)
		g := &generator{rng: rng}
		for range 60 {
			at := Revision(1 + rng.Intn(int(w.rev)+1))
			start, end := g.key(), g.key()
			if rng.Intn(2) == 0 {
				end = nil
			}
			opts := PageOptions{LimitRows: int64(rng.Intn(4)), BytesMax: rng.Intn(3) * 4, KeysOnly: rng.Intn(3) == 0}
			want := w.live(start, end, at)
			if opts.KeysOnly {
				for i := range want {
					want[i].Value, want[i].Lease = nil, 0
				}
			}
			var got []Row
			for next := start; next != nil; {
				page, err := ReadPage(w.eng, next, end, at, opts)
				must(t, err)
				if opts.LimitRows > 0 && int64(len(page.KVs)) > opts.LimitRows {
					t.Fatalf("%d rows in a page of %d", len(page.KVs), opts.LimitRows)
				}
				if page.Next != nil && len(page.KVs) == 0 {
					t.Fatal("an empty page that is not the last")
				}
				got = append(got, rowsOf(page.KVs)...)
				next = page.Next
			}
			checkRows(t, fmt.Sprintf("seed %d: [%q, %q) at %d", seed, start, end, at), got, want)

			kv, err := Get(w.eng, start, at)
			must(t, err)
			point := w.live(start, append(bytes.Clone(start), 0), at)
			if (kv != nil) != (len(point) == 1) || kv != nil && !sameRow(rowsOf([]*mvccpb.KeyValue{kv})[0], point[0]) {
				t.Fatalf("get %q at %d: %v, want %v", start, at, kv, point)
			}
			st := NewEngineStateAt(w.eng, nil, nil, at)
			checkRows(t, "pinned state", scanAll(t, st, start, end, Latest), w.live(start, end, at))
			must(t, st.Close())
		}
	}
}

func TestPageFilter(t *testing.T) {
	w := newWorld(t)
	for i := range 10 {
		_, err := w.do(&pb.PutRequest{Key: fmt.Append(nil, "k", i), Value: []byte("v")})
		must(t, err)
	}
	r := &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l"), MinModRevision: 4, MaxCreateRevision: 8}
	page, err := ReadPage(w.eng, r.Key, r.RangeEnd, w.rev, PageOptions{
		LimitRows: 3, Keep: func(kv *mvccpb.KeyValue) bool { return MatchesFilters(r, kv) },
	})
	must(t, err)
	if len(page.KVs) != 3 || string(page.KVs[0].Key) != "k2" || string(page.Next) != "k5" {
		t.Fatalf("page %v, next %q", page.KVs, page.Next)
	}
}

// Rows that nobody wrote are errors that name the row, wherever they are met.
func TestCorruptRow(t *testing.T) {
	w := newWorld(t)
	_, err := w.do(&pb.PutRequest{Key: []byte("k"), Value: []byte("v")})
	must(t, err)
	b := w.eng.NewBatch()
	b.Set(keys.Version([]byte("k"), 3, 0), []byte{0xff})
	must(t, w.eng.Commit(b, false))
	st := NewEngineState(w.eng, nil, nil)
	defer func() { must(t, st.Close()) }()
	for name, read := range map[string]func() error{
		"get":     func() error { _, err := Get(w.eng, []byte("k"), 3); return err },
		"page":    func() error { _, err := ReadPage(w.eng, nil, nil, 3, PageOptions{}); return err },
		"state":   func() error { _, _, err := st.Get([]byte("k"), Latest); return err },
		"put":     func() error { _, err := w.do(&pb.PutRequest{Key: []byte("k")}); return err },
		"history": func() error { _, err := History(w.eng, HistoryOptions{To: 9, BytesMax: 1 << 20}); return err },
		"hash": func() error {
			_, err := hashAll(w.eng, nil, nil, HashOptions{Revision: 9, Compacted: -1}, 10)
			return err
		},
		"collect": func() error {
			_, _, err := NewCollector(nil, nil, 0, 3).Step(w.eng, w.eng.NewBatch(), CollectBudget{})
			return err
		},
	} {
		c, ok := read().(*CorruptError)
		if !ok || !bytes.Equal(c.Key, keys.Version([]byte("k"), 3, 0)) {
			t.Errorf("%s: %v", name, c)
		}
	}
	if kv, err := Get(w.eng, []byte("k"), 2); err != nil || string(kv.GetValue()) != "v" {
		t.Errorf("the older version: %v, %v", kv, err)
	}
}

func TestFinishRange(t *testing.T) {
	row := func(key string, create, mod, version int64, value string) *mvccpb.KeyValue {
		return &mvccpb.KeyValue{Key: []byte(key), CreateRevision: create, ModRevision: mod, Version: version, Value: []byte(value)}
	}
	for _, c := range []struct {
		name string
		req  *pb.RangeRequest
		keys string
		more bool
	}{
		{"as they are", &pb.RangeRequest{}, "abcd", false},
		{"limit", &pb.RangeRequest{Limit: 2}, "ab", true},
		{"limit is enough", &pb.RangeRequest{Limit: 4}, "abcd", false},
		{"negative limit", &pb.RangeRequest{Limit: -1}, "abcd", false},
		{"descending", &pb.RangeRequest{SortOrder: pb.RangeRequest_DESCEND, Limit: 3}, "dcb", true},
		{"by create revision", &pb.RangeRequest{SortOrder: pb.RangeRequest_ASCEND, SortTarget: pb.RangeRequest_CREATE}, "dcba", false},
		{"by version", &pb.RangeRequest{SortOrder: pb.RangeRequest_DESCEND, SortTarget: pb.RangeRequest_VERSION, Limit: 1}, "c", true},
		{"by value", &pb.RangeRequest{SortOrder: pb.RangeRequest_ASCEND, SortTarget: pb.RangeRequest_VALUE, KeysOnly: true}, "badc", false},
		{"no order but a target: cut by key, then sorted", &pb.RangeRequest{SortTarget: pb.RangeRequest_CREATE, Limit: 2}, "cb", true},
		{"filters", &pb.RangeRequest{MinModRevision: 6, MaxModRevision: 8}, "bcd", false},
		{"filters before the limit", &pb.RangeRequest{MaxCreateRevision: 4, MinCreateRevision: 2, Limit: 1}, "b", true},
		{"count only", &pb.RangeRequest{CountOnly: true, Limit: 1}, "", false},
	} {
		rows := []*mvccpb.KeyValue{row("a", 5, 5, 1, "q"), row("b", 4, 6, 2, "p"), row("c", 3, 7, 4, "z"), row("d", 2, 8, 3, "r")}
		if plan := PlanRange(c.req); plan.Limit > 0 {
			rows = rows[:min(int(plan.Limit), len(rows))]
		}
		resp := FinishRange(c.req, rows, 4, 9)
		var got []byte
		for _, kv := range resp.Kvs {
			got = append(got, kv.Key...)
			if c.req.KeysOnly && kv.Value != nil {
				t.Errorf("%s: %v has a value", c.name, kv)
			}
		}
		if string(got) != c.keys || resp.More != c.more || resp.Count != 4 || resp.Header.Revision != 9 {
			t.Errorf("%s: keys %s, %v", c.name, got, resp)
		}
	}
}
