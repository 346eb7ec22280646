package raftgroup

import (
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// peerNote is what a leader noted of a replica in its term, beside raft's progress.
type peerNote struct {
	id metapb.ReplicaID
	// knows is up to where the replica knows what is committed, as it said.
	knows uint64
	// acked is the highest index that it confirmed: raft's Match.
	acked uint64
	// settled says that raft does not probe it: it knows where the logs meet.
	settled bool
}

// note returns the note of a replica. It is valid until the next call.
func (g *Group) note(id metapb.ReplicaID) *peerNote {
	if n := g.noted(id); n != nil {
		return n
	}
	g.notes = append(g.notes, peerNote{id: id})
	return &g.notes[len(g.notes)-1]
}

// noted is note, nil where nothing was noted.
func (g *Group) noted(id metapb.ReplicaID) *peerNote {
	for i := range g.notes {
		if g.notes[i].id == id {
			return &g.notes[i]
		}
	}
	return nil
}

// knownBy returns up to where a replica said that it knows what is committed.
func (g *Group) knownBy(id metapb.ReplicaID) uint64 {
	if n := g.noted(id); n != nil {
		return n.knows
	}
	return 0
}

// noteKnows notes up to where a replica says that it knows what is committed.
func (g *Group) noteKnows(id metapb.ReplicaID, index uint64) {
	n := g.note(id)
	n.knows = max(n.knows, index)
}

// probes reports whether the leader may not know where a replica's log meets its own.
// It sends that replica nothing else then before it has an answer, be it to an append
// without entries: one that was kept back would keep all others back.
func (g *Group) probes(id metapb.ReplicaID) bool { return !g.note(id).settled }

// answersLeader reports whether a message is an answer to an append of this leader's term.
func (g *Group) answersLeader(m *Message) bool {
	return m.GetType() == raftpb.MsgAppResp && g.isLeader && m.GetTerm() == g.term
}

// saysNothingNew reports whether a message is an answer to an append that tells this
// leader's raft nothing, and notes what it tells the group. Of the answers to a busy
// leader half are to appends that only said what is committed.
func (g *Group) saysNothingNew(m *Message) bool {
	if !g.answersLeader(m) {
		return false
	}
	from := metapb.ReplicaID(m.GetFrom())
	if m.Commit != nil {
		g.noteKnows(from, m.GetCommit())
	}
	n := g.note(from)
	return n.settled && !m.GetReject() && m.GetIndex() <= n.acked
}

// noteAnswer notes what raft made of an answer to an append. One that confirms as much
// as any before it ends the probing.
func (g *Group) noteAnswer(m *Message) {
	if !g.answersLeader(m) {
		return
	}
	switch n := g.note(metapb.ReplicaID(m.GetFrom())); {
	case m.GetReject():
		n.settled = false
	case m.GetIndex() >= n.acked:
		n.acked, n.settled = m.GetIndex(), true
	}
}

// unsettle says that raft may probe a replica from now on.
func (g *Group) unsettle(id metapb.ReplicaID) { g.note(id).settled = false }

// forgetRemoved drops the notes of replicas that are not in the configuration.
func (g *Group) forgetRemoved() {
	conf := g.Conf()
	g.notes = slices.DeleteFunc(g.notes, func(n peerNote) bool { return !conf.Has(n.id) })
}

// Doubt says that replicas may not know any more what they said they know, not even
// who leads: this leader does not rest before they have said so again.
func (g *Group) Doubt() {
	for i := range g.notes {
		g.notes[i].knows = 0
	}
}
