package watchfeed

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// slowAsk answers when the test says what is current.
type slowAsk struct {
	begun   chan struct{}
	answers chan Revision // 0: nobody knows
}

func (a *slowAsk) ask(ctx context.Context) (Revision, error) {
	a.begun <- struct{}{}
	select {
	case rev := <-a.answers:
		if rev == 0 {
			return 0, errors.New("nobody knows")
		}
		return rev, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// newSlowHub is a hub of one range without data.
func newSlowHub(t *testing.T) (*Hub, *slowAsk) {
	t.Helper()
	a := &slowAsk{begun: make(chan struct{}), answers: make(chan Revision)}
	h, err := NewHub(HubConfig{
		Core:    CoreConfig{Reader: engine.NewMem()},
		Current: func() (Revision, Revision) { return 8, -1 }, Removal: func() Revision { return -1 },
		Behind: func() bool { return true }, Ask: a.ask,
	})
	if err != nil {
		t.Fatal(err)
	}
	h.Feed(Step{
		Current: 8, Compacted: -1, Descriptors: []*metapb.Descriptor{{RangeId: 2, Start: keys.UserSpan(nil, nil).Start, Generation: 1}},
		Bounds: []RangeBound{{2, NoBound}},
	})
	return h, a
}

// responses are those that a stream has when the hub rests.
func responses(t *testing.T, s *Stream) string {
	t.Helper()
	synctest.Wait()
	s.mu.Lock()
	n := len(s.mu.queue)
	s.mu.Unlock()
	if n == 0 {
		return ""
	}
	rs, err := s.Recv(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for i := range rs {
		out = append(out, fmt.Sprintf("%v %d", rs[i].Kind, rs[i].ID))
	}
	return strings.Join(out, ", ")
}

// While it is asked what is current other requests of the stream go on. Those whose
// answers have to come in order wait, and those that are about what waits.
func TestAskHoldsUpNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, a := newSlowHub(t)
		defer h.Stop()
		all := func(id, start int64) CreateRequest {
			return CreateRequest{ID: id, Key: []byte{0}, End: []byte{}, Start: start}
		}
		s, err := h.Open(StreamConfig{})
		if err != nil {
			t.Fatal(err)
		}
		create := func(id, start int64) {
			if err := s.Create(all(id, start)); err != nil {
				t.Fatal(err)
			}
		}
		expect := func(want string) {
			t.Helper()
			if got := responses(t, s); got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
		}
		create(1, 5)
		create(2, 5)
		expect(fmt.Sprintf("%v 1, %v 2", Created, Created))
		create(3, 0)
		<-a.begun
		create(4, 7) // waits for its turn
		create(5, 0)
		s.Cancel(5) // waits for its watch
		s.Cancel(1) // does not
		expect(fmt.Sprintf("%v 1", Canceled))
		a.answers <- 9
		expect(fmt.Sprintf("%v 3", Created))
		<-a.begun // it was not asked for those that came later
		a.answers <- 10
		expect(fmt.Sprintf("%v 4, %v 5, %v 5", Created, Created, Canceled))
		// Nobody knows: it begins at what is known here.
		create(6, 0)
		<-a.begun
		a.answers <- 0
		expect(fmt.Sprintf("%v 6", Created))
		create(7, 7)
		expect(fmt.Sprintf("%v 7", Created))
		s.Cancel(7)
		s.Cancel(7)
		expect(fmt.Sprintf("%v 7", Canceled))
	})
}

// An id that is given anew while its watch and the cancel of that wait is of the new watch
// from then on: a cancel after it is behind it, also when what came before was sent.
func TestIDGivenAnewWhileItIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, a := newSlowHub(t)
		defer h.Stop()
		s, err := h.Open(StreamConfig{})
		if err != nil {
			t.Fatal(err)
		}
		create := func(start int64) {
			if err := s.Create(CreateRequest{ID: 3, Key: []byte{0}, End: []byte{}, Start: start}); err != nil {
				t.Fatal(err)
			}
		}
		expect := func(want string) {
			t.Helper()
			if got := responses(t, s); got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
		}
		create(0)
		<-a.begun
		s.Cancel(3)
		create(0)
		a.answers <- 9 // for the first alone
		expect(fmt.Sprintf("%v 3", Created))
		<-a.begun
		s.Cancel(3)
		s.Cancel(3)
		create(8) // from the past: it waits for the cancels of its id
		expect("")
		a.answers <- 10
		expect(fmt.Sprintf("%v 3, %v 3", Canceled, Created))
		<-a.begun
		a.answers <- 11
		expect(fmt.Sprintf("%v 3, %v 3", Canceled, Created))
		if len(s.mu.laters.ids) > 0 {
			t.Fatal("an id is kept")
		}
	})
}

// A stream that ends while it is asked leaves nothing behind.
func TestCloseWhileItIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, a := newSlowHub(t)
		s, err := h.Open(StreamConfig{})
		if err == nil {
			err = s.Create(everything)
		}
		if err != nil {
			t.Fatal(err)
		}
		<-a.begun
		s.RequestProgress()
		s.Close()
		a.answers <- 3
		synctest.Wait()
		h.Stop()
		if len(s.mu.laters.waiting) > 0 || s.mu.laters.asks {
			t.Fatal("something waits")
		}
	})
}
