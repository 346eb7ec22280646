package node

import (
	"fmt"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/frame"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// slowLink carries the requests of some clients, each a frame and the next when one was taken,
// from one end of a link to the other, so many bytes a second. What waits for it is bounded, and
// what is small goes first.
type slowLink struct {
	now      clock.Time
	a, b     *link
	bytes    int // of a frame
	value    []byte
	queue    []*frame.Frame
	begun    int // bytes of the first that went
	sent     int // bytes
	useful   int // of them what was taken
	gaveUp   int
	deadFrom clock.Time // what is sent from then on, and waits, is lost; 0: nothing
	deadTo   clock.Time
}

const slowQueueMax = 32

func (s *slowLink) dead() bool { return s.deadFrom != 0 && s.now >= s.deadFrom && s.now < s.deadTo }

func (s *slowLink) request() {
	s.a.next.Requests = append(s.a.next.Requests, &peerpb.Request{Body: &peerpb.Write{Req: &pb.PutRequest{Value: s.value}}})
}

func (s *slowLink) push(f *frame.Frame) {
	switch {
	case s.dead():
	case len(f.Requests) == 0:
		s.b.step(f, s.now)
	case len(s.queue) < slowQueueMax:
		s.queue = append(s.queue, f)
	}
}

// carry takes so many bytes from one end to the other.
func (s *slowLink) carry(bytes int) {
	for bytes > 0 && len(s.queue) > 0 {
		n := min(s.bytes-s.begun, bytes)
		bytes, s.sent, s.begun = bytes-n, s.sent+n, s.begun+n
		if s.begun < s.bytes {
			return
		}
		f := s.queue[0]
		s.queue, s.begun = s.queue[1:], 0
		for taken := s.b.step(f, s.now).taken; taken; {
			s.useful += s.bytes
			s.request()
			next, _ := s.b.takeEarly()
			taken = next != nil
		}
	}
}

// run lets time pass.
func (s *slowLink) run(d time.Duration, clients, bytesPerSecond int) {
	const step = 5 * time.Millisecond
	for end, n := s.now.Add(d), 0; s.now < end; n++ {
		s.now = s.now.Add(step)
		if s.dead() {
			s.queue, s.begun = nil, 0
		}
		s.carry(bytesPerSecond / int(time.Second/step))
		if n%4 == 0 {
			again, gaveUp := s.a.tick(s.now)
			for _, f := range again {
				s.push(f)
			}
			if gaveUp {
				s.gaveUp++
				for range clients {
					s.request()
				}
			}
			again, _ = s.b.tick(s.now)
			for _, f := range again {
				s.a.step(f, s.now)
			}
		}
		for s.a.hasNext() {
			s.push(s.a.take(s.now))
		}
	}
}

// A link on which large frames take longer than the time after which a frame is sent again
// is mostly for what is sent for the first time, and no session is given up. Frames are of 1 MiB,
// the most that goes together, or of one request of 12 MiB, the most that a node may be told to
// take.
func TestSlowLink(t *testing.T) {
	for _, test := range []struct{ frame, mib int }{{1, 3}, {1, 5}, {1, 10}, {1, 20}, {12, 3}, {12, 5}, {12, 10}} {
		mib := test.mib
		for _, clients := range []int{1, 4, 16, 24} {
			t.Run(fmt.Sprintf("%d/%d/%d", test.frame, mib, clients), func(t *testing.T) {
				s := &slowLink{now: clock.Time(time.Second), bytes: test.frame << 20, value: make([]byte, test.frame<<20-200)}
				s.a, s.b = linked(t, s.now)
				for range clients {
					s.request()
				}
				s.run(time.Duration(20*test.frame)*time.Second, clients, mib<<20)
				t.Logf("%d of %d MiB were of use", s.useful>>20, s.sent>>20)
				if s.gaveUp > 0 || s.useful < s.sent/2 {
					t.Errorf("%d of %d MiB were of use, and %d sessions given up", s.useful>>20, s.sent>>20, s.gaveUp)
				}
				// All that is on its way is lost, as with a connection: it is sent again soon.
				s.deadFrom, s.deadTo = s.now, s.now.Add(50*time.Millisecond)
				s.useful = 0
				s.run(time.Duration(5*test.frame)*time.Second, clients, mib<<20)
				least := 2 * mib << 20
				if test.frame > 1 { // each lost one is waited for, for seconds
					least = test.frame * mib << 20 * 3 / 2
				}
				if s.gaveUp > 0 || s.useful < least {
					t.Errorf("%d MiB in 5 s for each of a frame after a loss, and %d sessions given up", s.useful>>20, s.gaveUp)
				}
			})
		}
	}
}
