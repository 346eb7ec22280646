package ranges

import (
	"testing"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/proto/txnpb"
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
