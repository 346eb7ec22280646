package sim

import "testing"

// Stores join, leave and are lost, and the planner has every range at its place. Seeds
// 5 and 6 have found bugs.
func TestPlanner(t *testing.T) {
	total := Stats{}
	for seed := uint64(1); seed <= 24; seed++ {
		stats, err := Run(calm(DrawPlanner(seed, 4+int(seed%2))), nil)
		if err != nil {
			t.Error(failure(seed, err))
		}
		total.add(stats)
	}
	for nodes, seeds := range map[int][]uint64{4: {20, 208, 271}, 5: {11, 84, 293}, 7: {14, 25, 38, 77}} { // they found bugs
		for _, seed := range seeds {
			if _, err := Run(DrawPlanner(seed, nodes), nil); err != nil {
				t.Errorf("%d nodes: %s", nodes, failure(seed, err))
			}
		}
	}
	if total.Joins == 0 || total.Lost == 0 || total.Aways == 0 || total.Leaves == 0 || total.Added == 0 {
		t.Errorf("too little happened: %+v", total)
	}
}
