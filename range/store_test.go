package ranges

import (
	"fmt"
	"slices"
	"strconv"
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
)

// counterSystem is a system range that counts: an operation "next" takes the
// next number, "get" tells the last one taken.
type counterSystem struct{ applied, proposed int }

func (c *counterSystem) Evaluate(op any) ([]*cmdpb.Row, any, error) {
	c.proposed = max(c.proposed, c.applied)
	if op == "next" {
		c.proposed++
		row := &cmdpb.Row{Address: keys.System("counter"), Value: []byte(strconv.Itoa(c.proposed))}
		return []*cmdpb.Row{row}, c.proposed, nil
	}
	return nil, c.proposed, nil
}

func (c *counterSystem) Apply(rows []*cmdpb.Row) {
	for _, row := range rows {
		c.applied, _ = strconv.Atoi(string(row.Value))
	}
}

func (c *counterSystem) Reset() { c.proposed = 0 }

// storeScript drives a store and prints what comes out. Unlike a node's loop it
// stops wherever the script wants.
type storeScript struct {
	t      *testing.T
	cfg    Config
	eng    *engine.Mem
	store  *Store
	system *counterSystem
	now    clock.Time
	issued Revision // by the sequencer
	floor  Revision // where the sequencer began
	epoch  uint64
	seqOff bool // asks wait for the script
	asks   []Ask
	ids    uint64
	names  map[uint64]string // requests that have no reply yet
	rd     *Ready            // collected, not committed
	tokens []uint64          // committed, not synced
	out    strings.Builder
}

func (s *storeScript) printf(format string, args ...any) { fmt.Fprintf(&s.out, format, args...) }

// must ends the test if err is not nil.
func (s *storeScript) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// bootstrap begins with the system range and one range for all else.
func (s *storeScript) bootstrap(replicas int) {
	s.eng = engine.NewMem()
	s.eng.DriveSyncs()
	border := []byte{byte(keys.KindLease)}
	b := s.eng.NewBatch()
	for _, d := range []*metapb.Descriptor{{RangeId: 1, End: border}, {RangeId: 2, Start: border}} {
		d.Generation, d.NextReplicaId = 1, uint64(replicas)+1
		for i := range uint64(replicas) {
			d.Replicas = append(d.Replicas, &metapb.Replica{ReplicaId: i + 1, StoreId: i + 1, NodeId: i + 1})
		}
		s.must(Bootstrap(b, d, 1))
	}
	s.must(s.eng.Commit(b, true))
	s.issued, s.floor, s.epoch = 1, 1, 1
	s.open()
}

// open starts a store on what the engine has.
func (s *storeScript) open() {
	s.system = &counterSystem{}
	if row, c, err := s.eng.Get(keys.Row(keys.System("counter"))); err == nil {
		s.system.applied, _ = strconv.Atoi(string(row))
		c.Close()
	}
	cfg := s.cfg
	cfg.NodeID, cfg.StoreID, cfg.StoreStart = 1, 1, 1
	cfg.Reader, cfg.NewBatch, cfg.System = s.eng, s.eng.NewBatch, s.system
	store, err := NewStore(cfg)
	s.must(err)
	s.store, s.rd, s.tokens, s.asks = store, nil, nil, nil
	s.names = make(map[uint64]string)
	store.Tick(s.now)
	s.must(store.Campaign())
}

// evaluate runs the store's evaluation, and the sequencer if it is on.
func (s *storeScript) evaluate() {
	for {
		s.store.Evaluate()
		s.replies()
		asks := s.store.Asks()
		s.asks = append(s.asks, asks...)
		if s.seqOff || len(asks) == 0 {
			return
		}
		s.grantAll()
	}
}

func (s *storeScript) grantAll() {
	asks := s.asks
	s.asks = nil
	for _, a := range asks {
		s.store.Granted(s.grant(a))
	}
	s.replies()
}

func (s *storeScript) grant(a Ask) Grant {
	g := Grant{Ask: a, First: s.issued + 1, Current: s.current(), Epoch: s.epoch, Compacted: -1}
	s.issued += Revision(a.N)
	return g
}

func (s *storeScript) current() Revision { return max(s.floor, s.store.Visible()) }

func (s *storeScript) collect() {
	rd, err := s.store.Collect()
	s.must(err)
	s.rd = &rd
}

// advance commits what was collected.
func (s *storeScript) advance() {
	rd := s.rd
	s.rd = nil
	if rd.Apply != nil {
		s.must(s.eng.Commit(rd.Apply, false))
	}
	s.store.Advance()
	if rd.Append != nil {
		token := rd.Token
		s.tokens = append(s.tokens, token)
		s.must(s.eng.CommitAsync(rd.Append, func(error) { s.must(s.store.Synced(token)) }))
	}
	s.replies()
	s.store.Touched(func(*Replica) {})
}

func (s *storeScript) sync() bool {
	if s.eng.PendingSyncs() == 0 {
		return false
	}
	s.tokens = s.tokens[1:]
	s.eng.CompleteSync(1)
	return true
}

// run drives the store until nothing is left to do but for the sequencer's
// answers, if it is off. It looks only where the store says that there is work,
// as a node's loop does: a wakeup that is lost leaves a request without a reply.
func (s *storeScript) run() {
	for round := 0; s.store.HasWork() || s.store.HasOutput() || s.eng.PendingSyncs() > 0; round++ {
		if round > 10000 {
			s.t.Fatal("the store does not come to rest")
		}
		s.evaluate()
		s.collect()
		s.advance()
		if !s.store.HasWork() {
			s.sync()
		}
	}
}

func (s *storeScript) replies() {
	out := s.store.Output()
	for _, rep := range out.Replies {
		name := s.names[rep.ID]
		if name == "" && rep.ID != 0 {
			name = fmt.Sprintf("SECOND REPLY to %d", rep.ID)
		}
		delete(s.names, rep.ID)
		if rep.ID != 0 {
			s.printf("%s: %s\n", name, formatReply(rep))
		}
	}
	for _, d := range out.Descriptors {
		s.printf("descriptor: %s\n", formatDescriptor(d))
	}
}

func formatReply(rep peerpb.Reply) string {
	if rep.Err != nil {
		var moved *peerpb.MovedError
		if asMoved(rep.Err, &moved) {
			var ids []string
			for _, d := range moved.Newer {
				ids = append(ids, formatDescriptor(d))
			}
			return "moved, newer " + strings.Join(ids, ", ")
		}
		return rep.Err.Error()
	}
	switch b := rep.Body.(type) {
	case *peerpb.SplitDone:
		return fmt.Sprintf("split %v", b.Split)
	case *peerpb.Closed:
		return fmt.Sprintf("closed at %d", b.S)
	case *pb.PutResponse:
		return fmt.Sprintf("put at %d", b.Header.Revision)
	case *pb.DeleteRangeResponse:
		return fmt.Sprintf("deleted %d, header %d", b.Deleted, b.Header.Revision)
	case *pb.TxnResponse:
		text := fmt.Sprintf("succeeded %v, header %d", b.Succeeded, b.Header.Revision)
		for _, op := range b.Responses {
			if r := op.GetResponseRange(); r != nil {
				for _, kv := range r.Kvs {
					text += fmt.Sprintf(", %s=%s mod %d", kv.Key, kv.Value, kv.ModRevision)
				}
			}
		}
		return text
	}
	return fmt.Sprintf("%v", rep.Body)
}

func asMoved(err error, target **peerpb.MovedError) bool {
	m, ok := err.(*peerpb.MovedError)
	*target = m
	return ok
}

func formatDescriptor(d *metapb.Descriptor) string {
	end := "end"
	if len(d.End) != 0 {
		end = keys.FormatAddress(d.End)
	}
	return fmt.Sprintf("r%d [%s, %s) generation %d", d.RangeId, keys.FormatAddress(d.Start), end, d.Generation)
}

// request sends one line of a script.
//
//	put KEY VALUE | del KEY [END] | get-if KEY=VALUE KEY   (an etcd Txn that reads)
//	put-if KEY=VALUE KEY VALUE | close S [START-END] | split KEY ID | system OP
//
// "range=ID" and "generation=N" after it send it as somebody with an old picture
// does; "times=N" sends it N times.
func (s *storeScript) request(line string) {
	words := strings.Fields(line)
	rangeID, generation, times := metapb.RangeID(0), uint64(0), 1
	for len(words) > 0 {
		name, value, ok := strings.Cut(words[len(words)-1], "=")
		n, err := strconv.Atoi(value)
		if !ok || err != nil || !slices.Contains([]string{"range", "generation", "times"}, name) {
			break
		}
		switch name {
		case "range":
			rangeID = metapb.RangeID(n)
		case "generation":
			generation = uint64(n)
		case "times":
			times = n
		}
		words = words[:len(words)-1]
	}
	for range times {
		addr, body := s.parse(words)
		repl := s.holder(addr)
		if rangeID != 0 {
			repl = s.store.Replica(rangeID)
		}
		req := &peerpb.Request{Range: rangeID, Generation: generation, Body: body}
		if repl != nil && generation == 0 {
			req.Generation = repl.desc.Generation
		}
		if repl != nil {
			req.Range = repl.desc.ID()
		}
		s.ids++
		req.ID = s.ids
		s.names[req.ID] = fmt.Sprintf("%d (%s)", s.ids, shorten(strings.Join(words, " ")))
		s.store.Request(req)
	}
	s.replies()
}

func shorten(text string) string {
	if len(text) > 40 {
		return text[:37] + "..."
	}
	return text
}

func (s *storeScript) parse(words []string) (addr []byte, body peerpb.Body) {
	arg := func(i int) []byte {
		if i < len(words) {
			return []byte(words[i])
		}
		return nil
	}
	if words[0] == "close" {
		n, _ := strconv.Atoi(words[1])
		c := &peerpb.Close{S: Revision(n)}
		addr = keys.User(nil)
		if len(words) > 2 {
			start, end, _ := strings.Cut(words[2], "-")
			c.Spans = []metapb.Span{keys.UserSpan([]byte(start), []byte(end))}
			addr = keys.User([]byte(start))
		}
		return addr, c
	}
	addr = keys.User(arg(1))
	switch words[0] {
	case "put":
		return addr, &peerpb.Write{Req: putOf(arg(1), arg(2))}
	case "del":
		return addr, &peerpb.Write{Req: &pb.DeleteRangeRequest{Key: arg(1), RangeEnd: arg(2)}}
	case "get-if", "put-if":
		key, value, _ := strings.Cut(words[1], "=")
		txn := &pb.TxnRequest{Compare: []*pb.Compare{{
			Key: []byte(key), Target: pb.Compare_VALUE, TargetUnion: &pb.Compare_Value{Value: []byte(value)},
		}}}
		op := &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: arg(2)}}}
		if words[0] == "put-if" {
			op = &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: putOf(arg(2), arg(3))}}
		}
		txn.Success = []*pb.RequestOp{op}
		return keys.User(arg(2)), &peerpb.Write{Req: txn}
	case "split":
		id, _ := strconv.Atoi(words[2])
		return addr, &peerpb.Split{At: addr, RightID: metapb.RangeID(id)}
	case "system":
		return keys.System(""), &peerpb.System{Op: words[1]}
	}
	s.t.Fatalf("unknown request %q", words)
	return nil, nil
}

// putOf is a put; a value "x*N" stands for N bytes.
func putOf(key, value []byte) *pb.PutRequest {
	if c, n, ok := strings.Cut(string(value), "*"); ok {
		size, _ := strconv.Atoi(n)
		value = []byte(strings.Repeat(c, size))
	}
	return &pb.PutRequest{Key: key, Value: value}
}

func (s *storeScript) holder(addr []byte) *Replica {
	for _, id := range s.store.IDs() {
		if r := s.store.Replica(id); r.desc.Contains(addr) {
			return r
		}
	}
	return nil
}

// show prints the replicas.
func (s *storeScript) show() {
	for _, id := range s.store.IDs() {
		r := s.store.Replica(id)
		bound := "none"
		if b := r.Bound(); b != NoBound {
			bound = strconv.Itoa(int(b))
		}
		s.printf("%s leads=%v applied revision=%d bound=%s queue=%d inflight=%d reads=%d closes=%d",
			formatDescriptor(r.desc), r.Leads(), r.Revision(), bound, len(r.queue.items), len(r.inflight), len(r.reads), len(r.closes))
		if in := r.Info(); in.First > 12 {
			s.printf(" log cut to %d bytes", in.LogBytes)
		}
		s.out.WriteByte('\n')
	}
	s.printf("issued %d, current %d, asks %d, syncs %d, unanswered %d\n",
		s.issued, s.current(), len(s.asks), len(s.tokens), len(s.names))
}

// dump prints the live rows of all user keys as a read of the engine sees them.
func (s *storeScript) dump() {
	st := mvcc.NewEngineState(s.eng, nil, nil)
	defer st.Close()
	s.must(st.Scan(nil, nil, mvcc.Latest, func(row *mvcc.Row) bool {
		s.printf("%s=%s mod %d version %d\n", row.Key, shorten(string(row.Value)), row.ModRevision, row.Version)
		return true
	}))
}

func (s *storeScript) command(t *testing.T, d *datadriven.TestData) string {
	s.t = t
	s.out.Reset()
	arg := func(name string, value int) int {
		d.MaybeScanArgs(t, name, &value)
		return value
	}
	switch d.Cmd {
	case "new":
		s.cfg = Config{
			QueueBytesMax: arg("queue", 0), BatchBytesMax: arg("batch", 0), SyncsMax: arg("syncs", 0),
			ProposalsMax: arg("proposals", 0), LogBytesMax: uint64(arg("log", 0)),
		}
		s.bootstrap(1)
		s.run()
		if d.HasArg("many") {
			s.store.SetMany()
		}
	case "send":
		for line := range strings.Lines(d.Input) {
			s.request(line)
		}
	case "evaluate":
		s.evaluate()
		for _, a := range s.asks {
			s.printf("ask: range %d number %d for %d\n", a.Range, a.Number, a.N)
		}
	case "collect":
		s.collect()
	case "advance":
		s.advance()
	case "ready":
		s.evaluate()
		s.collect()
		s.advance()
	case "sync":
		s.printf("synced %v\n", s.sync())
	case "run":
		s.run()
		if d.HasArg("quiet") {
			n := strings.Count(s.out.String(), "\n")
			s.out.Reset()
			s.printf("%d lines\n", n)
		}
	case "sequencer":
		s.seqOff = d.CmdArgs[0].Key == "off"
	case "grant":
		s.grantSome(d)
	case "tick":
		s.now = s.now.Add(time.Duration(arg("ms", 100)) * time.Millisecond)
		s.store.Tick(s.now)
	case "full":
		s.store.SetFull(d.CmdArgs[0].Key == "on")
	case "crash":
		keep := arg("keep", 0)
		s.eng = s.eng.Crash(func(n int) int { return min(n, keep) })
		s.open()
		s.run()
		s.floor = s.store.Revision()
	case "show":
		s.show()
	case "dump":
		s.dump()
	default:
		t.Fatalf("unknown command %q", d.Cmd)
	}
	return s.out.String()
}

// grantSome answers the asks that wait: as they are, or spoiled in one way.
func (s *storeScript) grantSome(d *datadriven.TestData) {
	how := ""
	if len(d.CmdArgs) > 0 {
		how = d.CmdArgs[0].Key
	}
	if how == "" {
		s.grantAll()
		return
	}
	for _, a := range s.asks {
		g := s.grant(a)
		switch how {
		case "refused":
			g.Refused = true
		case "other-term":
			g.Term++
		case "other-number":
			g.Number--
		case "old-epoch":
			g.Epoch--
		default:
			s.t.Fatalf("unknown grant %q", how)
		}
		s.store.Granted(g)
	}
	s.asks = s.store.Asks()
	s.replies()
}

func TestStoreScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/store", func(t *testing.T, path string) {
		s := &storeScript{t: t}
		datadriven.RunTest(t, path, s.command)
	})
}
