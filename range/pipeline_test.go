package ranges

import (
	"fmt"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/proto/txnpb"
	"github.com/flotilladb/flotilla/raftgroup"
)

func newStoreScript(t *testing.T, cfg Config) *storeScript {
	s := &storeScript{t: t, cfg: cfg}
	s.bootstrap(1)
	s.run()
	return s
}

// requestBody sends a request that scripts have no words for.
func (s *storeScript) requestBody(name string, id metapb.RangeID, body peerpb.Body) {
	s.ids++
	s.names[s.ids] = name
	s.store.Request(&peerpb.Request{
		ID: s.ids, Range: id, Generation: s.store.Replica(id).desc.Generation, Body: body,
	})
	s.replies()
}

// A revision that a transaction was given counts for readers from the moment
// that the range hears of it. Were its intents refused because the queue is
// full, a later write could be applied and read before they come again.
func TestIntentsPassAFullQueue(t *testing.T) {
	s := newStoreScript(t, Config{QueueBytesMax: 1000})
	id := testTxn(1)
	s.requestBody("prepare", 2, &peerpb.Prepare{Txn: id, Accesses: []peerpb.Access{parseAccess("a")}})
	s.run()
	r := s.store.Replica(2)
	l := r.locks.get(id)
	if l == nil {
		t.Fatalf("no lock: %s", s.out.String())
	}
	s.seqOff = true
	s.request("put b 1")
	s.evaluate()
	s.request("put c x*800")
	s.request("put d x*800")
	s.out.Reset()
	rev := s.issued + 1
	s.requestBody("intents", 2, &peerpb.WriteIntents{
		Txn: id, Lock: l.token, Revision: rev, Epoch: 1,
		Intents: []*cmdpb.AddressedIntent{{
			Address: keys.User([]byte("a")),
			Intent: &txnpb.Intent{Id: id, Revision: int64(rev), Anchor: keys.User([]byte("a")),
				Mutations: []*txnpb.Mutation{{Key: []byte("a"), Value: []byte("1")}}},
		}},
	})
	if out := s.out.String(); out != "" {
		t.Errorf("intents were answered: %s", out)
	}
	if b := r.Bound(); b != rev {
		t.Errorf("bound %d, want %d: a read there would miss the transaction", b, rev)
	}
}

// What waits for a lock counts as what waits in the queue: else a lock would
// have the range keep any amount of requests.
func TestParkedRequestsCountAgainstTheQueue(t *testing.T) {
	s := newStoreScript(t, Config{QueueBytesMax: 3000})
	s.requestBody("prepare", 2, &peerpb.Prepare{Txn: testTxn(1), Accesses: []peerpb.Access{parseAccess("a")}})
	s.run()
	s.out.Reset()
	for range 4 {
		s.request("put a x*800")
		s.run()
	}
	if got, want := s.out.String(), "5 (put a x*800): range: too many requests wait\n"; got != want {
		t.Errorf("replies %q, want %q", got, want)
	}
	s.requestBody("release", 2, &peerpb.Release{Txn: testTxn(1)})
	s.run()
	s.out.Reset()
	s.request("put a x*2000")
	s.run()
	if got, want := s.out.String(), "7 (put a x*2000): put at 5\n"; got != want {
		t.Errorf("after the release: replies %q, want %q", got, want)
	}
}

// Puts whose lease's home does not answer leave room for those that need no home.
func TestPutsThatWaitForAHomeLeaveRoom(t *testing.T) {
	s := newStoreScript(t, Config{QueueBytesMax: 4000})
	for range 3 {
		s.requestBody("put of a lease", 2, &peerpb.Write{Req: &pb.PutRequest{Key: []byte("a"), Value: make([]byte, 800), Lease: 7}})
		s.run()
	}
	if got, want := s.out.String(), "put of a lease: range: too many requests wait\n"; got != want {
		t.Errorf("replies %q, want %q", got, want)
	}
	s.out.Reset()
	s.request("put b x*1500")
	s.run()
	if got, want := s.out.String(), "4 (put b x*1500): put at 2\n"; got != want {
		t.Errorf("replies %q, want %q", got, want)
	}
}

// What such a put waits for is let in, also where the put takes all the room: the lease's home
// may be its own range.
func TestRegistrationPassesAFullQueue(t *testing.T) {
	s := newStoreScript(t, Config{QueueBytesMax: 1000})
	s.requestBody("put of a lease", 2, &peerpb.Write{Req: &pb.PutRequest{Key: []byte("a"), Value: make([]byte, 2000), Lease: 7}})
	s.run()
	s.request("put b x*100")
	s.requestBody("registration", 2, &peerpb.RegisterLease{ID: 7, Spans: []metapb.Span{keys.UserKeySpan([]byte("a"))}})
	s.run()
	if got, want := s.out.String(), "2 (put b x*100): range: too many requests wait\nregistration: lease: requested lease not found\n"; got != want {
		t.Errorf("replies %q, want %q", got, want)
	}
}

// three makes a store with replicas on two other stores, of which the test plays
// the second: range 2 is led here when it returns, the mark that begins the
// term not yet committed.
func three(t *testing.T) *storeScript {
	s := &storeScript{t: t}
	s.bootstrap(3)
	s.store.SetNow(s.store.peers.live.VotesFrom())
	for id := metapb.RangeID(1); id <= 2; id++ {
		s.store.campaign(s.store.Replica(id))
	}
	s.run()
	next := s.store.Replica(2).group.Term() + 1
	s.step(raftpb.MsgPreVoteResp, next)
	s.run()
	s.step(raftpb.MsgVoteResp, next)
	s.run()
	if r := s.store.Replica(2); !r.group.IsLeader() || r.Leads() {
		t.Fatal("the replica does not lead")
	}
	return s
}

// step brings a message of store 2 in for both ranges.
func (s *storeScript) step(typ raftpb.MessageType, term uint64) {
	for id := metapb.RangeID(1); id <= 2; id++ {
		from, to := uint64(2), uint64(1)
		m := &raftgroup.Message{Type: &typ, From: &from, To: &to, Term: &term}
		s.must(s.store.Step(id, m))
	}
}

// commit confirms all that range 1 and 2 have.
func (s *storeScript) commit() {
	for id := metapb.RangeID(1); id <= 2; id++ {
		g := s.store.Replica(id).group
		typ, from, to, term, index := raftpb.MsgAppResp, uint64(2), uint64(1), g.Term(), g.LastIndex()
		s.must(s.store.Step(id, &raftgroup.Message{Type: &typ, From: &from, To: &to, Term: &term, Index: &index}))
	}
	s.run()
}

// A leader that is deposed before it could evaluate answers who waits.
func TestDeposedBeforeItBegan(t *testing.T) {
	s := three(t)
	s.request("put a 1")
	s.run()
	s.step(raftpb.MsgHeartbeat, 99)
	s.run()
	if got, want := s.out.String(), "1 (put a 1): range: not the leader\n"; got != want {
		t.Errorf("replies %q, want %q", got, want)
	}
}

// A leader that is deposed answers everybody once: what was proposed is unknown,
// what only read is refused, also where it saw what was proposed.
func TestDeposedAnswersEachOnce(t *testing.T) {
	s := three(t)
	s.commit()
	s.request("put a 1")
	s.request("get-if a=1 a")
	s.request("get-if nothing=1 a")
	s.run()
	s.request("close 2")
	s.seqOff = true
	s.request("put b 1")
	s.run()
	s.request("put c 1")
	s.run()
	s.out.Reset()
	s.step(raftpb.MsgHeartbeat, 99)
	s.run()
	const want = `1 (put a 1): range: the outcome of the request is unknown
5 (put b 1): range: refused before it was proposed
2 (get-if a=1 a): range: refused before it was proposed
4 (close 2): range: not the leader
6 (put c 1): range: not the leader
`
	if got := s.out.String(); got != want {
		t.Errorf("replies:\n%swant:\n%s", got, want)
	}
	if len(s.names) != 0 {
		t.Errorf("without an answer: %v", s.names)
	}
}

// transfer lets the leaders try to hand over to store 2, which does not answer:
// raft drops proposals until it gives up.
func (s *storeScript) transfer() {
	for id := metapb.RangeID(1); id <= 2; id++ {
		s.must(s.store.Replica(id).group.TransferLeader(2))
	}
}

func (s *storeScript) endTransfer() {
	for id := metapb.RangeID(1); id <= 2; id++ {
		for range 20 {
			s.must(s.store.Replica(id).group.Tick())
		}
	}
}

// A split that raft drops does not leave its range frozen.
func TestDroppedSplit(t *testing.T) {
	s := three(t)
	s.commit()
	s.transfer()
	s.request("split m 3")
	s.request("put a 1")
	s.run()
	s.endTransfer()
	s.request("put a 2")
	s.run()
	s.commit()
	const want = `1 (split m 3): range: refused before it was proposed
2 (put a 1): range: refused before it was proposed
3 (put a 2): put at 3
`
	if got := s.out.String(); got != want {
		t.Errorf("replies:\n%swant:\n%s", got, want)
	}
}

// When raft drops a batch of the system range its effects are forgotten, and
// not with them those of the batches that are still under way.
func TestDroppedSystemBatch(t *testing.T) {
	s := three(t)
	s.commit()
	s.request("system next")
	s.run()
	s.transfer()
	s.request("system next")
	s.run()
	s.endTransfer()
	s.request("system next")
	s.run()
	s.commit()
	s.commit()
	const want = `2 (system next): range: refused before it was proposed
1 (system next): 1
3 (system next): 2
`
	if got := s.out.String(); got != want {
		t.Errorf("replies:\n%swant:\n%s", got, want)
	}
}

// A replica that is behind may apply two splits at once; both right sides are
// born.
func TestTwoSplitsAtOnce(t *testing.T) {
	s := newStoreScript(t, Config{})
	r := s.store.Replica(2)
	s.store.apply = s.eng.NewBatch()
	for _, split := range []*peerpb.Split{
		{At: keys.User([]byte("m")), RightID: 3}, {At: keys.User([]byte("g")), RightID: 4},
	} {
		left, right := r.divided(split)
		s.must(r.applySplit(s.store.apply, &cmdpb.SplitCommand{Left: left, Right: right}))
	}
	s.collect()
	s.advance()
	s.run()
	for _, key := range []string{"a", "h", "n"} {
		s.request("put " + key + " 1")
	}
	s.run()
	for _, id := range []metapb.RangeID{2, 3, 4} {
		if repl := s.store.Replica(id); repl == nil || !repl.Leads() {
			t.Errorf("range %d: %v", id, repl)
		}
	}
	if len(s.names) != 0 {
		t.Errorf("without an answer: %v\n%s", s.names, s.out.String())
	}
}

// Large entries wait for their turn before they are given revisions. Raft would
// drop what is too much to be under way, and leave a hole.
func TestLargeEntriesWait(t *testing.T) {
	s := newStoreScript(t, Config{QueueBytesMax: 1 << 30, BatchBytesMax: 1, ProposalsMax: 1000, SyncsMax: 1000})
	for i := range 36 {
		s.request(fmt.Sprintf("put k%d x*2000000", i))
	}
	s.evaluate()
	if s.issued > 20 {
		t.Errorf("%d revisions are given to entries of 2 MB that wait for the disk", s.issued)
	}
	s.run()
	if got := strings.Count(s.out.String(), "put at"); got != 36 || s.issued != 37 {
		t.Errorf("%d puts done, %d revisions issued", got, s.issued)
	}
}

// An entry that was evaluated in another term or for another generation is
// applied as nothing; what follows it is not touched.
func TestVoidedEntries(t *testing.T) {
	s := newStoreScript(t, Config{})
	r := s.store.Replica(2)
	term, generation := r.leading, r.desc.Generation
	for _, e := range []*cmdpb.Entry{
		{Term: term - 1, Generation: generation},
		{Term: term, Generation: generation + 1},
	} {
		e.Updates = []*cmdpb.Update{{Revision: 50, Mutations: []*txnpb.Mutation{{Key: []byte("a"), Value: []byte("void")}}}}
		data, err := e.MarshalVT()
		s.must(err)
		_, _, err = r.group.Propose(data)
		s.must(err)
	}
	s.store.mark(r)
	s.request("put b 1")
	s.run()
	s.dump()
	const want = "1 (put b 1): put at 2\nb=1 mod 2 version 1\n"
	if got := s.out.String(); got != want || r.Revision() != 2 {
		t.Errorf("got %q, applied revision %d", got, r.Revision())
	}
}
