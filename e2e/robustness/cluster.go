package robustness

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/flotilladb/flotilla/e2e/proc"
	"go.etcd.io/etcd/tests/v3/framework/e2e"
)

// servingTimeout is how long a cluster may take to serve again once everything
// is well.
const servingTimeout = 30 * time.Second

// cluster is the processes under test.
type cluster struct {
	*proc.Cluster
	disks []*proc.Disk // of each node, if they are small
	rng   *rand.Rand   // of faults
}

// member is what etcd's packages need of a process: where it is.
type member struct {
	e2e.EtcdProcess
	addr string
}

func (m member) EndpointsGRPC() []string { return []string{m.addr} }

// asEtcd shows the cluster to etcd's packages.
func (c *cluster) asEtcd() *e2e.EtcdProcessCluster {
	out := &e2e.EtcdProcessCluster{}
	for _, addr := range c.Endpoints() {
		out.Procs = append(out.Procs, member{addr: addr})
	}
	return out
}

func (c *cluster) pause(i int) error  { return c.Pause(i) }
func (c *cluster) resume(i int) error { return c.Resume(i) }

// cutFrom loses what a node sends to the others, cutTo what they send to it.
func (c *cluster) cutFrom(i int) error {
	return c.others(i, func(other int) error { return c.Net.Cut(i, other) })
}
func (c *cluster) cutTo(i int) error {
	return c.others(i, func(other int) error { return c.Net.Cut(other, i) })
}

// part cuts the wire to one of the others.
func (c *cluster) part(i int) error {
	return c.Net.CutBoth(i, (i+1+c.rng.IntN(len(c.Nodes)-1))%len(c.Nodes))
}

// jump kills a node and sets its clocks, on or back, for when it starts again.
func (c *cluster) jump(i int) error {
	c.Kill(i)
	c.Nodes[i].SetClock(time.Duration(1+c.rng.IntN(24*60)) * time.Minute)
	return nil
}

// fill leaves no room on a node's disk, empty makes some.
func (c *cluster) fill(i int) error  { return c.disks[i].Fill() }
func (c *cluster) empty(i int) error { return c.disks[i].Empty() }

func (c *cluster) killAll(int) error {
	for i := range c.Nodes {
		c.Kill(i)
	}
	return nil
}

func (c *cluster) startAll(int) error { return c.Start() }

func (c *cluster) others(i int, f func(int) error) error {
	var errs []error
	for other := range c.Nodes {
		if other != i {
			errs = append(errs, f(other))
		}
	}
	return errors.Join(errs...)
}

// choose returns a node of the kind, and whether there is one.
func (c *cluster) choose(ctx context.Context, v victim, rng *rand.Rand) (int, bool, error) {
	led, err := c.Led(ctx)
	if err != nil {
		return 0, false, err
	}
	if v == leader {
		return slices.Index(led, slices.Max(led)), true, nil
	}
	var idle []int
	for i, n := range led {
		if n == 0 {
			idle = append(idle, i)
		}
	}
	if len(idle) == 0 {
		return 0, false, nil
	}
	return idle[rng.IntN(len(idle))], true, nil
}

// terms are the terms of all ranges, by id. A leader that is lost or moves is a
// higher term.
func (c *cluster) terms(ctx context.Context) (map[uint64]uint64, error) {
	ranges, err := c.Ranges(ctx)
	if err != nil {
		return nil, err
	}
	out := make(map[uint64]uint64)
	for _, r := range ranges {
		out[r.Descriptor_.RangeId] = r.Term
	}
	return out, nil
}

// sameLeaders says whether no range has had another leader since. New ranges
// come by splits, with the terms of their left sides.
func sameLeaders(before, after map[uint64]uint64) bool {
	highest := slices.Max(slices.Collect(maps.Values(before)))
	for id, term := range after {
		old, ok := before[id]
		if ok && term != old || !ok && term > highest {
			return false
		}
	}
	return true
}
