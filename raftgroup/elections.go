package raftgroup

import (
	"cmp"
	"math/rand/v2"
	"time"

	"github.com/google/btree"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// Elections says when a store's replicas without a leader stand for election:
// the replicas of a range one after the other, so that they do not take votes
// from each other, and those of a store spread out, so that thousands do not
// begin at once. Not safe for concurrent use.
type Elections struct {
	timeout time.Duration
	rng     *rand.Rand
	at      map[metapb.RangeID]clock.Time
	queue   *btree.BTreeG[electionTime] // the same
	// tries is how often in a row a replica stood in vain.
	tries map[metapb.RangeID]int
}

type electionTime struct {
	at      clock.Time
	rangeID metapb.RangeID
}

// NewElections returns the elections of a store. Delays are parts of the election
// timeout.
func NewElections(timeout time.Duration, rng *rand.Rand) *Elections {
	return &Elections{
		timeout: timeout, rng: rng,
		at:    make(map[metapb.RangeID]clock.Time),
		tries: make(map[metapb.RangeID]int),
		queue: btree.NewG(16, func(a, b electionTime) bool {
			return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.rangeID, b.rangeID)) < 0
		}),
	}
}

// Arm lets a replica stand for election unless it is to do so already. Rank is
// its place among the range's replicas: the first goes first.
func (e *Elections) Arm(rangeID metapb.RangeID, now clock.Time, rank int) {
	if _, ok := e.at[rangeID]; !ok {
		// Not at once: somebody else may just be elected.
		e.set(rangeID, now.Add(e.timeout/20+e.turn(rank)))
	}
}

// ArmNow is Arm where the promise to the leader's store has run out: nobody else was elected
// before, and whoever is told of the election too early keeps that until he may vote. One that
// is to stand later, for what was before that leader, does not wait for that.
func (e *Elections) ArmNow(rangeID metapb.RangeID, now clock.Time, rank int) {
	at := now.Add(e.turn(rank))
	if old, ok := e.at[rangeID]; !ok || at.Before(old) {
		e.set(rangeID, at)
	}
}

// turn is how long a replica waits for its turn. Those of a store are not far apart: many
// elections at once cost less than the same one by one, and its owner takes no more of them at
// a time than it can.
func (e *Elections) turn(rank int) time.Duration {
	return e.upTo(e.timeout/20) + time.Duration(rank)*e.timeout/4
}

// PutOff lets a replica that waits for its time wait longer: it voted for another one,
// which it would take the election from as soon as that has won it.
func (e *Elections) PutOff(rangeID metapb.RangeID, now clock.Time) {
	if at, ok := e.at[rangeID]; ok {
		e.set(rangeID, max(at, now.Add(e.timeout/4+e.upTo(e.timeout/4))))
	}
}

// triesMax is after how many elections in vain the time between two grows no more.
const triesMax = 2

// Again lets a replica try again some time after now. Each time that is twice as
// long: where messages and disks are slow, two that stand for election in turn would
// else end each other's for ever.
func (e *Elections) Again(rangeID metapb.RangeID, now clock.Time) {
	n := e.tries[rangeID]
	e.tries[rangeID] = min(n+1, triesMax)
	e.set(rangeID, now.Add((e.timeout/4+e.upTo(e.timeout/2))<<n))
}

// Led says that a replica has a leader: the next election is the first again.
func (e *Elections) Led(rangeID metapb.RangeID) { delete(e.tries, rangeID) }

func (e *Elections) upTo(d time.Duration) time.Duration {
	return time.Duration(e.rng.Int64N(int64(d) + 1))
}

func (e *Elections) set(rangeID metapb.RangeID, at clock.Time) {
	e.remove(rangeID)
	e.at[rangeID] = at
	e.queue.ReplaceOrInsert(electionTime{at, rangeID})
}

// Disarm is called when a replica need not stand for election.
func (e *Elections) Disarm(rangeID metapb.RangeID) {
	e.remove(rangeID)
	e.Led(rangeID)
}

func (e *Elections) remove(rangeID metapb.RangeID) {
	if at, ok := e.at[rangeID]; ok {
		delete(e.at, rangeID)
		e.queue.Delete(electionTime{at, rangeID})
	}
}

// Next takes a replica whose time has come.
func (e *Elections) Next(now clock.Time) (rangeID metapb.RangeID, ok bool) {
	first, ok := e.queue.Min()
	if !ok || first.at.After(now) {
		return 0, false
	}
	e.remove(first.rangeID)
	return first.rangeID, true
}

// Len returns how many replicas wait.
func (e *Elections) Len() int { return len(e.at) }
