package sim

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/internal/node"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/range"
	"github.com/flotilladb/flotilla/router"
)

// CheckConfig is how replicas are compared.
type CheckConfig struct {
	// Every is in what time each range is checked that a node leads; 0: never.
	Every time.Duration
	// Corrupt: when all is quiet a row of one store is changed, which a check has to
	// find, and the replica has to be replaced.
	Corrupt bool
}

// DrawChecks makes the configuration of a seed in which replicas come and go, and are
// compared all the time.
func DrawChecks(seed uint64, nodes int) Config {
	c := drawMoves(seed, nodes)
	rng := rand.New(rand.NewPCG(seed, 12))
	c.Check = CheckConfig{Every: pick(rng, 300*time.Millisecond, time.Second), Corrupt: true}
	return c
}

// damaged is a replica whose row was changed.
type damaged struct {
	node    *simNode
	id      metapb.RangeID
	replica metapb.ReplicaID
	asked   bool
	// key has value since, until the row is written again: then nothing is to be found.
	key, value []byte
	found      bool
}

// foundCorrupt is told of what a node says to be corrupt. Nothing else may be.
func (n *simNode) foundCorrupt(rd *node.Ready) {
	for _, x := range rd.Corrupt {
		n.tracef("range %d: replica %d of store %d is corrupt", x.Range, x.Replica, x.Store)
		d := n.s.damaged
		if d == nil || d.id != x.Range || d.replica != x.Replica || x.Undecided {
			n.s.fail(fmt.Errorf("range %d: replica %d is said to be corrupt, and is not", x.Range, x.Replica))
		}
		n.s.stats.Corrupt++
		if d != nil {
			d.found = true
		}
	}
}

// voters counts those that decide who is right. A learner was copied from one of them.
func voters(d *metapb.Descriptor) (n int) {
	for _, repl := range d.Replicas {
		if repl.Kind == metapb.ReplicaKind_VOTER {
			n++
		}
	}
	return n
}

// corrupt changes a row, has the replicas compared, and waits until that one was
// replaced.
func (s *Sim) corrupt() {
	if !s.cfg.Check.Corrupt || s.failed != nil {
		return
	}
	n := s.someNode()
	var rows [][2][]byte
	var at []*ranges.Replica
	for _, id := range n.core.Store().IDs() {
		r := n.core.Store().Replica(id)
		if voters(r.Descriptor()) < 3 || id == metapb.SystemRange && !s.cfg.Moves.System {
			continue
		}
		for _, sp := range keys.Tables(r.Descriptor().Span()) {
			it, err := n.eng.NewIter(engine.IterOptions{Lower: sp.Start, Upper: sp.End})
			if err != nil {
				s.fail(err)
				return
			}
			var counts countedRows
			for ok := it.First(); ok; ok = it.Next() {
				if v, err := it.Value(); err == nil && counts.next(it.Key(), v, metapb.Revision(s.compacted)) && len(v) > 0 {
					rows = append(rows, [2][]byte{bytes.Clone(it.Key()), bytes.Clone(v)})
					at = append(at, r)
				}
			}
			s.fail(it.Close())
		}
	}
	if len(rows) == 0 {
		return
	}
	i := s.faults.IntN(len(rows))
	key, value := rows[i][0], rows[i][1]
	value[s.faults.IntN(len(value))] ^= 1 << s.faults.IntN(8)
	b := n.eng.NewBatch()
	b.Set(key, value)
	s.fail(n.eng.Commit(b, false))
	s.damaged = &damaged{node: n, id: at[i].Descriptor().ID(), replica: at[i].ID(), key: key, value: value}
	n.tracef("range %d: %s is changed", s.damaged.id, keys.Format(key))
	s.repair()
	s.settle()
}

// countedRows says which rows of a table a check compares, one after the other. What is at the
// compacted revision, and the same revision covered, stays, and is not compared.
type countedRows struct {
	user []byte // the last key with a version that is not above the compacted revision
}

func (x *countedRows) next(key, value []byte, compacted metapb.Revision) bool {
	if !keys.IsVersion(key) {
		return true
	}
	user, rev, _, err := keys.DecodeVersion(key)
	if err != nil || rev > compacted {
		return err == nil
	}
	if x.user != nil && bytes.Equal(user, x.user) {
		return false
	}
	x.user = append(make([]byte, 0, len(user)), user...)
	v, err := mvcc.DecodeValue(value)
	return err == nil && !v.Tombstone
}

// repair asks for a check, and does what an operator would: with no planner here it
// takes away what is said to be corrupt and has it made anew.
func (s *Sim) repair() {
	d := s.damaged
	if d.over() {
		return
	}
	s.after(restoreEvery, s.repair)
	for _, n := range s.nodes {
		if !n.serving || n.stopping {
			continue
		}
		r := n.core.Store().Replica(d.id)
		if r == nil || !r.Leads() {
			continue
		}
		if p := r.Descriptor().ReplicaOn(d.node.id); p == nil || p.Kind == metapb.ReplicaKind_LEARNER {
			s.askMove(n, placement.Move{Range: d.id, To: d.node.id})
			continue
		}
		for _, x := range n.core.System().Corrupt() {
			if x.Range == d.id && x.Replica == d.replica {
				s.askMove(n, placement.Move{Range: d.id, From: d.node.id})
				return
			}
		}
		if !d.asked {
			d.asked = true
			call := &router.Call{Req: &router.AddressRequest{Address: r.Descriptor().Start, Body: &peerpb.CheckRange{}}, Done: make(chan struct{}, 1)}
			n.submit(call, func() {
				n.tracef("check of range %d: %+v, %v", d.id, call.Resp, call.Err)
				d.asked = false
			})
		}
	}
}

// over reports whether there is nothing to be found any more: the replica was replaced, or
// the row written anew before anybody saw it.
func (d *damaged) over() bool {
	if d.replaced() {
		return true
	}
	r := d.node.core.Store().Replica(d.id)
	if d.found || r == nil || r.ID() != d.replica {
		return false
	}
	row, closer, err := d.node.eng.Get(d.key)
	if err != nil {
		return errors.Is(err, engine.ErrNotFound)
	}
	defer closer.Close()
	return !bytes.Equal(row, d.value)
}

// replaced reports whether the store has another replica, which all know to be a
// voter.
func (d *damaged) replaced() bool {
	for _, n := range d.node.s.nodes {
		if !n.up {
			return false
		}
		r := n.core.Store().Replica(d.id)
		if r == nil {
			return false
		}
		p := r.Descriptor().ReplicaOn(d.node.id)
		if p == nil || p.Kind != metapb.ReplicaKind_VOTER || p.ReplicaId == uint64(d.replica) {
			return false
		}
	}
	return true
}
