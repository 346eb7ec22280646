package ranges

import (
	"testing"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// What is noted of a replica that a store gets messages for goes when it is there, or may
// not come any more. Else there would be no room for others, after many splits, and none
// of these would ever be sent a snapshot.
func TestAbsentIsForgotten(t *testing.T) {
	s := newStoreScript(t, Config{})
	r := s.store.Replica(2)
	left, right := r.divided(&peerpb.Split{At: keys.User([]byte("m")), RightID: 3})
	s.store.absent = make(map[metapb.RangeID]absent)
	for _, id := range []metapb.RangeID{3, 7} {
		s.store.absent[id] = absent{replica: 1}
	}
	s.store.apply = s.eng.NewBatch()
	s.must(r.applySplit(s.store.apply, &cmdpb.SplitCommand{Left: left, Right: right}))
	s.collect()
	s.advance()
	s.run()
	s.store.Gone(Gone{Range: 7, Replica: 1})
	if len(s.store.absent) > 0 {
		t.Errorf("%v are still noted", s.store.absent)
	}
}
