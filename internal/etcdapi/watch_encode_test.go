package etcdapi

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// who is an Identity with any numbers.
type who struct {
	*fakeNode
	cluster, member uint64
}

func (w who) IDs() (cluster, member uint64) { return w.cluster, w.member }

func mustMarshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func eventsOf(m *pb.WatchResponse) (v watchEvents) {
	v.prev = true
	for _, ev := range m.Events {
		v.list = append(v.list, testEvent(ev))
	}
	return v
}

func fieldsOf(m *pb.WatchResponse) watchFields {
	return watchFields{
		revision: m.Header.GetRevision(), id: m.WatchId, created: m.Created, canceled: m.Canceled,
		compactRevision: m.CompactRevision, reason: m.CancelReason, fragment: m.Fragment,
	}
}

// What the encoder writes is what the protobuf library writes, for every message
// of a batch, also after the later ones were written.
func TestWatchMessagesAreProtobuf(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	for range 300 {
		h := randomHeader(rng)
		if h == nil {
			h = &pb.ResponseHeader{}
		}
		e := newWatchEncoder(who{newFakeNode(), h.ClusterId, h.MemberId})
		for range 3 {
			n := rng.IntN(40)
			e.begin(rng.IntN(n+2), h.RaftTerm) // the number is a hint, no more
			var want [][]byte
			var got []mem.BufferSlice
			for range n {
				m := randomWatchResponse(rng, h)
				f := fieldsOf(m)
				v := eventsOf(m)
				v.shared = randomBool(rng)
				for range 1 + rng.IntN(3) { // one list, several watches
					want = append(want, mustMarshal(t, m))
					got = append(got, e.message(&f, v).bytes)
					f.id++
					m.WatchId++
				}
			}
			for i := range want {
				if b := got[i].Materialize(); !bytes.Equal(b, want[i]) {
					t.Fatalf("message %d of %d:\n%x, protobuf says\n%x", i, n, b, want[i])
				}
			}
		}
	}
}

func FuzzWatchMessage(f *testing.F) {
	f.Add(uint64(1), uint64(2), uint64(3), int64(4), int64(5), int64(6), uint8(7), "reason", []byte("key"), 100)
	f.Add(uint64(0), uint64(0), uint64(0), int64(-1), int64(-1), int64(0), uint8(0), "", []byte(nil), 5000)
	f.Fuzz(func(t *testing.T, cluster, member, term uint64, rev, id, compact int64, flags uint8, reason string, key []byte, n int) {
		m := &pb.WatchResponse{
			Header:  &pb.ResponseHeader{ClusterId: cluster, MemberId: member, RaftTerm: term, Revision: rev},
			WatchId: id, Created: flags&1 != 0, Canceled: flags&2 != 0, Fragment: flags&4 != 0,
			CompactRevision: compact, CancelReason: reason,
		}
		if _, err := proto.Marshal(m); err != nil {
			return // no text
		}
		for i := range flags >> 3 & 3 {
			m.Events = append(m.Events, &mvccpb.Event{
				Type: mvccpb.Event_EventType(i & 1), Kv: &mvccpb.KeyValue{Key: key, Value: make([]byte, max(n, 0)%10000)},
			})
		}
		e := newWatchEncoder(who{newFakeNode(), cluster, member})
		e.begin(1, term)
		fields := fieldsOf(m)
		if got, want := e.message(&fields, eventsOf(m)).bytes.Materialize(), mustMarshal(t, m); !bytes.Equal(got, want) {
			t.Fatalf("%v:\n%x, protobuf says\n%x", m, got, want)
		}
	})
}

// slowFragments says what etcd says: a response is cut if it is long and has
// several events, and each piece takes events while it is short, but one always.
func slowFragments(m *pb.WatchResponse, limit int) (pieces []*pb.WatchResponse) {
	if proto.Size(m) < limit || len(m.Events) < 2 {
		return []*pb.WatchResponse{m}
	}
	for left := m.Events; len(left) > 0; {
		piece := proto.Clone(m).(*pb.WatchResponse)
		piece.Fragment = true
		piece.Events = left[:1:1]
		for _, ev := range left[1:] {
			longer := proto.Clone(piece).(*pb.WatchResponse)
			longer.Events = append(longer.Events, ev)
			if proto.Size(longer) >= limit {
				break
			}
			piece = longer
		}
		left = left[len(piece.Events):]
		piece.Fragment = len(left) > 0
		pieces = append(pieces, piece)
	}
	return pieces
}

func TestFragments(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	for range 2000 {
		m := &pb.WatchResponse{
			Header:  &pb.ResponseHeader{ClusterId: 1, MemberId: 2, RaftTerm: 3, Revision: randomInt(rng)},
			WatchId: randomInt(rng),
		}
		for range rng.IntN(8) {
			m.Events = append(m.Events, &mvccpb.Event{Kv: &mvccpb.KeyValue{Key: []byte("k"), Value: make([]byte, rng.IntN(120))}})
		}
		limit := proto.Size(m) + rng.IntN(5) - 2 // where it just begins to be cut
		if randomBool(rng) {
			limit = rng.IntN(400)
		}
		e := newWatchEncoder(who{newFakeNode(), 1, 2})
		e.begin(1, 3)
		var got []string
		err := e.fragments(fieldsOf(m), eventsOf(m), limit, func(piece *watchMessage) error {
			got = append(got, fmt.Sprintf("%x", piece.bytes.Materialize()))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, piece := range slowFragments(m, limit) {
			want = append(want, fmt.Sprintf("%x", mustMarshal(t, piece)))
		}
		if !slices.Equal(got, want) {
			t.Fatalf("limit %d, %d events: %d pieces, want %d", limit, len(m.Events), len(got), len(want))
		}
	}
}

func TestIDSet(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 14))
	var s idSet
	twin := make(map[int64]bool)
	for range 20000 {
		id := int64(rng.IntN(300)) - 150
		if rng.IntN(10) == 0 {
			id = randomInt(rng)
		}
		if s.has(id) != twin[id] || s.n != len(twin) {
			t.Fatalf("has %d: %v, %d ids, want %d", id, s.has(id), s.n, len(twin))
		}
		if randomBool(rng) {
			if s.add(id) == twin[id] {
				t.Fatalf("add %d", id)
			}
			twin[id] = true
		} else {
			if s.remove(id) != twin[id] {
				t.Fatalf("remove %d", id)
			}
			delete(twin, id)
		}
	}
	for id := range twin {
		s.remove(id)
	}
	if s.n != 0 || len(s.words) != 0 {
		t.Fatalf("%d ids and %d words are left", s.n, len(s.words))
	}
}
