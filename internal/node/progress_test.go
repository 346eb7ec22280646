package node

import (
	"testing"
	"time"

	"github.com/flotilladb/flotilla/watchfeed"
)

// progress receives until a watch is told that it is at a revision at least, or twenty times
// of its progress.
func (c *netCluster) progress(s *watchfeed.Stream, rev int64) bool {
	c.t.Helper()
	for said := 0; said < 20; {
		rs, err := s.Recv(c.t.Context(), nil)
		if err != nil {
			c.t.Fatal(err)
		}
		for _, r := range rs {
			if r.Kind != watchfeed.Progress {
				continue
			}
			if said++; r.Revision >= rev {
				return true
			}
		}
	}
	return false
}

// A watch that nothing happens to is told of all that happens elsewhere, through any node:
// its client begins there again, and what is before may be compacted.
func TestProgressOfIdleWatches(t *testing.T) {
	c := newNetCluster(t, 4)
	defer c.stopAll()
	c.tune = func(cfg *Config) { cfg.WatchProgressInterval = 500 * time.Millisecond }
	c.start(0, 1, 2)
	c.put(0, "k", "1")
	if _, err := c.nodes[1].client.Split(t.Context(), []byte("m")); err != nil {
		t.Fatal(err)
	}
	c.start(3) // without replicas
	streams := make([]*watchfeed.Stream, len(c.nodes))
	for i := range streams {
		s, err := c.nodes[i].Watches().Open(watchfeed.StreamConfig{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.Create(watchfeed.CreateRequest{ID: 1, Key: []byte("k"), Progress: true}); err != nil {
			t.Fatal(err)
		}
		c.progress(s, 2)
		streams[i] = s
	}
	rev := c.put(0, "z", "1")
	for i, s := range streams {
		if !c.progress(s, rev) {
			t.Errorf("through node %d it is not said", i)
		}
	}
}
