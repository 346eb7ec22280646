package rpc

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// TestGolden holds the bytes of each message: nodes of two versions talk.
func TestGolden(t *testing.T) {
	h := &hello{
		Version: 1, VersionMin: 1, Identity: Identity{ClusterID: 0xabcdef, Node: 3, Store: 4, Start: 5},
		Instance: 77, Lanes: setOf(Snapshots), To: 9, Kind: refusedTaken, Text: "no",
	}
	const hex1 = "1c000000" + "010801100118ef9baf0520032804300538" + "4d40084809" + "50035a026e6f"
	b := h.append(nil, msgHello)
	if got := hex.EncodeToString(b); got != hex1 {
		t.Errorf("hello is %s, want %s", got, hex1)
	}
	if back, err := parseHello(b[headBytes+1:]); err != nil || !reflect.DeepEqual(back, h) {
		t.Errorf("%+v, %v", back, err)
	}
	there := *h
	there.Addr = "a:1"
	hexAddr := "21" + hex1[len("1c"):] + "6203613a31"
	at := there.append(nil, msgHello)
	if got := hex.EncodeToString(at); got != hexAddr {
		t.Errorf("hello with an address is %s, want %s", got, hexAddr)
	}
	if back, err := parseHello(at[headBytes+1:]); err != nil || !reflect.DeepEqual(back, &there) {
		t.Errorf("%+v, %v", back, err)
	}
	newer := protowire.AppendTag(bytes.Clone(b[headBytes+1:]), 99, protowire.BytesType)
	newer = protowire.AppendString(newer, "a field of a later version")
	if back, err := parseHello(newer); err != nil || !reflect.DeepEqual(back, h) {
		t.Errorf("with a field of a later version: %+v, %v", back, err)
	}
	for _, c := range []struct {
		name string
		got  []byte
		want string
	}{
		{"frames", appendFrames(nil, Requests, [][]byte{[]byte("ab"), nil, []byte("c")}), "08000000" + "0402" + "02616200" + "0163"},
		{"chunk", appendChunk(nil, Raft, chunkHead{ID: 3, Total: 300}, []byte("x")), "06000000" + "0501" + "03ac0278"},
		{"ping", appendPing(nil), "01000000" + "06"},
		{"call", message(nil, msgCall, []byte("x")), "02000000" + "0878"},
		{"answer", appendAnswer(nil, []laneCredit{{Raft, 300}, {Requests, 1}}), "06000000" + "07" + "01ac02" + "0201"},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s is %s, want %s", c.name, got, c.want)
		}
	}
}

func FuzzHello(f *testing.F) {
	h := hello{Version: 1, Lanes: setOf(Raft), Text: "x"}
	f.Add(h.append(nil, msgHello)[headBytes+1:])
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHello(b)
		if err != nil {
			if !errors.Is(err, ErrProtocol) {
				t.Fatal(err)
			}
			return
		}
		again, err := parseHello(h.append(nil, msgHello)[headBytes+1:])
		if err != nil || !reflect.DeepEqual(again, h) {
			t.Fatalf("%+v, then %+v, %v", h, again, err)
		}
	})
}

func FuzzFrames(f *testing.F) {
	f.Add(appendFrames(nil, Raft, [][]byte{[]byte("ab"), nil})[headBytes+2:])
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var frames [][]byte
		for rest := b; len(rest) > 0; {
			frame, r, err := nextFrame(rest)
			if err != nil {
				return
			}
			if len(r) >= len(rest) || cap(frame) != len(frame) {
				t.Fatal("no progress, or a frame that can grow into the next")
			}
			frames, rest = append(frames, frame), r
		}
		again := appendFrames(nil, Raft, frames)[headBytes+2:]
		for i, rest := 0, again; len(rest) > 0; i++ {
			frame, r, err := nextFrame(rest)
			if err != nil || !bytes.Equal(frame, frames[i]) {
				t.Fatalf("frame %d is %q, %v, was %q", i, frame, err, frames[i])
			}
			rest = r
		}
	})
}

// Whatever pieces come, an assembler gives whole frames or an error, and holds no
// more than it charged.
func FuzzAssembler(f *testing.F) {
	f.Add([]byte{1, 4, 2, 1, 4, 2})
	f.Add([]byte{1, 4, 2, 2, 9, 9, 1, 4, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		a := assembler{frameMax: 200}
		var charged, delivered int64
		for ; len(b) >= 3; b = b[3:] {
			frame, charge, err := a.add(chunkHead{ID: uint64(b[0]), Total: uint64(b[1])}, make([]byte, b[2]))
			charged += charge
			delivered += int64(len(frame))
			if a.bytes != charged-delivered {
				t.Fatalf("holds %d, charged %d, delivered %d", a.bytes, charged, delivered)
			}
			if err != nil {
				return
			}
		}
	})
}

func TestLimiter(t *testing.T) {
	l := newLimiter(1 << 20) // a KiB takes 1/1024 s
	now := time.Unix(1000, 0)
	var at time.Duration
	for range 2048 {
		at = max(at, l.reserve(now, 1<<10))
	}
	if low, high := 2*time.Second-limiterBurst-10*time.Millisecond, 2*time.Second; at < low || at > high {
		t.Fatalf("2 MiB at 1 MiB/s take %v", at)
	}
	// A long rest allows no more than the burst at once.
	now = now.Add(time.Hour)
	if d := l.reserve(now, 1<<20); d != 0 {
		t.Fatalf("waits %v after a rest", d)
	}
	if d := l.reserve(now, 1); d < time.Second-limiterBurst-time.Millisecond {
		t.Fatalf("waits %v behind a MiB", d)
	}
}
