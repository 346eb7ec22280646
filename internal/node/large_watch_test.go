package node

import (
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/watchfeed"
)

// One request deletes more than the transport takes in a frame, or has waiting. A node that
// has no replica of it shows it to its watches, and what was there before: as it happens,
// and to those that come later.
func TestLargeDeleteIsWatchedElsewhere(t *testing.T) {
	const count, valueBytes = 30, 1200 << 10
	c := newNetCluster(t, 4)
	c.start(0, 1, 2)
	value := make([]byte, valueBytes)
	var last int64
	for i := range count {
		last = c.put(0, fmt.Sprintf("k%02d", i), string(value))
	}
	c.start(3)
	far := c.nodes[3]
	if ids := far.core.Store().IDs(); len(ids) > 0 {
		t.Fatalf("the node has replicas of %v", ids)
	}
	open := func() *watchfeed.Stream {
		s, err := far.Watches().Open(watchfeed.StreamConfig{})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Create(watchfeed.CreateRequest{Key: []byte("k"), End: []byte("l"), Start: last + 1, PrevKV: true}); err != nil {
			t.Fatal(err)
		}
		return s
	}
	shown := func(name string, s *watchfeed.Stream) {
		for {
			rs, err := s.Recv(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rs {
				if r.Kind == watchfeed.Created {
					continue
				}
				if r.Kind != watchfeed.Events || len(r.Events) != count {
					t.Fatalf("%s: response %d with %d events", name, r.Kind, len(r.Events))
				}
				for _, ev := range r.Events {
					if ev.PrevKV == nil || len(ev.PrevKV.Value) != valueBytes {
						t.Fatalf("%s: what was before %s is not there", name, ev.Key)
					}
				}
				return
			}
		}
	}
	s := open()
	if _, err := c.nodes[0].KV().DeleteRange(t.Context(), &pb.DeleteRangeRequest{Key: []byte("k"), RangeEnd: []byte("l")}); err != nil {
		t.Fatal(err)
	}
	shown("followed", s)
	c.put(0, "other", "later")
	shown("read later", open())
}
