package placement

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// planWorld carries plans out at once.
type planWorld struct {
	t      *testing.T
	pic    Picture
	limits Limits
	moved  map[metapb.RangeID]int // replicas that came, by range
	moves  int
	hands  int
}

func newPlanWorld(t *testing.T, stores, ranges int, on ...metapb.StoreID) *planWorld {
	w := &planWorld{t: t, moved: make(map[metapb.RangeID]int)}
	for i := range stores {
		w.pic.Stores = append(w.pic.Stores, StoreState{ID: metapb.StoreID(i + 1), Node: metapb.NodeID(i + 1)})
	}
	for i := range ranges {
		d := &metapb.Descriptor{RangeId: uint64(i + 1), Generation: 1, NextReplicaId: uint64(len(on) + 1)}
		for j, s := range on {
			d.Replicas = append(d.Replicas, &metapb.Replica{ReplicaId: uint64(j + 1), StoreId: uint64(s)})
		}
		w.pic.Ranges = append(w.pic.Ranges, RangeState{Descriptor: d, Leader: on[0]})
	}
	return w
}

// round plans and does what was planned; it returns how much that was.
func (w *planWorld) round() int {
	ops := Plan(&w.pic, w.limits)
	for _, op := range ops {
		r := &w.pic.Ranges[op.ID.Range-1]
		if op.TransferTo != 0 {
			if repl := r.Descriptor.ReplicaOn(op.TransferTo); repl == nil || repl.Kind != metapb.ReplicaKind_VOTER {
				w.t.Fatalf("range %d is to be led by store %d, which has no voter: %s", op.ID.Range, op.TransferTo, op.Why)
			}
			r.Leader = op.TransferTo
			w.hands++
			continue
		}
		w.carry(r, op)
	}
	return len(ops)
}

// carry does a move, as far as Next says that it goes.
func (w *planWorld) carry(r *RangeState, op Operator) {
	d := cloneDesc(r.Descriptor)
	for step := 0; ; step++ {
		next := op.Move.Next(d, r.Leader)
		switch {
		case next.Done:
			d.Generation++
			r.Descriptor = d
			w.moves++
			return
		case step > 5:
			w.t.Fatalf("range %d: %+v does not end: %v", d.RangeId, op, d)
		case next.HandOver:
			at := slices.IndexFunc(d.Replicas, func(p *metapb.Replica) bool {
				return p.Kind == metapb.ReplicaKind_VOTER && metapb.StoreID(p.StoreId) != op.Move.From
			})
			r.Leader = metapb.StoreID(d.Replicas[at].StoreId)
		case next.Change == nil:
			w.t.Fatalf("range %d: %+v waits for ever: %v", d.RangeId, op, d)
		case next.Change.Learner != 0:
			d.Replicas = append(d.Replicas, &metapb.Replica{
				ReplicaId: d.NextReplicaId, StoreId: uint64(next.Change.Learner), NodeId: uint64(next.Change.Node), Kind: learner,
			})
			d.NextReplicaId++
			w.moved[d.ID()]++
		default:
			w.change(d, next.Change.Promote, next.Change.Remove)
		}
	}
}

func (w *planWorld) change(d *metapb.Descriptor, promote, remove []metapb.StoreID) {
	for _, s := range promote {
		d.ReplicaOn(s).Kind = voter
	}
	for _, s := range remove {
		for i, repl := range d.Replicas {
			if repl.StoreId == uint64(s) {
				d.Replicas = append(d.Replicas[:i:i], d.Replicas[i+1:]...)
				break
			}
		}
	}
	if len(d.Replicas) == 0 {
		w.t.Fatalf("range %d has no replica left", d.RangeId)
	}
}

// settle goes on until there is nothing to do.
func (w *planWorld) settle(roundsMax int) {
	w.t.Helper()
	for range roundsMax {
		if w.round() == 0 {
			return
		}
	}
	w.t.Fatalf("not still after %d rounds: %d moves, %d transfers; next %v", roundsMax, w.moves, w.hands, Plan(&w.pic, w.limits))
}

// spread is how many replicas and leaders stores that take some have, at least and
// at most.
func (w *planWorld) spread() (repl, lead [2]int) {
	replicas, leaders := map[metapb.StoreID]int{}, map[metapb.StoreID]int{}
	for _, r := range w.pic.Ranges {
		for _, p := range r.Descriptor.Replicas {
			replicas[metapb.StoreID(p.StoreId)]++
		}
		leaders[r.Leader]++
	}
	repl, lead = [2]int{1 << 30, 0}, [2]int{1 << 30, 0}
	for i := range w.pic.Stores {
		s := &w.pic.Stores[i]
		if !s.takes() {
			if n := replicas[s.ID]; n > 0 && s.Health != Away {
				w.t.Errorf("store %d is lost or leaves and has %d replicas", s.ID, n)
			}
			continue
		}
		repl = [2]int{min(repl[0], replicas[s.ID]), max(repl[1], replicas[s.ID])}
		lead = [2]int{min(lead[0], leaders[s.ID]), max(lead[1], leaders[s.ID])}
	}
	return repl, lead
}

// Hundreds of stores are filled from three, lose some, get them back and lose others
// for good; each time it is still after about as many moves as are needed.
func TestPlanComesToRest(t *testing.T) {
	const stores, ranges = 300, 3000
	w := newPlanWorld(t, stores, ranges, 1, 2, 3)
	w.limits = Limits{MovesMax: 200, StoreMovesMax: 20}
	w.settle(2000)
	check := func(what string, movesMax int) {
		t.Helper()
		repl, lead := w.spread()
		t.Logf("%s: %d moves, %d transfers, replicas %v, leaders %v", what, w.moves, w.hands, repl, lead)
		mean := ranges * 3 / stores
		if repl[1]-repl[0] > 2+mean/10 || lead[1]-lead[0] > 4 {
			t.Errorf("%s: replicas %v and leaders %v are not spread", what, repl, lead)
		}
		if w.moves > movesMax {
			t.Errorf("%s took %d moves, want at most %d", what, w.moves, movesMax)
		}
		for id, n := range w.moved {
			most := 4 + w.moves/ranges
			if id == metapb.SystemRange {
				most += 2 // it has two more, which are lost as often
			}
			if n > most {
				t.Errorf("%s: range %d got %d replicas", what, id, n)
			}
		}
		w.moves, w.hands = 0, 0
		clear(w.moved)
	}
	check("filled", 9000+900)
	for i := 0; i < 30; i++ {
		w.pic.Stores[i*7].Health = Away
	}
	w.settle(50)
	if w.moves > 0 {
		t.Errorf("%d replicas were moved since stores are away for a moment", w.moves)
	}
	for i := 0; i < 30; i++ {
		w.pic.Stores[i*7].Health = Lost
	}
	w.settle(2000)
	check("lost", 900+300)
	for i := 0; i < 30; i++ {
		w.pic.Stores[i*7].Health = Live
	}
	w.settle(2000)
	check("back", 900+300)
	for i := 0; i < 10; i++ {
		w.pic.Stores[i*11+5].Leaving = true
	}
	w.settle(2000)
	check("left", 300+100)
}

// A random cluster comes to rest whatever happens to its stores, and has what it can
// have.
func TestPlanRandom(t *testing.T) {
	for seed := int64(1); seed <= 200; seed++ {
		rng := rand.New(rand.NewSource(seed))
		w := newPlanWorld(t, 1+rng.Intn(9), 1+rng.Intn(20), 1)
		for i := range w.pic.Stores {
			if rng.Intn(3) > 0 {
				w.pic.Stores[i].Zone = fmt.Sprint(rng.Intn(4))
			}
		}
		w.settle(500)
		for range 6 {
			s := &w.pic.Stores[rng.Intn(len(w.pic.Stores))]
			switch rng.Intn(3) {
			case 0:
				s.Leaving = !s.Leaving && w.usable() > 1
			case 1:
				if w.usable() > 3 {
					s.Health = Lost
				}
			default:
				s.Health = Live
			}
			w.settle(500)
		}
		for i := range w.pic.Stores {
			w.pic.Stores[i].Health, w.pic.Stores[i].Leaving = Live, false
		}
		w.settle(500)
		for _, r := range w.pic.Ranges {
			most := 3
			if r.Descriptor.ID() == metapb.SystemRange {
				most = 5
			}
			want := min(most, len(w.pic.Stores))
			want -= (want + 1) % 2
			if n := len(r.Descriptor.Replicas); n < want || n > most {
				t.Errorf("seed %d: range %d has %d replicas on %d stores", seed, r.Descriptor.RangeId, n, len(w.pic.Stores))
			}
		}
	}
}

func (w *planWorld) usable() (n int) {
	for i := range w.pic.Stores {
		if w.pic.Stores[i].takes() {
			n++
		}
	}
	return n
}

func TestPlanRules(t *testing.T) {
	for _, tc := range []struct {
		name   string
		stores string // one letter for each: l live, a away, x lost, q leaving, z leaving and away, g removed
		kinds  map[uint64]metapb.ReplicaKind
		leader metapb.StoreID
		busy   bool
		want   string
		// corrupt is a store whose replica is.
		corrupt metapb.StoreID
		system  bool // it is the system range
	}{
		{name: "alone", stores: "l", kinds: map[uint64]metapb.ReplicaKind{1: voter}, leader: 1},
		{name: "two stores are no better than one", stores: "ll", kinds: map[uint64]metapb.ReplicaKind{1: voter}, leader: 1},
		{name: "three stores", stores: "lll", kinds: map[uint64]metapb.ReplicaKind{1: voter}, leader: 1, want: "0>2"},
		{name: "two replicas", stores: "lll", kinds: map[uint64]metapb.ReplicaKind{1: voter, 2: voter}, leader: 1, want: "0>3"},
		{name: "busy", stores: "lll", kinds: map[uint64]metapb.ReplicaKind{1: voter}, leader: 1, busy: true},
		{name: "away is not lost", stores: "llal", kinds: map[uint64]metapb.ReplicaKind{1: voter, 2: voter, 3: voter}, leader: 1},
		{name: "lost", stores: "llxl", kinds: map[uint64]metapb.ReplicaKind{1: voter, 2: voter, 3: voter}, leader: 1, want: "3>4"},
		{name: "lost, nowhere to go", stores: "llx", kinds: map[uint64]metapb.ReplicaKind{1: voter, 2: voter, 3: voter}, leader: 1},
		{name: "no quorum", stores: "lxxl", kinds: map[uint64]metapb.ReplicaKind{1: voter, 2: voter, 3: voter}, leader: 1},
		{name: "leaving", stores: "llql", kinds: map[uint64]metapb.ReplicaKind{1: voter, 2: voter, 3: voter}, leader: 1, want: "3>4"},
		{name: "leaving, nowhere to go", stores: "llq", kinds: map[uint64]metapb.ReplicaKind{1: voter, 2: voter, 3: voter}, leader: 1, want: "3>0"},
		{name: "the last one stays", stores: "q", kinds: map[uint64]metapb.ReplicaKind{1: voter}, leader: 1},
		{name: "too many", stores: "llll", kinds: map[uint64]metapb.ReplicaKind{1: voter, 2: voter, 3: voter, 4: voter}, leader: 1, want: "2>0"},
		{name: "a learner left over", stores: "llll", kinds: map[uint64]metapb.ReplicaKind{1: voter, 2: voter, 3: voter, 4: learner}, leader: 1, want: "4>0"},
		{name: "a learner that is needed", stores: "lll", kinds: map[uint64]metapb.ReplicaKind{1: voter, 2: voter, 3: learner}, leader: 1, want: "0>3"},
		{name: "a learner is away, and a voter lost", stores: "llxal", kinds: map[uint64]metapb.ReplicaKind{1: voter, 2: voter, 3: voter, 4: learner}, leader: 1, want: "4>0"},
		{name: "the same, nowhere else to go", stores: "llxa", kinds: map[uint64]metapb.ReplicaKind{1: voter, 2: voter, 3: voter, 4: learner}, leader: 1},
		{name: "a learner is away, and nothing lost", stores: "lllal", kinds: map[uint64]metapb.ReplicaKind{1: voter, 2: voter, 3: voter, 4: learner}, leader: 1},
		{name: "a learner is away, and there are too few voters", stores: "llal", kinds: map[uint64]metapb.ReplicaKind{1: voter, 2: voter, 3: learner}, leader: 1, want: "3>0"},
		{name: "the same, nowhere else to go", stores: "lla", kinds: map[uint64]metapb.ReplicaKind{1: voter, 2: voter, 3: learner}, leader: 1},
		{name: "a learner leaves, and is away", stores: "lllz", kinds: map[uint64]metapb.ReplicaKind{1: voter, 2: voter, 3: voter, 4: learner}, leader: 1, want: "4>0"},
		{name: "too many, and one is away", stores: "llal", kinds: map[uint64]metapb.ReplicaKind{1: voter, 2: voter, 3: voter, 4: voter}, leader: 1, want: "3>0"},
		{name: "corrupt, nowhere to go", stores: "lll", kinds: map[uint64]metapb.ReplicaKind{1: voter, 2: voter, 3: voter}, leader: 1, corrupt: 2, want: "2>0"},
		{name: "the change needs the one that is away", stores: "lla", kinds: map[uint64]metapb.ReplicaKind{1: voter, 2: voter, 3: voter}, leader: 1, corrupt: 2},
		{name: "the system range has five", stores: "lllll", kinds: map[uint64]metapb.ReplicaKind{1: voter, 2: voter, 3: voter}, leader: 1, system: true, want: "0>4"},
		{name: "and no other", stores: "lllll", kinds: map[uint64]metapb.ReplicaKind{1: voter, 2: voter, 3: voter}, leader: 1},
		{name: "the fifth", stores: "lllll", kinds: map[uint64]metapb.ReplicaKind{1: voter, 2: voter, 3: voter, 4: voter}, leader: 1, system: true, want: "0>5"},
		{name: "four are no better than three", stores: "llll", kinds: map[uint64]metapb.ReplicaKind{1: voter, 2: voter, 3: voter}, leader: 1, system: true},
		{name: "one of five is lost, nowhere to go", stores: "llllx", kinds: map[uint64]metapb.ReplicaKind{1: voter, 2: voter, 3: voter, 4: voter, 5: voter}, leader: 1, system: true, want: "5>0"},
		{name: "one of four is lost, nowhere to go", stores: "lllx", kinds: map[uint64]metapb.ReplicaKind{1: voter, 2: voter, 3: voter, 4: voter}, leader: 1, system: true, want: "4>0"},
		{name: "one of three is lost, nowhere to go", stores: "llx", kinds: map[uint64]metapb.ReplicaKind{1: voter, 2: voter, 3: voter}, leader: 1, system: true},
		{name: "one of five is lost", stores: "llllxl", kinds: map[uint64]metapb.ReplicaKind{1: voter, 2: voter, 3: voter, 4: voter, 5: voter}, leader: 1, system: true, want: "5>6"},
		{name: "one of five leaves", stores: "llllq", kinds: map[uint64]metapb.ReplicaKind{1: voter, 2: voter, 3: voter, 4: voter, 5: voter}, leader: 1, system: true, want: "5>0"},
		{name: "one of four leaves", stores: "lllq", kinds: map[uint64]metapb.ReplicaKind{1: voter, 2: voter, 3: voter, 4: voter}, leader: 1, system: true, want: "4>0"},
		{name: "the system range has too many", stores: "llllll", kinds: map[uint64]metapb.ReplicaKind{1: voter, 2: voter, 3: voter, 4: voter, 5: voter, 6: voter}, leader: 1, system: true, want: "2>0"},
		{name: "one leaves, and another may end any time", stores: "lqg", kinds: map[uint64]metapb.ReplicaKind{1: voter, 2: voter, 3: voter}, leader: 1, want: "3>0"},
		{name: "one is corrupt, and another may end any time", stores: "llg", kinds: map[uint64]metapb.ReplicaKind{1: voter, 2: voter, 3: voter}, leader: 1, corrupt: 2, want: "3>0"},
		{name: "one is lost, and another may end any time", stores: "lxg", kinds: map[uint64]metapb.ReplicaKind{1: voter, 2: voter, 3: voter}, leader: 1},
		{name: "one is away and leaves, and another may end any time", stores: "lzg", kinds: map[uint64]metapb.ReplicaKind{1: voter, 2: voter, 3: voter}, leader: 1, want: "2>0"},
		{name: "between", stores: "llll", kinds: map[uint64]metapb.ReplicaKind{1: voter, 2: voter, 3: outgoing, 4: incoming}, leader: 1},
	} {
		var pic Picture
		for i, c := range tc.stores {
			s := StoreState{ID: metapb.StoreID(i + 1), Node: metapb.NodeID(i + 1), Leaving: c == 'q' || c == 'z' || c == 'g', Removed: c == 'g'}
			s.Health = map[rune]StoreHealth{'a': Away, 'x': Lost, 'z': Away}[c]
			pic.Stores = append(pic.Stores, s)
		}
		d := &metapb.Descriptor{RangeId: uint64(metapb.SystemRange), Generation: 1, NextReplicaId: 9}
		if !tc.system {
			d.RangeId++
		}
		for store := uint64(1); store <= uint64(len(tc.stores)); store++ {
			if kind, ok := tc.kinds[store]; ok {
				d.Replicas = append(d.Replicas, &metapb.Replica{ReplicaId: store, StoreId: store, Kind: kind})
			}
		}
		pic.Ranges = []RangeState{{Descriptor: d, Leader: tc.leader, Busy: tc.busy}}
		if tc.corrupt != 0 {
			pic.Ranges[0].Corrupt = []metapb.StoreID{tc.corrupt}
		}
		var got []string
		for _, op := range Plan(&pic, Limits{}) {
			got = append(got, fmt.Sprintf("%d>%d", op.Move.From, op.Move.To))
		}
		if s := strings.Join(got, " "); s != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, s, tc.want)
		}
	}
}

// A store that is away, and so counts for no other, may still lead: that is handed over too.
func TestLeadersOfOneThatIsAway(t *testing.T) {
	w := newPlanWorld(t, 3, 12, 3, 2, 1)
	w.pic.Stores[2].Health = Away
	for range 10 {
		w.round()
	}
	led := make(map[metapb.StoreID]int)
	for _, r := range w.pic.Ranges {
		led[r.Leader]++
	}
	if led[3]-min(led[1], led[2]) >= leadersSlack {
		t.Errorf("ranges led, by store: %v", led)
	}
}

func cloneDesc(d *metapb.Descriptor) *metapb.Descriptor {
	c := &metapb.Descriptor{RangeId: d.RangeId, Generation: d.Generation, NextReplicaId: d.NextReplicaId}
	for _, r := range d.Replicas {
		c.Replicas = append(c.Replicas, &metapb.Replica{ReplicaId: r.ReplicaId, StoreId: r.StoreId, NodeId: r.NodeId, Kind: r.Kind})
	}
	return c
}

// A corrupt replica is replaced: on another store if there is one, else on its own,
// after it has gone. Before that it leads nothing.
func TestCorruptReplica(t *testing.T) {
	for _, stores := range []int{3, 4} {
		w := newPlanWorld(t, stores, 1, 1, 2, 3)
		r := &w.pic.Ranges[0]
		r.Corrupt = []metapb.StoreID{2}
		for w.round() > 0 {
			if p := r.Descriptor.ReplicaOn(2); p == nil || p.ReplicaId != 2 {
				r.Corrupt = nil // as the system range forgets it
			}
		}
		var ids []uint64
		for _, p := range r.Descriptor.Replicas {
			ids = append(ids, p.ReplicaId)
		}
		slices.Sort(ids)
		if !slices.Equal(ids, []uint64{1, 3, 4}) || (r.Descriptor.ReplicaOn(2) == nil) != (stores == 4) {
			t.Errorf("%d stores: %v", stores, r.Descriptor)
		}
	}
	w := newPlanWorld(t, 3, 12, 1, 2, 3)
	for i := range w.pic.Ranges {
		w.pic.Ranges[i].Corrupt = []metapb.StoreID{2}
	}
	w.limits.MovesMax = 1
	for _, op := range Plan(&w.pic, w.limits) {
		if op.TransferTo == 2 {
			t.Errorf("range %d is to be led by a corrupt replica", op.ID.Range)
		}
	}
}

// Of two stores one leaves, or one of three is lost besides: the others keep what there is,
// and a range always has most of its replicas on stores that live.
func TestPlanToOneStore(t *testing.T) {
	w := newPlanWorld(t, 3, 5, 2, 1, 3)
	w.pic.Stores[1].Leaving = true
	w.pic.Stores[2].Leaving, w.pic.Stores[2].Health = true, Away
	w.round()
	for _, r := range w.pic.Ranges { // of all at once: what is only taken away is not copied
		if d := r.Descriptor; len(d.Replicas) != 2 || d.ReplicaOn(3) != nil {
			t.Fatalf("the replica that is away does not go first: %v", d)
		}
	}
	w.settle(20)
	for _, r := range w.pic.Ranges {
		if d := r.Descriptor; len(d.Replicas) != 1 || d.ReplicaOn(1) == nil || r.Leader != 1 {
			t.Errorf("it is not on store 1 alone, but led by %d: %v", r.Leader, d)
		}
	}

	w = newPlanWorld(t, 3, 1, 1, 2, 3)
	w.pic.Stores[1].Leaving, w.pic.Stores[2].Health = true, Away
	if plan := Plan(&w.pic, w.limits); len(plan) > 0 {
		t.Errorf("the change needs the one that is away: %v", plan)
	}
}
