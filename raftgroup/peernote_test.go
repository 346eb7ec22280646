package raftgroup

import (
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

// An answer to an append that confirms nothing new leaves a leader at rest, but for what
// it says is known; one that ends the probing of a replica, or is of more, does not.
func TestAnswersThatSayNothingNew(t *testing.T) {
	c, must := mustCluster(t)
	g := c.at(1).g
	must(g.Campaign())
	must(c.settle())
	_, _, err := g.Propose([]byte("x"))
	must(err)
	must(c.settle())
	last := g.LastIndex()
	answer := func(index, committed uint64) *Message {
		return &Message{
			Type: raftpb.MsgAppResp.Enum(), From: new(uint64(2)), To: new(uint64(1)), Term: new(g.Term()),
			Index: new(index), Commit: new(committed),
		}
	}
	probed := func() (probed bool) {
		g.Progress(func(p PeerProgress) { probed = probed || p.ReplicaID == 2 && p.Probing })
		return probed
	}

	g.Doubt()
	must(g.Step(answer(last-1, last-1)))
	must(g.Step(answer(last, last)))
	if g.Stirred() || g.HasReady() {
		t.Fatal("the leader has something to do")
	}
	if g.knownBy(2) != last || g.knownBy(3) != 0 {
		t.Fatalf("replica 2 said that it knows %d, is noted with %d, and replica 3 with %d", last, g.knownBy(2), g.knownBy(3))
	}

	for name, loses := range map[string]func() error{
		"a lost message": func() error { return g.ReportUnreachable(2) },
		"a refusal": func() error {
			m := answer(last+1, last)
			m.Reject, m.RejectHint = new(true), new(last)
			_, _, err := g.Propose([]byte("y")) // else raft takes the refusal for an old one
			must(err)
			_, err = c.ready(c.at(1))
			must(err)
			return g.Step(m)
		},
	} {
		must(loses())
		if !probed() {
			t.Fatalf("after %s the leader does not probe", name)
		}
		must(g.Step(answer(last, last)))
		if probed() {
			t.Fatalf("after %s an answer does not end the probing", name)
		}
		must(c.settle())
		last = g.LastIndex()
	}

	// What a replica confirmed in an older term may have been replaced since.
	g.note(2).acked = last + 100
	must(c.at(3).g.Campaign())
	must(c.settle())
	must(g.Campaign())
	must(c.settle())
	if _, _, err = g.Propose([]byte("z")); err != nil {
		t.Fatal(err)
	}
	must(c.settle())
	if n := g.note(2); n.acked != g.LastIndex() || n.knows != g.LastIndex() {
		t.Fatalf("of replica 2 it is noted that it confirmed %d and knows %d of %d", n.acked, n.knows, g.LastIndex())
	}
}

// Who has nothing says so also over the wire, to who stands for election, and nobody else does.
func TestHasNothingOverTheWire(t *testing.T) {
	for _, typ := range []raftpb.MessageType{raftpb.MsgVote, raftpb.MsgPreVote} {
		answer := EmptyAnswer(&Message{Type: typ.Enum(), From: new(uint64(2)), To: new(uint64(3)), Term: new(uint64(7))})
		b, err := AppendMessage(nil, testRange, answer)
		if err != nil {
			t.Fatal(err)
		}
		_, m, _, err := DecodeMessage(b, 0)
		if err != nil || !HasNothing(m) || m.GetFrom() != 3 || m.GetTo() != 2 {
			t.Fatalf("of the answer to a %s arrives %v, %v", typ, m, err)
		}
	}
	refusal := &Message{Type: raftpb.MsgVoteResp.Enum(), From: new(uint64(3)), To: new(uint64(2)), Term: new(uint64(7)), Reject: new(true)}
	if HasNothing(refusal) {
		t.Fatal("a refused vote is taken for nothing")
	}
}
