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

// slowLink carries the requests of some clients, each of slowFrameBytes and the next when one was
// taken, from one end of a link to the other, so many bytes a second. What waits for it is
// bounded, and what is small goes first.
type slowLink struct {
	now      clock.Time
	a, b     *link
	value    []byte
	queue    []*frame.Frame
	begun    int // bytes of the first that went
	sent     int // bytes
	useful   int // of them what was taken
	gaveUp   int
	deadFrom clock.Time // what is sent from then on, and waits, is lost; 0: nothing
	deadTo   clock.Time
}

const (
	slowFrameBytes = 1 << 20
	slowQueueMax   = 32
)

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
		n := min(slowFrameBytes-s.begun, bytes)
		bytes, s.sent, s.begun = bytes-n, s.sent+n, s.begun+n
		if s.begun < slowFrameBytes {
			return
		}
		f := s.queue[0]
		s.queue, s.begun = s.queue[1:], 0
		for taken := s.b.step(f, s.now).taken; taken; {
			s.useful += slowFrameBytes
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
// is mostly for what is sent for the first time, and no session is given up.
func TestSlowLink(t *testing.T) {
	for _, mib := range []int{3, 5, 10, 20} {
		for _, clients := range []int{1, 4, 16, 24} {
			t.Run(fmt.Sprintf("%d/%d", mib, clients), func(t *testing.T) {
				s := &slowLink{now: clock.Time(time.Second), value: make([]byte, slowFrameBytes-200)}
				s.a, s.b = linked(t, s.now)
				for range clients {
					s.request()
				}
				s.run(20*time.Second, clients, mib<<20)
				t.Logf("%d of %d MiB were of use", s.useful>>20, s.sent>>20)
				if s.gaveUp > 0 || s.useful < s.sent/2 {
					t.Errorf("%d of %d MiB were of use, and %d sessions given up", s.useful>>20, s.sent>>20, s.gaveUp)
				}
				// All that is on its way is lost, as with a connection: it is sent again soon.
				s.deadFrom, s.deadTo = s.now, s.now.Add(50*time.Millisecond)
				s.useful = 0
				s.run(5*time.Second, clients, mib<<20)
				if s.gaveUp > 0 || s.useful < mib<<20*2 {
					t.Errorf("%d MiB in 5 s after a loss, and %d sessions given up", s.useful>>20, s.gaveUp)
				}
			})
		}
	}
}
