package node

import (
	"slices"
	"testing"

	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/router"
)

// newestOf is a range as the node that is furthest knows it.
func (c *netCluster) newestOf(id metapb.RangeID) (newest *metapb.Descriptor) {
	c.every(func(i int) {
		if d := c.descriptorOf(i, id); d != nil && (newest == nil || d.Generation > newest.Generation) {
			newest = d
		}
	})
	return newest
}

// A learner whose driver has died is seen in the descriptor alone: whoever plans takes
// it out, since the range has as many voters as it should.
func TestLearnerWithoutDriver(t *testing.T) {
	c := newNetCluster(t, 4)
	c.tune = func(cfg *Config) { cfg.NoPlanner = false }
	c.start(0, 1, 2)
	c.start(3)
	isVoter := func(p *metapb.Replica) bool { return p.Kind == metapb.ReplicaKind_VOTER }
	settled := func() (d *metapb.Descriptor, ok bool) {
		d = c.newestOf(2)
		return d, len(d.Replicas) == 3 && !slices.ContainsFunc(d.Replicas, func(p *metapb.Replica) bool { return !isVoter(p) })
	}
	var d *metapb.Descriptor
	until(t, "the range has no three voters", func() (ok bool) { d, ok = settled(); return ok })
	free := metapb.StoreID(1)
	for d.ReplicaOn(free) != nil {
		free++
	}
	call := &router.Call{Done: make(chan struct{}, 1), Req: &router.AddressRequest{
		Address: d.Start, Body: &peerpb.ChangeReplicas{Learner: free, Node: metapb.NodeID(free)},
	}}
	if err := c.nodes[0].Submit(call); err != nil {
		t.Fatal(err)
	}
	if <-call.Done; call.Err != nil {
		t.Fatal(call.Err)
	}
	until(t, "the learner is left", func() bool {
		now, ok := settled()
		return ok && now.NextReplicaId > d.NextReplicaId
	})
}
