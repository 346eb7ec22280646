package sim

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/flotilladb/flotilla/internal/node"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/router"
)

// PlannerConfig is a cluster whose planner decides where replicas are, while stores
// come and go.
type PlannerConfig struct {
	// First is with how many stores the cluster begins; the others join, one every
	// JoinEvery or so. 0: all, and there is no planner.
	First     int
	JoinEvery time.Duration
	// TroubleEvery is the mean time between two stores that are lost with all they
	// have, are away for about as long as makes them count as lost, or leave for good;
	// 0: never. There is one such store at a time: the next waits until every range has
	// all replicas again.
	TroubleEvery time.Duration
	// AwayMax bounds how long a store is away.
	AwayMax time.Duration
	Limits  placement.Limits
}

// places is what a run knows of stores that come and go.
type places struct {
	// limits are those of all planners; see endPlanner.
	limits placement.Limits
	// events counts what planners have a reason to do something about.
	events int
}

// membership is what a node knows of the cluster's members, as internal/node's shell
// does.
type membership struct {
	ident   *metapb.StoreIdent // nil: it is one of the first
	book    []metapb.StoreID
	noticed uint64
	told    bool // the cluster knows of this start
	// absent: it has not joined yet. leaving: it was removed from the members. gone: its
	// process has ended for good.
	absent, leaving, gone bool
	// joining: it is about to be a member. left: it is none any more.
	joining, left bool
	// shunned: its clients have gone elsewhere, or will before they ask again.
	shunned bool
	// awayFor is how long it is away when it crashes next.
	awayFor time.Duration
}

// Times of the shell.
const (
	announcePause   = 500 * time.Millisecond
	membersInterval = 2 * time.Second
	joinPause       = 300 * time.Millisecond
)

// DrawPlanner makes the configuration of a seed in which stores come and go, and the
// planner moves replicas.
func DrawPlanner(seed uint64, nodes int) Config {
	c := drawMoves(seed, nodes)
	rng := rand.New(rand.NewPCG(seed, 14))
	c.Moves.Every = 0
	c.Planner = PlannerConfig{
		First:        min(nodes, pick(rng, 1, 3, 3, 4)),
		JoinEvery:    pick(rng, 300*time.Millisecond, time.Second, 3*time.Second),
		TroubleEvery: pick(rng, 0, time.Second, 3*time.Second),
		Limits: placement.Limits{
			LostAfter: pick(rng, 3*time.Second, 5*time.Second),
			MovesMax:  pick(rng, 2, 64), StoreMovesMax: pick(rng, 1, 2, 8),
		},
	}
	c.Planner.AwayMax = c.Planner.Limits.LostAfter * 3 / 2
	// It has to last until planners have done something.
	c.Duration += pick(rng, 5*time.Second, 10*time.Second, 15*time.Second)
	c.ThinkMax = pick(rng, 20*time.Millisecond, 100*time.Millisecond, 300*time.Millisecond)
	c.OpsMax = 1000
	c.SplitsFirst = pick(rng, 0, 3, 8)
	if c.SplitEvery > 0 {
		c.SplitEvery += time.Second
	}
	return c
}

// first is how many nodes are there from the beginning.
func (s *Sim) first() int {
	if s.cfg.Planner.First > 0 {
		return s.cfg.Planner.First
	}
	return len(s.nodes)
}

// planner are the limits of the planner of each node, nil if there is none.
func (s *Sim) planner() *placement.Limits {
	if s.cfg.Planner.First == 0 {
		return nil
	}
	return &s.places.limits
}

// endPlanner has all planners do nothing from now on: no plan is made under limits
// that are wrong.
func (s *Sim) endPlanner() { s.places.limits.MovesMax = -1 }

// planPlaces plans the first of what happens to stores.
func (s *Sim) planPlaces() {
	c := &s.cfg.Planner
	if c.First == 0 {
		return
	}
	s.places.limits = c.Limits
	for _, n := range s.nodes[c.First:] {
		n.absent = true
	}
	s.grown = c.First == 1
	s.joinLater()
	s.every(c.TroubleEvery, s.trouble)
}

// away reports whether the node is no part of the cluster, or not yet.
func (n *simNode) away() bool { return n.absent || n.gone }

// identify returns who the node is.
func (n *simNode) identify() (*metapb.StoreIdent, error) {
	if n.ident != nil {
		return n.ident, nil
	}
	return node.IdentifyStatic(n.eng, n.s.cluster(), strconv.Itoa(int(n.id)))
}

// refuge is where clients go whose node is no more.
func (s *Sim) refuge(from *simNode) *simNode {
	for i := range s.nodes {
		if n := s.nodes[(int(from.id)+i)%len(s.nodes)]; !n.away() && !n.leaving {
			return n
		}
	}
	return from
}

// joinLater plans that the next node joins.
func (s *Sim) joinLater() {
	s.after(between(s.faults, 0, 2*s.cfg.Planner.JoinEvery), func() {
		for _, n := range s.nodes {
			if n.absent && !s.ending {
				n.tracef("joins")
				n.joining = true
				s.join(n)
				return
			}
		}
	})
}

// join asks some node for a place in the cluster until there is one. Nodes join one
// after the other, so each gets the id that is its own here.
func (s *Sim) join(n *simNode) {
	if !n.absent {
		return
	}
	s.after(joinPause, func() { s.join(n) }) // the call may be lost with its node
	via := s.someNode()
	if !via.serving || via.stopping || via.parting || via.leaving {
		return
	}
	op := &placement.JoinOp{Name: strconv.Itoa(int(n.id)), Nonce: uint64(n.id), PeerURLs: []string{"sim" + strconv.Itoa(int(n.id))}}
	call := &router.Call{Req: &router.SystemRequest{Op: op}, Done: make(chan struct{}, 1)}
	via.submit(call, func() {
		reply, ok := call.Resp.(*placement.JoinReply)
		switch {
		case errors.Is(call.Err, placement.ErrOneStore):
			s.grow()
		case call.Err == nil && ok && n.absent:
			n.joined(via, reply)
		}
	})
}

// joined begins the node with the ids that it got.
func (n *simNode) joined(via *simNode, ids *placement.JoinReply) {
	s := n.s
	if ids.Store != n.id {
		s.fail(errors.New("a node that joins got the id of another"))
		return
	}
	ident, err := node.WriteJoined(n.eng, s.cluster().ClusterID(), ids, nil)
	if err != nil {
		s.fail(err)
		return
	}
	n.ident, n.book = ident, append([]metapb.StoreID{via.id}, via.book...)
	n.absent, n.joining = false, false
	s.places.events++
	s.stats.Joins++
	n.boot()
	s.joinLater()
}

// planMembership does in this start what a node has to do about the members.
func (n *simNode) planMembership() {
	if n.s.cfg.Planner.First > 0 {
		n.noticed, n.told = 0, false
		n.announce()
		n.askMembers()
	}
}

// announce tells the cluster who the node is now.
func (n *simNode) announce() {
	m := placement.Member{
		Node: metapb.NodeID(n.id), Store: n.id, Name: strconv.Itoa(int(n.id)), PeerURLs: []string{"sim" + strconv.Itoa(int(n.id))},
	}
	call := &router.Call{Req: &router.SystemRequest{Op: &placement.AnnounceOp{Member: m}}, Done: make(chan struct{}, 1)}
	n.submit(call, func() {
		switch {
		case errors.Is(call.Err, placement.ErrRemoved):
			n.end("it is no member any more")
		case call.Err != nil:
			n.s.after(announcePause, n.planned(n.announce))
		default:
			n.told = true
		}
	})
}

// notice takes in what the node's replica of the system range says of the members.
func (n *simNode) notice() {
	sys := n.core.System()
	if n.s.cfg.Planner.First == 0 || sys.NoticeVersion() == n.noticed || n.core.Store().Replica(metapb.SystemRange) == nil {
		return
	}
	n.noticed = sys.NoticeVersion()
	n.meet(sys.Members())
	var left []metapb.StoreID
	for _, m := range sys.Members() {
		if m.Removed {
			left = append(left, m.Store)
		}
	}
	n.core.Left(left)
}

func (n *simNode) meet(members []placement.Member) {
	n.book = nil
	for _, m := range members {
		if m.Name != "" && !m.Removed {
			n.book = append(n.book, m.Store)
		}
	}
	n.core.Meet(n.book)
}

// askMembers asks for the members now and then, where nothing is noticed.
func (n *simNode) askMembers() {
	n.s.after(membersInterval, n.planned(n.askMembers))
	if n.core.Store().Replica(metapb.SystemRange) != nil || n.stopping {
		return
	}
	call := &router.Call{Req: &router.SystemRequest{Op: &placement.MembersOp{}}, Done: make(chan struct{}, 1)}
	n.submit(call, func() {
		reply, ok := call.Resp.(*placement.MembersReply)
		if call.Err != nil || !ok {
			return
		}
		member := false
		for _, m := range reply.Members {
			member = member || m.Store == n.id
		}
		if n.told && !member && len(n.core.Store().IDs()) == 0 {
			n.end("it has left")
			return
		}
		left := slices.DeleteFunc(n.core.Talks(), func(id metapb.StoreID) bool {
			return slices.ContainsFunc(reply.Members, func(m placement.Member) bool { return m.Store == id })
		})
		n.meet(reply.Members)
		n.core.Left(left)
		n.wake()
	})
}

// end ends the node's process for good.
func (n *simNode) end(why string) {
	n.tracef("ends: %s", why)
	n.gone = true
	n.s.after(0, func() {
		switch {
		case n.up && n.shunned:
			n.quit()
		case n.up:
			n.crash()
		}
	})
}

// trouble has something happen to a store, if every range has all replicas.
func (s *Sim) trouble() {
	if s.misplaced() != "" || s.lacking() != "" || slices.ContainsFunc(s.nodes, func(n *simNode) bool { return !n.up && !n.away() }) {
		return
	}
	n := s.someNode()
	stay := 0
	for _, o := range s.nodes {
		if o != n && !o.away() && !o.leaving {
			stay++
		}
	}
	if n.away() || n.leaving || stay < 3 {
		return
	}
	s.places.events++
	switch s.faults.IntN(3) {
	case 0:
		n.tracef("is lost")
		s.stats.Lost++
		n.gone = true
		if n.up {
			n.crash()
		}
	case 1:
		if n.up {
			n.awayFor = between(s.faults, 0, s.cfg.Planner.AwayMax)
			n.tracef("is away for %v", n.awayFor)
			s.stats.Aways++
			n.crash()
		}
	case 2:
		s.stats.Leaves++
		n.leaving = true
		s.leave(n)
	}
}

// leave removes a node from the members, until that is done.
func (s *Sim) leave(n *simNode) {
	if n.left || n.gone {
		return
	}
	s.after(announcePause, func() { s.leave(n) })
	via := s.someNode()
	if !via.serving || via.stopping || via.parting || via.leaving {
		return
	}
	call := &router.Call{Req: &router.SystemRequest{Op: &placement.MemberOp{Node: metapb.NodeID(n.id), Remove: true}}, Done: make(chan struct{}, 1)}
	via.submit(call, func() {
		reply, ok := call.Resp.(*placement.MembersReply)
		removed := ok && !slices.ContainsFunc(reply.Members, func(m placement.Member) bool { return m.Store == n.id })
		if removed || errors.Is(call.Err, placement.ErrNoMember) {
			n.tracef("leaves: %v", call.Err)
			n.left = true
		}
	})
}
