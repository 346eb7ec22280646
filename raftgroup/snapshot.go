package raftgroup

import (
	"errors"
	"maps"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// A snapshot brings up a replica that the log cannot: one that is new, or for
// which what it lacks was cut off. Its data is the owner's and moves beside raft's
// messages. The leader says in Ready.Snapshots who needs one; the owner takes the
// range's state at an applied index, and between BeginSnapshot and EndSnapshot the
// log is not cut behind that index, so that what follows is there when the state
// has arrived. The receiver writes StartRows with the state, in one go, and begins
// a Group on them with New.

// Start is where a replica begins without the log before.
type Start struct {
	Index, Term uint64 // of the last entry whose effects it has
	Conf        Conf   // as of Index
	// HardTerm and Vote are what the replica knew before, if it was there: it must
	// not vote twice in a term.
	HardTerm uint64
	Vote     metapb.ReplicaID
}

// Row is a row of a group's state.
type Row struct{ Key, Value []byte }

// StartRows returns the rows of a group that begins at a point, in order of their
// keys. Nothing else of the group may be in the engine with them.
func StartRows(rangeID metapb.RangeID, s Start) ([]Row, error) {
	hs := hardState{term: s.HardTerm, vote: uint64(s.Vote), commit: s.Index}
	if hs.term < s.Term {
		hs.term, hs.vote = s.Term, 0
	}
	hardKey, hard := encodeHardState(rangeID, hs)
	cutKey, cut := encodeTruncated(rangeID, position{index: s.Index, term: s.Term})
	confKey, conf, err := encodeConfState(rangeID, s.Conf.state())
	return []Row{{hardKey, hard}, {cutKey, cut}, {confKey, conf}}, err
}

// ReadConf reads the configuration as of what is applied in a reader.
func ReadConf(r engine.Reader, rangeID metapb.RangeID) (Conf, error) {
	cs, err := readRow(r, rangeID, keys.RaftConfState(rangeID), decodeConfState)
	if err != nil {
		return Conf{}, err
	}
	return confOf(cs), nil
}

// BeginSnapshot keeps the log behind an applied index for a replica that is sent
// the range's state at that index. A second call for the replica replaces the
// first.
func (g *Group) BeginSnapshot(to metapb.ReplicaID, index uint64) error {
	if g.log.failed != nil {
		return g.log.failed
	}
	if index < g.log.truncated.index || index > g.applied {
		return ErrNotApplied
	}
	if g.holds == nil {
		g.holds = make(map[metapb.ReplicaID]uint64)
	}
	g.holds[to] = index
	return nil
}

// EndSnapshot says what became of a replica's snapshot: the leader goes on with it
// from the log, or finds, if ok is false, that it needs another one.
//
// Raft knows the index at which it wanted one. What was taken is of a later one, up to which
// the log may have been cut since: so it is told, as if the replica had, what that has now.
func (g *Group) EndSnapshot(to metapb.ReplicaID, ok bool) (err error) {
	defer g.guard(&err)
	index, held := g.holds[to]
	delete(g.holds, to)
	if g.log.failed != nil || !g.isLeader {
		return g.log.failed
	}
	status := raft.SnapshotFinish
	if !ok {
		status = raft.SnapshotFailure
	}
	g.unsettle(to)
	g.rn.ReportSnapshot(uint64(to), status)
	g.maybeReady = true
	if !ok || !held {
		return nil
	}
	has := &raftpb.Message{
		Type: raftpb.MsgAppResp.Enum(), From: proto.Uint64(uint64(to)), To: proto.Uint64(uint64(g.cfg.ReplicaID)),
		Term: proto.Uint64(g.term), Index: &index,
	}
	if err := g.rn.Step(has); errors.Is(err, raft.ErrStepPeerNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	g.noteAnswer(has)
	return nil
}

// Has reports whether the log has an entry, or had it and knows its term. A replica
// that has it may have confirmed what follows: a snapshot that ends there would take
// that away.
func (g *Group) Has(index, term uint64) bool {
	if index < g.log.truncated.index || index > g.log.last.index || g.log.failed != nil {
		return false
	}
	has, err := g.log.Term(index)
	return err == nil && has == term
}

// HeldBytes returns how much of the log is behind the first entry that a snapshot
// under way keeps from being cut off; 0: there is none.
func (g *Group) HeldBytes() (bytes uint64, err error) {
	defer g.guard(&err)
	if len(g.holds) == 0 || g.log.failed != nil {
		return 0, g.log.failed
	}
	p, err := g.log.at(max(g.cutMax(g.log.last.index), g.log.truncated.index))
	return g.log.last.end - p.end, err
}

// DropHolds lets the log be cut though snapshots are under way, and returns the
// replicas that they are for, by id. Each is to be given up: EndSnapshot is due.
func (g *Group) DropHolds() []metapb.ReplicaID {
	ids := slices.Sorted(maps.Keys(g.holds))
	clear(g.holds)
	return ids
}

// cutMax returns up to where the log may be cut, at most index.
func (g *Group) cutMax(index uint64) uint64 {
	for _, held := range g.holds { // any order: the lowest counts
		index = min(index, held)
	}
	return index
}

// EmptyAnswer answers a message on behalf of a replica that does not exist: it has
// nothing, which promises nothing, so that whoever leads, or stands for election, learns
// that it needs a snapshot. Nil: there is nothing to say.
func EmptyAnswer(m *Message) *Message {
	typ, ok := emptyAnswerType(m)
	if !ok {
		return nil
	}
	from, to, term := m.GetTo(), m.GetFrom(), m.GetTerm()
	if AsksForVote(m) { // it has no term either
		reject, zero := true, uint64(0)
		return &Message{Type: &typ, From: &from, To: &to, Reject: &reject, RejectHint: &zero}
	}
	out := &Message{Type: &typ, From: &from, To: &to, Term: &term}
	if m.Index != nil && isAppend(m) {
		reject, index, zero := true, m.GetIndex(), uint64(0)
		out.Reject, out.Index, out.RejectHint, out.LogTerm = &reject, &index, &zero, &zero
	}
	return out
}

func isAppend(m *Message) bool { return m.GetType() == raftpb.MsgApp }

func emptyAnswerType(m *Message) (raftpb.MessageType, bool) {
	switch m.GetType() {
	case raftpb.MsgApp:
		return raftpb.MsgAppResp, true
	case raftpb.MsgHeartbeat:
		return raftpb.MsgHeartbeatResp, true
	case raftpb.MsgVote:
		return raftpb.MsgVoteResp, true
	case raftpb.MsgPreVote:
		return raftpb.MsgPreVoteResp, true
	}
	return 0, false
}

// HasNothing reports whether a message is what EmptyAnswer says to who stands for election.
// Raft itself puts no hint into such an answer.
func HasNothing(m *Message) bool {
	typ := m.GetType()
	return (typ == raftpb.MsgVoteResp || typ == raftpb.MsgPreVoteResp) && m.GetReject() && m.RejectHint != nil
}

// HardState returns the replica's term and its vote in it, as last handed out.
func (g *Group) HardState() (term uint64, vote metapb.ReplicaID) {
	return g.log.hard.term, metapb.ReplicaID(g.log.hard.vote)
}
