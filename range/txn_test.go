package ranges

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// noSystem is the system range of a store that has none.
type noSystem struct{}

func (noSystem) Evaluate(any) ([]*cmdpb.Row, any, error) { return nil, nil, nil }
func (noSystem) Apply([]*cmdpb.Row)                      {}
func (noSystem) Reset()                                  {}

// txnScript drives a store as a node's loop would, one command at a time.
type txnScript struct {
	t     *testing.T
	eng   *engine.Mem
	store *Store
	now   clock.Time
	start uint64
	rev   Revision // the sequencer
	ids   uint64
	sends []Send
	// stalled keeps log rows from becoming durable; tokens are those that wait.
	stalled bool
	tokens  []uint64
	keysMax int // of one entry
	out     strings.Builder
	// hook, if set, takes replies before they are shown.
	hook func(peerpb.Reply) bool
}

func (s *txnScript) open() {
	s.start++
	store, err := NewStore(Config{
		NodeID: 1, StoreID: 1, StoreStart: s.start, Reader: s.eng, NewBatch: s.eng.NewBatch, System: noSystem{},
		EntryKeysMax: s.keysMax,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.store = store
	store.Tick(s.now)
	if err := store.Campaign(); err != nil {
		s.t.Fatal(err)
	}
	s.settle()
}

// settle runs the store until it waits for something from outside.
func (s *txnScript) settle() {
	for round := 0; ; round++ {
		if round > 1000 {
			s.t.Fatalf("the store does not come to rest")
		}
		s.store.Evaluate()
		for _, a := range s.store.Asks() {
			g := Grant{Ask: a, First: s.rev + 1, Current: s.rev, Compacted: -1}
			s.rev += Revision(a.N)
			s.store.Granted(g)
		}
		rd, err := s.store.Collect()
		if err != nil {
			s.t.Fatal(err)
		}
		s.commit(rd)
		s.show()
		if !s.store.HasWork() && !s.store.HasOutput() {
			return
		}
	}
}

func (s *txnScript) commit(rd Ready) {
	if rd.Apply != nil {
		if err := s.eng.Commit(rd.Apply, false); err != nil {
			s.t.Fatal(err)
		}
	}
	for _, a := range rd.Applied {
		for _, u := range a.Updates {
			fmt.Fprintf(&s.out, "range %d: %d keys at %d\n", a.Range, len(u.Mutations), u.Revision)
			if s.keysMax > 0 {
				for _, m := range u.Mutations {
					fmt.Fprintf(&s.out, "  %d: %s dead=%v\n", m.Sub, m.Key, m.Tombstone)
				}
			}
		}
	}
	s.store.Advance()
	if rd.Append == nil {
		return
	}
	if err := s.eng.Commit(rd.Append, !s.stalled); err != nil {
		s.t.Fatal(err)
	}
	if s.stalled {
		s.tokens = append(s.tokens, rd.Token)
	} else if err := s.store.Synced(rd.Token); err != nil {
		s.t.Fatal(err)
	}
}

// show prints replies to requests of the script and collects questions.
func (s *txnScript) show() {
	out := s.store.Output()
	for _, rep := range out.Replies {
		if rep.ID == 0 || s.hook != nil && s.hook(rep) {
			continue
		}
		switch b := rep.Body.(type) {
		case *peerpb.Prepared:
			fmt.Fprintf(&s.out, "reply %d: prepared lock=%d", rep.ID, tokenInTerm(b.Lock))
			for i, rows := range b.Rows {
				for _, r := range rows {
					fmt.Fprintf(&s.out, " %d:%s=%s@%d", i, r.Key, r.Value, r.ModRevision)
				}
				if b.Counts[i] > 0 {
					fmt.Fprintf(&s.out, " %d:%d keys", i, b.Counts[i])
				}
			}
			if b.Next != nil {
				fmt.Fprintf(&s.out, " next=%d:%s", b.Next.Access, b.Next.Key)
			}
			s.out.WriteByte('\n')
		case *pb.DeleteRangeResponse:
			fmt.Fprintf(&s.out, "reply %d: %d deleted at %d\n", rep.ID, b.Deleted, b.Header.Revision)
		case *pb.PutResponse:
			fmt.Fprintf(&s.out, "reply %d: put at %d\n", rep.ID, b.Header.Revision)
		case *peerpb.Pushed:
			fmt.Fprintf(&s.out, "reply %d: %v %d\n", rep.ID, b.Status, b.Revision)
		case *peerpb.SplitDone:
			fmt.Fprintf(&s.out, "reply %d: split\n", rep.ID)
		default:
			if rep.Err != nil {
				fmt.Fprintf(&s.out, "reply %d: %v\n", rep.ID, rep.Err)
			} else {
				fmt.Fprintf(&s.out, "reply %d: %s\n", rep.ID, strings.TrimPrefix(fmt.Sprintf("%T", rep.Body), "*peerpb."))
			}
		}
	}
	for _, e := range out.Expired {
		fmt.Fprintf(&s.out, "expired: lease %d\n", e.ID)
	}
	for _, q := range out.Sends {
		s.sends = append(s.sends, q)
		fmt.Fprintf(&s.out, "asks %s: %s\n", keys.FormatAddress(q.Address), strings.TrimPrefix(fmt.Sprintf("%T", q.Body), "*peerpb."))
	}
}

// holder is the replica that holds an address.
func (s *txnScript) holder(addr []byte) *Replica {
	for _, id := range s.store.IDs() {
		if r := s.store.Replica(id); r.Descriptor().Contains(addr) {
			return r
		}
	}
	s.t.Fatalf("no range holds %q", addr)
	return nil
}

func (s *txnScript) request(key string, body peerpb.Body) {
	s.ids++
	d := s.holder(keys.User([]byte(key))).Descriptor()
	fmt.Fprintf(&s.out, "request %d to range %d\n", s.ids, d.RangeId)
	s.store.Request(&peerpb.Request{ID: s.ids, Range: d.ID(), Generation: d.Generation, Body: body})
}

// route carries the store's questions to its own ranges and the answers back.
func (s *txnScript) route() {
	sends := s.sends
	s.sends = nil
	for _, q := range sends {
		d := s.holder(q.Address).Descriptor()
		s.ids++
		s.store.Request(&peerpb.Request{ID: s.ids, Range: d.ID(), Generation: d.Generation, Body: q.Body})
		s.answerTo(q)
	}
}

// answerTo runs the store until it answers the last request, and hands the
// answer to the asker.
func (s *txnScript) answerTo(q Send) {
	for range 20 {
		s.store.Evaluate()
		rd, err := s.store.Collect()
		if err != nil {
			s.t.Fatal(err)
		}
		s.commit(rd)
		for _, rep := range s.store.Output().Replies {
			if rep.ID == s.ids {
				fmt.Fprintf(&s.out, "answer: %+v %v\n", rep.Body, rep.Err)
				rep.ID = q.ID
				s.store.Reply(rep)
				return
			}
		}
	}
	s.t.Fatalf("no answer to %T", q.Body)
}

// tokenInTerm counts the tokens of one leader.
func tokenInTerm(token uint64) uint64 { return token & (firstToken(1) - 1) }

type txnArgs struct {
	key    string
	rev    int
	lock   int // of the leader of now, or of that of term
	term   int
	commit bool
	puts   bool
	id     *txnpb.TxnID
}

func (s *txnScript) args(d *datadriven.TestData) (a txnArgs) {
	var txn, attempt, start int
	attempt, start = 1, 1
	d.MaybeScanArgs(s.t, "key", &a.key)
	d.MaybeScanArgs(s.t, "rev", &a.rev)
	d.MaybeScanArgs(s.t, "lock", &a.lock)
	d.MaybeScanArgs(s.t, "term", &a.term)
	d.MaybeScanArgs(s.t, "commit", &a.commit)
	d.MaybeScanArgs(s.t, "puts", &a.puts)
	d.MaybeScanArgs(s.t, "txn", &txn)
	d.MaybeScanArgs(s.t, "attempt", &attempt)
	d.MaybeScanArgs(s.t, "start", &start)
	a.id = &txnpb.TxnID{StoreId: 1, StoreStart: uint64(start), Number: uint64(txn), Attempt: uint64(attempt)}
	return a
}

func (s *txnScript) run(d *datadriven.TestData) string {
	s.out.Reset()
	a := s.args(d)
	fields := strings.Fields(d.Input)
	switch d.Cmd {
	case "ranges":
		s.keysMax = 0
		d.MaybeScanArgs(s.t, "keys", &s.keysMax)
		s.bootstrap(d.Input)
	case "put":
		s.request(a.key, &peerpb.Write{Req: &pb.PutRequest{Key: []byte(a.key), Value: []byte("v")}})
	case "delete":
		var end string
		d.ScanArgs(s.t, "end", &end)
		s.request(a.key, &peerpb.Write{Req: &pb.DeleteRangeRequest{Key: []byte(a.key), RangeEnd: []byte(end)}})
	case "full":
		s.store.SetFull(true)
	case "prepare":
		acc := parseAccesses(fields)
		for i := range acc {
			acc[i].NeedValues = !acc[i].Deletes
		}
		body := &peerpb.Prepare{Txn: a.id, Accesses: acc, Hold: 50 * time.Millisecond, Puts: a.puts}
		if d.HasArg("from") {
			var from string
			d.ScanArgs(s.t, "from", &body.From.Access, &from)
			body.From.Key, body.Lock = []byte(from), firstToken(s.holder(keys.User([]byte(firstKey(fields[0])))).leading)+uint64(a.lock)
		}
		s.request(firstKey(fields[0]), body)
	case "intents":
		s.rev = max(s.rev, Revision(a.rev))
		if a.term == 0 {
			a.term = int(s.holder(keys.User([]byte(firstKey(fields[0])))).leading)
		}
		intents := testIntents(a.id, int64(a.rev), fields)
		if a.key != "" {
			for _, in := range intents {
				in.Intent.Anchor = keys.User([]byte(a.key))
			}
		}
		s.request(firstKey(fields[0]), &peerpb.WriteIntents{
			Txn: a.id, Lock: firstToken(uint64(a.term)) + uint64(a.lock), Revision: Revision(a.rev), Intents: intents,
		})
	case "record":
		rec := &txnpb.Record{Id: a.id, Status: txnpb.RecordStatus_COMMITTED, Revision: int64(a.rev)}
		for _, f := range fields {
			rec.IntentAddresses = append(rec.IntentAddresses, keys.User([]byte(f)))
		}
		s.request(fields[0], &peerpb.WriteRecord{Anchor: rec.IntentAddresses[0], Record: rec})
	case "push":
		s.request(a.key, &peerpb.Push{Txn: a.id, Anchor: keys.User([]byte(a.key))})
	case "resolve":
		s.request(a.key, &peerpb.Resolve{Txn: a.id, Commit: a.commit})
	case "release":
		s.request(a.key, &peerpb.Release{Txn: a.id})
	case "forget":
		s.request(a.key, &peerpb.Forget{Txn: a.id, Anchor: keys.User([]byte(a.key))})
	case "close":
		s.request(a.key, &peerpb.Close{S: Revision(a.rev), Spans: []metapb.Span{keys.UserKeySpan([]byte(a.key))}})
	case "split":
		s.request(a.key, &peerpb.Split{At: keys.User([]byte(a.key)), RightID: metapb.RangeID(a.rev)})
	case "change":
		s.request(a.key, &peerpb.ChangeReplicas{Learner: 2, Node: 2})
	case "tick":
		var ms int
		d.ScanArgs(s.t, "ms", &ms)
		s.now = s.now.Add(time.Duration(ms) * time.Millisecond)
		s.store.Tick(s.now)
	case "route":
		s.route()
	case "stall":
		s.stalled = true
	case "sync":
		s.sync()
		s.stalled = d.HasArg("once")
	case "sync-one": // what was handed out first; the rest goes on waiting
		s.syncOne()
	case "restart":
		s.eng = s.eng.Crash(func(int) int { return 0 })
		s.sends, s.tokens, s.stalled = nil, nil, false
		s.open()
		return s.out.String() + s.state()
	case "show":
		return s.state()
	default:
		d.Fatalf(s.t, "unknown command %s", d.Cmd)
	}
	s.settle()
	return s.out.String()
}

func (s *txnScript) sync() {
	s.stalled = false
	for len(s.tokens) > 0 {
		s.syncOne()
	}
}

func (s *txnScript) syncOne() {
	if err := s.eng.Flush(); err != nil {
		s.t.Fatal(err)
	}
	token := s.tokens[0]
	s.tokens = s.tokens[1:]
	if err := s.store.Synced(token); err != nil {
		s.t.Fatal(err)
	}
}

func (s *txnScript) bootstrap(input string) {
	s.eng = engine.NewMem()
	b := s.eng.NewBatch()
	for _, line := range strings.Split(strings.TrimSpace(input), "\n") {
		d := &metapb.Descriptor{Generation: 1, NextReplicaId: 2,
			Replicas: []*metapb.Replica{{ReplicaId: 1, StoreId: 1, NodeId: 1}}}
		var start, end string
		fmt.Sscan(line, &d.RangeId, &start, &end)
		d.Start, d.End = []byte(strings.Trim(start, "-")), []byte(strings.Trim(end, "-"))
		if err := Bootstrap(b, d, 1); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := s.eng.Commit(b, true); err != nil {
		s.t.Fatal(err)
	}
	s.rev, s.now = 1, clock.Time(time.Second)
	s.open()
}

// state shows what the engine and the replicas hold of transactions, and the
// newest versions of all keys.
func (s *txnScript) state() string {
	var b strings.Builder
	for _, id := range s.store.IDs() {
		r := s.store.Replica(id)
		locks := r.locks.String()
		if locks != "nothing\n" {
			fmt.Fprintf(&b, "range %d:\n%s", id, locks)
		}
		for _, span := range []keys.Span{keys.IntentSpan(r.desc.Span()), keys.RecordSpan(r.desc.Span())} {
			err := scanRows(s.eng, span, func(key, _ []byte) error {
				fmt.Fprintf(&b, "%s\n", keys.Format(key))
				return nil
			})
			if err != nil {
				s.t.Fatal(err)
			}
		}
	}
	st := mvcc.NewEngineState(s.eng, nil, nil)
	defer st.Close()
	err := st.Scan(nil, nil, mvcc.Latest, func(row *mvcc.Row) bool {
		fmt.Fprintf(&b, "%s=%s@%d\n", row.Key, row.Value, row.ModRevision)
		return true
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return b.String()
}

func TestTxnScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/txn", func(t *testing.T, path string) {
		s := &txnScript{t: t}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.t = t
			return s.run(d)
		})
	})
}
