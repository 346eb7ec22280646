package raftgroup

import (
	"fmt"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/invariant"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// scratchBytesMax bounds the data of entries that an idle group holds on to
// because it keeps the slice in which it handed them out.
const scratchBytesMax = 1024

// Token names what one Ready wrote. Tokens of a group grow.
type Token uint64

// Ready is work for the owner. Its slices are valid until the group's next
// Ready; messages and entries are never changed.
type Ready struct {
	// Messages go to peers, at once: what they promise is durable. They may be
	// lost, doubled or overtake each other.
	Messages []*Message
	// Committed are entries to apply, in order; then comes Applied. They are
	// durable here, and so precede their effects in the engine's log.
	Committed []Entry
	// Token is not zero if rows were written into the batch: Synced(Token) is
	// due when the batch is durable.
	Token Token
	// Snapshots are the replicas that cannot be brought up from the log any more.
	// Nothing is sent to them until EndSnapshot: see BeginSnapshot.
	Snapshots []metapb.ReplicaID
	// Changed says that term or leader are not those of the last Ready.
	Changed bool
	Term    uint64
	Leader  metapb.ReplicaID // 0 if unknown
}

// pendingAppend is what waits for rows to become durable.
type pendingAppend struct {
	token     Token
	last      uint64     // last entry in the rows; 0 if there was none
	responses []*Message // to this replica and to others
}

// pendingApply is a run of entries handed out and not reported as applied.
type pendingApply struct {
	last     uint64
	response *Message
}

// HasReady reports whether Ready has something to do.
func (g *Group) HasReady() bool {
	if !g.maybeReady || g.log.failed != nil {
		return false
	}
	if !g.surelyReady {
		g.surelyReady = g.rn.HasReady()
		g.maybeReady = g.surelyReady || len(g.outbox) > 0
	}
	return g.maybeReady
}

// Stirred reports whether something was done to the group since HasReady last said no.
// It costs nothing.
func (g *Group) Stirred() bool { return g.maybeReady }

// Ready hands out what is to do, and writes what must become durable into b,
// which the owner then commits, in the order of the calls. The owner asks
// HasReady again: a pre-vote that nobody has to be asked for is answered inside.
// On an error the rest of b is still good: what the group wrote before it
// stopped binds nobody but itself.
func (g *Group) Ready(b engine.Batch) (rd Ready, err error) {
	defer g.guard(&err)
	if g.log.failed != nil {
		return Ready{}, g.log.failed
	}
	var out raft.Ready
	if g.surelyReady || g.rn.HasReady() { // often only the outbox has something
		out = g.rn.Ready()
	}
	g.maybeReady, g.surelyReady = false, false
	clear(g.messages)
	clear(g.entries)
	g.messages, g.entries, g.entriesBytes = g.messages[:0], g.entries[:0], 0

	if out.HardState != nil {
		g.committed = max(g.committed, out.HardState.GetCommit())
	}
	for _, m := range out.Messages {
		switch m.GetType() {
		case raftpb.MsgStorageAppend:
			if rd.Token, err = g.acceptAppend(b, m); err != nil {
				return Ready{}, err
			}
		case raftpb.MsgStorageApply:
			if err := g.acceptApply(m); err != nil {
				return Ready{}, err
			}
		case raftpb.MsgSnap:
			rd.Snapshots = append(rd.Snapshots, metapb.ReplicaID(m.GetTo()))
		default:
			if g.keepsBack(m) {
				continue
			}
			g.markHeartbeat(m)
			g.messages = append(g.messages, m)
		}
	}
	g.repairs = false
	g.messages = append(g.messages, g.outbox...) // also what waited for nothing since above
	for _, m := range g.messages {
		g.markAnswer(m)
	}
	clear(g.outbox)
	g.outbox = g.outbox[:0]
	rd.Messages, rd.Committed = g.messages, g.entries
	rd.Term, rd.Leader = g.term, g.leader
	if now := (softState{g.term, g.leader}); now != g.reported {
		g.reported, rd.Changed = now, true
	}
	return rd, nil
}

// acceptAppend writes what m asks for and keeps its responses until that is
// durable. Where m asks for nothing that must be, its responses wait for the
// writes before it, and if there are none, are due at once.
func (g *Group) acceptAppend(b engine.Batch, m *Message) (Token, error) {
	if !raft.IsEmptySnap(m.GetSnapshot()) { // Step lets none in
		invariant.Must(false, "range %d: raft wants a snapshot applied", g.cfg.RangeID)
	}
	written := false
	if m.Term != nil {
		written = g.log.setHard(b, hardState{term: m.GetTerm(), vote: m.GetVote(), commit: m.GetCommit()})
	}
	last := uint64(0)
	if n := len(m.Entries); n > 0 {
		first := m.Entries[0].GetIndex()
		last = m.Entries[n-1].GetIndex()
		if g.isLeader && last != g.lastIndex {
			invariant.Must(false, "range %d: log ends at %d, proposals were told %d", g.cfg.RangeID, last, g.lastIndex)
		}
		if err := g.log.append(b, m.Entries); err != nil {
			return 0, err
		}
		g.lastIndex = last
		if slices.ContainsFunc(m.Entries, changesConf) {
			g.log.setCommitted(b, g.committed)
			g.doubt.appended(m.Entries)
		}
		// An append under way may hold entries that were replaced here; its end
		// does not make the new ones durable.
		for i := range g.appends {
			g.appends[i].last = min(g.appends[i].last, first-1)
		}
		written = true
	}
	if g.doubt.committed(g.committed, g.token+1, g.isLeader) {
		g.log.setCommitted(b, g.committed)
		written = true
	}
	if !written {
		if n := len(g.appends); n > 0 {
			p := &g.appends[n-1]
			p.responses = append(p.responses, m.Responses...)
			return 0, nil
		}
		return 0, g.release(m.Responses)
	}
	g.token++
	g.appends = append(g.appends, pendingAppend{token: g.token, last: last, responses: m.Responses})
	return g.token, nil
}

// acceptApply hands out committed entries.
func (g *Group) acceptApply(m *Message) error {
	for _, e := range m.Entries {
		out, err := exportEntry(e)
		if err != nil {
			return g.log.fail(fmt.Errorf("raftgroup: range %d: entry %d: %w", g.cfg.RangeID, e.GetIndex(), err))
		}
		g.entries = append(g.entries, out)
		g.entriesBytes += len(e.GetData())
	}
	g.handedOut = m.Entries[len(m.Entries)-1].GetIndex()
	g.applies = append(g.applies, pendingApply{last: g.handedOut, response: m.Responses[0]})
	return nil
}

// Synced says that everything written up to and including token is durable and
// can be read from the engine. It releases what waited for that.
func (g *Group) Synced(token Token) (err error) {
	defer g.guard(&err)
	if g.log.failed != nil {
		return g.log.failed
	}
	g.doubt.synced(token)
	n := 0
	for n < len(g.appends) && g.appends[n].token <= token {
		p := g.appends[n]
		g.log.setSynced(p.last)
		if err := g.release(p.responses); err != nil {
			return err
		}
		n++
	}
	g.appends = popFront(g.appends, n)
	return nil
}

// release delivers messages whose promises are durable: to this replica at
// once, to others with the next Ready.
func (g *Group) release(responses []*Message) error {
	for _, m := range responses {
		g.maybeReady = true
		if m.GetTo() != uint64(g.cfg.ReplicaID) {
			g.outbox = append(g.outbox, m)
			continue
		}
		if err := g.rn.Step(m); err != nil && err != raft.ErrStepPeerNotFound {
			return err
		}
		switch m.GetType() {
		case raftpb.MsgVoteResp, raftpb.MsgPreVoteResp:
			g.refresh()
		}
	}
	return nil
}

// Applied says that the effects of the committed entries up to index, and index
// as the new Config.AppliedIndex, are in the engine or in a batch that is
// committed next. They need not be durable.
// REQUIRES: Ready handed out index.
func (g *Group) Applied(index uint64) (err error) {
	defer g.guard(&err)
	if g.log.failed != nil {
		return g.log.failed
	}
	if index < g.applied || index > g.handedOut {
		invariant.Must(false, "range %d: applied %d after %d, handed out %d", g.cfg.RangeID, index, g.applied, g.handedOut)
	}
	g.applied, g.log.applied = index, index
	n := 0
	for n < len(g.applies) && g.applies[n].last <= index {
		if err := g.rn.Step(g.applies[n].response); err != nil {
			return err
		}
		n++
	}
	if n > 0 && g.handedOut < g.committed {
		// ApplyBytesMax held entries back.
		g.maybeReady = true
	}
	g.applies = popFront(g.applies, n)
	if len(g.applies) == 0 && g.entriesBytes > scratchBytesMax {
		// The next Ready may be far away. The caller's slice stays whole.
		g.entries, g.entriesBytes = nil, 0
	}
	if g.alone() || !g.isLeader {
		// Nobody will ask for it again, or only if this replica comes to lead.
		g.log.cache.dropTo(min(index, g.log.synced))
	}
	return nil
}

// soleVoter reports whether this replica alone elects.
func (g *Group) soleVoter() bool {
	cs := g.log.conf
	return len(cs.Voters) == 1 && cs.Voters[0] == uint64(g.cfg.ReplicaID) && len(cs.VotersOutgoing) == 0
}

// alone reports whether this replica is the only one.
func (g *Group) alone() bool {
	cs := g.log.conf
	return len(cs.Voters) == 1 && len(cs.Learners)+len(cs.VotersOutgoing)+len(cs.LearnersNext) == 0
}

// popFront removes the first n and keeps the array for reuse.
func popFront[T any](s []T, n int) []T {
	if n == 0 {
		return s
	}
	rest := copy(s, s[n:])
	clear(s[rest:])
	return s[:rest]
}
