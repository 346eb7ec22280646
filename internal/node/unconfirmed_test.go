package node

import (
	"slices"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/range"
)

// onThree is a range as it would be on three stores.
func onThree(d *metapb.Descriptor) *metapb.Descriptor {
	return &metapb.Descriptor{RangeId: d.RangeId, Start: d.Start, End: d.End, NextReplicaId: 4, Replicas: []*metapb.Replica{
		{ReplicaId: 1, StoreId: 1}, {ReplicaId: 2, StoreId: 2}, {ReplicaId: 3, StoreId: 3},
	}}
}

// Replicas differ, and the next comparison does not say the same of them, since one did not
// answer. They are compared until it is known.
func TestDifferenceIsNotForgotten(t *testing.T) {
	for _, c := range []struct {
		name   string
		rounds []string // a letter is a hash, - no answer
		corrupt,
		undecided []metapb.ReplicaID
	}{
		{"twice the same", []string{"aab", "aab"}, []metapb.ReplicaID{3}, nil},
		{"first nobody can say which, then a copy can", []string{"a-b", "aab"}, nil, nil},
		{"then nobody can say which", []string{"aab", "a-b", "aab"}, []metapb.ReplicaID{3}, nil},
		{"then it does not answer", []string{"aab", "aa-", "aab"}, []metapb.ReplicaID{3}, nil},
		{"it does not answer for long", []string{"aab", "aa-", "aa-", "aa-", "aab"}, []metapb.ReplicaID{3}, nil},
		{"it was a mistake", []string{"aab", "aaa"}, nil, nil},
		{"another one", []string{"aab", "aba", "aba"}, []metapb.ReplicaID{2}, nil},
		{"no majority, and more of them", []string{"a-b", "abc", "abc"}, nil, []metapb.ReplicaID{1, 2, 3}},
	} {
		r := newCoreRun(t, CoreConfig{})
		k := r.core
		desc := onThree(k.Store().Replica(DataRange).Descriptor())
		w := checkWant{id: DataRange}
		for i, sums := range c.rounds {
			answers := make(map[metapb.ReplicaID]peerpb.CheckMessage)
			for j, s := range sums {
				answers[metapb.ReplicaID(j+1)] = peerpb.CheckMessage{State: peerpb.CheckDone, Sum: []byte{byte(s)}}
				if s == '-' {
					answers[metapb.ReplicaID(j+1)] = peerpb.CheckMessage{State: peerpb.CheckSkipped}
				}
			}
			if len(k.corrupt) != 0 {
				t.Fatalf("%s: condemned after %d rounds", c.name, i)
			}
			k.judge(&check{checkWant: w, name: ranges.CheckID{Range: DataRange, Store: 1, Number: 1}, desc: desc, answers: answers})
			if last := i == len(c.rounds)-1; (len(k.wants) == 0) != last {
				t.Fatalf("%s: after round %d: to be checked: %v", c.name, i+1, k.wants)
			} else if !last {
				w, k.wants = k.wants[0], nil
			}
		}
		var corrupt, undecided []metapb.ReplicaID
		for _, x := range k.corrupt {
			if x.undecided {
				undecided = append(undecided, x.replica)
			} else {
				corrupt = append(corrupt, x.replica)
			}
		}
		if !slices.Equal(corrupt, c.corrupt) || !slices.Equal(undecided, c.undecided) {
			t.Errorf("%s: corrupt %v, undecided %v; want %v, %v", c.name, corrupt, undecided, c.corrupt, c.undecided)
		}
	}
}

// Replicas differed once, or have come, and who compares them leads no more when they are to
// be compared. Who leads now is asked to.
func TestDifferenceIsHandedOn(t *testing.T) {
	r := newCoreRun(t, CoreConfig{})
	c := r.core
	const elsewhere = 99
	for _, w := range []checkWant{{first: &ranges.Verdict{Corrupt: []metapb.ReplicaID{3}}}, {moved: true}, {}} {
		w.id = elsewhere
		wants := w.first != nil || w.moved
		c.doubts = nil
		if c.beginCheck(w); c.under != nil || slices.Contains(c.doubts, elsewhere) != wants {
			t.Errorf("it cannot begin: to be checked: %v", c.doubts)
		}
		c.doubts = nil
		if c.abandonCheck(&check{checkWant: w}); slices.Contains(c.doubts, elsewhere) != wants {
			t.Errorf("it is not ended: to be checked: %v", c.doubts)
		}
		// Where it leads still it goes on by itself, also for an operator who has given up.
		c.wants = nil
		w.id, w.call = DataRange, 1<<40
		if c.abandonCheck(&check{checkWant: w}); len(c.wants) == 1 != (w.first != nil) || w.first != nil && c.wants[0].call != 0 {
			t.Errorf("to be checked: %v", c.wants)
		}
	}
}

// A store always says that it has yet to come to a check. In the end that is no answer, and
// others have their turn.
func TestCheckEnds(t *testing.T) {
	r := newCoreRun(t, CoreConfig{})
	c := r.core
	name := ranges.CheckID{Range: DataRange, Store: 1, Number: 1}
	c.under = &check{
		checkWant: checkWant{id: DataRange}, name: name, desc: onThree(c.Store().Replica(DataRange).Descriptor()), begun: c.now,
		answers: make(map[metapb.ReplicaID]peerpb.CheckMessage), heardAt: make(map[metapb.ReplicaID]clock.Time),
	}
	c.hashes = append(c.hashes, &hashed{name: name, replica: 1, index: 1 << 20, state: peerpb.CheckDone, sum: []byte("a")})
	for began := c.now; c.under != nil; c.now = c.now.Add(time.Second) {
		if c.now.Sub(began) > time.Hour {
			t.Fatal("it has no end")
		}
		c.tickCheck(c.under)
		for id := metapb.StoreID(2); id <= 3; id++ {
			c.stepCheck(id, &peerpb.CheckMessage{
				Kind: peerpb.CheckAnswers, Range: DataRange, Replica: metapb.ReplicaID(id), Store: 1, Number: 1, Index: 1 << 20, State: peerpb.CheckUnderWay,
			})
		}
	}
}
