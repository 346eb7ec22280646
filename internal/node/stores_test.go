package node

import (
	"errors"
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

// A cluster that writes a newer format lets in no node that does not read it, nor takes one
// back that has no replica of the system range, and so cannot know by itself.
func TestOlderVersionIsNotLetIn(t *testing.T) {
	c := newNetCluster(t, 4)
	reads := metapb.FormatFirst
	c.tune = func(cfg *Config) {
		if cfg.Name == "d" {
			cfg.reads = reads
		}
	}
	c.start(0, 1, 2)
	until(t, "the format is not raised", func() bool { return strings.HasPrefix(c.stores(0), "2 of 2") })
	c.expectRefused(3, ErrNotLetIn, "newer version")
	reads = metapb.FormatNewest
	c.start(3)
	c.put(3, "a", "1")
	c.stop(3)
	reads = metapb.FormatFirst
	err := c.open(3)
	if n := c.nodes[3]; n != nil { // it was answered a moment after it served
		<-n.Failed()
		err = n.Err()
		c.stop(3)
	}
	if !errors.Is(err, ErrOldVersion) || !strings.Contains(err.Error(), "format 2") {
		t.Errorf("started with the version of before it ends with %v", err)
	}
	c.put(0, "a", "2")
}
