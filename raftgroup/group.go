package raftgroup

import (
	"errors"
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/invariant"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// Group is one replica's part in the Raft group of its range. It is not safe
// for concurrent use. An error from any method other than the sentinels of this
// package means that the log cannot be read: the group is stopped for good.
type Group struct {
	cfg Config
	rn  *raft.RawNode
	log *log

	term     uint64
	leader   metapb.ReplicaID // 0 if unknown
	isLeader bool             // Invariant: isLeader == (leader == cfg.ReplicaID)

	// lastIndex is the end of raft's own log, with the entries that Ready has
	// not handed out. Exact while isLeader; else as of the last Ready.
	lastIndex uint64
	committed uint64 // as of the last Ready
	handedOut uint64 // by Ready, to be applied
	applied   uint64 // as reported. Invariant: applied <= handedOut <= committed

	// maybeReady is set by whatever may give Ready something to do, surelyReady
	// where that is certain: asking raft costs allocations.
	maybeReady, surelyReady bool

	// confIndex is the highest index at which there may be a change of
	// configuration that does not apply yet. Exact while isLeader.
	confIndex uint64
	// doubt is what a replica may forget to be committed that changes who counts.
	doubt confDoubt
	// holds are, by replica, where a snapshot for it ends that is under way: the
	// log is not cut behind it.
	holds map[metapb.ReplicaID]uint64
	notes []peerNote // of this leader's term
	// held are appends that say only what is committed, at most one for each replica,
	// and are kept back while holding.
	held    []*Message
	holding bool
	// repairs is set by the answer to a heartbeat, until the next Ready: an append
	// without entries that is sent then may be to find out what was lost.
	repairs bool
	// cutHint is up to where the leader lets its peers cut their logs.
	cutHint uint64

	reported softState
	outbox   []*Message // released by Synced, for the next Ready
	token    Token      // the last one given out
	appends  []pendingAppend
	applies  []pendingApply
	// Scratch of Ready, lent to the caller until the next one.
	messages     []*Message
	entries      []Entry
	entriesBytes int
}

// softState is what an owner is told when it changes.
type softState struct {
	term   uint64
	leader metapb.ReplicaID
}

// New starts a replica's group on the state that the engine holds. It is a
// follower, also if it led before: call Campaign.
func New(cfg Config, reader engine.Reader) (*Group, error) {
	cfg.setDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	rows := cfg.Rows
	if rows == nil {
		rows = reader
	}
	l, err := loadLog(rows, cfg.RangeID, cfg.AppliedIndex, cfg.LogCacheBytesMax)
	if err != nil {
		return nil, err
	}
	l.reader, cfg.Rows = reader, nil
	g := &Group{
		cfg:       cfg,
		log:       l,
		lastIndex: l.last.index,
		committed: l.hard.commit,
		handedOut: cfg.AppliedIndex,
		applied:   cfg.AppliedIndex,
	}
	g.doubt.begin(l.hard.commit, l.last.index)
	if err := g.start(); err != nil {
		return nil, err
	}
	g.refresh()
	g.reported = softState{term: g.term, leader: g.leader}
	g.maybeReady = true
	return g, nil
}

func (g *Group) start() (err error) {
	defer g.guard(&err)
	g.rn, err = raft.NewRawNode(g.cfg.raftConfig(g.log))
	return err
}

// guard turns raft's panic over an unreadable log into the error of the read.
// It is deferred by every method that enters raft. Other panics pass: they are
// broken promises, and going on could make replicas differ.
func (g *Group) guard(err *error) {
	if g.log.failed == nil {
		return
	}
	_ = recover()
	*err = g.log.failed
}

// Campaign stands for election. A group with a single voter elects itself as
// soon as its own vote is durable; nobody has to be asked. In another one it
// fails with ErrPromised while a promise runs that it will not.
func (g *Group) Campaign() (err error) {
	defer g.guard(&err)
	if g.log.failed != nil || g.isLeader {
		return g.log.failed
	}
	if g.cfg.Gate != nil && !g.soleVoter() && !g.cfg.Gate.MayVote(g.cfg.ReplicaID, g.term+1, false) {
		return ErrPromised
	}
	if err := g.rn.Campaign(); err != nil {
		return err
	}
	g.maybeReady = true
	if g.refresh() == raft.StateFollower {
		return ErrCannotCampaign
	}
	return nil
}

// Propose appends data to the leader's log and returns the entry's index and
// term. The entry is committed if and only if Ready hands out an entry with
// this index and this term. On ErrNotLeader and ErrDropped nothing was
// appended. Data must not be empty and is not kept.
func (g *Group) Propose(data []byte) (index, term uint64, err error) {
	defer g.guard(&err)
	if g.log.failed != nil {
		return 0, 0, g.log.failed
	}
	invariant.Check(len(data) > 0, "range %d: empty proposal", g.cfg.RangeID)
	if !g.isLeader {
		return 0, 0, ErrNotLeader
	}
	if err := g.rn.Propose(data); errors.Is(err, raft.ErrProposalDropped) {
		return 0, 0, ErrDropped
	} else if err != nil {
		return 0, 0, err
	}
	g.lastIndex++
	g.maybeReady, g.surelyReady = true, true
	return g.lastIndex, g.term, nil
}

// Step takes a message of a peer in. It fails with ErrPromised, and does nothing, if the
// message asks for what a promise forbids at present.
func (g *Group) Step(m *Message) (err error) {
	defer g.guard(&err)
	if g.log.failed != nil {
		return g.log.failed
	}
	if err := g.checkMessage(m); err != nil {
		return err
	}
	if !g.passes(m) {
		return ErrPromised
	}
	if g.saysNothingNew(m) {
		return nil
	}
	if err := g.learn(m); err != nil {
		return err
	}
	m = g.takeContext(m)
	if err := g.rn.Step(m); errors.Is(err, raft.ErrStepPeerNotFound) {
		return nil // it left the range, and may still talk
	} else if err != nil {
		return err
	}
	g.noteAnswer(m)
	g.maybeReady = true
	g.repairs = g.repairs || m.GetType() == raftpb.MsgHeartbeatResp
	if !g.isPlain(m) {
		g.refresh()
	}
	return nil
}

// checkMessage refuses what no replica sends to another one. Snapshots are
// refused too: a range's data does not move with raft's messages.
func (g *Group) checkMessage(m *Message) error {
	if m.GetTo() != uint64(g.cfg.ReplicaID) || m.GetFrom() == 0 || m.GetFrom() == m.GetTo() {
		return fmt.Errorf("%w: %s from replica %d to %d, this is %d",
			ErrBadMessage, m.GetType(), m.GetFrom(), m.GetTo(), g.cfg.ReplicaID)
	}
	switch m.GetType() {
	case raftpb.MsgApp, raftpb.MsgAppResp,
		raftpb.MsgVote, raftpb.MsgVoteResp, raftpb.MsgPreVote, raftpb.MsgPreVoteResp,
		raftpb.MsgHeartbeat, raftpb.MsgHeartbeatResp,
		raftpb.MsgTimeoutNow:
		return nil
	}
	return fmt.Errorf("%w: %s", ErrBadMessage, m.GetType())
}

// isPlain says that m cannot have changed term or leader: it is what leader and
// followers of a settled term send each other.
func (g *Group) isPlain(m *Message) bool {
	if m.GetTerm() != g.term {
		return false
	}
	switch m.GetType() {
	case raftpb.MsgAppResp, raftpb.MsgHeartbeatResp:
		return g.isLeader
	case raftpb.MsgApp, raftpb.MsgHeartbeat:
		return metapb.ReplicaID(m.GetFrom()) == g.leader
	}
	return false
}

// Tick lets a leader send its heartbeats, which repeat what was lost, and give
// up a transfer that takes too long. Only leaders with peers need it; for any
// other replica it does nothing, since no clock may start an election.
func (g *Group) Tick() (err error) {
	defer g.guard(&err)
	if g.log.failed != nil || !g.isLeader {
		return g.log.failed
	}
	g.rn.Tick()
	g.maybeReady = true
	return nil
}

// ForgetLeader makes a follower leaderless without a change of term: its owner
// knows that the leader is gone.
func (g *Group) ForgetLeader() (err error) {
	defer g.guard(&err)
	if g.log.failed != nil {
		return g.log.failed
	}
	err = g.rn.ForgetLeader()
	g.maybeReady = true
	g.refresh()
	return err
}

// TransferLeader asks a voter to take over from this leader; until it has, or
// ten ticks went by, proposals are dropped.
func (g *Group) TransferLeader(to metapb.ReplicaID) (err error) {
	defer g.guard(&err)
	if g.log.failed != nil {
		return g.log.failed
	}
	if !g.isLeader {
		return ErrNotLeader
	}
	g.rn.TransferLeader(uint64(to))
	g.maybeReady = true
	return nil
}

// ReportUnreachable says that a message to a peer was lost, so that the leader
// stops sending ahead of what the peer confirms.
func (g *Group) ReportUnreachable(peer metapb.ReplicaID) (err error) {
	defer g.guard(&err)
	if g.log.failed != nil {
		return g.log.failed
	}
	g.unsettle(peer)
	g.rn.ReportUnreachable(uint64(peer))
	g.maybeReady = true
	return nil
}

// refresh brings term and leader up to date after a step that may have changed
// them.
func (g *Group) refresh() raft.StateType {
	st := g.rn.BasicStatus()
	isLeader := st.RaftState == raft.StateLeader
	if isLeader && (!g.isLeader || g.term != st.GetTerm()) {
		// raft has just appended the mark that begins the leader's term. What
		// was before it, the last Ready has seen: between the append of a
		// follower and an election won lies the sending of a vote request.
		g.confIndex = g.lastIndex
		g.lastIndex++
	}
	if g.term != st.GetTerm() {
		g.notes = g.notes[:0]
	}
	g.term, g.leader, g.isLeader = st.GetTerm(), metapb.ReplicaID(st.Lead), isLeader
	return st.RaftState
}

// Truncate writes into b the removal of the log up to and including index, and
// cuts the log at once. What was applied up to index must come earlier in the
// same engine, or in b: what a crash takes then is never the one without the
// other. To cut below what is cut already does nothing; what follows a snapshot
// that is under way stays.
func (g *Group) Truncate(b engine.Batch, index uint64) (err error) {
	defer g.guard(&err)
	if g.log.failed != nil {
		return g.log.failed
	}
	if index > g.applied {
		return fmt.Errorf("%w: range %d is at %d, cut at %d", ErrNotApplied, g.cfg.RangeID, g.applied, index)
	}
	return g.log.truncate(b, g.cutMax(index))
}

// CutIndex returns where to cut the log so that at most keep bytes stay, but
// never above what is applied. It reads a few rows.
func (g *Group) CutIndex(keep uint64) (index uint64, err error) {
	defer g.guard(&err)
	if g.log.failed != nil {
		return 0, g.log.failed
	}
	index, err = g.log.cutIndex(keep)
	return g.cutMax(min(index, g.applied)), err
}

// RangeID returns the range's id.
func (g *Group) RangeID() metapb.RangeID { return g.cfg.RangeID }

// ReplicaID returns the replica's id.
func (g *Group) ReplicaID() metapb.ReplicaID { return g.cfg.ReplicaID }

// Term returns the highest term seen.
func (g *Group) Term() uint64 { return g.term }

// Leader returns the leader of Term, or 0 if it is not known.
func (g *Group) Leader() metapb.ReplicaID { return g.leader }

// IsLeader reports whether this replica leads, as far as it knows.
func (g *Group) IsLeader() bool { return g.isLeader }

// FirstIndex returns the index of the first entry that is not cut off.
func (g *Group) FirstIndex() uint64 { return g.log.truncated.index + 1 }

// LastIndex returns the index of the last entry: on a leader that of the last
// proposal, on a follower as of the last Ready.
func (g *Group) LastIndex() uint64 { return g.lastIndex }

// CommittedIndex returns the highest index known to be committed at the last
// Ready.
func (g *Group) CommittedIndex() uint64 { return g.committed }

// AppliedIndex returns the index given to the last Applied.
func (g *Group) AppliedIndex() uint64 { return g.applied }

// LogBytes returns the size of the log's rows in the engine, exactly.
func (g *Group) LogBytes() uint64 { return g.log.bytes() }

// CacheBytes returns the size of the entries held in memory after they were
// written.
func (g *Group) CacheBytes() uint64 { return g.log.cache.bytes }

// PeerProgress is what a leader knows of a replica.
type PeerProgress struct {
	ReplicaID metapb.ReplicaID
	Match     uint64 // the replica's log is the leader's up to here, durably
	Next      uint64 // the next entry to send
	Known     uint64 // it said that it knows that the log is committed up to here
	Learner   bool
	Probing   bool // the leader does not know where the logs meet, or sends nothing
	Snapshot  bool // it needs, or gets, a snapshot: see Ready.Snapshots
}

// Progress calls fn for every replica of the range, this one too, by id. On a
// follower Match is not known.
func (g *Group) Progress(fn func(PeerProgress)) {
	g.rn.WithProgress(func(id uint64, typ raft.ProgressType, p tracker.Progress) {
		fn(PeerProgress{
			ReplicaID: metapb.ReplicaID(id),
			Match:     p.Match,
			Next:      p.Next,
			Known:     g.knownBy(metapb.ReplicaID(id)),
			Learner:   typ == raft.ProgressTypeLearner,
			Probing:   p.State != tracker.StateReplicate,
			Snapshot:  p.State == tracker.StateSnapshot,
		})
	})
}
