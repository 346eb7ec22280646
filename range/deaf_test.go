package ranges

import (
	"testing"
	"time"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// A leader to which nothing comes any more, while all that it says arrives, is replaced: it
// can do nothing, and what it is promised holds the others back.
func TestDeafLeader(t *testing.T) {
	c := calmCluster(t, 1)
	deaf := c.holder(2)
	for _, n := range c.nodes {
		if n != deaf {
			c.cut[[2]metapb.StoreID{n.id, deaf.id}] = true
		}
	}
	c.until(t, 10*time.Second, "another one leads", func() bool {
		n := c.holder(2)
		return n != nil && n != deaf
	})
	clear(c.cut)
	c.until(t, 5*time.Second, "it follows", func() bool {
		return deaf.store.Replica(2).Leader() == c.holder(2).id
	})
}
