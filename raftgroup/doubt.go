package raftgroup

import (
	"encoding/binary"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
)

// confDoubt is where the log may change who counts, and the replica would not know any
// more after a crash that this is committed. A leader tells a replica that it is gone when
// others know that the change is committed: had they forgotten it, they might need its vote,
// and the leader be lost. So it is written down when it is first known, and said when that is
// durable.
type confDoubt struct {
	// From first to last there may be such entries; last 0: there are none.
	first, last uint64
	// Until token is durable nothing above below is said to be committed; token 0: all is.
	below uint64
	token Token
}

// begin is called for a log of which it is not known what is in it.
func (d *confDoubt) begin(committed, last uint64) {
	if committed < last {
		d.first, d.last = committed+1, last
	}
}

// appended takes entries of the log. Those that they replace are not forgotten: then it is
// written down once more than it has to be.
func (d *confDoubt) appended(entries []*raftpb.Entry) {
	for _, e := range entries {
		if !changesConf(e) {
			continue
		}
		if d.last == 0 || e.GetIndex() < d.first {
			d.first = e.GetIndex()
		}
		d.last = max(d.last, e.GetIndex())
	}
}

// committed takes up to where the log is committed. It reports whether that is to be written
// down with what token makes durable. A leader tells nobody what it knows.
func (d *confDoubt) committed(index uint64, token Token, leads bool) bool {
	if d.last == 0 || index < d.first {
		return false
	}
	before := d.first - 1
	if d.first = index + 1; index >= d.last {
		d.first, d.last = 0, 0
	}
	if leads {
		return false
	}
	if d.token == 0 {
		d.below = before
	}
	d.token = token
	return true
}

// synced says that what token names is durable.
func (d *confDoubt) synced(token Token) {
	if d.token != 0 && token >= d.token {
		d.token = 0
	}
}

// said returns up to where a replica may say that the log is committed.
func (d *confDoubt) said(index uint64) uint64 {
	if d.token != 0 {
		return min(index, d.below)
	}
	return index
}

// markVote puts into the answer to a request for a vote what is committed.
func (g *Group) markVote(m *Message) {
	if term, err := g.log.Term(g.committed); err == nil {
		m.Context = contextOf(g.committed, term)
	}
}

// learnBytesMax bounds what is read of the log at once.
const learnBytesMax = 1 << 20

// learn takes from the answer to a request for a vote that a change of who counts is
// committed. Who stands for election with a longer log than all others, and does not know
// the change, needs votes of replicas that may have gone by it. A majority knew it before
// they went, so one of them is among those who answer before it is elected. (TiKV's
// raft-rs does the same.)
//
// To raft it is the heartbeat of a leader, which is forgotten at once: it ends the candidacy,
// and the next one is by the new configuration.
func (g *Group) learn(m *Message) error {
	if typ := m.GetType(); typ != raftpb.MsgVoteResp && typ != raftpb.MsgPreVoteResp || len(m.Context) != contextBytes {
		return nil
	}
	index, term := binary.BigEndian.Uint64(m.Context), binary.BigEndian.Uint64(m.Context[8:])
	if g.leader != 0 || g.doubt.last == 0 || index <= g.committed || index < g.doubt.first || index > g.log.last.index {
		return nil
	}
	if own, err := g.log.Term(index); err != nil || own != term {
		return err
	}
	if changes, err := g.changesConf(g.committed+1, index+1); err != nil || !changes {
		return err
	}
	if err := g.rn.Step(&raftpb.Message{
		Type: raftpb.MsgHeartbeat.Enum(), From: m.From, To: m.To, Term: &g.term, Commit: &index,
	}); err != nil {
		return err
	}
	g.maybeReady = true
	return g.rn.ForgetLeader()
}

// changesConf reports whether an entry in [lo, hi) changes who counts.
func (g *Group) changesConf(lo, hi uint64) (bool, error) {
	for lo < hi {
		entries, err := g.log.Entries(lo, hi, learnBytesMax)
		if err != nil {
			return false, err
		}
		if slices.ContainsFunc(entries, changesConf) {
			return true, nil
		}
		lo += uint64(len(entries))
	}
	return false, nil
}
