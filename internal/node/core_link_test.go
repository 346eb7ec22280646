package node

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/frame"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/range"
	"github.com/flotilladb/flotilla/router"
)

// linked returns both ends of a link that know of each other.
func linked(t *testing.T, now clock.Time) (a, b *link) {
	t.Helper()
	a, b = &link{self: 1, peer: 2, selfStart: 1}, &link{self: 2, peer: 1, selfStart: 1}
	for range 2 {
		b.step(a.hello(now), now)
		a.step(b.hello(now), now)
	}
	if !a.ready() || !b.ready() {
		t.Fatal("the ends do not know each other")
	}
	return a, b
}

// A peer takes all that is said to it, and is lost: that its answers do not come is found out
// although nothing more is said. One that is heard is not given up, nor for a time in which
// nobody listened.
func TestSilenceEndsASession(t *testing.T) {
	now := clock.Time(time.Second)
	a, b := linked(t, now)
	a.next.Answers = []placement.Answer{{Seq: 1}}
	b.step(a.take(now), now)
	for range 1000 { // each says who it is, and nothing more
		now = now.Add(20 * time.Millisecond)
		for _, ends := range [][2]*link{{a, b}, {b, a}} {
			again, gaveUp := ends[0].tick(now)
			for _, f := range again {
				ends[1].step(f, now)
			}
			if gaveUp {
				t.Fatal("who is heard was given up")
			}
		}
	}
	now = now.Add(time.Minute)
	if _, gaveUp := a.tick(now); gaveUp {
		t.Fatal("given up when nobody listened")
	}
	for end := now.Add(2 * linkSilence); a.ready(); now = now.Add(20 * time.Millisecond) {
		if _, gaveUp := a.tick(now); gaveUp == a.ready() || now.After(end) {
			t.Fatalf("given up: %v, still ready after %v: %v", gaveUp, linkSilence, a.ready())
		}
	}
	if _, gaveUp := a.tick(now.Add(linkSilence)); gaveUp {
		t.Fatal("given up twice")
	}
}

// Nothing of what is said is taken. A peer that says nothing either is given up as soon as the
// time is over, whenever something would be sent again; one that is heard of may be taking what
// is large, and has longer. A time in which this store stood still does not count.
func TestWhenASessionIsGivenUp(t *testing.T) {
	const tick = 20 * time.Millisecond
	for name, after := range map[string]time.Duration{"silent": linkTimeout, "heard": linkDeaf, "large": linkDeaf + 11*time.Second} {
		t.Run(name, func(t *testing.T) {
			now := clock.Time(time.Second)
			a, b := linked(t, now)
			_, _ = a.tick(now)
			a.next.Answers = []placement.Answer{{Seq: 1}}
			if name == "large" {
				a.next.Requests = []*peerpb.Request{{Body: &peerpb.Write{Req: &pb.PutRequest{Value: make([]byte, 12<<20)}}}}
			}
			a.take(now)
			begun := now
			for {
				now = now.Add(tick)
				if now.Sub(begun) == after/2 {
					now, begun = now.Add(time.Minute), begun.Add(time.Minute+tick-linkHello)
				}
				if name != "silent" {
					a.step(b.hello(now), now)
				}
				if _, gaveUp := a.tick(now); gaveUp {
					break
				}
				if now.Sub(begun) > time.Minute {
					t.Fatal("not given up")
				}
			}
			if took := now.Sub(begun); took < after || took > after+tick {
				t.Errorf("given up after %v, want %v", took, after)
			}
		})
	}
}

// What is said does not reach the peer, which is heard. After the session was given up nothing
// is sent until the peer shows that it hears of the new one: else each request would wait for
// as long as the first.
func TestDeafPeerIsNotAsked(t *testing.T) {
	now := clock.Time(time.Second)
	a, b := linked(t, now)
	a.next.Answers = []placement.Answer{{Seq: 1}}
	a.take(now)
	var hello *frame.Frame
	for gaveUp := false; !gaveUp; {
		now = now.Add(20 * time.Millisecond)
		a.step(b.hello(now), now)
		var again []*frame.Frame
		if again, gaveUp = a.tick(now); len(again) > 0 {
			hello = again[len(again)-1]
		}
	}
	for range 100 {
		now = now.Add(20 * time.Millisecond)
		a.step(b.hello(now), now)
		if again, gaveUp := a.tick(now); gaveUp {
			t.Fatal("given up twice")
		} else if len(again) > 0 {
			hello = again[len(again)-1]
		}
		if a.ready() {
			t.Fatal("a peer that hears nothing is asked again")
		}
	}
	if h := b.step(hello, now); !h.lost {
		t.Fatal("the peer did not hear of the new session")
	}
	answer, _ := b.tick(now)
	if len(answer) != 1 {
		t.Fatalf("the peer says %d frames to that", len(answer))
	}
	if a.step(answer[0], now); !a.ready() {
		t.Error("a peer that hears is not asked")
	}
}

// A session that is given up when nothing more is to be said: the peer hears of it
// all the same, and that what it waits for does not come.
func TestGivenUpSessionIsHeardOf(t *testing.T) {
	now := clock.Time(time.Second)
	a, b := linked(t, now)
	a.next.Answers = []placement.Answer{{Seq: 1}}
	if first := a.take(now); !b.step(first, now).taken {
		t.Fatal("the first frame was not taken")
	}
	a.next.Answers = []placement.Answer{{Seq: 2}}
	a.take(now) // is lost, and so are acknowledgements
	gaveUp := false
	for end := now.Add(3 * linkTimeout); now < end && !gaveUp; now = now.Add(20 * time.Millisecond) {
		_, gaveUp = a.tick(now)
	}
	if !gaveUp {
		t.Fatal("the session was not given up")
	}
	var hello *frame.Frame
	for range 20 {
		now = now.Add(20 * time.Millisecond)
		again, _ := a.tick(now)
		for _, f := range again {
			hello = f
		}
	}
	if hello == nil {
		t.Fatal("nothing was said for 400 ms")
	}
	if h := b.step(hello, now); !h.lost || h.taken {
		t.Errorf("the peer heard %+v of it", h)
	}
	if h := b.step(hello, now); h.lost {
		t.Error("the peer heard twice that the session was given up")
	}
}

// A sequencer that ends while asks wait for its ceiling says so to who asked.
func TestWhoWaitsForASequencerThatEnds(t *testing.T) {
	seq, err := placement.NewSequencer(placement.SequencerConfig{Epoch: 5, Last: 10})
	if err != nil {
		t.Fatal(err)
	}
	c := &Core{cfg: CoreConfig{StoreID: 1, StoreStart: 1}, many: true, seq: seq, peers: newPeers()}
	c.links[2] = &link{self: 1, peer: 2, selfStart: 1, peerStart: 7}
	ask := placement.Ask{Name: placement.AskName{Store: 2, StoreStart: 7, Range: 3, Term: 6, Number: 1}, N: 1, Seq: 1}
	if _, ok := seq.Alloc(ask); ok {
		t.Fatal("the ask did not have to wait")
	}
	c.endSequencer()
	answers := c.links[2].next.Answers
	if c.seq != nil || len(answers) != 1 || answers[0].Err == nil || answers[0].Seq != 1 || answers[0].Name != ask.Name {
		t.Errorf("the store that waits is told %+v", answers)
	}
}

// A large frame goes in pieces, and what is sent after it comes before it. All are
// taken as soon as it is there, in order, each once, and nothing is sent again.
func TestOvertakenFrames(t *testing.T) {
	now := clock.Time(time.Second)
	r, err := router.New(router.Config{Store: 2, StoreStart: 1})
	if err != nil {
		t.Fatal(err)
	}
	c := &Core{cfg: CoreConfig{StoreID: 2, StoreStart: 1}, many: true, now: now, store: &ranges.Store{}, router: r, peers: newPeers()}
	a, b := linked(t, now)
	c.links[1], c.waits[1] = b, make(map[uint64]metapb.RangeID)
	var frames []*frame.Frame
	say := func(id uint64) {
		c.waits[1][id] = 7
		a.next.Replies = []peerpb.Reply{{ID: id, Body: &peerpb.Done{}}}
		frames = append(frames, a.take(now))
	}
	for id := range uint64(5) {
		say(id)
	}
	arrive := func(f *frame.Frame, want ...uint64) {
		t.Helper()
		if err := c.Step(f); err != nil {
			t.Fatal(err)
		}
		if left := slices.Sorted(maps.Keys(c.waits[1])); !slices.Equal(left, want) {
			t.Fatalf("after frame %d these wait: %v, want %v", f.Number, left, want)
		}
	}
	arrive(frames[1], 0, 1, 2, 3, 4)
	arrive(frames[3], 0, 1, 2, 3, 4)
	arrive(frames[1], 0, 1, 2, 3, 4)
	arrive(frames[0], 2, 3, 4)
	arrive(frames[4], 2, 3, 4)
	arrive(frames[1], 2, 3, 4)
	arrive(frames[2])
	a.step(b.hello(now), now)
	if again, _ := a.tick(now.Add(linkResend)); len(a.unacked) > 0 {
		t.Errorf("%d frames are not acknowledged, %d sent again", len(a.unacked), len(again))
	}

	// Those of a session that was given up count no more.
	say(5)
	say(6)
	late := frames[6]
	arrive(late, 5, 6)
	a.reset()
	frames = nil
	for id := range late.Number - 1 {
		say(10 + id)
	}
	arrive(frames[0]) // nobody waits any more
	c.waits[1][6] = 7
	for _, f := range frames[1:] {
		arrive(f, 6)
	}
}

// What is sent again says what is true now: who is about to stop does not seem to stay.
func TestSentAgainSaysWhoLeaves(t *testing.T) {
	now := clock.Time(time.Second)
	a, b := linked(t, now)
	a.next.Answers = []placement.Answer{{Seq: 1}}
	a.take(now) // is lost
	a.leaves = true
	if b.step(a.hello(now), now); !b.peerLeaves {
		t.Fatal("it was not heard that the peer leaves")
	}
	again, _ := a.tick(now.Add(linkResend))
	if len(again) != 1 || !b.step(again[0], now).taken {
		t.Fatalf("%d frames are sent again", len(again))
	}
	if !b.peerLeaves {
		t.Error("the peer seems to stay")
	}
}

// A request that waits behind what is not acknowledged was certainly not done when the session
// is given up, or the peer was started anew: it is asked elsewhere. Where the peer gave up its
// session it is still to be sent, and answered.
func TestUnsentRequests(t *testing.T) {
	for _, how := range []string{"silent", "started anew", "gave up"} {
		t.Run(how, func(t *testing.T) {
			now := clock.Time(time.Second)
			r, err := router.New(router.Config{Store: 1, StoreStart: 1})
			if err != nil {
				t.Fatal(err)
			}
			r.Descriptors([]*metapb.Descriptor{{RangeId: 7, Start: keys.User([]byte("a")), End: keys.User([]byte("z")), Generation: 1}})
			c := &Core{cfg: CoreConfig{StoreID: 1, StoreStart: 1}, many: true, now: now, store: &ranges.Store{}, router: r, peers: newPeers()}
			a, b := linked(t, now)
			c.links[2], c.waits[2] = a, make(map[uint64]metapb.RangeID)
			put := func(id uint64) {
				r.Request(id, &pb.PutRequest{Key: []byte("k")}, now)
				req := r.Ready().Sends[0]
				a.next.Requests = append(a.next.Requests, req)
				c.waits[2][req.ID] = 7
			}
			put(1)
			for a.hasNext() {
				a.take(now)
				if len(a.unacked) < linkFramesMax {
					a.next.Answers = []placement.Answer{{Seq: 1}}
				}
			}
			put(2)
			if a.hasNext() {
				t.Fatal("there is no end of what is not acknowledged")
			}
			switch how {
			case "silent":
				for gaveUp := false; !gaveUp; {
					now = now.Add(20 * time.Millisecond)
					_, gaveUp = a.tick(now)
				}
				c.lostLink(2)
			case "started anew":
				b.selfStart++
				err = c.Step(b.hello(now))
			default:
				b.reset()
				err = c.Step(b.hello(now))
			}
			if err != nil {
				t.Fatal(err)
			}
			res := r.Ready().Results
			if len(res) != 1 || res[0].ID != 1 || !errors.Is(res[0].Err, peerpb.ErrUnknown) {
				t.Errorf("the clients are told %+v", res)
			}
			r.Tick(now.Add(time.Second))
			want, left := 1, 0 // sent again, waiting
			if how == "gave up" {
				want, left = 0, 1
			}
			if n := len(r.Ready().Sends); n != want || len(c.waits[2]) != left || len(a.next.Requests) != left {
				t.Errorf("%d sent elsewhere, %d wait for an answer, %d to be sent there", n, len(c.waits[2]), len(a.next.Requests))
			}
		})
	}
}
