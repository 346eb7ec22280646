package node

import (
	"fmt"
	"strings"
	"testing"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// stores are the stores as a node lists them.
func (c *netCluster) stores(i int) string {
	c.t.Helper()
	resp, err := c.nodes[i].ListStores(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	out := []string{fmt.Sprintf("%d of %d, %d wait:", resp.ClusterFormat, resp.NewestFormat, len(resp.Waiting))}
	for _, s := range resp.Stores {
		one := fmt.Sprintf("%s=%d", s.Name, s.ReadsFormat)
		if s.HoldsBack {
			one += "!"
		}
		out = append(out, one)
	}
	return strings.Join(out, " ")
}

// While the last node is of an older version the list names it; when it is upgraded
// nothing waits any more. One that is away and was not heard of is waited for too.
func TestListStoresNamesWhoHoldsBack(t *testing.T) {
	c := newNetCluster(t, 3)
	old := metapb.FormatFirst
	c.tune = func(cfg *Config) {
		if cfg.Name == "c" {
			cfg.reads = old
		}
	}
	expect := func(want string) {
		t.Helper()
		got := ""
		defer func() {
			if t.Failed() {
				t.Logf("it is %q, not %q", got, want)
			}
		}()
		until(t, "the list is another one", func() bool { got = c.stores(0); return got == want })
	}
	c.start(0, 1, 2)
	waiting := len(metapb.Features())
	expect(fmt.Sprintf("1 of 2, %d wait: a=2 b=2 c=1!", waiting))
	c.stop(0)
	c.stop(2)
	c.start(0)
	expect(fmt.Sprintf("1 of 2, %d wait: a=2 b=2 c=0!", waiting))
	old = 0
	c.start(2)
	expect("2 of 2, 0 wait: a=2 b=2 c=2")
}
