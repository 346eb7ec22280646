package raftgroup

import (
	"encoding/binary"
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// NeedsTick reports whether the owner has to tick the group at all: it leads
// others. Whether it may rest meanwhile, Quiesce says.
func (g *Group) NeedsTick() bool { return g.isLeader && !g.alone() }

// Quiesce reports whether a leader has nothing left to do: all its log is
// committed and applied, nothing waits to be written or sent, and every live
// replica confirmed that it has all of it and knows that it is committed; the
// latter it says in its answers to appends and to heartbeats. Such a group is not
// ticked until a proposal, a message or the return of a replica in lagging wakes it.
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
		case p.ReplicaID == g.cfg.ReplicaID:
		case p.Match == g.lastIndex && !p.Probing && g.knownBy(p.ReplicaID) >= g.lastIndex:
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

// contextBytes is the length of what a message says beside what raft wants it to. A
// heartbeat: what is committed, and up to where the log may be cut. The answer to a request
// for a vote: what is committed, and the term of the entry there.
const contextBytes = 16

func contextOf(a, b uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(make([]byte, 0, contextBytes), a), b)
}

// markHeartbeat puts into a heartbeat what it says is committed, and the answer
// brings it back: that a replica has all entries does not tell a leader that the
// message that said that the last ones are committed was not lost.
func (g *Group) markHeartbeat(m *Message) {
	if m.GetType() == raftpb.MsgHeartbeat && len(m.Context) == 0 {
		m.Context = contextOf(m.GetCommit(), g.cutHint)
	}
}

// markAnswer puts into the answer to an append what this replica knows to be
// committed, which raft itself leaves open. The last append of a busy moment only
// says that: so its answer is all that its leader needs to rest. It says less, also
// in the answer to a heartbeat, while it might forget some of that which counts.
func (g *Group) markAnswer(m *Message) {
	switch typ := m.GetType(); {
	case typ == raftpb.MsgAppResp && !m.GetReject():
		committed := g.doubt.said(g.committed)
		m.Commit = &committed
	case typ == raftpb.MsgHeartbeatResp && len(m.Context) == contextBytes:
		index := binary.BigEndian.Uint64(m.Context)
		if said := g.doubt.said(index); said < index {
			m.Context = contextOf(said, 0)
		}
	case typ == raftpb.MsgVoteResp || typ == raftpb.MsgPreVoteResp:
		g.markVote(m)
	}
}

// takeContext takes what a heartbeat or its answer shows, and returns the rest: raft
// would take the context for a read index of its own.
func (g *Group) takeContext(m *Message) *Message {
	typ := m.GetType()
	if typ != raftpb.MsgHeartbeat && typ != raftpb.MsgHeartbeatResp || len(m.Context) != contextBytes || m.GetTerm() < g.term {
		return m
	}
	if typ == raftpb.MsgHeartbeat {
		g.cutHint = binary.BigEndian.Uint64(m.Context[8:])
		return m // its answer shows it again
	}
	if g.isLeader && m.GetTerm() == g.term {
		g.noteKnows(metapb.ReplicaID(m.GetFrom()), binary.BigEndian.Uint64(m.Context))
	}
	return &Message{Type: m.Type, From: m.From, To: m.To, Term: m.Term}
}

// SetCutHint says up to where this leader's peers may cut their logs: nobody will
// ask them for what is below. They hear it with the next heartbeat.
func (g *Group) SetCutHint(index uint64) { g.cutHint = index }

// CutHint returns what the leader said last.
func (g *Group) CutHint() uint64 { return g.cutHint }
