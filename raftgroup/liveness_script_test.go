package raftgroup

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// livenessScene is stores that share one clock, each of which is driven by hand.
type livenessScene struct {
	now    clock.Time
	stores map[metapb.StoreID]*sceneStore
	net    []scenePacket
	leads  map[metapb.StoreID]*Leadership // the last of each store
}

type sceneStore struct {
	live    *Liveness
	follows map[Tie]metapb.StoreID
}

type scenePacket struct {
	from metapb.StoreID
	LivenessOutput
}

// Follows implements Followers.
func (s *sceneStore) Follows(id metapb.RangeID, term uint64, leader metapb.StoreID) bool {
	return s.follows[Tie{id, term}] == leader
}

// TestLivenessScripts tells the rules of DESIGN.md one by one.
func TestLivenessScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/liveness", func(t *testing.T, path string) {
		s := &livenessScene{stores: make(map[metapb.StoreID]*sceneStore), leads: make(map[metapb.StoreID]*Leadership)}
		datadriven.RunTest(t, path, s.command)
	})
}

func (s *livenessScene) start(id metapb.StoreID, start uint64) {
	st := &sceneStore{follows: make(map[Tie]metapb.StoreID)}
	live, err := NewLiveness(LivenessConfig{Store: id, Start: start, Replicas: st})
	if err != nil {
		panic(err)
	}
	live.SetPeers([]metapb.StoreID{1, 2, 3})
	live.Tick(s.now)
	st.live = live
	s.stores[id] = st
}

func (s *livenessScene) command(t *testing.T, d *datadriven.TestData) string {
	var id, other, start, rangeID, term, ms, to int
	d.MaybeScanArgs(t, "s", &id)
	d.MaybeScanArgs(t, "of", &other)
	d.MaybeScanArgs(t, "start", &start)
	d.MaybeScanArgs(t, "range", &rangeID)
	d.MaybeScanArgs(t, "term", &term)
	d.MaybeScanArgs(t, "ms", &ms)
	d.MaybeScanArgs(t, "to", &to)
	tie := Tie{metapb.RangeID(rangeID), uint64(term)}
	self, peer := metapb.StoreID(id), metapb.StoreID(other)
	st := s.stores[self]
	switch d.Cmd {
	case "start":
		s.start(self, uint64(start))
	case "pass": // time, in which every store is told it every 50 ms, and its disk is fast
		for end := s.now.Add(time.Duration(ms) * time.Millisecond); s.now < end; {
			s.now = s.now.Add(50 * time.Millisecond)
			s.tick(d.HasArg("stalled"))
			s.deliver(d.HasArg("deaf"))
		}
	case "follow":
		st.follows[tie] = peer
	case "lead":
		s.leads[self] = st.live.Lead(tie.Range, tie.Term, StoreSet{Voters: []metapb.StoreID{1, 2, 3}})
	case "give-up":
		st.live.GiveUp(s.leads[self])
	case "end":
		st.live.EndLead(s.leads[self])
	case "bear":
		st.live.Bear(tie.Range, peer, tie.Term)
	case "may-vote": // s for of
		return fmt.Sprintf("%t\n", st.live.MayVote(tie.Range, peer))
	case "vote":
		st.live.Vote(tie.Range, peer, tie.Term)
	case "hear":
		return fmt.Sprintf("%t\n", st.live.Hear(peer, uint64(start)))
	case "live": // of, to s
		return fmt.Sprintf("%t\n", st.live.Live(peer))
	case "deliver":
		return s.deliver(false)
	case "hand": // s's messages to another, which answers later
		return s.hand(self, metapb.StoreID(to))
	case "lease":
		left := s.leads[self].Until().Sub(s.now)
		return fmt.Sprintf("holds=%t for %v\n", s.leads[self].Holds(s.now), max(left, 0))
	case "show":
		return st.live.String()
	case "events":
		return fmt.Sprintf("%+v\n", st.live.Events())
	default:
		t.Fatalf("unknown command %s", d.Cmd)
	}
	return ""
}

func (s *livenessScene) tick(stalled bool) {
	for id := metapb.StoreID(1); id <= 3; id++ {
		if st := s.stores[id]; st != nil {
			st.live.Tick(s.now)
			if st.live.WantsSync() && !(stalled && id == 1) {
				st.live.SyncBegins()
				st.live.Synced(s.now, s.now)
			}
		}
	}
}

// deliver carries messages until there are none. Deaf: none of store 1 arrives.
func (s *livenessScene) deliver(deaf bool) string {
	var out strings.Builder
	for more := true; more; {
		more = false
		for id := metapb.StoreID(1); id <= 3; id++ {
			if st := s.stores[id]; st != nil {
				for _, o := range st.live.Ready() {
					s.net = append(s.net, scenePacket{id, o})
				}
			}
		}
		for _, p := range s.net {
			st := s.stores[p.To]
			if st == nil || deaf && p.from == 1 {
				continue
			}
			more = true
			fmt.Fprintf(&out, "%d->%d %s\n", p.from, p.To, describeLiveness(p.Message))
			st.live.Step(p.from, p.Message, s.now)
		}
		s.net = nil
	}
	return out.String()
}

// hand carries a store's messages to another one; the others are lost.
func (s *livenessScene) hand(from, to metapb.StoreID) string {
	var out strings.Builder
	for _, o := range s.stores[from].live.Ready() {
		if o.To == to {
			fmt.Fprintf(&out, "%d->%d %s\n", from, to, describeLiveness(o.Message))
			s.stores[to].live.Step(from, o.Message, s.now)
		}
	}
	return out.String()
}

func describeLiveness(m *LivenessMessage) string {
	var words []string
	word := func(ok bool, format string, args ...any) {
		if ok {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	word(m.Beat, "beat")
	word(m.Ask, "asks")
	word(m.Promise > 0, "promises %v epoch %d", m.Promise, m.Epoch)
	word(len(m.Questions) > 0, "follow me? %v", m.Questions)
	word(len(m.Follows) > 0, "follows %v epoch %d", m.Follows, m.Epoch)
	word(len(m.Refuses) > 0, "does not follow %v", m.Refuses)
	word(len(m.Releases) > 0, "releases %v from %d", m.Releases, m.ReleaseFirst)
	word(m.Released > 0, "released %d", m.Released)
	word(len(m.Asks) > 0, "do you lead? %v", m.Asks)
	return strings.Join(words, ", ")
}
