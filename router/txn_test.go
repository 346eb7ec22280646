package router

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

func showTxn(id *txnpb.TxnID) string { return fmt.Sprintf("%d/%d", id.Number, id.Attempt) }

func showTxnBody(body peerpb.Body) string {
	switch b := body.(type) {
	case *peerpb.Prepare:
		var parts []string
		for _, a := range b.Accesses {
			kind := "read"
			switch {
			case a.Deletes:
				kind = "delete"
			case a.Write:
				kind = "write"
			}
			parts = append(parts, fmt.Sprintf("%s[%s,%s)", kind, a.Start, strings.ReplaceAll(string(a.End), "\x00", "+")))
		}
		if b.Revoke != nil {
			return fmt.Sprintf("prepare %s revoke %d home=%v", showTxn(b.Txn), b.Revoke.ID, b.Revoke.Home)
		}
		if len(b.Uses) > 0 {
			parts = append(parts, "uses "+showUses(b.Uses))
		}
		from := ""
		if b.Lock != 0 {
			from = fmt.Sprintf(" lock=%d from %d:%q", b.Lock, b.From.Access, b.From.Key)
		}
		return fmt.Sprintf("prepare %s hold=%v%s %s", showTxn(b.Txn), b.Hold, from, strings.Join(parts, " "))
	case *peerpb.WriteIntents:
		var parts []string
		for _, in := range b.Intents {
			part := keys.FormatAddress(in.Address)
			for _, m := range in.Intent.Mutations {
				part += fmt.Sprintf(" %d:%q create=%d version=%d dead=%v", m.Sub, m.Value, m.CreateRevision, m.Version, m.Tombstone)
			}
			for _, del := range in.Intent.Deletes {
				end := strings.ReplaceAll(string(del.End), "\x00", "+")
				part += fmt.Sprintf(" delete [%s,%s) %d from %d", del.Start, end, del.Count, del.Sub)
				if del.Lease != 0 {
					part += fmt.Sprintf(" of lease %d", del.Lease)
				}
			}
			for _, row := range in.Intent.DeletedRows {
				part += " deletes " + keys.FormatAddress(row)
			}
			if in.Intent.Marks != nil {
				part += fmt.Sprintf(" marks %v", in.Intent.Marks)
			}
			parts = append(parts, part)
		}
		return fmt.Sprintf("intents %s rev=%d lock=%d {%s}", showTxn(b.Txn), b.Revision, b.Lock, strings.Join(parts, "} {"))
	case *peerpb.WriteRecord:
		var parts []string
		for _, a := range b.Record.IntentAddresses {
			parts = append(parts, keys.FormatAddress(a))
		}
		return fmt.Sprintf("record %s %v rev=%d %s", showTxn(b.Record.Id), b.Record.Status, b.Record.Revision, strings.Join(parts, " "))
	case *peerpb.Push:
		if b.Txn == nil {
			break
		}
		return fmt.Sprintf("push %s at %s", showTxn(b.Txn), keys.FormatAddress(b.Anchor))
	case *peerpb.Resolve:
		return fmt.Sprintf("resolve %s commit=%v", showTxn(b.Txn), b.Commit)
	case *peerpb.Release:
		return fmt.Sprintf("release %s", showTxn(b.Txn))
	case *peerpb.Forget:
		return fmt.Sprintf("forget %s", showTxn(b.Txn))
	}
	return showLeaseBody(body)
}

// txnScript adds to script what only transactions get.
func (s *script) runTxn(t *testing.T, d *datadriven.TestData) {
	var n, rev, lock int
	var status string
	d.MaybeScanArgs(t, "send", &n)
	d.MaybeScanArgs(t, "rev", &rev)
	switch d.Cmd {
	case "prepared": // rows: "access key value mod", all created at mod; "access count"
		d.MaybeScanArgs(t, "lock", &lock)
		known := 40
		d.MaybeScanArgs(t, "known", &known)
		req := s.sends[n-1]
		accesses := req.Body.(*peerpb.Prepare).Accesses
		p := &peerpb.Prepared{
			Rows: make([][]peerpb.Row, len(accesses)), Counts: make([]int64, len(accesses)),
			Lock: uint64(lock), Compacted: -1, Known: metapb.Revision(known),
		}
		if d.HasArg("next") {
			p.Next = &peerpb.Cursor{}
			var key string
			d.ScanArgs(t, "next", &p.Next.Access, &key)
			p.Next.Key = []byte(key)
		}
		for _, line := range strings.Split(strings.TrimSpace(d.Input), "\n") {
			var i, mod int
			var key, value string
			var count int64
			if f := strings.Fields(line); len(f) == 2 {
				fmt.Sscan(line, &i, &count)
				p.Counts[i] = count
			} else if c, _ := fmt.Sscan(line, &i, &key, &value, &mod); c == 4 {
				p.Rows[i] = append(p.Rows[i], peerpb.Row{
					Key: []byte(key), Value: []byte(value), CreateRevision: int64(mod), ModRevision: int64(mod), Version: 1,
				})
			}
		}
		s.r.Reply(peerpb.Reply{ID: req.ID, Body: p}, s.now)
	case "late": // the range closed at rev
		s.r.Reply(peerpb.Reply{ID: s.sends[n-1].ID, Err: &peerpb.RefusedRevisionError{Closed: metapb.Revision(rev)}}, s.now)
	case "pushed":
		d.ScanArgs(t, "status", &status)
		s.r.Reply(peerpb.Reply{ID: s.sends[n-1].ID, Body: &peerpb.Pushed{
			Status: txnpb.RecordStatus(txnpb.RecordStatus_value[status]), Revision: metapb.Revision(rev),
		}}, s.now)
	default:
		s.run(t, d)
	}
}

func TestTxnScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/txn", func(t *testing.T, path string) {
		r, err := New(Config{Store: 1, StoreStart: 7, RequestTimeout: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		s := &script{r: r}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.runTxn(t, d)
			return s.ready()
		})
	})
}

// fakeRanges answers a router's requests about transactions as well-behaved
// ranges with nothing in them would, all that are sent at once after a time.
func fakeRanges(r *Router, rev *metapb.Revision, now clock.Time, takes time.Duration) (results []Result, sends int) {
	for sends < 10_000 {
		rd := r.Ready()
		now = now.Add(takes)
		if rd.Empty() {
			return results, sends
		}
		results = append(results, rd.Results...)
		sends += len(rd.Sends)
		for _, req := range rd.Sends {
			rep := peerpb.Reply{ID: req.ID, Body: &peerpb.Done{}}
			switch p := req.Body.(type) {
			case *peerpb.Write: // one cannot answer it
				rep.Body, rep.Err = nil, peerpb.ErrNeedsTxn
			case *peerpb.Prepare:
				rep.Body = &peerpb.Prepared{Rows: make([][]peerpb.Row, len(p.Accesses)), Counts: make([]int64, len(p.Accesses)), Compacted: -1, Known: *rev}
			}
			r.Reply(rep, now)
		}
		for _, ask := range rd.Asks {
			*rev += metapb.Revision(ask.N)
			r.Granted(placement.Answer{Name: ask.Name, First: *rev, N: ask.N, Compacted: -1}, now)
		}
	}
	return results, sends
}

// spreadTxn puts ten keys over eight ranges.
func spreadTxn() *pb.TxnRequest {
	req := &pb.TxnRequest{}
	for i := range 10 {
		req.Success = append(req.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{
			RequestPut: &pb.PutRequest{Key: fmt.Appendf(nil, "%03dx", i*8%64), Value: make([]byte, 64)}}})
	}
	return req
}

// A transaction costs a range four messages, and one more for record and Forget.
func TestTxnMessages(t *testing.T) {
	r, err := New(Config{Store: 1})
	if err != nil {
		t.Fatal(err)
	}
	r.Descriptors([]*metapb.Descriptor{desc(2, 1, "l", "u3"), desc(3, 1, "u3", "u6"), desc(4, 1, "u6", "")})
	rev := metapb.Revision(9)
	r.Request(1, parseTxn("put 1\nput 4\nput 7"), 1)
	results, sends := fakeRanges(r, &rev, 1, 0)
	if len(results) != 1 || results[0].Err != nil || sends != 3*3+2 || r.Len() != 0 {
		t.Fatalf("results %v, %d sends, %d left", results, sends, r.Len())
	}
	if got := results[0].Resp.(*pb.TxnResponse).Header.Revision; got != 10 {
		t.Fatalf("header %d, want 10", got)
	}
}

// A transaction over ranges whose spans are all empty has no locks to give back: it is answered
// all the same, and with an error too.
func TestTxnWithoutKeys(t *testing.T) {
	empty := func(rev int64) *pb.TxnRequest {
		return &pb.TxnRequest{
			Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("z"), RangeEnd: []byte("a"), Revision: rev}}}},
			Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte("z"), RangeEnd: []byte("a")}}}},
		}
	}
	for _, at := range []struct {
		rev  int64
		want error
	}{{0, nil}, {9, nil}, {10, mvcc.ErrFutureRevision}, {11, mvcc.ErrFutureRevision}} {
		r, err := New(Config{Store: 1})
		if err != nil {
			t.Fatal(err)
		}
		r.Descriptors([]*metapb.Descriptor{desc(2, 1, "l", "u3"), desc(3, 1, "u3", "")})
		now := metapb.Revision(9)
		r.Request(1, empty(at.rev), 1)
		results, _ := fakeRanges(r, &now, 1, 0)
		if len(results) != 1 || !errors.Is(results[0].Err, at.want) || r.Len() != 0 {
			t.Errorf("at revision %d of 9: results %v, want the error %v; %d left", at.rev, results, at.want, r.Len())
		}
	}
}

// Where it takes longer to tell all ranges that a transaction lives than until they are to be
// told again, it goes on all the same, from range to range.
func TestTouchesThatTakeLong(t *testing.T) {
	r, err := New(Config{Store: 1, TouchEvery: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	r.Descriptors([]*metapb.Descriptor{desc(2, 1, "l", "u3"), desc(3, 1, "u3", "u6"), desc(4, 1, "u6", "")})
	rev := metapb.Revision(9)
	r.Request(1, parseTxn("put 1\nput 4\nput 7"), 1)
	results, sends := fakeRanges(r, &rev, 1, 20*time.Millisecond)
	if len(results) != 1 || results[0].Err != nil || sends != 3*3+2+1+2+3 {
		t.Fatalf("results %v, %d sends", results, sends)
	}
}

// Who waits for its revision, since the sequencer moves, has its ranges hold closing back all
// along, but not for ever: it may be cut off from the sequencer alone.
func TestHoldsWhileTheSequencerMoves(t *testing.T) {
	r, ask, now := holdsWhileAsking(t, parseTxn("put 1\nput 4"))
	r.Granted(placement.Answer{Name: ask.Name, First: 10, N: 1, Compacted: -1}, now)
	rd := r.Ready()
	for _, req := range rd.Sends {
		if body, ok := req.Body.(*peerpb.WriteIntents); !ok || body.Revision != 10 || body.Lock != 5 {
			t.Fatalf("sent %+v", req.Body)
		}
	}
	if len(rd.Sends) != 2 || r.Len() != 1 {
		t.Fatalf("%d sends, %d operations", len(rd.Sends), r.Len())
	}
}

// So does who waits for what is current, to know whether it reads a revision that is there.
func TestHoldsWhileItAsksWhatIsCurrent(t *testing.T) {
	req := parseTxn("put 1\nput 4\nrange 1")
	req.Success[2].GetRequestRange().Revision = 9
	r, ask, now := holdsWhileAsking(t, req)
	r.Granted(placement.Answer{Name: ask.Name, First: 9, Compacted: -1}, now)
	if rd := r.Ready(); ask.N != 0 || len(rd.Asks) != 1 || rd.Asks[0].N != 1 {
		t.Fatalf("after %+v it asks %+v", ask, rd.Asks)
	}
}

// holdsWhileAsking has a transaction over two ranges wait for the sequencer for two seconds.
// Both have to be told, again and again, that it lives, for about the first of them.
func holdsWhileAsking(t *testing.T, txn *pb.TxnRequest) (r *Router, ask placement.Ask, now clock.Time) {
	t.Helper()
	r, err := New(Config{Store: 1})
	if err != nil {
		t.Fatal(err)
	}
	r.Descriptors([]*metapb.Descriptor{desc(2, 1, "l", "u3"), desc(3, 1, "u3", "")})
	now = 1
	r.Request(1, txn, now)
	heard := map[metapb.RangeID]clock.Time{} // when a range was told last
	var asked clock.Time                     // 0: not yet
	for ; asked == 0 || now.Before(asked.Add(2*time.Second)); now = now.Add(5 * time.Millisecond) {
		r.Tick(now)
		rd := r.Ready()
		for _, req := range rd.Sends {
			body, ok := req.Body.(*peerpb.Prepare)
			if !ok {
				t.Fatalf("sent %T", req.Body)
			}
			heard[req.Range] = now
			r.Reply(peerpb.Reply{ID: req.ID, Body: &peerpb.Prepared{
				Rows: make([][]peerpb.Row, len(body.Accesses)), Counts: make([]int64, len(body.Accesses)), Lock: 5, Compacted: -1,
			}}, now)
		}
		if len(rd.Asks) > 0 {
			ask, asked = rd.Asks[0], now
		}
		for id, at := range heard {
			if asked != 0 && now.Before(asked.Add(900*time.Millisecond)) && !now.Before(at.Add(50*time.Millisecond)) {
				t.Fatalf("range %d: not told for %v", id, now.Sub(at))
			}
		}
	}
	for id, at := range heard {
		if at.After(asked.Add(1050 * time.Millisecond)) {
			t.Fatalf("range %d: told still after %v", id, at.Sub(asked))
		}
	}
	return r, ask, now
}

// Whatever single answer goes wrong, the client gets exactly one result, the
// operation ends, and no attempt is committed after another was.
func TestTxnAnyAnswerFails(t *testing.T) {
	failures := []error{
		peerpb.ErrNotLeader, peerpb.ErrRangeNotFound, peerpb.ErrRefused, peerpb.ErrOverloaded, peerpb.ErrUnknown,
		peerpb.ErrLockLost, peerpb.ErrTxnAborted, peerpb.ErrDiskFull, &peerpb.MovedError{},
		&peerpb.RefusedRevisionError{Closed: 30}, errors.New("engine"),
	}
	for at := range 16 {
		for _, failure := range failures {
			checkOneFailure(t, at, failure)
		}
	}
}

func checkOneFailure(t *testing.T, at int, failure error) {
	r, err := New(Config{Store: 1})
	if err != nil {
		t.Fatal(err)
	}
	r.Descriptors([]*metapb.Descriptor{desc(2, 1, "l", "u3"), desc(3, 1, "u3", "u6"), desc(4, 1, "u6", "")})
	rev, now, n := metapb.Revision(9), clock.Time(1), 0
	name := fmt.Sprintf("answer %d is %v", at, failure)
	r.Request(1, parseTxn("put 1\nput 4\nput 7"), now)
	results, recorded := 0, map[uint64]bool{}
	for round := 0; r.Len() > 0; round++ {
		if round > 1000 {
			t.Fatalf("%s: it does not end", name)
		}
		rd := r.Ready()
		results += len(rd.Results)
		for _, req := range rd.Sends {
			rep := peerpb.Reply{ID: req.ID, Body: &peerpb.Done{}}
			switch b := req.Body.(type) {
			case *peerpb.Prepare:
				rep.Body = &peerpb.Prepared{Rows: make([][]peerpb.Row, len(b.Accesses)), Counts: make([]int64, len(b.Accesses)), Compacted: -1, Known: rev}
			case *peerpb.Push:
				rep.Body = &peerpb.Pushed{Status: txnpb.RecordStatus_ABORTED}
			}
			if n == at {
				rep.Body, rep.Err = nil, failure
			} else if b, ok := req.Body.(*peerpb.WriteRecord); ok {
				recorded[b.Record.Id.Attempt] = true
			}
			n++
			r.Reply(rep, now)
		}
		for _, ask := range rd.Asks {
			rev += metapb.Revision(ask.N)
			r.Granted(placement.Answer{Name: ask.Name, First: rev, N: ask.N, Compacted: -1}, now)
		}
		if rd.Empty() {
			now = now.Add(10 * time.Millisecond)
			r.Tick(now)
		}
	}
	results += len(r.Ready().Results)
	if results != 1 || len(recorded) > 1 {
		t.Fatalf("%s: %d results, attempts with a record: %v", name, results, recorded)
	}
}

// What intents take is not more than it is reckoned to be, also where one key is long.
func TestIntentBytes(t *testing.T) {
	const most = math.MaxUint64 >> 8
	o := &txnOp{id: &txnpb.TxnID{StoreId: most, StoreStart: most, Number: most, Attempt: most}, rev: most}
	for _, lengths := range [][]int{{1 << 14, 1, 1, 1}, {1, 1 << 14, 1}, {1000, 1000}} {
		var muts []*txnpb.Mutation
		for i, n := range lengths {
			muts = append(muts, &txnpb.Mutation{
				Key: append([]byte{byte(i)}, make([]byte, n)...), Value: make([]byte, 100), Sub: math.MaxUint32, Lease: -1, Existed: true, PrevLease: -1,
			})
		}
		p, sent := &txnPart{}, 0
		for _, m := range muts {
			o.intent(p, o.anchorOf(muts, nil), m.Key).Mutations = []*txnpb.Mutation{m}
		}
		for _, in := range p.intents {
			sent += in.SizeVT() + 4
		}
		if n := intentBytes(muts, nil); n < sent {
			t.Errorf("keys of %v bytes are reckoned as %d, and take %d", lengths, n, sent)
		}
	}
}

// A transaction that looks at more than it may is refused, and gives its locks
// back.
func TestTxnTooLarge(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  Config
		req  any
	}{
		{"it shows too much", Config{Store: 1, TxnRowsBytesMax: 1000},
			&pb.DeleteRangeRequest{Key: []byte("1"), RangeEnd: []byte("9"), PrevKv: true}},
		{"it names too many keys", Config{Store: 1, TxnDeletesMax: 3}, parseTxn("delete 1 9\ndelete 2 3")},
		{"the keys that it names are too long", Config{Store: 1, TxnIntentBytesMax: 300}, parseTxn("delete 1 9\ndelete 2 3")},
	} {
		r, err := New(c.cfg)
		if err != nil {
			t.Fatal(err)
		}
		r.Descriptors([]*metapb.Descriptor{desc(2, 1, "l", "u3"), desc(3, 1, "u3", "")})
		r.Request(1, c.req, 1)
		var results []Result
		released := map[metapb.RangeID]bool{}
		prepares := map[metapb.RangeID]bool{}
		for round := 0; r.Len() > 0 && round < 100; round++ {
			rd := r.Ready()
			results = append(results, rd.Results...)
			for _, req := range rd.Sends {
				rep := peerpb.Reply{ID: req.ID, Body: &peerpb.Done{}}
				switch b := req.Body.(type) {
				case *peerpb.Prepare:
					p := &peerpb.Prepared{Rows: make([][]peerpb.Row, len(b.Accesses)), Counts: make([]int64, len(b.Accesses)), Compacted: -1, Known: 9}
					for i := range 5 {
						p.Rows[0] = append(p.Rows[0], peerpb.Row{Key: fmt.Appendf(nil, "%d%d", req.Range, i), Value: make([]byte, 100)})
					}
					prepares[req.Range], p.Counts[0], rep.Body = true, 5, p
				case *peerpb.Release:
					released[req.Range] = true
				}
				r.Reply(rep, 1)
			}
			if len(rd.Asks) > 0 {
				t.Fatalf("%s: it asks for a revision", c.name)
			}
		}
		results = append(results, r.Ready().Results...)
		if len(results) != 1 || !errors.Is(results[0].Err, ErrTooLarge) || len(prepares) == 0 || len(prepares) != len(released) {
			t.Fatalf("%s: %v, prepared %v, released %v", c.name, results, prepares, released)
		}
	}
}

func BenchmarkTxnEightRanges(b *testing.B) {
	r := benchRouter(b, 64)
	req := spreadTxn()
	rev := metapb.Revision(9)
	b.ReportAllocs()
	for b.Loop() {
		r.Request(1, req, 1)
		if results, _ := fakeRanges(r, &rev, 1, 0); len(results) != 1 || results[0].Err != nil {
			b.Fatalf("%v", results)
		}
	}
}
