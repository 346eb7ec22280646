package watchfeed

import (
	"runtime"
	"testing"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// hookedReader calls before each read of what lies before an event.
type hookedReader struct {
	engine.Reader
	before func()
}

func (r *hookedReader) NewIter(o engine.IterOptions) (engine.Iterator, error) {
	r.before()
	return r.Reader.NewIter(o)
}

// A range leaves while the hub reads what was before one of its events. Its rows go
// when the hub has been told; by then it must not read them any more.
func TestRowsGoWhileHubReads(t *testing.T) {
	eng := engine.NewMem()
	reader := &hookedReader{Reader: eng, before: func() {}}
	hub, err := NewHub(HubConfig{
		Core:    CoreConfig{Reader: reader},
		Current: func() (Revision, Revision) { return 1, -1 },
		Removal: func() Revision { return -1 },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer hub.Stop()
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
	went := make(chan struct{})
	reader.before = func() {
		reader.before = func() {}
		go func() { // the loop
			defer close(went)
			hub.Feed(Step{Removed: []metapb.RangeID{2}, RowsGo: true, Current: 3, Compacted: -1})
			b := eng.NewBatch()
			for _, sp := range keys.Tables(metapb.Span{}) {
				b.DeleteRange(sp.Start, sp.End)
			}
			if err := eng.Commit(b, false); err != nil {
				t.Error(err)
			}
		}()
		for waits := false; !waits; runtime.Gosched() {
			hub.mu.Lock()
			waits = len(hub.mu.waiting) > 0
			hub.mu.Unlock()
			select {
			case <-went:
				waits = true
			default:
			}
		}
	}
	var last Response
	for rev := int64(2); rev <= 3; rev++ {
		m := &txnpb.Mutation{Key: []byte("k"), Value: []byte{byte('0' + rev)}, CreateRevision: 2, Version: rev - 1}
		b := eng.NewBatch()
		mvcc.AppendMutation(b, Revision(rev), m)
		if err := eng.Commit(b, false); err != nil {
			t.Fatal(err)
		}
		hub.Feed(Step{
			Applied: []RangeUpdates{{2, []*cmdpb.Update{{Revision: rev, Mutations: []*txnpb.Mutation{m}}}}},
			Bounds:  []RangeBound{{2, NoBound}}, Current: Revision(rev), Compacted: -1,
		})
		for last.Revision != rev || last.Kind != Events {
			rs, err := s.Recv(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			last = rs[len(rs)-1]
		}
	}
	<-went
	if prev := last.Events[0].PrevKV; prev == nil || string(prev.Value) != "2" {
		t.Errorf("what was before the event at 3 is %v", prev)
	}
}
