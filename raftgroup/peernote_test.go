package raftgroup

import (
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

// An answer to an append that confirms nothing new leaves a leader at rest, but for what
// it says is known; one that ends the probing of a replica, or is of more, does not.
func TestAnswersThatSayNothingNew(t *testing.T) {
	c, err := newCluster(3)
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	g := c.at(1).g
	must(g.Campaign())
	must(c.settle())
	_, _, err = g.Propose([]byte("x"))
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
