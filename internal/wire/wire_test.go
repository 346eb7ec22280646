package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/frame"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/raftgroup"
)

func TestRoundTrip(t *testing.T) {
	for seed := range uint64(500) {
		roundTrip(t, newFiller(seed).frame())
	}
}

// Every kind of body, answer, operation and error, each often enough that each
// of its fields is set.
func TestRoundTripOfEveryKind(t *testing.T) {
	f := newFiller(1)
	for range 40 {
		for _, b := range bodies() {
			body := f.filled(b).Interface().(peerpb.Body)
			roundTrip(t, &frame.Frame{Requests: []*peerpb.Request{{ID: 1, Range: 2, Generation: 3, Body: body}}})
		}
		for _, r := range replies() {
			roundTrip(t, &frame.Frame{Replies: []peerpb.Reply{{ID: 1, Body: f.filled(r).Interface()}}})
		}
		for _, o := range ops() {
			op := f.filled(o).Interface()
			roundTrip(t, &frame.Frame{Requests: []*peerpb.Request{{Body: &peerpb.System{Op: op}}}})
		}
	}
	for _, row := range sentinels() {
		roundTrip(t, &frame.Frame{Replies: []peerpb.Reply{{ID: 1, Err: row.err}}})
	}
}

func roundTrip(t *testing.T, f *frame.Frame) {
	t.Helper()
	before := show(f)
	data, err := Append([]byte("before"), f)
	if err != nil {
		t.Fatalf("append %s: %v", before, err)
	}
	if after := show(f); after != before {
		t.Fatalf("append changed what it was given\nfrom %s\nto   %s", before, after)
	}
	data, ok := bytes.CutPrefix(data, []byte("before"))
	if !ok {
		t.Fatal("append did not append")
	}
	got, err := Decode(data)
	if err != nil {
		t.Fatalf("decode: %v\nof %s", err, before)
	}
	if after := show(got); after != before {
		t.Fatalf("sent %s\ncame %s", before, after)
	}
}

// An empty message, and pointers that are nil, come back as they were.
func TestRoundTripOfNothing(t *testing.T) {
	roundTrip(t, &frame.Frame{})
	for _, b := range bodies() {
		if _, ok := b.(*peerpb.System); !ok { // an operation has a kind
			roundTrip(t, &frame.Frame{Requests: []*peerpb.Request{{Body: b}}})
		}
	}
	for _, r := range replies() {
		roundTrip(t, &frame.Frame{Replies: []peerpb.Reply{{Body: r}}})
	}
	roundTrip(t, &frame.Frame{Replies: []peerpb.Reply{{Body: &pb.PutResponse{}}}})
	roundTrip(t, &frame.Frame{Requests: []*peerpb.Request{{Body: &peerpb.Write{Req: &pb.TxnRequest{
		Compare: []*pb.Compare{{}}, Success: []*pb.RequestOp{{}, {Request: &pb.RequestOp_RequestPut{}}},
	}}}}})
}

// Every type of package peerpb that can be sent has a form: it is a body, or
// lies in something that has one. So does every operation of package placement.
func TestEveryTypeHasAForm(t *testing.T) {
	known := make(map[string]bool)
	for _, b := range bodies() {
		collect(known, reflect.TypeOf(b))
	}
	for _, v := range append(replies(), append(ops(), frame.Frame{}, peerpb.MovedError{}, peerpb.NotLeaderError{}, peerpb.RefusedRevisionError{})...) {
		collect(known, reflect.TypeOf(v))
	}
	for _, name := range declaredStructs(t, "../../proto/peerpb") {
		if !known["peerpb."+name] {
			t.Errorf("peerpb.%s has no form on the wire: give it a kind in body.go or reply.go", name)
		}
	}
	for _, name := range declaredStructs(t, "../../placement/ops.go") {
		if !known["placement."+name] {
			t.Errorf("placement.%s has no form on the wire: give it a kind in system.go or reply.go", name)
		}
	}
}

// Every body is a kind of its own, not only a part of another.
func TestEveryBodyHasAKind(t *testing.T) {
	known := make(map[string]bool)
	for _, b := range bodies() {
		known[reflect.TypeOf(b).Elem().Name()] = true
		if kindOf(b) == 0 {
			t.Errorf("%T is made by a kind and has none", b)
		}
	}
	for _, file := range parse(t, "../../proto/peerpb") {
		for _, d := range file.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Name.Name != "body" || fn.Recv == nil {
				continue
			}
			name := fn.Recv.List[0].Type.(*ast.StarExpr).X.(*ast.Ident).Name
			if !known[name] {
				t.Errorf("peerpb.%s is a body without a kind: see body.go", name)
			}
		}
	}
}

// Every sentinel that a reply may carry has a code.
func TestEveryErrorHasACode(t *testing.T) {
	texts, codes := make(map[string]bool), make(map[uint64]bool)
	for _, row := range sentinels() {
		if codes[row.code] || row.code < codeSentinelMin {
			t.Errorf("code %d has two meanings", row.code)
		}
		texts[row.err.Error()], codes[row.code] = true, true
	}
	for _, pkg := range []string{"../../proto/peerpb", "../../mvcc", "../../lease", "../../placement"} {
		for _, file := range parse(t, filepath.Join(pkg, "errors.go")) {
			ast.Inspect(file, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok || fmt.Sprint(call.Fun) != "&{errors New}" {
					return true
				}
				text, err := strconv.Unquote(call.Args[0].(*ast.BasicLit).Value)
				if err != nil || !texts[text] {
					t.Errorf("%s: %q has no code: see error.go", pkg, text)
				}
				return true
			})
		}
	}
}

func collect(known map[string]bool, t reflect.Type) {
	if known[t.String()] {
		return
	}
	known[t.String()] = true
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		collect(known, t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			collect(known, t.Field(i).Type)
		}
	}
}

func parse(t *testing.T, path string) (files []*ast.File) {
	t.Helper()
	names := []string{path}
	if !strings.HasSuffix(path, ".go") {
		names, _ = filepath.Glob(filepath.Join(path, "*.go"))
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	if len(files) == 0 {
		t.Fatalf("no files in %s", path)
	}
	return files
}

func declaredStructs(t *testing.T, path string) (names []string) {
	for _, file := range parse(t, path) {
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok && spec.Name.IsExported() {
				if _, ok := spec.Type.(*ast.StructType); ok {
					names = append(names, spec.Name.Name)
				}
			}
			return true
		})
	}
	return names
}

func TestErrorsKeepTheirMeaning(t *testing.T) {
	desc := &metapb.Descriptor{RangeId: 7, Generation: 3, Start: []byte("a")}
	for _, tc := range []struct {
		sent error
		is   error
		says string
	}{
		{peerpb.ErrNotLeader, peerpb.ErrNotLeader, "range: not the leader"},
		{fmt.Errorf("apply: %w", peerpb.ErrUnknown), peerpb.ErrUnknown, "apply: range: the outcome"},
		{&peerpb.MovedError{Range: 7, Newer: []*metapb.Descriptor{desc}}, peerpb.ErrMoved, "range 7: keys moved"},
		{fmt.Errorf("x: %w", &peerpb.RefusedRevisionError{Closed: 9}), peerpb.ErrRevisionRefused, "closed at 9"},
		{errors.New("anything"), nil, "anything"},
		{errors.New(strings.Repeat("ä", textBytesMax)), nil, "ää"},
	} {
		data, err := Append(nil, &frame.Frame{Replies: []peerpb.Reply{{ID: 1, Err: tc.sent}}})
		if err != nil {
			t.Fatal(err)
		}
		f, err := Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		got := f.Replies[0].Err
		if tc.is != nil && !errors.Is(got, tc.is) || !strings.Contains(got.Error(), tc.says) || len(got.Error()) > textBytesMax {
			t.Errorf("%v came as %v", tc.sent, got)
		}
	}
	data, _ := Append(nil, &frame.Frame{Replies: []peerpb.Reply{{Err: fmt.Errorf("read: %w", &engine.CorruptionError{Path: "f", Err: errors.New("y")})}}})
	f, err := Decode(data)
	var corrupt *engine.CorruptionError
	if err != nil || !errors.As(f.Replies[0].Err, &corrupt) || corrupt.Path != "f" {
		t.Errorf("corruption came as %v, %v", f, err)
	}
}

type strangeBody struct{ peerpb.Body }

func TestWhatHasNoForm(t *testing.T) {
	for _, f := range []*frame.Frame{
		{Requests: []*peerpb.Request{{}}},
		{Requests: []*peerpb.Request{{Body: strangeBody{}}}},
		{Requests: []*peerpb.Request{{Body: &peerpb.Write{Req: &pb.CompactionRequest{}}}}},
		{Requests: []*peerpb.Request{{Body: &peerpb.Write{}}}},
		{Requests: []*peerpb.Request{{Body: &peerpb.System{Op: 3}}}},
		{Replies: []peerpb.Reply{{}}},
		{Replies: []peerpb.Reply{{Body: "text"}}},
		{Requests: []*peerpb.Request{{Body: &peerpb.WriteIntents{Intents: nil}}, {Body: &peerpb.Write{Req: &pb.TxnRequest{Compare: []*pb.Compare{nil}}}}}},
	} {
		got, err := Append([]byte("x"), f)
		if !errors.Is(err, ErrNoForm) || string(got) != "x" {
			t.Errorf("append %s: %v, %q", show(f), err, got)
		}
	}
}

// seal puts a right checksum behind bytes.
func seal(body []byte) []byte {
	return binary.LittleEndian.AppendUint32(body, crc32.Checksum(body, castagnoli()))
}

func TestUnknownKindsAreNamed(t *testing.T) {
	head := []byte{Version, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0}
	for _, tc := range []struct {
		bytes []byte
		what  string
		kind  uint64
	}{
		{[]byte{9}, "frame", 9},
		{[]byte{Version, 7}, "lane", 7},
		{append(head, 99, 1), "section", 99},
		{append(head, sectionRequests, 1, 1, 1, 1, 200), "request", 200},
		{append(head, sectionRequests, 1, 1, 1, 1, kindSystem, 50), "operation", 50},
		{append(head, sectionReplies, 1, 1, 201), "reply", 201},
		{append(head, sectionReplies, 1, 1, replyError, 0xff, 0x01), "error", 255},
	} {
		_, err := Decode(seal(bytes.Clone(tc.bytes)))
		var unknown *UnknownError
		if !errors.As(err, &unknown) || !errors.Is(err, ErrUnknown) || unknown.What != tc.what || unknown.Kind != tc.kind {
			t.Errorf("%x: %v, want %s of kind %d", tc.bytes, err, tc.what, tc.kind)
		}
	}
}

// Whatever happens to a frame on its way is noticed, and what a sender writes
// that has the checksum right and all else wrong breaks nothing.
func TestDamage(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for seed := range uint64(60) {
		data, err := Append(nil, newFiller(seed).frame())
		if err != nil {
			t.Fatal(err)
		}
		for range 60 {
			bad := bytes.Clone(data)
			switch rng.IntN(3) {
			case 0:
				bad = bad[:rng.IntN(len(bad))]
			case 1:
				bad[rng.IntN(len(bad))] ^= 1 << rng.IntN(8)
			default:
				bad = append(bad, byte(rng.Uint32()))
			}
			if _, err := Decode(bad); err == nil {
				t.Fatalf("seed %d: damage passes as a frame", seed)
			}
			checkDecode(t, seal(bad))
		}
	}
}

// checkDecode decodes bytes that may be anything. What decodes is the same after
// another round, and room is taken for what is there, not for what is claimed.
func checkDecode(t *testing.T, data []byte) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f, err := Decode(data)
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 1<<20+uint64(len(data))*300 {
		t.Fatalf("%d bytes took %d of memory", len(data), used)
	}
	if err != nil {
		if !errors.Is(err, ErrBadFrame) && !errors.Is(err, ErrUnknown) {
			t.Fatalf("decode: %v", err)
		}
		return
	}
	again, err := Append(nil, f)
	if err != nil {
		t.Fatalf("what was decoded cannot be sent: %v\n%s", err, show(f))
	}
	g, err := Decode(again)
	if err != nil || show(g) != show(f) {
		t.Fatalf("decoded %s\nthen    %s, %v", show(f), show(g), err)
	}
}

func FuzzDecode(f *testing.F) {
	for seed := range uint64(20) {
		data, err := Append(nil, newFiller(seed).frame())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data[:len(data)-sumLen])
	}
	f.Fuzz(func(t *testing.T, body []byte) { checkDecode(t, seal(bytes.Clone(body))) })
}

// Entries that are most of a frame point into it; those that are not do not keep
// the rest of it in memory.
func TestEntriesAndTheirFrame(t *testing.T) {
	big, small := bytes.Repeat([]byte("b"), 1000), []byte("small")
	f := &frame.Frame{Raft: []raftgroup.RangeMessage{
		{RangeID: 1, Message: appMessage(1, big)},
		{RangeID: 2, Message: appMessage(2, small, small)},
	}}
	data, err := Append(nil, f)
	if err != nil {
		t.Fatal(err)
	}
	g, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, false} {
		e := g.Raft[i].Message.Entries[0].Data
		old := e[0]
		at := bytes.Index(data, e)
		data[at]++
		if inside := e[0] != old; inside != want {
			t.Errorf("message %d: points into the frame: %v", i, inside)
		}
		data[at]--
	}
}

// A frame of every version that was ever written must still be read.
func TestOldBytes(t *testing.T) {
	text, err := os.ReadFile("testdata/frame_v1.hex")
	if err != nil {
		t.Fatal(err)
	}
	data, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if want := exampleFrame(); show(got) != show(want) {
		t.Errorf("got %s\nwant %s", show(got), show(want))
	}
	now, err := Append(nil, exampleFrame())
	if err != nil || !bytes.Equal(now, data) {
		t.Errorf("written now: %x, %v", now, err)
	}
}

// exampleFrame has a bit of everything that is often sent.
func exampleFrame() *frame.Frame {
	name := placement.AskName{Store: 1, StoreStart: 5, Range: 7, Term: 3, Number: 300}
	return &frame.Frame{
		Lane: frame.Requests, From: 1, To: 2, FromStart: 5, ToStart: 6, Session: 1, Number: 20, AckSession: 2, Ack: 19,
		Raft: []raftgroup.RangeMessage{{RangeID: 7, Message: appMessage(9, []byte("one"), []byte("two"))}},
		Requests: []*peerpb.Request{
			{ID: 1, Range: 7, Generation: 2, Body: &peerpb.Write{Req: &pb.PutRequest{Key: []byte("k"), Value: []byte("v"), Lease: -1, PrevKv: true}}},
			{ID: 2, Range: 7, Generation: 2, Body: &peerpb.Close{S: 100, Spans: []metapb.Span{{Start: []byte("a")}}}},
		},
		Replies: []peerpb.Reply{
			{ID: 3, Body: &pb.PutResponse{Header: &pb.ResponseHeader{Revision: 101}}},
			{ID: 4, Err: peerpb.ErrNotLeader},
		},
		Asks:    []placement.Ask{{Name: name, N: 40, Seq: 12, Epoch: 3}},
		Answers: []placement.Answer{{Name: name, Seq: 12, First: 101, N: 40, Epoch: 3, Compacted: -1}, {Name: name, Err: placement.ErrStopped}},
		Refused: &frame.NotSequencer{Leader: 3, Term: 4}, AskedUpTo: 11,
		Liveness: &raftgroup.LivenessMessage{FromStart: 5, ToStart: 6, Beat: true, Sent: 1 << 40, Promise: 1e9, Epoch: 2, Follows: []raftgroup.Tie{{Range: 7, Term: 3}}},
		Closings: []frame.Closing{{Range: 7, S: 100, Epoch: 3}},
		Closed:   []frame.Closed{{Range: 8, S: 99, Index: 1000}, {Range: 9, Err: &peerpb.NotLeaderError{Range: 9, Leader: 3, Term: 8}}},
	}
}
