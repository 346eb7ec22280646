package node

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// changeRows changes the values of a span of keys in the folder of a node that does
// not run, as a bad disk would that nobody notices.
func changeRows(t testing.TB, dir string, start, end string) {
	t.Helper()
	eng, err := engine.OpenPebble(engine.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	b := eng.NewBatch()
	span := keys.VersionSpan([]byte(start), []byte(end))
	it, err := eng.NewIter(engine.IterOptions{Lower: span.Start, Upper: span.End})
	if err != nil {
		t.Fatal(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		value, err := it.Value()
		if err != nil {
			t.Fatal(err)
		}
		value = bytes.Clone(value)
		value[len(value)-1] ^= 1
		b.Set(it.Key(), value)
	}
	if b.Empty() {
		t.Fatal("there is nothing to change")
	}
	if err := errors.Join(it.Close(), eng.Commit(b, true), eng.Close()); err != nil {
		t.Fatal(err)
	}
}

// descriptorOf is a range as a node knows it.
func (c *netCluster) descriptorOf(i int, id metapb.RangeID) (d *metapb.Descriptor) {
	c.t.Helper()
	if err := c.nodes[i].inLoop(c.t.Context(), func() {
		if r := c.nodes[i].core.Store().Replica(id); r != nil && !r.Condemned() {
			d = r.Descriptor()
		}
	}); err != nil {
		c.t.Fatal(err)
	}
	return d
}

// replacedOn waits until a store has a replica of a range with another id, which
// counts as the others do.
func (c *netCluster) replacedOn(i int, id metapb.RangeID, old uint64) {
	c.t.Helper()
	until(c.t, "the replica is not replaced", func() bool {
		d := c.descriptorOf(i, id)
		if d == nil || len(d.Replicas) != 3 {
			return false
		}
		p := d.ReplicaOn(metapb.StoreID(i + 1))
		return p != nil && p.ReplicaId != old && p.Kind == metapb.ReplicaKind_VOTER
	})
}

// alarmsOf are the alarms that a node with the system range knows.
func (c *netCluster) alarmsOf(i int) (alarms []placement.Alarm) {
	c.t.Helper()
	if err := c.nodes[i].inLoop(c.t.Context(), func() { alarms = c.nodes[i].core.System().Alarms() }); err != nil {
		c.t.Fatal(err)
	}
	return alarms
}

// expectContained looks for the alarm of one member, which ends no service.
func (c *netCluster) expectContained(member int) {
	c.t.Helper()
	want := placement.Alarm{Type: pb.AlarmType_CORRUPT, Member: metapb.NodeID(member + 1), Contained: true}
	c.every(func(i int) {
		until(c.t, "the alarm is not raised", func() bool { a := c.alarmsOf(i); return len(a) == 1 && a[0] == want })
	})
}

// A row that was changed on one node's disk is found; the replica is replaced, while
// the cluster serves what the others have. So it is on a node that led the range.
func TestChangedRowIsFound(t *testing.T) {
	c := newNetCluster(t, 3)
	c.tune = func(cfg *Config) { cfg.NoPlanner, cfg.CheckInterval = false, 400*time.Millisecond }
	c.start(0, 1, 2)
	for i := range 50 {
		c.put(i%3, fmt.Sprintf("k%02d", i), "value")
	}
	const victim = 1
	old := c.descriptorOf(victim, 2).ReplicaOn(victim + 1).ReplicaId
	c.stop(victim)
	c.put(0, "k50", "value")
	changeRows(t, c.dirs[victim], "k07", "k09")
	c.start(victim)
	c.replacedOn(victim, 2, old)
	c.expectContained(victim)
	for i := range 51 {
		resp, err := c.nodes[victim].KV().Range(t.Context(), &pb.RangeRequest{Key: fmt.Appendf(nil, "k%02d", i), Serializable: true})
		if err != nil || len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != "value" {
			t.Fatalf("k%02d: %v, %v", i, resp, err)
		}
	}
	c.put(victim, "after", "value")
	if got := c.get(0, "after"); got != "value" {
		t.Fatalf("reads %q", got)
	}
}

// A block that cannot be read is met by a read, which asks for a check; then as above.
func TestDamagedTableIsReplaced(t *testing.T) {
	c := newNetCluster(t, 3)
	c.tune = func(cfg *Config) { cfg.NoPlanner = false }
	c.start(0, 1, 2)
	values := randomValues(64)
	for i, value := range values {
		c.put(i%3, fmt.Sprintf("k%03d", i), string(value))
	}
	const victim = 2
	old := c.descriptorOf(victim, 2).ReplicaOn(victim + 1).ReplicaId
	if err := c.nodes[victim].eng.Flush(); err != nil {
		t.Fatal(err)
	}
	c.stop(victim)
	damage(t, c.dirs[victim], values[40])
	c.start(victim)
	refused := 0
	for i := range 64 {
		_, err := c.nodes[victim].KV().Range(soon(t), &pb.RangeRequest{Key: fmt.Appendf(nil, "k%03d", i), Serializable: true})
		if err != nil {
			refused++
		}
	}
	if refused == 0 {
		t.Fatal("no read met the damage")
	}
	c.replacedOn(victim, 2, old)
	c.expectContained(victim)
	for i := range 64 {
		resp, err := c.nodes[victim].KV().Range(soon(t), &pb.RangeRequest{Key: fmt.Appendf(nil, "k%03d", i), Serializable: true})
		if err != nil || len(resp.Kvs) != 1 {
			t.Fatalf("k%03d: %v", i, err)
		}
	}
}
