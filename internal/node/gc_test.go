package node

import (
	"log/slog"
	"math"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/router"
)

// versions counts those of a key that the engine has.
func (r *coreRun) versions(key string) (n int) {
	return r.rows(keys.VersionSpan([]byte(key), append([]byte(key), 0)))
}

// A range that cannot be closed, since most of its replicas are lost, keeps its garbage;
// the others behind it do not, and not what is compacted later either.
func TestRemovalGoesOnBesideALostRange(t *testing.T) {
	r := newCoreRun(t, CoreConfig{})
	r.must(&router.SplitRequest{Key: []byte("m")})
	r.must(&router.SplitRequest{Key: []byte("t")})
	write := func() metapb.Revision {
		for _, key := range []string{"a", "o", "z"} {
			for range 3 {
				r.must(&pb.PutRequest{Key: []byte(key), Value: []byte("v")})
			}
		}
		return r.core.Current()
	}
	to := write()

	// A step of the removal has n.pub.rows, so who has it has the engine.
	n := &Node{eng: r.eng, loopDone: make(chan struct{})}
	n.cfg.Logger = slog.New(slog.DiscardHandler)
	n.pub.init()
	var all []*metapb.Descriptor
	for _, id := range r.core.Store().IDs() {
		all = append(all, r.core.Store().Replica(id).Descriptor())
	}
	n.pub.Ranges(r.core, all)
	table := n.pub.table.Load()
	lost := table.pieces[table.find(keys.User([]byte("o")))]
	lost.bound.Store(1)

	c := newCollector(n)
	ended := make(chan struct{})
	ctx := t.Context()
	compact := func(rev metapb.Revision) {
		n.pub.compacted.Store(int64(rev))
		c.wake()
	}
	compact(to)
	go func() {
		defer close(ended)
		c.run(ctx)
	}()
	versions := func(key string) int {
		n.pub.rows.Lock()
		defer n.pub.rows.Unlock()
		return r.versions(key)
	}
	gone := func() bool { return versions("a") == 1 && versions("z") == 1 }
	until(t, "the garbage of other ranges is not removed", gone)
	n.pub.rows.Lock()
	to = write()
	n.pub.rows.Unlock()
	compact(to)
	until(t, "what is compacted later is not removed", gone)
	if left := versions("o"); left != 6 {
		t.Errorf("%d versions are left where writes may be under way", left)
	}
	lost.bound.Store(math.MaxInt64)
	if err := c.wait(ctx, to); err != nil || versions("o") != 1 {
		t.Errorf("%d versions are left: %v", versions("o"), err)
	}
	t.Cleanup(func() { <-ended })
}
