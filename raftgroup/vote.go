package raftgroup

import (
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// VoteGate keeps promises: it is asked before a group does what could elect
// another leader. A transfer by the leader itself passes without a question,
// since that leader answers nothing from memory any more.
type VoteGate interface {
	// MayVote reports whether the replica may vote in a term for a candidate, itself
	// or another. If pre is false and it may, it will, or did.
	MayVote(candidate metapb.ReplicaID, term uint64, pre bool) bool
	// Transferred says that with the consent of this replica's vote leaderships of
	// terms below term are handed over.
	Transferred(term uint64)
}

// MayVote reports whether this store's replica of a range may vote for one on
// another store, or stand for election itself (candidate is this store). While it
// may not, who may have been promised the contrary is asked.
func (l *Liveness) MayVote(rangeID metapb.RangeID, candidate metapb.StoreID) bool {
	if !l.begun || l.now.Before(l.votesFrom) {
		return false
	}
	may := true
	for _, p := range l.peers {
		term, bound := p.bound[rangeID]
		if !bound || p.store == candidate || !l.now.Before(p.until) {
			continue
		}
		may = false
		l.ask(p, Tie{rangeID, term})
	}
	return may
}

// Ask asks another store whether it still has a leadership. If not it is Released.
func (l *Liveness) Ask(store metapb.StoreID, tie Tie) {
	if p := l.peer(store); p != nil {
		l.ask(p, tie)
	}
}

func (l *Liveness) ask(p *livenessPeer, tie Tie) {
	if len(p.asks) < l.cfg.TiesMax && !slices.Contains(p.asks, tie) {
		p.asks = append(p.asks, tie)
		p.talk, l.dirty = true, true
	}
}

// Vote says that the replica votes in a term, or stands for election itself, as
// MayVote allowed. Whoever it was bound to can count on no promise of before.
func (l *Liveness) Vote(rangeID metapb.RangeID, candidate metapb.StoreID, term uint64) {
	for _, p := range l.peers {
		led, bound := p.bound[rangeID]
		if !bound {
			continue
		}
		if p.store == candidate {
			// It cannot lead in a term of before. A request that comes late, or twice, is
			// of the very term in which it leads by now.
			if led < term {
				delete(p.bound, rangeID)
			}
			continue
		}
		p.epoch++ // its promise has run out; Tick will say so, or has
		clear(p.bound)
		p.follows = nil // not said yet, and not true under the new epoch
	}
}

// Unbind says that a replica has no part any more in promises to who led its range in
// terms below term: its leader asked it to take over, or to vote for who does.
func (l *Liveness) Unbind(rangeID metapb.RangeID, term uint64) {
	for _, p := range l.peers {
		if p.bound[rangeID] < term {
			delete(p.bound, rangeID)
		}
	}
}

// Bear binds a replica that a split has made to the store that led the left side,
// which will campaign for it: nobody else may while the promise to it runs. Term
// is the one that the range begins with.
func (l *Liveness) Bear(rangeID metapb.RangeID, leader metapb.StoreID, term uint64) {
	if leader != l.cfg.Store {
		l.ensurePeer(leader).bound[rangeID] = term
	}
}

// VotesFrom is when this start of the store may vote.
func (l *Liveness) VotesFrom() clock.Time { return l.votesFrom }

// transferContext is what raft puts into the vote requests of a replica that its
// leader told to take over.
const transferContext = "CampaignTransfer"

// passes reports whether a message may go to raft. Raft has a check of its own for
// votes under a running leadership, but not while it knows no leader, and its clock
// is not ours.
func (g *Group) passes(m *Message) bool {
	switch m.GetType() {
	case raftpb.MsgTimeoutNow:
		if g.cfg.Gate != nil && m.GetTerm() >= g.term {
			g.cfg.Gate.Transferred(m.GetTerm() + 1) // who leads in that term gave it up
		}
	case raftpb.MsgVote, raftpb.MsgPreVote:
		if g.cfg.Gate == nil || m.GetTerm() < g.term {
			return true
		}
		if string(m.GetContext()) == transferContext {
			g.cfg.Gate.Transferred(m.GetTerm())
			return true
		}
		return g.cfg.Gate.MayVote(metapb.ReplicaID(m.GetFrom()), m.GetTerm(), m.GetType() == raftpb.MsgPreVote)
	}
	return true
}

// Members are the replicas of a range by their part in its applied configuration.
type Members struct {
	Voters, VotersOutgoing, Learners []metapb.ReplicaID
}

// Members returns the replicas that count now.
func (g *Group) Members() Members {
	cs := g.log.conf
	learners := replicaIDs(cs.Learners)
	return Members{
		Voters:         replicaIDs(cs.Voters),
		VotersOutgoing: replicaIDs(cs.VotersOutgoing),
		Learners:       append(learners, replicaIDs(cs.LearnersNext)...),
	}
}

// Transferee returns to whom leadership is being handed over; 0: nobody.
func (g *Group) Transferee() metapb.ReplicaID {
	return metapb.ReplicaID(g.rn.BasicStatus().LeadTransferee)
}

// VotedForOther reports whether the replica's vote in its term is another one's.
func (g *Group) VotedForOther() bool {
	vote := g.rn.BasicStatus().GetVote()
	return vote != 0 && vote != uint64(g.cfg.ReplicaID)
}

// AsksForVote reports whether a message is of a replica that stands for election.
func AsksForVote(m *Message) bool {
	return m.GetType() == raftpb.MsgVote || m.GetType() == raftpb.MsgPreVote
}

// TellsToLead reports whether a message tells its receiver to take the leadership over.
func TellsToLead(m *Message) bool { return m.GetType() == raftpb.MsgTimeoutNow }

// IsOfLeader reports whether a message is one that only the leader of its term sends to
// those who follow.
func IsOfLeader(m *Message) bool { return isAppend(m) || IsHeartbeat(m) }

// IsHeartbeat reports whether a message is a leader's heartbeat: it repeats what was
// said, and says nothing new.
func IsHeartbeat(m *Message) bool { return m.GetType() == raftpb.MsgHeartbeat }
