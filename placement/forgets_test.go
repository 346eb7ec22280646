package placement

import (
	"testing"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// A planner may be gone after each step, since it is where its own range is led, which it
// moves too. The next one finds learners and knows of no move: it goes on with them. It would
// begin for ever, were it to take them away.
func TestPlannerForgets(t *testing.T) {
	w := newPlanWorld(t, 5, 4, 1, 2, 3)
	for rounds := 0; ; rounds++ {
		ops := Plan(&w.pic, w.limits)
		if len(ops) == 0 {
			break
		}
		if rounds > 100 {
			t.Fatalf("not still: %+v", ops)
		}
		for _, op := range ops {
			r := &w.pic.Ranges[op.ID.Range-1]
			if op.TransferTo != 0 {
				r.Leader = op.TransferTo
				continue
			}
			d := cloneDesc(r.Descriptor)
			switch next := op.Move.Next(d, r.Leader); {
			case next.HandOver:
				for _, p := range d.Replicas {
					if p.Kind == voter && metapb.StoreID(p.StoreId) != op.Move.From {
						r.Leader = metapb.StoreID(p.StoreId)
					}
				}
			case next.Change != nil && next.Change.Learner != 0:
				d.Replicas = append(d.Replicas, &metapb.Replica{ReplicaId: d.NextReplicaId, StoreId: uint64(next.Change.Learner), Kind: learner})
				d.NextReplicaId++
			case next.Change != nil:
				w.change(d, next.Change.Promote, next.Change.Remove)
			}
			d.Generation++
			r.Descriptor = d
		}
	}
	if repl, _ := w.spread(); repl[1]-repl[0] >= replicasSlack {
		t.Fatalf("stores have %v replicas", repl)
	}
}
