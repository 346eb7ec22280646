package raftgroup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/proto/metapb"
)

func number[T any](v T) *T { return &v }

// sentMessage makes a message as a replica sends it, of any type.
func sentMessage(rng *rand.Rand) *Message {
	m := &Message{Type: number(raftpb.MessageType(rng.IntN(24)))}
	for _, p := range []**uint64{&m.To, &m.From, &m.Term, &m.LogTerm, &m.Index, &m.Commit, &m.Vote, &m.RejectHint} {
		if rng.IntN(3) > 0 {
			*p = number(rng.Uint64() >> rng.IntN(64))
		}
	}
	if rng.IntN(2) > 0 {
		m.Reject = number(rng.IntN(2) > 0)
	}
	if rng.IntN(4) == 0 {
		m.Context = bytes.Repeat([]byte("c"), rng.IntN(5))
	}
	if rng.IntN(8) == 0 {
		m.Snapshot = &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
			Index: number(uint64(7)), Term: number(uint64(2)), ConfState: &raftpb.ConfState{Voters: []uint64{1, 2, 3}},
		}}
	}
	first := rng.Uint64() >> 1 >> rng.IntN(60)
	for i := range rng.IntN(4) {
		typ := raftpb.EntryType(rng.IntN(3))
		data := bytes.Repeat([]byte{byte(rng.Uint32())}, rng.IntN(100))
		m.Entries = append(m.Entries, newEntry(first+uint64(i), rng.Uint64()>>rng.IntN(64), typ, data))
	}
	return m
}

func TestMessageRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		m, id := sentMessage(rng), metapb.RangeID(rng.Uint64()>>rng.IntN(64))
		b, err := AppendMessage([]byte("before"), id, m)
		if err != nil {
			t.Fatalf("append %v: %v", m, err)
		}
		b = append(b[len("before"):], "behind"...)
		gotID, got, rest, err := DecodeMessage(b, rng.IntN(200)-50)
		if err != nil || gotID != id || string(rest) != "behind" || !proto.Equal(got, m) {
			t.Fatalf("sent %d %v\ncame %d %v, %q, %v", id, m, gotID, got, rest, err)
		}
	}
}

// An entry that is not the one that was sent, or is in another place, is found.
func TestMessageChecksums(t *testing.T) {
	m := &Message{Type: number(raftpb.MsgApp), Entries: []*raftpb.Entry{
		newEntry(1<<40, 3, raftpb.EntryNormal, []byte("data of one")), newEntry(1<<40+1, 3, raftpb.EntryNormal, []byte("data of two")),
	}}
	good, err := AppendMessage(nil, 7, m)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(good, binary.AppendUvarint(nil, 1<<40))
	for name, change := range map[string]func(b []byte){
		"range": func(b []byte) { b[0]++ },
		"index": func(b []byte) { b[at]++ },
		"data":  func(b []byte) { b[len(b)-7] ^= 4 },
		"sum":   func(b []byte) { b[len(b)-1] ^= 1 },
		"swap": func(b []byte) {
			b[bytes.Index(b, []byte("one"))], b[bytes.Index(b, []byte("two"))] = 't', 'o'
		},
	} {
		b := bytes.Clone(good)
		change(b)
		if _, _, _, err := DecodeMessage(b, 0); !errors.Is(err, ErrBadMessage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for n := range good {
		if _, _, _, err := DecodeMessage(good[:n], 0); !errors.Is(err, ErrBadMessage) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
}

func TestMessagesThatNobodySends(t *testing.T) {
	for _, m := range []*Message{
		{Type: number(raftpb.MsgStorageAppend), Responses: []*Message{{}}},
		{Entries: []*raftpb.Entry{newEntry(4, 1, 0, nil), newEntry(6, 1, 0, nil)}},
	} {
		if _, err := AppendMessage(nil, 1, m); !errors.Is(err, ErrBadMessage) {
			t.Errorf("%v: %v", m, err)
		}
	}
}

func FuzzDecodeMessage(f *testing.F) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		b, err := AppendMessage(nil, 7, sentMessage(rng))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		id, m, _, err := DecodeMessage(b, 0)
		if err != nil {
			return
		}
		again, err := AppendMessage(nil, id, m)
		if err != nil {
			t.Fatalf("what was decoded cannot be sent: %v", err)
		}
		if _, got, _, err := DecodeMessage(again, 1<<20); err != nil || !proto.Equal(got, m) {
			t.Fatalf("decoded %v\nthen    %v, %v", m, got, err)
		}
	})
}
