package raftgroup

import (
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// HoldCommits says whether the owner is about to propose more. While it is, a leader
// keeps back appends that have no entries and only say that others are committed:
// the next one with entries says the same, or TakeHeld, or the next heartbeat. Each
// of them costs a follower a turn, and an answer.
func (g *Group) HoldCommits(more bool) { g.holding = more }

// TakeHeld returns the appends that were kept back and that nothing was sent in
// place of, to be sent now.
func (g *Group) TakeHeld() []*Message {
	held := g.held
	g.held = nil
	if !g.isLeader {
		return nil
	}
	return slices.DeleteFunc(held, func(m *Message) bool { return m.GetTerm() != g.term })
}

// keepsBack reports whether a message that raft wants to be sent stays here.
func (g *Group) keepsBack(m *Message) bool {
	if m.GetType() != raftpb.MsgApp || len(g.held) == 0 && !g.holding {
		return false
	}
	i := slices.IndexFunc(g.held, func(h *Message) bool { return h.GetTo() == m.GetTo() })
	// A leader that a change takes out must not go before the others know of it.
	empty := len(m.Entries) == 0 && g.holding && !g.repairs && g.confIndex <= g.applied && !g.probes(metapb.ReplicaID(m.GetTo()))
	switch {
	case i < 0 && !empty:
		return false
	case i < 0:
		g.held = append(g.held, m)
	case empty:
		g.held[i] = m
	default: // m says all that the one before it does
		g.held = slices.Delete(g.held, i, i+1)
	}
	return empty
}
