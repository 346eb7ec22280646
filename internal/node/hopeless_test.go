package node

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// A planned move to a store that is away is over at once: what it did is in the range's
// descriptor, and the planner may know a better one meanwhile. What was asked for by hand
// goes on.
func TestMovesToAwayStores(t *testing.T) {
	for _, tc := range []struct {
		health placement.StoreHealth
		call   uint64
		stays  bool
	}{
		{placement.Live, 0, true}, {placement.Away, 0, false}, {placement.Lost, 0, false}, {placement.Away, 1, true},
	} {
		c := &Core{}
		o := &operation{op: placement.Operator{ID: placement.OperatorID{Range: 1}, Move: placement.Move{Range: 1, From: 3, To: 4}}, call: tc.call}
		c.operations.at = map[metapb.RangeID]*operation{1: o}
		c.endHopeless([]placement.StoreState{{ID: 4, Health: tc.health}})
		if stays := c.operations.at[1] == o; stays != tc.stays {
			t.Errorf("%+v: it goes on: %v", tc, stays)
		}
	}
}

// What an operation has just led to is known here before the directory is told. A planner
// that looks meanwhile does not plan the same again from the range as it was.
func TestPictureIsNotBehindOperations(t *testing.T) {
	r := newCoreRun(t, CoreConfig{})
	old := r.core.Store().Replica(DataRange).Descriptor()
	now := proto.Clone(old).(*metapb.Descriptor)
	now.Generation++
	now.Replicas = append(now.Replicas, &metapb.Replica{ReplicaId: now.NextReplicaId, StoreId: 2, NodeId: 2})
	now.NextReplicaId++
	o := &operation{op: placement.Operator{ID: placement.OperatorID{Range: DataRange}, Move: placement.Move{Range: DataRange, To: 2}}, desc: old, asked: true}
	r.core.operations = operations{at: map[metapb.RangeID]*operation{DataRange: o}, asked: map[uint64]*operation{7: o}}
	r.core.operated(7, &peerpb.ReplicasChanged{Descriptor: now}, nil)
	if len(r.core.operations.at) != 0 {
		t.Fatal("the operation is not over")
	}
	for _, p := range r.core.picture(nil).Ranges {
		if d := p.Descriptor; d.ID() == DataRange && d.Generation != now.Generation {
			t.Errorf("the picture has generation %d, it is %d", d.Generation, now.Generation)
		}
	}
}

// The answer to a step of an operation that is over says nothing of the next one.
func TestAnswerToEarlierOperation(t *testing.T) {
	r := newCoreRun(t, CoreConfig{})
	c := r.core
	move := placement.Move{Range: DataRange, From: 1, To: 2}
	c.operate(placement.Operator{ID: placement.OperatorID{Range: DataRange}, Move: move})
	first := c.operations.at[DataRange]
	if first == nil || !first.asked {
		t.Fatal("nothing was asked")
	}
	c.endOperation(first, nil)
	byHand := &operation{op: first.op, desc: first.desc, call: 99, until: c.now + 1000}
	c.beginOperation(byHand)
	c.operated(internalBit|(c.internal-1), nil, peerpb.ErrNoMajority) // to the first
	if c.operations.at[DataRange] != byHand || !byHand.asked {
		t.Errorf("the move by hand took the answer: %+v", byHand)
	}
	c.operated(internalBit|c.internal, nil, peerpb.ErrNoMajority)
	if c.operations.at[DataRange] != nil {
		t.Error("the move by hand did not take its own")
	}
}

// A learner is to go, and becomes a voter while the request for that is on its way. The range
// has changed, so the request was about something else: it is not asked again, and a look at
// the range shows that the replica stays.
func TestLearnerVotesOnTheWay(t *testing.T) {
	r := newCoreRun(t, CoreConfig{})
	c := r.core
	with := func(d *metapb.Descriptor, kind metapb.ReplicaKind) *metapb.Descriptor {
		d = proto.Clone(d).(*metapb.Descriptor)
		d.Generation++
		d.NextReplicaId = 3
		d.Replicas = append(d.Replicas[:1], &metapb.Replica{ReplicaId: 2, StoreId: 2, NodeId: 2, Kind: kind})
		return d
	}
	learns := with(c.Store().Replica(DataRange).Descriptor(), metapb.ReplicaKind_LEARNER)
	votes := with(learns, metapb.ReplicaKind_VOTER)
	c.beginOperation(&operation{
		op:   placement.Operator{ID: placement.OperatorID{Range: DataRange}, Move: placement.Move{Range: DataRange, From: 2, LearnerOnly: true}},
		desc: learns, call: 99, until: c.now.Add(operateMax),
	})
	sends := c.router.Ready().Sends
	if len(sends) != 1 {
		t.Fatalf("%d requests", len(sends))
	}
	c.router.Reply(peerpb.Reply{ID: sends[0].ID, Err: &peerpb.MovedError{Range: DataRange, Newer: []*metapb.Descriptor{votes}}}, c.now)
	rd := c.router.Ready()
	for _, again := range rd.Sends {
		t.Errorf("asked again, at generation %d: %+v", again.Generation, again.Body)
	}
	for _, res := range rd.Results {
		c.result(res)
	}
	c.now = c.now.Add(operatePauseMax)
	c.tickOperations()
	if len(c.operations.at) != 0 {
		t.Error("the operation goes on")
	}
}
