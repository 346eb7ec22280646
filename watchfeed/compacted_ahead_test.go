package watchfeed

import (
	"strings"
	"testing"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// A client does not take what was read for it, and what comes behind that is compacted. The
// hub does not read it over and over, also where another watch wants what is still there.
func TestReadsOnIntoWhatIsCompacted(t *testing.T) {
	eng := engine.NewMem()
	c, err := NewCore(CoreConfig{Reader: eng, RingBytesMax: 1, WindowBytesMax: 2000, CatchUpBytesMax: 10000, ResponseBytesMax: 200})
	if err != nil {
		t.Fatal(err)
	}
	s := Step{Current: 60, Compacted: -1, Bounds: []RangeBound{{2, NoBound}}}
	s.Descriptors = []*metapb.Descriptor{{RangeId: 2, Start: keys.UserSpan(nil, nil).Start, Generation: 1}}
	b := eng.NewBatch()
	for rev := int64(2); rev <= 60; rev++ {
		m := &txnpb.Mutation{Key: []byte("a"), Value: []byte(strings.Repeat("v", 100)), CreateRevision: 2, Version: rev - 1}
		mvcc.AppendMutation(b, Revision(rev), m)
		s.Applied = append(s.Applied, RangeUpdates{2, []*cmdpb.Update{{Revision: rev, Mutations: []*txnpb.Mutation{m}}}})
	}
	if err := eng.Commit(b, false); err != nil {
		t.Fatal(err)
	}
	c.Step(&s)
	removal := Revision(-1)
	told := map[StreamID]int64{}
	run := func() {
		for n := 0; ; n++ {
			rd := c.Ready()
			for i := range rd.Scans {
				res := rd.Scans[i].Do(eng, func() Revision { return removal }, nil)
				c.Scanned(&res)
			}
			for i := range rd.Outputs {
				for _, r := range rd.Outputs[i].Responses {
					if r.Kind == Events {
						told[rd.Outputs[i].Stream] = r.Revision
					}
				}
			}
			if !c.HasWork() {
				return
			}
			if n > 1000 {
				t.Fatal("it reads on and on")
			}
		}
	}
	slow, err := c.Open(StreamConfig{QueueResponsesMax: 2})
	if err != nil {
		t.Fatal(err)
	}
	c.Create(slow, &CreateRequest{Key: []byte("a"), Start: 2}, 60)
	run()
	removal = 40
	c.Step(&Step{Current: 60, Compacted: 40})
	fast, err := c.Open(StreamConfig{})
	if err != nil {
		t.Fatal(err)
	}
	c.Create(fast, &CreateRequest{Key: []byte("a"), Start: 45}, 60)
	c.Drained(slow, 2, 0)
	run()
	if told[fast] != 60 {
		t.Errorf("the second watch was told up to %d", told[fast])
	}
	for range 20 {
		c.Drained(slow, 0, 0)
		run()
	}
	if st := c.Stats(); st.Watches != 1 {
		t.Errorf("%d watches are left", st.Watches)
	}
}
