package robustness

import (
	"fmt"
	"time"

	"go.etcd.io/etcd/tests/v3/robustness/traffic"
)

// victim says which node a fault is for.
type victim int

const (
	follower victim = iota // a node that leads no range, so that no leader is lost
	leader                 // the node that leads most ranges
)

// fault is something that happens to a node and ends again.
type fault struct {
	name   string
	victim victim
	net    bool // needs wires that can be cut
	do     func(*cluster, int) error
	undo   func(*cluster, int) error
	hold   time.Duration // how long it lasts at most
}

func faults() []fault {
	restart := func(c *cluster, i int) error { return c.Restart(i) }
	heal := func(c *cluster, _ int) error { return c.Net.Heal() }
	var out []fault
	for _, v := range []victim{follower, leader} {
		out = append(out,
			fault{"kill", v, false, func(c *cluster, i int) error { c.Kill(i); return nil }, restart, time.Second},
			fault{"stop", v, false, func(c *cluster, i int) error { return c.Stop(i) }, restart, time.Second},
			fault{"pause", v, false, (*cluster).pause, (*cluster).resume, 3 * time.Second},
			fault{"isolate", v, true, func(c *cluster, i int) error { return c.Net.Isolate(i) }, heal, 3 * time.Second},
			// It hears all and is heard by nobody, and the other way round.
			fault{"mute", v, true, func(c *cluster, i int) error { return c.cutFrom(i) }, heal, 3 * time.Second},
			fault{"deafen", v, true, func(c *cluster, i int) error { return c.cutTo(i) }, heal, 3 * time.Second},
		)
	}
	return append(out, fault{name: "none", hold: time.Second})
}

// load is one kind of etcd's traffic.
type load struct {
	name    string
	traffic traffic.Traffic
}

func loads() []load {
	return []load{
		{"kubernetes", traffic.Kubernetes}, {"put-delete-lease", traffic.EtcdPutDeleteLease}, {"put", traffic.EtcdPut},
		{"delete", traffic.EtcdDelete}, {"create-delete", traffic.KubernetesCreateDelete},
	}
}

// scenario is what happens in one run.
type scenario struct {
	load    load
	fault   fault
	compact bool
}

// pick returns the scenario of a number. Consecutive numbers go through all
// combinations of load and fault, with and without compactions.
func pick(n int) scenario {
	f, l := faults(), loads()
	return scenario{fault: f[n%len(f)], load: l[n%len(l)], compact: n/len(f)%2 == 1}
}

func (s scenario) String() string {
	on := map[victim]string{follower: "follower", leader: "leader"}[s.fault.victim]
	out := fmt.Sprintf("%s,%s-%s", s.load.name, s.fault.name, on)
	if s.compact {
		out += ",compact"
	}
	return out
}

// profile is how much traffic there is: what two cores can do that also run the
// cluster and, now and then, something else.
func (s scenario) profile() traffic.Profile {
	keyValue := traffic.KeyValueMedium
	keyValue.MinimalQPS = 10
	watch := traffic.WatchDefault
	p := traffic.Profile{KeyValue: &keyValue, Watch: &watch}
	if s.compact {
		compaction := traffic.CompactionDefault
		p.Compaction = &compaction
	}
	return p
}
