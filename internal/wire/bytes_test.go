package wire

import (
	"testing"

	"github.com/flotilladb/flotilla/internal/frame"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/range"
)

// smallBytes is what nobody has to count.
const smallBytes = 4 << 10

// What requests and replies are said to take is not much less than they do, of whichever
// kind they are: frames are cut by it.
func TestWhatIsLargeIsCounted(t *testing.T) {
	f := newFiller(1)
	f.large = true
	check := func(of any, said int, fr *frame.Frame) {
		raw, err := Append(nil, fr)
		if err != nil {
			t.Fatal(err)
		}
		if len(raw) > smallBytes && len(raw) > 2*said {
			t.Errorf("%T takes %d bytes, and is said to take %d", of, len(raw), said)
		}
	}
	for range 10 {
		for _, b := range bodies() {
			body := f.filled(b).Interface().(peerpb.Body)
			check(body, ranges.RequestBytes(body), &frame.Frame{Requests: []*peerpb.Request{{Body: body}}})
		}
		for _, o := range ops() {
			body := &peerpb.System{Op: f.filled(o).Interface()}
			check(body.Op, ranges.RequestBytes(body), &frame.Frame{Requests: []*peerpb.Request{{Body: body}}})
		}
		for _, r := range replies() {
			rep := peerpb.Reply{Body: f.filled(r).Interface()}
			check(rep.Body, ReplyBytes(&rep), &frame.Frame{Replies: []peerpb.Reply{rep}})
		}
		for range 20 {
			rep := peerpb.Reply{Err: f.error()}
			check(rep.Err, ReplyBytes(&rep), &frame.Frame{Replies: []peerpb.Reply{rep}})
		}
	}
}
