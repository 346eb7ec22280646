package sim

import (
	"bytes"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	flagSeeds = flag.Uint64("seeds", 20, "how many seeds to run")
	flagFrom  = flag.Uint64("from", 1, "the first of them")
	flagSeed  = flag.Uint64("seed", 0, "run this one only")
	flagNodes = flag.Int("nodes", 1, "how many nodes there are")
	flagMoves = flag.Bool("moves", false, "replicas come and go")
	flagPlans = flag.Bool("planner", false, "stores come and go, and a planner moves replicas")
	flagCheck = flag.Bool("checks", false, "they are compared, and one is made corrupt")
	flagRead  = flag.Bool("readers", false, "some clients only read, and leaders are deposed")
	flagCalm  = flag.Bool("calm", false, "no faults")
	flagOper  = flag.Bool("operator", false, "no faults; leaders are handed over and nodes stopped in order, and no revision is skipped")
	flagFor   = flag.Duration("for", 0, "begin no seed after that; 0: run all")
	flagTrace = flag.Bool("trace", false, "print all that happens in -seed")
)

// seedsThatFound are those that found a bug; see docs/found-bugs.md.
func seedsThatFound() []uint64 {
	return []uint64{18, 68, 74, 106, 193, 269, 310, 367, 744, 778, 862, 990, 1271, 983728, 7010999}
}

// clusterSeedsThatFound did so with three nodes.
func clusterSeedsThatFound() []uint64 {
	return []uint64{26, 131, 138, 193, 220, 252, 661, 930, 7000650, 7602327, 9994041}
}

// moveSeedsThatFound did so with four nodes whose replicas move.
func moveSeedsThatFound() []uint64 {
	return []uint64{54, 63, 103, 150, 172, 181, 208, 340, 354, 402, 513, 587, 636, 740, 942, 984010, 9994026}
}

func draw(seed uint64) Config {
	if *flagNodes == 1 {
		return DrawOne(seed)
	}
	cfg := DrawCluster(seed, *flagNodes)
	switch {
	case *flagCheck:
		cfg = DrawChecks(seed, *flagNodes)
	case *flagRead:
		cfg = DrawReaders(seed, *flagNodes)
	case *flagMoves:
		cfg = DrawMoves(seed, *flagNodes)
	}
	if *flagOper {
		cfg = DrawOperator(seed, *flagNodes)
	}
	if *flagPlans {
		cfg = DrawPlanner(seed, *flagNodes)
		if *flagOper {
			cfg = DrawOperatorPlanner(seed, *flagNodes)
		}
	}
	if *flagCalm {
		return calm(cfg)
	}
	return cfg
}

// TestSeedsThatFound runs them once more.
func TestSeedsThatFound(t *testing.T) {
	for _, kind := range []struct {
		name  string
		seeds []uint64
		draw  func(seed uint64) Config
	}{
		{"one node", seedsThatFound(), DrawOne},
		{"three nodes", clusterSeedsThatFound(), func(seed uint64) Config { return DrawCluster(seed, 3) }},
		{"four nodes whose replicas move", moveSeedsThatFound(), func(seed uint64) Config { return DrawMoves(seed, 4) }},
		{"three nodes with readers", readerSeedsThatFound(), func(seed uint64) Config { return DrawReaders(seed, 3) }},
		{"three nodes that are compared", checkSeedsThatFound(), func(seed uint64) Config { return DrawChecks(seed, 3) }},
		{"four nodes that are compared", []uint64{31025539}, func(seed uint64) Config { return DrawChecks(seed, 4) }},
		{"five nodes with a planner", plannerSeedsThatFound(), func(seed uint64) Config { return DrawPlanner(seed, 5) }},
		{"three nodes with an operator", operatorSeedsThatFound(), func(seed uint64) Config { return DrawOperator(seed, 3) }},
		{"four nodes with an operator", []uint64{77}, func(seed uint64) Config { return DrawOperator(seed, 4) }},
		{"five nodes with an operator and a planner", operatorPlannerSeedsThatFound(), func(seed uint64) Config { return DrawOperatorPlanner(seed, 5) }},
	} {
		for _, seed := range kind.seeds {
			if _, err := Run(kind.draw(seed), nil); err != nil {
				t.Errorf("%s: %s", kind.name, failure(seed, err))
			}
		}
	}
}

// readerSeedsThatFound are of three nodes whose leaders are deposed while some only read.
func readerSeedsThatFound() []uint64 {
	return []uint64{180, 246, 420, 690, 936, 910435, 984120, 9951444}
}

// checkSeedsThatFound are of three nodes whose replicas move and are compared.
func checkSeedsThatFound() []uint64 { return []uint64{7240193, 7540433, 7800143} }

// operatorSeedsThatFound are of three nodes of which leaders are handed over, and which are
// stopped in order.
func operatorSeedsThatFound() []uint64 { return []uint64{27, 50, 9998059} }

// operatorPlannerSeedsThatFound are of five nodes that join, stop and are removed in order,
// beside a planner.
func operatorPlannerSeedsThatFound() []uint64 { return []uint64{110, 124, 135, 218} }

// plannerSeedsThatFound are of five nodes whose planner moves replicas.
func plannerSeedsThatFound() []uint64 { return []uint64{7150105} }

// TestSeeds runs one simulation per seed. Each is a few seconds of virtual time.
func TestSeeds(t *testing.T) {
	if *flagSeed != 0 {
		var trace io.Writer
		if *flagTrace {
			trace = os.Stdout
		}
		cfg := draw(*flagSeed)
		t.Logf("%+v", cfg)
		stats, err := Run(cfg, trace)
		t.Logf("%+v", stats)
		if err != nil {
			t.Fatal(failure(*flagSeed, err))
		}
		return
	}
	total := runSeeds(t, *flagFrom, *flagFrom+*flagSeeds)
	t.Logf("%d seeds: %+v", total.Seeds, total)
	faults := *flagCalm || *flagOper || total.Crashes > 0 && total.Stops > 0
	if total.Writes == 0 || !faults || total.Splits == 0 || total.Compactions == 0 || total.WatchEvents == 0 || total.WatchScans == 0 {
		t.Errorf("the seeds did not meet everything: %+v", total)
	}
}

// TestCluster runs some seeds with three nodes and nothing that fails.
func TestCluster(t *testing.T) {
	for seed := uint64(1); seed <= 8; seed++ {
		if _, err := Run(calm(DrawCluster(seed, 3)), nil); err != nil {
			t.Error(failure(seed, err))
		}
	}
}

// TestOperator runs some seeds in which an operator hands leaders over, and stops nodes or
// moves replicas: no request fails, and no revision is skipped.
func TestOperator(t *testing.T) {
	var total Stats
	for i := range 8 {
		seed, nodes := uint64(i+1), 3+i%2
		stats, err := Run(DrawOperator(seed, nodes), nil)
		if err != nil {
			t.Errorf("%d nodes: %s", nodes, failure(seed, err))
		}
		total.add(stats)
	}
	if total.Orderly < 7 || total.Asked < 100 || total.Drained < 4 || total.Moves < 20 {
		t.Errorf("%d of 8 were in order, %d leaders were handed over, %d nodes stopped, %d replicas moved", total.Orderly, total.Asked, total.Drained, total.Moves)
	}
}

// TestOperatorPlanner runs some seeds in which stores join, stop and are removed in order.
func TestOperatorPlanner(t *testing.T) {
	var total Stats
	for seed := uint64(1); seed <= 6; seed++ {
		stats, err := Run(DrawOperatorPlanner(seed, 5), nil)
		if err != nil {
			t.Error(failure(seed, err))
		}
		total.add(stats)
	}
	if total.Orderly != 6 || total.Drained < 4 || total.Joins < 6 || total.Left < 4 || total.Left != total.Leaves || total.Added < 20 {
		t.Errorf("%d of 6 were in order: %+v", total.Orderly, total)
	}
}

// runSeeds runs seeds side by side, each in one thread.
func runSeeds(t *testing.T, from, to uint64) (total Stats) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	seeds := make(chan uint64)
	began := time.Now()
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for seed := range seeds {
				if *flagFirst && t.Failed() || *flagFor > 0 && time.Since(began) > *flagFor {
					continue
				}
				stats, err := Run(draw(seed), nil)
				mu.Lock()
				total.add(stats)
				total.Seeds++
				if err != nil {
					t.Error(failure(seed, err))
				}
				mu.Unlock()
			}
		})
	}
	for seed := from; seed < to; seed++ {
		seeds <- seed
	}
	close(seeds)
	wg.Wait()
	return total
}

// failure is the line from which a run can be had again.
func failure(seed uint64, err error) string {
	commit, gitErr := exec.Command("git", "rev-parse", "--short", "HEAD").Output()
	if gitErr != nil {
		commit = []byte("unknown")
	}
	var moves []string
	flag.Visit(func(f *flag.Flag) {
		if slices.Contains([]string{"moves", "planner", "checks", "readers", "calm", "operator"}, f.Name) && f.Value.String() == "true" {
			moves = append(moves, "-"+f.Name)
		}
	})
	return fmt.Sprintf("commit %s, seed %d, replay with: make replay SEED=%d NODES=%d MOVES='%s': %v",
		strings.TrimSpace(string(commit)), seed, seed, *flagNodes, strings.Join(moves, " "), err)
}

func (s *Stats) add(o Stats) {
	s.Ops += o.Ops
	s.Reads += o.Reads
	s.Writes += o.Writes
	s.Crashes += o.Crashes
	s.Stops += o.Stops
	s.Splits += o.Splits
	s.Cuts += o.Cuts
	s.Snapshots += o.Snapshots
	s.Moves += o.Moves
	s.Corrupt += o.Corrupt
	s.Joins += o.Joins
	s.Lost += o.Lost
	s.Aways += o.Aways
	s.Leaves += o.Leaves
	s.Left += o.Left
	s.Added += o.Added
	s.Freezes += o.Freezes
	s.Transfers += o.Transfers
	s.Asked += o.Asked
	s.Drained += o.Drained
	s.Orderly += o.Orderly
	s.Ranges = max(s.Ranges, o.Ranges)
	s.Steps += o.Steps
	s.Compactions += o.Compactions
	s.Watches += o.Watches
	s.WatchEvents += o.WatchEvents
	s.WatchesCompacted += o.WatchesCompacted
	s.WatchScans += o.WatchScans
	s.WatchHistories += o.WatchHistories
	s.FollowedEvents += o.FollowedEvents
	s.Unknown += o.Unknown
	s.Refused += o.Refused
	s.Virtual += o.Virtual
}

// One seed is one run, to the last byte of its trace.
func TestSameSeedSameRun(t *testing.T) {
	for _, cfg := range []Config{
		Draw(1), Draw(2), Draw(3), DrawCluster(1, 3), DrawCluster(2, 3), DrawCluster(3, 3),
		DrawMoves(1, 4), DrawPlanner(38, 7), DrawPlanner(17, 7), DrawReaders(1, 3), DrawChecks(1, 3),
	} {
		var sums [2]uint64
		var lines [2]int
		for i := range sums {
			var trace bytes.Buffer
			if _, err := Run(cfg, &trace); err != nil {
				t.Fatal(failure(cfg.Seed, err))
			}
			h := fnv.New64a()
			h.Write(trace.Bytes())
			sums[i], lines[i] = h.Sum64(), bytes.Count(trace.Bytes(), []byte("\n"))
		}
		if sums[0] != sums[1] || lines[0] < 100 {
			t.Errorf("seed %d of %d nodes: %d lines with sum %x, then %d lines with sum %x", cfg.Seed, cfg.Nodes, lines[0], sums[0], lines[1], sums[1])
		}
	}
}
