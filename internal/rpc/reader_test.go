package rpc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"testing"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// chopped gives bytes in reads of the sizes of cuts, in turn.
type chopped struct {
	rest []byte
	cuts []byte
	i    int
}

func (c *chopped) Read(b []byte) (int, error) {
	if len(c.rest) == 0 {
		return 0, io.EOF
	}
	n := len(b)
	if len(c.cuts) > 0 {
		n = min(n, 1+int(c.cuts[c.i%len(c.cuts)]))
		c.i++
	}
	n = copy(b[:n], c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

const fuzzMessageMax = 300

// readTwin cuts all messages at once from bytes that are all there.
func readTwin(b []byte) (messages []string, end string) {
	for len(b) > 0 {
		if len(b) < headBytes+1 {
			return messages, "torn"
		}
		n := binary.LittleEndian.Uint32(b)
		if n == 0 || n > fuzzMessageMax {
			return messages, "bad"
		}
		if b = b[headBytes:]; uint32(len(b)) < n {
			return messages, "torn"
		}
		messages, b = append(messages, fmt.Sprintf("%d %q", b[0], b[1:n])), b[n:]
	}
	return messages, "end"
}

// However the bytes come, and however they are taken, the messages are the same.
func FuzzReader(f *testing.F) {
	some := appendPing(appendFrames(appendPing(nil), Raft, [][]byte{make([]byte, 200), []byte("b")}))
	f.Add(some, []byte{0}, byte(0))
	f.Add(some, []byte{3, 200, 0}, byte(1))
	f.Add(some[:len(some)-3], []byte{}, byte(2))
	f.Add([]byte{0, 0, 0, 0, 9}, []byte{4}, byte(3))
	f.Add([]byte{44, 1, 0, 0, 9}, []byte{4}, byte(0))
	f.Fuzz(func(t *testing.T, b, cuts []byte, how byte) {
		want, wantEnd := readTwin(b)
		d := newReader(&chopped{rest: b, cuts: cuts}, headBytes+1+int(how)%40)
		for i := 0; ; i++ {
			kind, n, err := d.next(fuzzMessageMax)
			var body []byte
			if err == nil {
				body, err = []func(int) ([]byte, error){d.view, d.block, d.grow}[(int(how)+i)%3](n)
			}
			switch {
			case err == nil:
				if got := fmt.Sprintf("%d %q", kind, body); i >= len(want) || got != want[i] {
					t.Fatalf("message %d is %s, want %q", i, got, want)
				}
				continue
			case i != len(want),
				wantEnd == "bad" != errors.Is(err, ErrProtocol),
				wantEnd == "torn" != errors.Is(err, io.ErrUnexpectedEOF),
				wantEnd == "end" != errors.Is(err, io.EOF):
				t.Fatalf("after %d messages %v, want %q and %s", i, err, want, wantEnd)
			}
			return
		}
	})
}

// Whatever a sender writes behind its greeting, frames are delivered or it is let
// go of, and nothing of it stays charged.
func FuzzReceive(f *testing.F) {
	frames := appendFrames(nil, Raft, [][]byte{[]byte("ab"), nil})
	large := appendChunk(nil, Requests, chunkHead{ID: 1, Total: 3}, []byte("xy"))
	f.Add(append(bytes.Clone(frames), appendPing(nil)...), []byte{1})
	f.Add(append(bytes.Clone(large), appendChunk(nil, Requests, chunkHead{ID: 1, Total: 3}, []byte("z"))...), []byte{})
	f.Add(append(bytes.Clone(large), frames...), []byte{2, 9})
	f.Add(appendFrames(nil, Raft, [][]byte{make([]byte, 200), make([]byte, 90)}), []byte{})
	f.Fuzz(func(t *testing.T, b, cuts []byte) {
		cfg := Config{FrameBytesMax: 1 << 10, Logger: slog.New(slog.DiscardHandler)}
		var held int
		cfg.Deliver = func(_ metapb.StoreID, lane Lane, frame []byte) bool {
			if lane != Raft && lane != Requests {
				t.Fatalf("a frame of lane %s", lane)
			}
			if lane == Requests {
				return false
			}
			held += len(frame)
			return true
		}
		for l := range cfg.Lanes {
			cfg.Lanes[l].CreditBytesMax = 256
		}
		tr := &Transport{cfg: cfg, remotes: newRemotes(cfg.Lanes)}
		tr.self.Store(&self{})
		conn, other := net.Pipe()
		other.Close()
		h := &hello{Identity: Identity{ClusterID: 1, Store: 9}, Lanes: setOf(Raft, Requests)}
		s := newInConn(h, conn, conn)
		if err := tr.remotes.enter(t.Context(), h, "here", s); err != nil {
			t.Fatal(err)
		}
		for _, in := range s.lanes {
			in.begin(s)
		}
		s.takeOwed(nil)
		tr.receive(newReader(&chopped{rest: b, cuts: cuts}, headBytes+2), s)
		<-s.ended
		for _, in := range s.lanes {
			want := 0
			if in.lane == Raft {
				want = held
			}
			if in.mu.held != int64(want) {
				t.Fatalf("%d bytes of lane %s are charged, %d are held", in.mu.held, in.lane, want)
			}
		}
	})
}
