package raftgroup_test

import (
	"encoding/binary"
	"fmt"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/raftgroup"
)

// counter is a state machine of one's own: it adds up what is proposed. Sum and
// applied index are one row, written together.
type counter struct {
	group *raftgroup.Group
	sum   uint64
}

// store drives many counters on one engine, in one loop, with one sync for all.
type store struct {
	eng      engine.Engine
	counters map[metapb.RangeID]*counter
	ready    raftgroup.ReadySet
}

func newStore(eng engine.Engine) *store {
	return &store{eng: eng, counters: make(map[metapb.RangeID]*counter)}
}

// create begins a range with one voter; many may share a batch.
func (s *store) create(b engine.Batch, id metapb.RangeID) error {
	if err := raftgroup.Bootstrap(b, id, []metapb.ReplicaID{1}); err != nil {
		return err
	}
	saveCounter(b, id, 0, raftgroup.InitialIndex)
	return nil
}

// open starts the range's group on what the engine holds, after create or after
// a restart.
func (s *store) open(id metapb.RangeID) error {
	row, closer, err := s.eng.Get(keys.AppliedState(id))
	if err != nil {
		return err
	}
	defer closer.Close()
	c := &counter{sum: binary.BigEndian.Uint64(row[8:])}
	c.group, err = raftgroup.New(raftgroup.Config{
		RangeID:      id,
		ReplicaID:    1,
		AppliedIndex: binary.BigEndian.Uint64(row),
	}, s.eng)
	if err != nil {
		return err
	}
	s.counters[id] = c
	s.ready.Mark(id)
	return c.group.Campaign()
}

// add proposes to add n to the range's sum.
func (s *store) add(id metapb.RangeID, n uint64) error {
	_, _, err := s.counters[id].group.Propose(binary.BigEndian.AppendUint64(nil, n))
	s.ready.Mark(id)
	return err
}

// run works until nothing is left to do and returns the number of syncs.
func (s *store) run() (syncs int, err error) {
	type written struct {
		group *raftgroup.Group
		token raftgroup.Token
	}
	for s.ready.Len() > 0 {
		batch := s.eng.NewBatch()
		var wait []written
		for n := s.ready.Len(); n > 0; n-- {
			id, _ := s.ready.Next()
			c := s.counters[id]
			for c.group.HasReady() {
				rd, err := c.group.Ready(batch)
				if err != nil {
					return syncs, err
				}
				if rd.Token != 0 {
					wait = append(wait, written{c.group, rd.Token})
				}
				if err := c.apply(batch, id, rd.Committed); err != nil {
					return syncs, err
				}
			}
		}
		if err := s.eng.Commit(batch, len(wait) > 0); err != nil {
			return syncs, err
		}
		for _, w := range wait {
			if err := w.group.Synced(w.token); err != nil {
				return syncs, err
			}
			s.ready.Mark(w.group.RangeID())
		}
		if len(wait) > 0 {
			syncs++
		}
	}
	return syncs, nil
}

func (c *counter) apply(b engine.Batch, id metapb.RangeID, entries []raftgroup.Entry) error {
	for _, e := range entries {
		if len(e.Data) > 0 { // else it is the mark of a new term
			c.sum += binary.BigEndian.Uint64(e.Data)
		}
		saveCounter(b, id, c.sum, e.Index)
	}
	if len(entries) == 0 {
		return nil
	}
	return c.group.Applied(entries[len(entries)-1].Index)
}

func saveCounter(b engine.Batch, id metapb.RangeID, sum, applied uint64) {
	row := binary.BigEndian.AppendUint64(nil, applied)
	b.Set(keys.AppliedState(id), binary.BigEndian.AppendUint64(row, sum))
}

// A thousand groups with a state machine each, on one engine: every round of
// proposals to all of them costs one sync. After a crash they go on where they
// were.
func Example() {
	const groups = 1000
	eng := engine.NewMem()
	s := newStore(eng)
	batch := eng.NewBatch()
	for id := metapb.RangeID(1); id <= groups; id++ {
		check(s.create(batch, id))
	}
	check(eng.Commit(batch, true))
	for id := metapb.RangeID(1); id <= groups; id++ {
		check(s.open(id))
	}
	syncs, err := s.run()
	check(err)
	fmt.Println("elected a thousand leaders with", syncs, "syncs")

	for id := metapb.RangeID(1); id <= groups; id++ {
		check(s.add(id, uint64(id)))
		check(s.add(id, 1))
	}
	syncs, err = s.run()
	check(err)
	fmt.Println("two thousand proposals with", syncs, "sync")

	s = newStore(eng.Crash(func(int) int { return 0 }))
	for id := metapb.RangeID(1); id <= groups; id++ {
		check(s.open(id))
	}
	_, err = s.run()
	check(err)
	total := uint64(0)
	for _, c := range s.counters {
		total += c.sum
	}
	fmt.Println("the sums of all groups after a crash:", total)

	// Output:
	// elected a thousand leaders with 2 syncs
	// two thousand proposals with 1 sync
	// the sums of all groups after a crash: 501500
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
