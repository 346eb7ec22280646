package etcdapi

import (
	"bytes"
	"math/rand"
	"net"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/internal/clock"
)

// frame is a frame of HTTP/2 with so many bytes in it.
func frame(kind byte, n int) []byte {
	return append([]byte{byte(n >> 16), byte(n >> 8), byte(n), kind, 0, 0, 0, 0, 1}, bytes.Repeat([]byte{frameHeaders}, n)...)
}

// TestFrameScanner finds each begin of a call, however the bytes are cut.
func TestFrameScanner(t *testing.T) {
	const data, settings, ping = 0, 4, 6
	for seed := range int64(200) {
		rng := rand.New(rand.NewSource(seed))
		wire, calls := []byte(clientPreface), 0
		for range rng.Intn(50) {
			kind := []byte{data, frameHeaders, settings, ping}[rng.Intn(4)]
			if kind == frameHeaders {
				calls++
			}
			wire = append(wire, frame(kind, rng.Intn(1<<uint(rng.Intn(18))))...)
		}
		s := frameScanner{skip: len(clientPreface)}
		found := 0
		for i := range wire { // one at a time, so that each is found by itself
			if s.scan(wire[i : i+1]) {
				found++
			}
		}
		if found != calls || s.skip != 0 || s.have != 0 {
			t.Fatalf("seed %d: %d calls, want %d; %d bytes missing", seed, found, calls, s.skip)
		}
		s, any := frameScanner{skip: len(clientPreface)}, false
		for rest := wire; len(rest) > 0; {
			n := 1 + rng.Intn(len(rest))
			any = s.scan(rest[:n]) || any
			rest = rest[n:]
		}
		if any != (calls > 0) {
			t.Fatalf("seed %d: in pieces: %t, want %d calls", seed, any, calls)
		}
	}
}

// TestMayRest says when the reader of a connection may rest.
func TestMayRest(t *testing.T) {
	const ms = clock.Time(time.Millisecond)
	c := newPacedConn(nil)
	for _, step := range []struct {
		name     string
		at       clock.Time // of the last read
		renewals int64      // since the last look
		call     bool
		want     bool
	}{
		{"no renewal", 1000 * ms, 0, false, false},
		{"the first", 1000 * ms, 1, false, false},
		{"the next, at once", 1000*ms + ms/2, 1, false, true},
		{"several, after a rest", 1005 * ms, 9, false, true},
		{"few, after a rest", 1010 * ms, 2, false, false},
		{"one after a second", 2010 * ms, 1, false, false},
		{"many, and a call", 2011 * ms, 9, true, false},
		{"many, soon after the call", 2100 * ms, 900, false, false},
		{"many, long after the call", 2112 * ms, 90, false, true},
		{"none", 2113 * ms, 0, false, false},
	} {
		c.readAt.Store(int64(step.at))
		if step.call {
			c.callAt = step.at
		}
		c.renewals.Add(step.renewals)
		if got := c.mayRest(); got != step.want {
			t.Errorf("%s: %t", step.name, got)
		}
	}
}

// TestPacedConnOf finds the connection in a handler's context, over the wire, and
// that renewals are counted there.
func TestPacedConnOf(t *testing.T) {
	n := newModelNode(t)
	n.leases[5] = 60
	_, conn := serve(t, n.config(t))
	stream, err := pb.NewLeaseClient(conn).LeaseKeepAlive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2000 { // dense enough that the reader rests, and everything is answered in order
		if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(5 + i%2)}); err != nil {
			t.Fatal(err)
		}
		if i%10 != 9 {
			continue
		}
		for j := i - 9; j <= i; j++ {
			resp, err := stream.Recv()
			if err != nil || resp.ID != int64(5+j%2) || (resp.TTL == 60) != (j%2 == 0) {
				t.Fatalf("renewal %d: %v, %v", j, resp, err)
			}
		}
	}
	if n.renewedAt.Load() == 0 {
		t.Error("no renewal had the time of its arrival")
	}
	if c := (pacedAddr{&net.TCPAddr{}, nil}).conn; c.arrived() != 0 {
		t.Error("a call without connection has a time")
	}
}
