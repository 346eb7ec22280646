package placement

import (
	"cmp"
	"math"
	"slices"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// Plan says what to do about a picture, the most urgent first. It is a pure
// function: the same picture gives the same plan, and a plan that was carried out
// gives none, or one that goes on from there.
//
// In this order, and one thing for a range at a time:
//
//	repair      replicas on stores that are lost or leave are made anew elsewhere
//	replicate   a range gets as many replicas as it should have
//	trim        what it has too many goes, and learners that nobody needs
//	drain       leaders leave stores that leave
//	balance     replicas, then leaders, go from who has most to who has least
//
// Balance only ever makes the sum of the squares of all counts smaller, so it comes
// to an end and never goes back and forth.
func Plan(pic *Picture, limits Limits) []Operator {
	if limits.Validate() != nil {
		return nil
	}
	p := newPlan(pic, limits)
	for i := range pic.Ranges {
		p.mend(&pic.Ranges[i])
	}
	p.balanceReplicas()
	p.balanceLeaders()
	return p.ops
}

// plan is a Plan in the making.
type plan struct {
	pic     *Picture
	limits  Limits
	ops     []Operator
	stores  map[metapb.StoreID]*storeCount
	usable  []*storeCount // those that may get something, by id
	busy    map[metapb.RangeID]bool
	moves   int
	handing int // transfers
}

// storeCount is a store and what it has, as it will be when all that is planned is
// done.
type storeCount struct {
	*StoreState
	replicas, leaders int
	moves             int // that come to it or go from it
}

// ends reports whether a store's node is no member, and may end at any time.
func (s *storeCount) ends() bool { return s == nil || s.Removed }

// health is Lost of a store that nobody knows.
func (s *storeCount) health() StoreHealth {
	if s == nil {
		return Lost
	}
	return s.Health
}

func newPlan(pic *Picture, limits Limits) *plan {
	p := &plan{pic: pic, limits: limits, stores: make(map[metapb.StoreID]*storeCount), busy: make(map[metapb.RangeID]bool)}
	for i := range pic.Stores {
		s := &storeCount{StoreState: &pic.Stores[i]}
		p.stores[s.ID] = s
		if s.takes() {
			p.usable = append(p.usable, s)
		}
	}
	for i := range pic.Ranges {
		r := &pic.Ranges[i]
		for _, repl := range r.Descriptor.Replicas {
			if s := p.stores[metapb.StoreID(repl.StoreId)]; s != nil {
				s.replicas++
			}
		}
		if s := p.stores[r.Leader]; s != nil {
			s.leaders++
		}
		if r.Busy {
			p.busy[r.Descriptor.ID()] = true
			p.moves++
		}
	}
	return p
}

// add plans an operator, if there is room for it.
func (p *plan) add(r *RangeState, op Operator) bool {
	from, to := p.stores[op.Move.From], p.stores[op.Move.To]
	if p.moves >= p.limits.MovesMax || p.full(from) && to != nil || p.full(to) {
		return false // what only goes costs its store little
	}
	op.ID = OperatorID{r.Descriptor.ID(), r.Descriptor.Generation}
	op.Move.Range = r.Descriptor.ID()
	if from != nil {
		from.replicas--
		from.moves++
	}
	if to != nil {
		op.Move.ToNode = to.Node
		to.replicas++
		to.moves++
	}
	p.moves++
	p.busy[op.ID.Range] = true
	p.ops = append(p.ops, op)
	return true
}

func (p *plan) full(s *storeCount) bool { return s != nil && s.moves >= p.limits.StoreMovesMax }

// handOver plans a transfer, if there is room for it.
func (p *plan) handOver(r *RangeState, to *storeCount, why string) bool {
	if p.handing >= p.limits.TransfersMax {
		return false
	}
	p.handing++
	if from := p.stores[r.Leader]; from != nil {
		from.leaders--
	}
	to.leaders++
	id := r.Descriptor.ID()
	p.busy[id] = true
	p.ops = append(p.ops, Operator{ID: OperatorID{id, r.Descriptor.Generation}, TransferTo: to.ID, Why: why})
	return true
}

// mend does what a range needs besides balance.
func (p *plan) mend(r *RangeState) {
	d := r.Descriptor
	if p.busy[d.ID()] || between(d) {
		return
	}
	var good, live int
	var learner, worst metapb.StoreID
	var bad []metapb.StoreID
	for _, repl := range d.Replicas {
		id := metapb.StoreID(repl.StoreId)
		s := p.stores[id]
		switch {
		case repl.Kind == metapb.ReplicaKind_LEARNER:
			learner = id
			continue
		case r.corrupt(id), s == nil, s.Health == Lost, s.Leaving:
			bad = append(bad, id)
		default:
			good++
		}
		if s != nil && s.Health == Live {
			live++
		}
	}
	if len(bad) > 0 {
		p.worstFirst(r, bad)
		worst = bad[0]
	}
	if 2*live <= good+len(bad) {
		return // it can do nothing until stores are back
	}
	if learner != 0 {
		p.settle(r, learner, good, worst)
		return
	}
	want := p.want(r, good)
	switch {
	case good+len(bad) > p.factor(r):
		p.trim(r, worst)
	case len(bad) > 0:
		if to := p.room(r, worst); to != nil {
			p.add(r, Operator{Move: Move{From: worst, To: to.ID}, Why: "its store is lost or leaves, or its data is corrupt"})
		} else if good > 0 {
			p.spare(r, bad, good)
		}
	case good < want:
		if to := p.room(r, 0); to != nil {
			p.add(r, Operator{Move: Move{To: to.ID}, Why: "it has too few replicas"})
		}
	}
	if !p.busy[d.ID()] {
		p.drain(r)
	}
}

// worstFirst sorts the stores of replicas that are not to stay: the corrupt first, then those
// of the worst health, and among these the ones whose node may end at any time.
func (p *plan) worstFirst(r *RangeState, bad []metapb.StoreID) {
	slices.SortStableFunc(bad, func(a, b metapb.StoreID) int {
		x, y := p.stores[a], p.stores[b]
		return cmp.Or(trueFirst(r.corrupt(a), r.corrupt(b)), cmp.Compare(y.health(), x.health()), trueFirst(x.ends(), y.ends()))
	})
}

// trueFirst compares for an order in which true comes before false.
func trueFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// spare takes a replica away for which there is no other place: the worst without which those
// that stay have a majority, for the change itself needs it. A store whose node may end at any
// time is counted only if there is no other way.
func (p *plan) spare(r *RangeState, bad []metapb.StoreID, good int) {
	for _, last := range []bool{true, false} {
		for _, id := range bad {
			if 2*p.living(r, id, last) <= good+len(bad)-1 {
				continue
			}
			s := p.stores[id]
			switch {
			case r.corrupt(id):
				p.add(r, Operator{Move: Move{From: id}, Why: "its data is corrupt"})
			case s != nil && s.Leaving:
				p.add(r, Operator{Move: Move{From: id}, Why: "its store leaves"})
			case s.health() == Lost && good >= p.limits.Factor: // those that stay survive the next loss
				p.add(r, Operator{Move: Move{From: id}, Why: "its store is lost"})
			default:
				continue
			}
			return
		}
	}
}

// living counts a range's voters that live, without one; if they are to last, without those
// whose node may end at any time.
func (p *plan) living(r *RangeState, without metapb.StoreID, last bool) (n int) {
	for _, repl := range r.Descriptor.Replicas {
		s := p.stores[metapb.StoreID(repl.StoreId)]
		if repl.Kind != metapb.ReplicaKind_LEARNER && s.health() == Live && s.ID != without && !(last && s.ends()) {
			n++
		}
	}
	return n
}

// factor is how many replicas a range has when there are stores enough.
func (p *plan) factor(r *RangeState) int {
	if r.Descriptor.ID() == metapb.SystemRange {
		return max(p.limits.Factor, p.limits.SystemFactor)
	}
	return p.limits.Factor
}

// want is how many replicas a range with so many good ones should have: an odd
// number, since one more than that survives no more failures.
func (p *plan) want(r *RangeState, good int) int {
	n := min(p.factor(r), max(len(p.usable), good))
	return n - (n+1)%2
}

// settle ends what somebody began with a learner.
func (p *plan) settle(r *RangeState, learner metapb.StoreID, good int, worst metapb.StoreID) {
	s := p.stores[learner]
	lacks := good < p.want(r, good) || worst != 0
	switch {
	case r.corrupt(learner):
		p.add(r, dropLearner(learner, "its data is corrupt"))
	case s != nil && s.takes() && lacks:
		p.add(r, Operator{Move: Move{From: worst, To: learner}, Why: "it has a learner already"})
	case s != nil && s.takes() && p.betterThan(r, s) != nil:
		p.add(r, Operator{Move: Move{From: p.betterThan(r, s).ID, To: learner}, Why: "balance of replicas"})
	case s != nil && s.Health == Away && !s.Leaving && lacks && p.room(r, worst) != nil:
		p.add(r, dropLearner(learner, "its store is away, and another is to have what the range lacks"))
	case s == nil || s.Health != Away || s.Leaving:
		p.add(r, dropLearner(learner, "it needs no learner"))
	}
}

// dropLearner takes a learner away.
func dropLearner(from metapb.StoreID, why string) Operator {
	return Operator{Move: Move{From: from, LearnerOnly: true}, Why: why}
}

// betterThan returns the store whose replica a learner's is better than for the balance, nil
// if there is none. Of two with as many it is the one that does not lead: a planner whose own
// range is moved hands over, and the next one has to go on with what it finds. Were it to
// begin anew, the two could hand over to each other for ever.
func (p *plan) betterThan(r *RangeState, to *storeCount) (best *storeCount) {
	if len(p.usable) < p.limits.Factor {
		return nil
	}
	total := 0
	for _, s := range p.usable {
		total += s.replicas
	}
	for _, repl := range r.Descriptor.Replicas {
		s := p.stores[metapb.StoreID(repl.StoreId)]
		if repl.Kind != metapb.ReplicaKind_VOTER || s == nil || s == to || s.replicas-to.replicas+1 < p.slack(total, replicasSlack) ||
			p.shared(r, to, s.ID) > p.shared(r, s, s.ID) {
			continue
		}
		if best == nil || s.replicas > best.replicas || s.replicas == best.replicas && best.ID == r.Leader {
			best = s
		}
	}
	return best
}

// trim takes a replica away, a bad one first, then one whose store is away: the range has
// the more of them that live.
func (p *plan) trim(r *RangeState, worst metapb.StoreID) {
	if worst == 0 {
		var most *storeCount
		for _, repl := range r.Descriptor.Replicas {
			s := p.stores[metapb.StoreID(repl.StoreId)]
			if s.ID != r.Leader && (most == nil || s.Health > most.Health || s.Health == most.Health && s.replicas > most.replicas) {
				worst, most = s.ID, s
			}
		}
	}
	p.add(r, Operator{Move: Move{From: worst}, Why: "it has too many replicas"})
}

// drain hands a leader over that is on a store that leaves.
func (p *plan) drain(r *RangeState) {
	s := p.stores[r.Leader]
	if s == nil || !s.Leaving {
		return
	}
	if to := p.voter(r, nil); to != nil {
		p.handOver(r, to, "the store of its leader leaves")
	}
}

// voter returns the store of the voter that has the fewest leaders; below says
// which count.
func (p *plan) voter(r *RangeState, below func(*storeCount) bool) (best *storeCount) {
	for _, repl := range r.Descriptor.Replicas {
		s := p.stores[metapb.StoreID(repl.StoreId)]
		if s == nil || repl.Kind != metapb.ReplicaKind_VOTER || r.corrupt(s.ID) || s.ID == r.Leader || !s.takes() || below != nil && !below(s) {
			continue
		}
		if best == nil || s.leaders < best.leaders {
			best = s
		}
	}
	return best
}

// room returns the store that is best for one more replica of a range, nil if there
// is none: one in a zone that has few of them, then one that has few replicas.
// instead is a store whose replica goes for it.
func (p *plan) room(r *RangeState, instead metapb.StoreID) (best *storeCount) {
	bestShared := 0
	for _, s := range p.usable {
		if r.Descriptor.ReplicaOn(s.ID) != nil || p.full(s) {
			continue
		}
		shared := p.shared(r, s, instead)
		if best == nil || shared < bestShared || shared == bestShared && s.replicas < best.replicas {
			best, bestShared = s, shared
		}
	}
	return best
}

// shared counts the replicas of a range in a store's zone, but for one.
func (p *plan) shared(r *RangeState, s *storeCount, but metapb.StoreID) (n int) {
	if s.Zone == "" {
		return 0
	}
	for _, repl := range r.Descriptor.Replicas {
		id := metapb.StoreID(repl.StoreId)
		if o := p.stores[id]; o != nil && id != but && id != s.ID && o.Zone == s.Zone {
			n++
		}
	}
	return n
}

// Two counts may differ by some percent, and by a few: below 2 a move would only
// turn the difference around. Few leaders are left where an operator put them.
const (
	replicasSlack = 2
	leadersSlack  = 3
)

// slack is by how much two counts may differ.
func (p *plan) slack(total, atLeast int) int {
	return max(atLeast, total*p.limits.SlackPercent/100/max(1, len(p.usable)))
}

// balanceReplicas moves replicas from stores with many to stores with few.
//
// With too few stores for all replicas of a range it does not: to have parts of the
// data on each only makes each store's loss one of the whole.
func (p *plan) balanceReplicas() {
	if len(p.usable) < p.limits.Factor {
		return
	}
	total, most, fewest := 0, 0, math.MaxInt
	for _, s := range p.usable {
		total += s.replicas
		most, fewest = max(most, s.replicas), min(fewest, s.replicas)
	}
	slack := p.slack(total, replicasSlack)
	if most-fewest < slack {
		return // without a look at the ranges
	}
	for i := range p.pic.Ranges {
		r := &p.pic.Ranges[i]
		if p.moves >= p.limits.MovesMax {
			return
		}
		if p.busy[r.Descriptor.ID()] || !p.whole(r) {
			continue
		}
		from := p.fullest(r)
		if from == nil {
			continue
		}
		to := p.room(r, from.ID)
		if to == nil || from.replicas-to.replicas < slack || p.shared(r, to, from.ID) > p.shared(r, from, from.ID) {
			continue
		}
		p.add(r, Operator{Move: Move{From: from.ID, To: to.ID}, Why: "balance of replicas"})
	}
}

// whole reports whether all replicas of a range are voters on stores that live.
func (p *plan) whole(r *RangeState) bool {
	return len(r.Corrupt) == 0 && !slices.ContainsFunc(r.Descriptor.Replicas, func(repl *metapb.Replica) bool {
		s := p.stores[metapb.StoreID(repl.StoreId)]
		return repl.Kind != metapb.ReplicaKind_VOTER || s == nil || !s.takes()
	})
}

// fullest returns the store with most replicas that has one of the range.
func (p *plan) fullest(r *RangeState) (best *storeCount) {
	for _, repl := range r.Descriptor.Replicas {
		if s := p.stores[metapb.StoreID(repl.StoreId)]; !p.full(s) && (best == nil || s.replicas > best.replicas) {
			best = s
		}
	}
	return best
}

// balanceLeaders has leaders go to stores with few.
func (p *plan) balanceLeaders() {
	total, most, fewest := 0, 0, math.MaxInt
	for _, s := range p.usable {
		total += s.leaders
		fewest = min(fewest, s.leaders)
	}
	for _, s := range p.stores {
		most = max(most, s.leaders)
	}
	slack := p.slack(total, leadersSlack)
	if most-fewest < slack {
		return
	}
	for i := range p.pic.Ranges {
		r := &p.pic.Ranges[i]
		from := p.stores[r.Leader]
		if from == nil || p.busy[r.Descriptor.ID()] || between(r.Descriptor) {
			continue
		}
		if to := p.voter(r, func(s *storeCount) bool { return from.leaders-s.leaders >= slack }); to != nil && !p.handOver(r, to, "balance of leaders") {
			return
		}
	}
}
