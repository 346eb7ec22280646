package robustness

import (
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
	least  time.Duration // how long at least
	// transfers is for leaders that are handed over while the run lasts, moves for
	// replicas that are taken away and made anew.
	transfers, moves bool
	// disk gives each node a small disk of its own.
	disk bool
}

func faults() []fault {
	restart := func(c *cluster, i int) error { return c.Restart(i) }
	heal := func(c *cluster, _ int) error { return c.Net.Heal() }
	var out []fault
	for _, v := range []victim{follower, leader} {
		out = append(out,
			fault{name: "kill", victim: v, do: func(c *cluster, i int) error { c.Kill(i); return nil }, undo: restart, hold: time.Second},
			fault{name: "stop", victim: v, do: func(c *cluster, i int) error { return c.Stop(i) }, undo: restart, hold: time.Second},
			fault{name: "pause", victim: v, do: (*cluster).pause, undo: (*cluster).resume, hold: 3 * time.Second},
			fault{name: "isolate", victim: v, net: true, do: func(c *cluster, i int) error { return c.Net.Isolate(i) }, undo: heal, hold: 3 * time.Second},
			// It hears all and is heard by nobody, and the other way round.
			fault{name: "mute", victim: v, net: true, do: func(c *cluster, i int) error { return c.cutFrom(i) }, undo: heal, hold: 3 * time.Second},
			fault{name: "deafen", victim: v, net: true, do: func(c *cluster, i int) error { return c.cutTo(i) }, undo: heal, hold: 3 * time.Second},
		)
	}
	out = append(out, fault{name: "none", hold: time.Second},
		// Leaders go to other nodes all the time, which is no failure.
		fault{name: "transfer", hold: time.Second, transfers: true})
	kill, pause, isolate := out[6], out[8], out[9]
	// With the planner, which mends what is left when nobody waits for a move any more.
	for _, f := range []fault{{name: "none", victim: leader, hold: time.Second}, kill, pause, isolate} {
		f.name, f.moves = f.name+"-moves", true
		out = append(out, f)
	}
	for _, v := range []victim{follower, leader} {
		out = append(out,
			// Packets are lost, clocks jump while the process is dead.
			fault{name: "lose", victim: v, net: true, do: func(c *cluster, i int) error { return c.Net.Lose(i) }, undo: heal, hold: 5 * time.Second, least: time.Second},
			fault{name: "jump", victim: v, do: (*cluster).jump, undo: restart, hold: time.Second},
			fault{name: "full", victim: v, do: (*cluster).fill, undo: (*cluster).empty, hold: 4 * time.Second, least: 2 * time.Second, disk: true},
		)
	}
	return append(out,
		// It does not hear from one of the others, which both hear from the third.
		fault{name: "part", victim: leader, net: true, do: (*cluster).part, undo: heal, hold: 5 * time.Second},
		// It stands still for longer than anything waits.
		fault{name: "stand", victim: leader, do: (*cluster).pause, undo: (*cluster).resume, hold: time.Second, least: time.Minute},
		fault{name: "killall", victim: leader, do: (*cluster).killAll, undo: (*cluster).startAll, hold: time.Second},
	)
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
	out := s.load.name + "," + s.fault.name
	if s.fault.do != nil {
		out += map[victim]string{follower: "-follower", leader: "-leader"}[s.fault.victim]
	}
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
