package raftgroup

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// The world of this test has real time, which no store sees: each has a clock of
// its own, faster or slower than others. Elections are raft's bare bones, and all
// votes are noted when they are cast: from the moment at which a quorum has voted
// in a term, whether anybody knows of it or not, no leader of an earlier term may
// hold its lease.

// livenessBug is planted in a run that must find it.
type livenessBug int

const (
	noBug            livenessBug = iota
	driftsMore                   // clocks drift more than the stores are told
	votesAtOnce                  // a store that starts does not wait
	countsArrival                // a promise is counted from its arrival
	votesKeepEpoch               // a vote does not unbind
	followsAnybody               // a follower is bound to whoever asks
	transfersHolding             // who sent a transfer still answers
	ignoresPromises              // promises do not keep from voting
)

type livenessWorld struct {
	rng    *rand.Rand
	bug    livenessBug
	now    time.Duration // real
	drift  float64
	stores []*worldStore
	ranges []worldRange
	net    []worldPacket
	cut    map[[2]metapb.StoreID]bool // one way

	votes   map[worldBallot]map[metapb.StoreID]bool
	elected map[metapb.RangeID]uint64 // the highest term in which a quorum has voted

	holds, elections, transfers int
}

type worldRange struct {
	id  metapb.RangeID
	set StoreSet
}

type worldBallot struct {
	rangeID   metapb.RangeID
	term      uint64
	candidate metapb.StoreID
}

type worldPacket struct {
	at       time.Duration
	from, to metapb.StoreID
	live     *LivenessMessage
	toy      *toyMessage
}

type toyKind int

const (
	toyVote toyKind = iota
	toyVoted
	toyLeads
	toyTimeout
)

type toyMessage struct {
	kind     toyKind
	rangeID  metapb.RangeID
	term     uint64
	transfer bool
}

type worldStore struct {
	w      *livenessWorld
	id     metapb.StoreID
	start  uint64
	rate   float64
	offset time.Duration
	down   bool
	paused time.Duration // until then
	live   *Liveness
	repls  map[metapb.RangeID]*toyReplica
	syncAt time.Duration // a sync under way ends then; 0: none
	began  clock.Time
}

// toyReplica is a replica without a log. Its term is durable.
type toyReplica struct {
	term   uint64
	leader metapb.StoreID
	leads  *Leadership
	voted  metapb.StoreID          // in term
	got    map[metapb.StoreID]bool // votes for it in term
	asked  bool                    // it is a candidate
}

func newLivenessWorld(seed uint64, bug livenessBug) *livenessWorld {
	w := &livenessWorld{
		rng: rand.New(rand.NewPCG(seed, 7)), bug: bug, drift: 0.1,
		cut:     make(map[[2]metapb.StoreID]bool),
		votes:   make(map[worldBallot]map[metapb.StoreID]bool),
		elected: make(map[metapb.RangeID]uint64),
	}
	for i := range metapb.StoreID(5) {
		s := &worldStore{w: w, id: i + 1, repls: make(map[metapb.RangeID]*toyReplica)}
		s.offset = time.Duration(w.rng.Int64N(int64(time.Hour)))
		w.stores = append(w.stores, s)
	}
	for i := range metapb.RangeID(6) {
		p := w.rng.Perm(5)
		ids := make([]metapb.StoreID, 5)
		for j, n := range p {
			ids[j] = metapb.StoreID(n + 1)
		}
		r := worldRange{id: i + 1, set: StoreSet{Voters: ids[:3:3]}}
		switch i % 3 {
		case 1:
			r.set.VotersOutgoing = []metapb.StoreID{ids[1], ids[2], ids[3]}
		case 2:
			r.set.Learners = ids[3:4:4]
		}
		w.ranges = append(w.ranges, r)
		for _, id := range r.members() {
			w.stores[id-1].repls[r.id] = &toyReplica{}
		}
	}
	for _, s := range w.stores {
		s.open()
	}
	return w
}

func (r *worldRange) members() []metapb.StoreID {
	all := slices.Concat(r.set.Voters, r.set.VotersOutgoing, r.set.Learners)
	slices.Sort(all)
	return slices.Compact(all)
}

func (r *worldRange) isVoter(id metapb.StoreID) bool {
	return slices.Contains(r.set.Voters, id) || slices.Contains(r.set.VotersOutgoing, id)
}

func (r *worldRange) quorum(have map[metapb.StoreID]bool) bool {
	for _, half := range [][]metapb.StoreID{r.set.Voters, r.set.VotersOutgoing} {
		n := 0
		for _, id := range half {
			if have[id] {
				n++
			}
		}
		if len(half) > 0 && n < len(half)/2+1 {
			return false
		}
	}
	return true
}

func (s *worldStore) open() {
	s.start++
	s.down, s.paused, s.syncAt = false, 0, 0
	s.offset += s.clockSpan() // the clock goes on at another speed
	drift := s.w.drift
	if s.w.bug == driftsMore {
		drift = 0.6
	}
	// The fastest is (1 + drift) times as fast as the slowest.
	s.rate = 1 + drift*s.w.rng.Float64()
	s.offset -= s.clockSpan()
	cfg := LivenessConfig{Store: s.id, Start: s.start, MaxClockDrift: s.w.drift, Replicas: s, TiesMax: 3}
	live, err := NewLiveness(cfg)
	if err != nil {
		panic(err)
	}
	s.live = live
	for _, r := range s.repls {
		r.leader, r.leads, r.got, r.asked = 0, nil, nil, false
	}
	var peers []metapb.StoreID
	for _, other := range s.w.stores {
		peers = append(peers, other.id)
	}
	live.SetPeers(peers)
	live.Tick(s.clock())
	if s.w.bug == votesAtOnce {
		live.votesFrom = 0
	}
}

func (s *worldStore) clockSpan() time.Duration { return time.Duration(float64(s.w.now) * s.rate) }

func (s *worldStore) clock() clock.Time { return clock.Time(s.offset + s.clockSpan()) }

// Follows implements Followers.
func (s *worldStore) Follows(id metapb.RangeID, term uint64, leader metapb.StoreID) bool {
	r := s.repls[id]
	if s.w.bug == followsAnybody {
		return r != nil
	}
	return r != nil && r.term == term && r.leader == leader && r.leads == nil
}

// busy reports whether a store does nothing at the moment.
func (s *worldStore) busy() bool { return s.down || s.w.now < s.paused }

func (w *livenessWorld) send(p worldPacket) {
	copies := 1
	switch w.rng.IntN(20) {
	case 0:
		copies = 0
	case 1:
		copies = 2
	}
	for range copies {
		delay := time.Duration(w.rng.Int64N(int64(20 * time.Millisecond)))
		if w.rng.IntN(10) == 0 {
			delay *= 50
		}
		p.at = w.now + delay
		w.net = append(w.net, p)
	}
}

func (w *livenessWorld) step() error {
	w.now += time.Duration(w.rng.Int64N(int64(4 * time.Millisecond)))
	w.fault()
	for i := 0; i < len(w.net); {
		p := w.net[i]
		to := w.stores[p.to-1]
		if p.at > w.now || w.now < to.paused {
			i++
			continue
		}
		w.net = slices.Delete(w.net, i, i+1)
		if to.down || w.cut[[2]metapb.StoreID{p.from, p.to}] {
			continue
		}
		if p.live != nil {
			m := *p.live
			if w.bug == countsArrival {
				m.Echo = to.clock()
			}
			to.live.Step(p.from, &m, to.clock())
		} else {
			to.live.SetNow(to.clock())
			to.stepToy(p.from, p.toy)
		}
	}
	for _, s := range w.stores {
		if !s.busy() {
			s.turn()
		}
	}
	return w.check()
}

func (w *livenessWorld) fault() {
	s := w.stores[w.rng.IntN(len(w.stores))]
	switch n := w.rng.IntN(6000); {
	case s.down:
		if n < 600 {
			s.open()
		}
	case n < 5:
		s.down = true
	case n < 15:
		s.paused = w.now + time.Duration(w.rng.Int64N(int64(3*time.Second)))
	case n < 35:
		w.cut[[2]metapb.StoreID{s.id, metapb.StoreID(w.rng.IntN(5) + 1)}] = true
	case n < 50:
		clear(w.cut)
	}
}

// turn lets a store do what it wants to do now.
func (s *worldStore) turn() {
	w := s.w
	now := s.clock()
	s.live.Tick(now)
	if s.syncAt != 0 && s.syncAt <= w.now {
		s.syncAt = 0
		s.live.Synced(s.began, now)
	}
	if s.syncAt == 0 && s.live.WantsSync() {
		s.live.SyncBegins()
		s.began = now
		s.syncAt = w.now + time.Duration(w.rng.Int64N(int64(30*time.Millisecond)))
		if w.rng.IntN(200) == 0 {
			s.syncAt += 2 * time.Second
		}
	}
	ev := s.live.Events()
	for _, rel := range ev.Released {
		if r := s.repls[rel.Range]; r != nil && r.term == rel.Term && r.leader == rel.From {
			r.leader = 0
		}
	}
	for _, id := range ev.Unknown {
		if r := s.repls[id]; r.leads != nil {
			s.tell(id, toyLeads, r.term, false)
		}
	}
	for _, r := range w.ranges {
		repl := s.repls[r.id]
		if repl == nil || !r.isVoter(s.id) || w.rng.IntN(100) > 0 {
			continue
		}
		if repl.leads == nil && (repl.leader == 0 || !s.live.Promised(repl.leader)) {
			s.campaign(&r, false)
		} else if repl.leads != nil && w.rng.IntN(40) == 0 {
			s.transfer(&r)
		}
	}
	for _, out := range s.live.Ready() {
		w.send(worldPacket{from: s.id, to: out.To, live: out.Message})
	}
}

func (s *worldStore) transfer(r *worldRange) {
	repl := s.repls[r.id]
	if s.w.bug != transfersHolding {
		s.live.GiveUp(repl.leads)
	}
	s.w.transfers++
	to := r.set.Voters[s.w.rng.IntN(len(r.set.Voters))]
	if to != s.id {
		s.w.send(worldPacket{from: s.id, to: to, toy: &toyMessage{kind: toyTimeout, rangeID: r.id, term: repl.term}})
	}
}

func (s *worldStore) tell(id metapb.RangeID, kind toyKind, term uint64, transfer bool) {
	for _, to := range s.w.ranges[id-1].members() {
		if to != s.id {
			s.w.send(worldPacket{from: s.id, to: to, toy: &toyMessage{kind: kind, rangeID: id, term: term, transfer: transfer}})
		}
	}
}

func (s *worldStore) campaign(r *worldRange, transfer bool) {
	repl := s.repls[r.id]
	switch {
	case transfer:
		s.live.Unbind(r.id, repl.term+1)
	case !s.mayVote(r.id, s.id, repl.term+1):
		return
	}
	s.newTerm(repl, repl.term+1)
	repl.voted = s.id
	repl.asked, repl.got = true, map[metapb.StoreID]bool{s.id: true}
	s.w.cast(r, repl.term, s.id, s.id)
	s.tell(r.id, toyVote, repl.term, transfer)
}

func (s *worldStore) mayVote(id metapb.RangeID, candidate metapb.StoreID, term uint64) bool {
	if s.w.bug == ignoresPromises {
		return true
	}
	if x := s.repls[id].leads; x != nil && x.Holds(s.clock()) {
		return false
	}
	if !s.live.MayVote(id, candidate) {
		return false
	}
	if s.w.bug != votesKeepEpoch {
		s.live.Vote(id, candidate, term)
	}
	return true
}

// newTerm ends what a replica was in the term before.
func (s *worldStore) newTerm(r *toyReplica, term uint64) {
	if r.leads != nil {
		s.live.EndLead(r.leads)
	}
	r.term, r.leader, r.leads, r.voted, r.asked, r.got = term, 0, nil, 0, false, nil
}

func (s *worldStore) stepToy(from metapb.StoreID, m *toyMessage) {
	r, repl := &s.w.ranges[m.rangeID-1], s.repls[m.rangeID]
	switch m.kind {
	case toyVote:
		if m.term < repl.term || m.term == repl.term && repl.voted != from || !m.transfer && !s.mayVote(m.rangeID, from, m.term) {
			return
		}
		if m.transfer {
			s.live.Unbind(m.rangeID, m.term)
		}
		if m.term > repl.term { // else it has, and says so again
			s.newTerm(repl, m.term)
		}
		repl.voted = from
		s.w.cast(r, m.term, from, s.id)
		s.w.send(worldPacket{from: s.id, to: from, toy: &toyMessage{kind: toyVoted, rangeID: m.rangeID, term: m.term}})
	case toyVoted:
		if !repl.asked || repl.term != m.term {
			return
		}
		repl.got[from] = true
		if repl.leads == nil && r.quorum(repl.got) {
			s.w.elections++
			repl.leader = s.id
			repl.leads = s.live.Lead(m.rangeID, repl.term, r.set)
			s.tell(m.rangeID, toyLeads, repl.term, false)
		}
	case toyLeads:
		if m.term < repl.term {
			return
		}
		if m.term > repl.term || repl.asked {
			s.newTerm(repl, m.term)
		}
		repl.leader = from
	case toyTimeout:
		if m.term < repl.term || repl.leads != nil {
			return
		}
		repl.term = m.term
		s.campaign(r, true)
	}
}

// cast notes a vote.
func (w *livenessWorld) cast(r *worldRange, term uint64, candidate, voter metapb.StoreID) {
	b := worldBallot{r.id, term, candidate}
	if w.votes[b] == nil {
		w.votes[b] = make(map[metapb.StoreID]bool)
	}
	w.votes[b][voter] = true
	if r.quorum(w.votes[b]) {
		w.elected[r.id] = max(w.elected[r.id], term)
	}
}

func (w *livenessWorld) check() error {
	for _, r := range w.ranges {
		holder, term := metapb.StoreID(0), uint64(0)
		for _, s := range w.stores {
			repl := s.repls[r.id]
			if s.down || repl == nil || repl.leads == nil || !repl.leads.Holds(s.clock()) {
				continue
			}
			w.holds++
			switch {
			case holder != 0:
				return fmt.Errorf("range %d: store %d holds the lease in term %d, store %d in %d", r.id, holder, term, s.id, repl.term)
			case repl.term < w.elected[r.id]:
				return fmt.Errorf("range %d: store %d holds the lease in term %d, a quorum has voted in %d", r.id, s.id, repl.term, w.elected[r.id])
			}
			holder, term = s.id, repl.term
		}
	}
	return nil
}

const livenessSteps = 20000

func playLiveness(seed uint64, bug livenessBug) (*livenessWorld, error) {
	w := newLivenessWorld(seed, bug)
	for i := range livenessSteps {
		if err := w.step(); err != nil {
			return w, fmt.Errorf("step %d: %w", i, err)
		}
	}
	return w, nil
}

// TestLeasesExclude lets five stores with clocks of their own live through lost,
// doubled and late messages, one-way cuts, pauses, slow disks and restarts.
func TestLeasesExclude(t *testing.T) {
	holds, elections, transfers := 0, 0, 0
	const seeds = 40
	for seed := range uint64(seeds) {
		w, err := playLiveness(seed, noBug)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		holds, elections, transfers = holds+w.holds, elections+w.elections, transfers+w.transfers
	}
	t.Logf("of 100: %d held; %d elections, %d transfers", holds*100/(seeds*livenessSteps*6), elections, transfers)
	// A run in which nobody leads checks nothing.
	if holds < seeds*livenessSteps*6/4 || elections < seeds*50 || transfers < seeds*10 {
		t.Fatalf("too little happened: %d, %d, %d", holds, elections, transfers)
	}
}

// TestLeasesFindBugs plants what each rule is there to prevent.
func TestLeasesFindBugs(t *testing.T) {
	for bug := driftsMore; bug <= ignoresPromises; bug++ {
		found := false
		for seed := uint64(0); seed < 30 && !found; seed++ {
			_, err := playLiveness(seed, bug)
			found = err != nil
			if found {
				t.Logf("bug %d: seed %d: %v", bug, seed, err)
			}
		}
		if !found {
			t.Errorf("bug %d was not found", bug)
		}
	}
}
