package router

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/effort"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/lease"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// desc makes a descriptor of addresses for tests.
func desc(id, generation uint64, start, end string) *metapb.Descriptor {
	return &metapb.Descriptor{RangeId: id, Generation: generation, Start: []byte(start), End: []byte(end)}
}

// errorsByName are what a script's range may answer.
var errorsByName = map[string]error{
	"unknown":    peerpb.ErrUnknown,
	"refused":    peerpb.ErrRefused,
	"notleader":  peerpb.ErrNotLeader,
	"notfound":   peerpb.ErrRangeNotFound,
	"overloaded": peerpb.ErrOverloaded,
	"diskfull":   peerpb.ErrDiskFull,
	"locklost":   peerpb.ErrLockLost,
	"aborted":    peerpb.ErrTxnAborted,
	"needstxn":   peerpb.ErrNeedsTxn,
	"nolease":    peerpb.ErrLeaseNotFound,
	"nomark":     peerpb.ErrMarkMissing,
	"exists":     lease.ErrExists,
	"compacted":  placement.ErrCompacted,
	"toolarge":   peerpb.ErrTooLarge,
}

// script drives a Router. Sends and asks are numbered in the order they were
// handed out, and each is shown with its number.
type script struct {
	r     *Router
	now   clock.Time
	next  uint64 // client's request
	sends []*peerpb.Request
	asks  []placement.Ask
}

func TestOpScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/op", func(t *testing.T, path string) {
		r, err := New(Config{Store: 1, StoreStart: 7, RequestTimeout: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		s := &script{r: r}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.run(t, d)
			return s.ready()
		})
	})
}

func (s *script) run(t *testing.T, d *datadriven.TestData) {
	switch d.Cmd {
	case "ranges":
		s.r.Descriptors(parseDescs(d.Input))
	case "put", "delete", "compact", "close", "split", "address":
		s.next++
		s.r.Request(s.next, s.request(t, d), s.now)
	case "txn":
		s.next++
		s.r.Request(s.next, parseTxn(d.Input), s.now)
	case "reply":
		s.r.Reply(s.reply(t, d), s.now)
	case "grant":
		var n, rev int64
		d.ScanArgs(t, "ask", &n)
		a := placement.Answer{Name: s.asks[n-1].Name}
		if d.HasArg("rev") {
			d.ScanArgs(t, "rev", &rev)
			a.First = metapb.Revision(rev)
		} else {
			a.Err = placement.ErrStopped
		}
		s.r.Granted(a, s.now)
	case "tick":
		var ms int
		d.ScanArgs(t, "ms", &ms)
		s.now = s.now.Add(time.Duration(ms) * time.Millisecond)
		s.r.Tick(s.now)
	case "led":
		var id int
		d.ScanArgs(t, "range", &id)
		s.r.Led([]metapb.RangeID{metapb.RangeID(id)}, s.now)
	case "stop":
		s.r.Stop()
	default:
		d.Fatalf(t, "unknown command %s", d.Cmd)
	}
}

func (s *script) request(t *testing.T, d *datadriven.TestData) any {
	var key, end string
	d.MaybeScanArgs(t, "key", &key)
	d.MaybeScanArgs(t, "end", &end)
	var rev int64
	d.MaybeScanArgs(t, "rev", &rev)
	switch d.Cmd {
	case "put":
		return &pb.PutRequest{Key: []byte(key)}
	case "delete":
		return &pb.DeleteRangeRequest{Key: []byte(key), RangeEnd: []byte(end)}
	case "compact":
		return &pb.CompactionRequest{Revision: rev}
	case "split":
		return &SplitRequest{Key: []byte(key)}
	case "address":
		return &AddressRequest{Address: []byte(key), Body: &peerpb.Push{Anchor: []byte(key)}}
	}
	return &CloseTicket{S: metapb.Revision(rev), Span: metapb.Span{Start: []byte(key), End: []byte(end)}}
}

func (s *script) reply(t *testing.T, d *datadriven.TestData) peerpb.Reply {
	var n int
	var name string
	d.ScanArgs(t, "send", &n)
	req := s.sends[n-1]
	rep := peerpb.Reply{ID: req.ID}
	d.MaybeScanArgs(t, "err", &name)
	switch {
	case name == "moved":
		rep.Err = &peerpb.MovedError{Range: req.Range, Newer: parseDescs(d.Input)}
		return rep
	case name == "no-leader":
		rep.Err = &peerpb.NotLeaderError{Range: req.Range}
		return rep
	case name != "":
		rep.Err = errorsByName[name]
		if rep.Err == nil {
			d.Fatalf(t, "unknown error %s", name)
		}
		return rep
	}
	switch b := req.Body.(type) {
	case *peerpb.Write:
		rep.Body = &pb.PutResponse{Header: &pb.ResponseHeader{Revision: 5}}
	case *peerpb.Close:
		rep.Body = &peerpb.Closed{S: b.S}
	case *peerpb.Split:
		descs := parseDescs(d.Input)
		rep.Body = &peerpb.SplitDone{Split: true, Left: descs[0], Right: descs[1]}
	case *peerpb.System:
		switch b.Op.(type) {
		case *placement.AllocIDsOp:
			rep.Body = &placement.AllocIDsReply{First: 40}
		default:
			rep.Body = &placement.CompactReply{}
		}
	default:
		rep.Body = &peerpb.Done{}
	}
	return rep
}

// ready shows what the router wants, and what it holds.
func (s *script) ready() string {
	var b strings.Builder
	rd := s.r.Ready()
	for _, req := range rd.Sends {
		s.sends = append(s.sends, req)
		fmt.Fprintf(&b, "send %d: range %d gen %d %s\n", len(s.sends), req.Range, req.Generation, showBody(req.Body))
	}
	for _, ask := range rd.Asks {
		s.asks = append(s.asks, ask)
		fmt.Fprintf(&b, "ask %d: n=%d store=%d.%d\n", len(s.asks), ask.N, ask.Name.Store, ask.Name.StoreStart)
	}
	for _, res := range rd.Results {
		if res.Err != nil {
			fmt.Fprintf(&b, "result %d: %v\n", res.ID, res.Err)
		} else {
			fmt.Fprintf(&b, "result %d: %T\n", res.ID, res.Resp)
		}
	}
	fmt.Fprintf(&b, "live=%d underway=%d", s.r.Len(), len(s.r.slots)-len(s.r.free))
	if at := s.r.NextTick(); at != 0 && s.r.Len() > 0 {
		fmt.Fprintf(&b, " tick=+%v", at.Sub(s.now))
	}
	return b.String() + "\n"
}

func showBody(body peerpb.Body) string {
	switch b := body.(type) {
	case *peerpb.Write:
		return fmt.Sprintf("write %T", b.Req)
	case *peerpb.Close:
		return fmt.Sprintf("close s=%d %s", b.S, showSpan(b.Spans[0]))
	case *peerpb.Split:
		return fmt.Sprintf("split at=%s right=%d", keys.FormatAddress(b.At), b.RightID)
	case *peerpb.System:
		return fmt.Sprintf("system %T%+v", b.Op, b.Op)
	}
	return showTxnBody(body)
}

func showSpan(s metapb.Span) string { return fmt.Sprintf("[%s,%s)", s.Start, s.End) }

// parseDescs reads lines "id generation start end", "-" for an empty end.
func parseDescs(input string) (descs []*metapb.Descriptor) {
	for _, line := range strings.Split(strings.TrimSpace(input), "\n") {
		var id, generation uint64
		var start, end string
		if n, _ := fmt.Sscan(line, &id, &generation, &start, &end); n == 4 {
			descs = append(descs, desc(id, generation, strings.Trim(start, "-"), strings.Trim(end, "-")))
		}
	}
	return descs
}

// parseTxn reads lines "compare|put|delete|range key [end]"; operations are of
// the success branch.
func parseTxn(input string) *pb.TxnRequest {
	req := &pb.TxnRequest{}
	for _, line := range strings.Split(strings.TrimSpace(input), "\n") {
		f := append(strings.Fields(line), "", "")
		key, end := []byte(f[1]), []byte(f[2])
		switch f[0] {
		case "compare":
			req.Compare = append(req.Compare, &pb.Compare{Key: key, RangeEnd: end})
		case "put":
			req.Success = append(req.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: key}}})
		case "touch": // a key that must be there
			req.Success = append(req.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{
				RequestPut: &pb.PutRequest{Key: key, IgnoreValue: true}}})
		case "delete":
			req.Success = append(req.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{
				RequestDeleteRange: &pb.DeleteRangeRequest{Key: key, RangeEnd: end}}})
		case "range":
			req.Success = append(req.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestRange{
				RequestRange: &pb.RangeRequest{Key: key, RangeEnd: end}}})
		}
	}
	return req
}

func TestConfigValidate(t *testing.T) {
	for _, tc := range []struct {
		name string
		cfg  Config
		ok   bool
	}{
		{"defaults", Config{Store: 1}, true},
		{"no store", Config{}, false},
		{"negative", Config{Store: 1, OpsMax: -1}, false},
		{"delays swapped", Config{Store: 1, RetryDelayMin: time.Hour}, false},
	} {
		if _, err := New(tc.cfg); (err == nil) != tc.ok {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

// A reply that comes twice, or after its op ended, is nobody's.
func TestLateRepliesMatchNothing(t *testing.T) {
	r, _ := New(Config{Store: 1, OpsMax: 2})
	r.Descriptors([]*metapb.Descriptor{desc(2, 1, "l", "")})
	r.Request(1, &pb.PutRequest{Key: []byte("a")}, 1)
	first := r.Ready().Sends[0].ID
	r.Reply(peerpb.Reply{ID: first, Body: &pb.PutResponse{}}, 2)
	r.Request(2, &pb.PutRequest{Key: []byte("b")}, 3)
	second := r.Ready().Sends[0].ID
	if first == second {
		t.Fatal("two requests have one id")
	}
	r.Reply(peerpb.Reply{ID: first, Body: &pb.PutResponse{}}, 4)
	if rd := r.Ready(); len(rd.Results) != 0 || r.Len() != 1 {
		t.Fatalf("a second reply to the first request was taken: %v", rd.Results)
	}
	for _, bad := range []uint64{0, second + 1, second + 1<<slotBits} {
		r.Reply(peerpb.Reply{ID: bad}, 4)
	}
	r.Request(3, &pb.PutRequest{Key: []byte("c")}, 5)
	r.Request(4, &pb.PutRequest{Key: []byte("d")}, 5)
	if rd := r.Ready(); len(rd.Results) != 1 || !errors.Is(rd.Results[0].Err, ErrTooManyRequests) {
		t.Fatalf("the bound does not hold: %v", rd.Results)
	}
}

// The sends and results of one Ready are not written over by the next.
func TestReadySlicesLiveForTwo(t *testing.T) {
	r, _ := New(Config{Store: 1})
	r.Descriptors([]*metapb.Descriptor{desc(2, 1, "l", "")})
	r.Request(1, &pb.PutRequest{Key: []byte("a")}, 1)
	one := r.Ready()
	id := one.Sends[0].ID
	r.Request(2, &pb.PutRequest{Key: []byte("b")}, 1)
	if two := r.Ready(); one.Sends[0].ID != id || two.Sends[0].ID == id {
		t.Fatal("a Ready was overwritten by the next")
	}
}

func benchRouter(b *testing.B, ranges int) *Router {
	r, err := New(Config{Store: 1})
	if err != nil {
		b.Fatal(err)
	}
	start := "l"
	for i := range ranges {
		end := fmt.Sprintf("u%03d", i+1)
		if i == ranges-1 {
			end = ""
		}
		r.Descriptors([]*metapb.Descriptor{desc(uint64(i+2), 1, start, end)})
		start = end
	}
	return r
}

func BenchmarkPut(b *testing.B) {
	for _, ranges := range []int{1, 64} {
		b.Run(fmt.Sprintf("ranges=%d", ranges), func(b *testing.B) {
			r := benchRouter(b, ranges)
			reqs := make([]*pb.PutRequest, 64)
			for i := range reqs {
				reqs[i] = &pb.PutRequest{Key: []byte(fmt.Sprintf("%03dx", i*7%64))}
			}
			resp := &pb.PutResponse{}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				r.Request(1, reqs[i%64], 1)
				rd := r.Ready()
				r.Reply(peerpb.Reply{ID: rd.Sends[0].ID, Body: resp}, 1)
				if rd := r.Ready(); len(rd.Results) != 1 {
					b.Fatal("no result")
				}
			}
		})
	}
}

func BenchmarkTxnOneRange(b *testing.B) {
	r := benchRouter(b, 64)
	req := parseTxn("compare 010a\nput 010a\nrange 010a")
	resp := &pb.TxnResponse{}
	b.ReportAllocs()
	for b.Loop() {
		r.Request(1, req, 1)
		rd := r.Ready()
		r.Reply(peerpb.Reply{ID: rd.Sends[0].ID, Body: resp}, 1)
		r.Ready()
	}
}

// What the node itself needs to end what is under way is taken while it stops.
func TestOwnRequestsPassWhileStopping(t *testing.T) {
	r, err := New(Config{Store: 1, StoreStart: 1})
	if err != nil {
		t.Fatal(err)
	}
	r.Descriptors([]*metapb.Descriptor{desc(uint64(metapb.SystemRange), 1, "", "b")})
	r.Stop()
	r.Request(1, &SystemRequest{Op: &placement.CeilingOp{}}, 1)
	r.RequestOwn(2, &SystemRequest{Op: &placement.CeilingOp{}}, 1)
	rd := r.Ready()
	if len(rd.Results) != 1 || rd.Results[0].ID != 1 || !errors.Is(rd.Results[0].Err, ErrStopping) {
		t.Errorf("results %v, want the client's request refused", rd.Results)
	}
	if len(rd.Sends) != 1 {
		t.Errorf("%d requests sent, want the node's own", len(rd.Sends))
	}
}

// When very many requests without an answer have no time left in the same moment, the loop
// of their node does not stand still: each ends in its own time, however many others wait.
func TestTimeoutsOfMany(t *testing.T) {
	effort.Linear(t, 1<<12, 1<<16, func(n int) func() {
		r, err := New(Config{Store: 1})
		if err != nil {
			t.Fatal(err)
		}
		r.Descriptors([]*metapb.Descriptor{desc(2, 1, "", "")})
		for i := range n {
			r.Request(uint64(i), &pb.PutRequest{Key: []byte("k")}, 1)
		}
		r.Ready()
		return func() {
			r.Tick(clock.Time(8 * time.Second))
			if got := len(r.Ready().Results); got != n || r.Len() != 0 {
				t.Errorf("%d of %d are answered, %d are left", got, n, r.Len())
			}
		}
	})
}

// An op that ends gives back all that it has under way, whatever was answered before.
func TestAbandonFreesAll(t *testing.T) {
	r, err := New(Config{Store: 1})
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	ops := []op{&pageOp{}, &pageOp{}, &pageOp{}}
	open := map[uint64]op{}
	for range 20_000 {
		o := ops[rng.IntN(len(ops))]
		switch n := rng.IntN(10); {
		case n < 6:
			open[r.put(o, 0)] = o
		case n < 9:
			for id, of := range open {
				if got, _, ok := r.take(id); !ok || got != of {
					t.Fatalf("request %x is not its op's", id)
				}
				delete(open, id)
				break
			}
		default:
			r.abandon(o)
			maps.DeleteFunc(open, func(_ uint64, of op) bool { return of == o })
		}
		under := 0
		for _, o := range ops {
			under += o.base().slots
		}
		if under != len(open) || len(r.slots)-len(r.free) != len(open) {
			t.Fatalf("%d are under way, %d by the ops' count, %d by the places'", len(open), under, len(r.slots)-len(r.free))
		}
	}
}

// What was decided for one generation of a range is asked of no other: who asks has to look at
// the range again.
func TestAddressRequestForOneGeneration(t *testing.T) {
	r, err := New(Config{Store: 1})
	if err != nil {
		t.Fatal(err)
	}
	old, newer := desc(2, 1, "", ""), desc(2, 2, "", "")
	r.Descriptors([]*metapb.Descriptor{old})
	refused := func(id uint64) {
		t.Helper()
		rd := r.Ready()
		if len(rd.Sends) != 0 || len(rd.Results) != 1 || rd.Results[0].ID != id || !errors.Is(rd.Results[0].Err, peerpb.ErrMoved) {
			t.Errorf("sends %v, results %v, want that the range has moved", rd.Sends, rd.Results)
		}
	}
	r.Request(1, &AddressRequest{Address: old.Start, Body: &peerpb.ChangeReplicas{}, Decided: old}, 1)
	sends := r.Ready().Sends
	if len(sends) != 1 || sends[0].Generation != old.Generation {
		t.Fatalf("sends %v", sends)
	}
	r.Reply(peerpb.Reply{ID: sends[0].ID, Err: &peerpb.MovedError{Range: 2, Newer: []*metapb.Descriptor{newer}}}, 1)
	refused(1)
	if got := r.Find(2); got.Generation != newer.Generation {
		t.Errorf("generation %d is known", got.Generation)
	}
	r.Request(2, &AddressRequest{Address: old.Start, Body: &peerpb.ChangeReplicas{}, Decided: old}, 1)
	refused(2)
}
