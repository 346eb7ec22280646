package watchfeed

import (
	"errors"
	"testing"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// failingReader cannot be read so many times.
type failingReader struct {
	engine.Reader
	fails int
}

func (r *failingReader) NewIter(o engine.IterOptions) (engine.Iterator, error) {
	if r.fails > 0 {
		r.fails--
		return nil, errors.New("damaged")
	}
	return r.Reader.NewIter(o)
}

// What was before an event cannot be read. The event waits for that: nobody is told that
// there was nothing.
func TestPrevCannotBeRead(t *testing.T) {
	for fails := range 4 {
		eng := engine.NewMem()
		reader := &failingReader{Reader: eng}
		hub, err := NewHub(HubConfig{
			Core:    CoreConfig{Reader: reader},
			Current: func() (Revision, Revision) { return 1, -1 },
			Removal: func() Revision { return -1 },
		})
		if err != nil {
			t.Fatal(err)
		}
		hub.Feed(Step{Current: 1, Compacted: -1, Descriptors: []*metapb.Descriptor{{RangeId: 2, Generation: 1}}, Bounds: []RangeBound{{2, NoBound}}})
		s, err := hub.Open(StreamConfig{})
		if err != nil {
			t.Fatal(err)
		}
		all := everything
		all.Start, all.PrevKV = 2, true
		if err := s.Create(all); err != nil {
			t.Fatal(err)
		}
		for rev := int64(2); rev <= 4; rev++ {
			m := &txnpb.Mutation{Key: []byte("k"), Value: []byte{byte('0' + rev)}, CreateRevision: 2, Version: rev - 1}
			b := eng.NewBatch()
			mvcc.AppendMutation(b, Revision(rev), m)
			if err := eng.Commit(b, false); err != nil {
				t.Fatal(err)
			}
			if rev == 3 {
				reader.fails = fails // the hub reads nothing now
			}
			hub.Feed(Step{
				Applied: []RangeUpdates{{2, []*cmdpb.Update{{Revision: rev, Mutations: []*txnpb.Mutation{m}}}}},
				Bounds:  []RangeBound{{2, NoBound}}, Current: Revision(rev), Compacted: -1,
			})
			var events []*Event
			for len(events) == 0 {
				rs, err := s.Recv(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range rs {
					events = append(events, r.Events...)
				}
			}
			if len(events) != 1 || events[0].Revision != rev {
				t.Fatalf("%d failures, at %d: %d events, the first at %d", fails, rev, len(events), events[0].Revision)
			}
			switch prev := events[0].PrevKV; {
			case rev == 2 && prev != nil, rev > 2 && (prev == nil || prev.Value[0] != byte('0'+rev-1)):
				t.Errorf("%d failures: what was before the event at %d is %v", fails, rev, prev)
			}
		}
		if reader.fails != 0 {
			t.Errorf("%d failures are left", reader.fails)
		}
		hub.Stop()
	}
}
