package raftgroup

import (
	"slices"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// NeedsTick reports whether the owner has to tick the group at all: it leads
// others. Whether it may rest meanwhile, Quiesce says.
func (g *Group) NeedsTick() bool { return g.isLeader && !g.alone() }

// Quiesce reports whether a leader has nothing left to do: all its log is
// committed and applied, nothing waits to be written or sent, and every live
// replica confirmed all of it. Such a group is not ticked until a proposal, a
// message or the return of a replica in lagging wakes it.
//
// live says whether a replica's store is there. Replicas on dead stores do not
// keep a group awake: a store that stays away would keep every range that it
// held awake for ever. Those of them that miss something are in lagging, by id.
// A group at rest keeps no entries in memory.
func (g *Group) Quiesce(live func(metapb.ReplicaID) bool) (lagging []metapb.ReplicaID, ok bool) {
	if !g.isLeader || g.applied != g.lastIndex || len(g.appends) > 0 || g.HasReady() {
		return nil, false
	}
	ok = true
	g.Progress(func(p PeerProgress) {
		switch {
		case p.ReplicaID == g.cfg.ReplicaID || p.Match == g.lastIndex && !p.Probing:
		case live(p.ReplicaID):
			ok = false
		default:
			lagging = append(lagging, p.ReplicaID)
		}
	})
	if !ok {
		return nil, false
	}
	slices.Sort(lagging)
	g.log.cache.dropTo(g.log.synced)
	return lagging, true
}
