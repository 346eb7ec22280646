package etcdapi

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/datadriven"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/metadata"

	"github.com/flotilladb/flotilla/internal/stop"
	"github.com/flotilladb/flotilla/watchfeed"
)

// watchScript is a client, its stream, and the hub behind it.
type watchScript struct {
	node   *fakeNode
	hub    *fakeHub
	stream *fakeStream
	ended  chan error
	st     *stop.Stopper
}

// TestWatchScripts runs the stories in testdata/watch. After each command it
// waits until nothing moves, and prints what the hub was asked for ("hub:") and
// what the client got ("->").
func TestWatchScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/watch", func(t *testing.T, path string) {
		synctest.Test(t, func(t *testing.T) {
			s := &watchScript{node: newFakeNode()}
			s.node.rev = 10
			datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
				s.do(t, d)
				synctest.Wait()
				return s.report()
			})
			s.close()
		})
	})
}

// close ends the stream, if there is one.
func (s *watchScript) close() {
	if s.stream != nil {
		s.stream.cancel()
		s.st.Stop()
	}
}

func (s *watchScript) open(t *testing.T, d *datadriven.TestData) {
	s.close()
	ctx := context.Background()
	if d.HasArg("hasleader") {
		ctx = metadata.NewIncomingContext(ctx, metadata.Pairs("hasleader", "true"))
	}
	s.hub, s.stream, s.ended, s.st = newFakeHub(), newFakeStream(ctx), make(chan error, 1), stop.New(ctx)
	server := newTestWatchServer(s.node, s.hub, s.st)
	d.MaybeScanArgs(t, "limit", &server.limit)
	d.MaybeScanArgs(t, "watches", &server.config.WatchesMax)
	if d.HasArg("noleader") {
		s.node.leader = 0
	}
	s.hub.auto = 10
	if d.HasArg("manual") {
		s.hub.auto = 0
	}
	stream, ended := s.stream, s.ended
	if err := s.st.Go("handler", func(context.Context) {
		err := server.serve(stream)
		stream.cancel()
		ended <- err
	}); err != nil {
		t.Fatal(err)
	}
}

func (s *watchScript) do(t *testing.T, d *datadriven.TestData) {
	switch d.Cmd {
	case "open":
		s.open(t, d)
	case "create":
		for _, line := range strings.Split(d.Input, "\n") {
			s.stream.requests <- &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: parseCreate(t, line)}}
		}
	case "cancel":
		for _, arg := range d.CmdArgs {
			var id int64
			scan(t, arg.Key, &id)
			s.stream.requests <- &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{
				CancelRequest: &pb.WatchCancelRequest{WatchId: id},
			}}
		}
	case "progress":
		s.stream.requests <- &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}
	case "nonsense":
		s.stream.requests <- &pb.WatchRequest{}
		s.stream.requests <- &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{}}
	case "half-close":
		close(s.stream.requests)
	case "disconnect":
		s.stream.cancel()
	case "stop":
		s.st.Quiesce()
	case "pause":
		s.stream.mu.Lock()
		s.stream.paused = make(chan struct{})
		s.stream.mu.Unlock()
	case "resume":
		s.stream.mu.Lock()
		close(s.stream.paused)
		s.stream.paused = nil
		s.stream.mu.Unlock()
	case "hub":
		s.pushAll(t, d.Input)
	default:
		t.Fatalf("unknown command %s", d.Cmd)
	}
}

func scan(t *testing.T, text string, to ...any) {
	t.Helper()
	if n, err := fmt.Sscan(text, to...); n != len(to) {
		t.Fatalf("%q: %v", text, err)
	}
}

// parseCreate reads "key end=... start=... id=... prev_kv ...".
func parseCreate(t *testing.T, line string) *pb.WatchCreateRequest {
	r := &pb.WatchCreateRequest{}
	unescape := strings.NewReplacer(`\0`, "\x00", `""`, "")
	for i, word := range strings.Fields(line) {
		name, value, _ := strings.Cut(word, "=")
		switch {
		case i == 0:
			r.Key = []byte(unescape.Replace(word))
		case name == "end":
			r.RangeEnd = []byte(unescape.Replace(value))
		case name == "start":
			scan(t, value, &r.StartRevision)
		case name == "id":
			scan(t, value, &r.WatchId)
		case name == "prev_kv":
			r.PrevKv = true
		case name == "progress":
			r.ProgressNotify = true
		case name == "fragment":
			r.Fragment = true
		case name == "filter":
			var f int32
			scan(t, value, &f)
			r.Filters = append(r.Filters, pb.WatchCreateRequest_FilterType(f))
		default:
			t.Fatalf("create: unknown word %s", word)
		}
	}
	return r
}

// pushAll lets the hub say one line each, all at once.
func (s *watchScript) pushAll(t *testing.T, input string) {
	var rs []watchfeed.Response
	for _, line := range strings.Split(input, "\n") {
		words := strings.Fields(line)
		var r watchfeed.Response
		for word, kind := range map[string]watchfeed.ResponseKind{
			"created": watchfeed.Created, "canceled": watchfeed.Canceled, "compacted": watchfeed.Compacted,
			"noleader": watchfeed.NoLeader, "events": watchfeed.Events, "progress": watchfeed.Progress,
			"stream-progress": watchfeed.StreamProgress,
		} {
			if words[0] == word {
				r.Kind = kind
			}
		}
		for _, word := range words[1:] {
			name, value, _ := strings.Cut(word, "=")
			switch name {
			case "id":
				scan(t, value, &r.ID)
			case "rev":
				scan(t, value, &r.Revision)
			case "at":
				scan(t, value, &r.CompactRevision)
			case "prev_kv":
				r.PrevKV = true
			case "fragment":
				r.Fragment = true
			default: // key=value@rev, key@rev for a delete; a number is a value of so many bytes
				r.Events = append(r.Events, parseEvent(t, word))
			}
		}
		rs = append(rs, r)
	}
	s.hub.push(rs...)
}

func parseEvent(t *testing.T, word string) *watchfeed.Event {
	change, at, ok := strings.Cut(word, "@")
	if !ok {
		t.Fatalf("hub: unknown word %s", word)
	}
	key, value, put := strings.Cut(change, "=")
	ev := &mvccpb.Event{Kv: &mvccpb.KeyValue{Key: []byte(key)}, PrevKv: &mvccpb.KeyValue{Key: []byte(key), Value: []byte("old")}}
	scan(t, at, &ev.Kv.ModRevision)
	if !put {
		ev.Type = mvccpb.Event_DELETE
		return testEvent(ev)
	}
	ev.Kv.Value = []byte(value)
	var n int
	if _, err := fmt.Sscanf(value, "%dbytes", &n); err == nil {
		ev.Kv.Value = make([]byte, n)
	}
	return testEvent(ev)
}

func (s *watchScript) report() string {
	var b strings.Builder
	for _, line := range s.hub.takeAsked() {
		words := strings.Fields(line)
		if len(words) > 6 {
			slices.Sort(words[6:])
		}
		fmt.Fprintf(&b, "hub: %s\n", strings.Join(words, " "))
	}
	for _, r := range s.stream.take() {
		if h := r.Header; h.GetClusterId() != 11 || h.GetMemberId() != 7 || h.GetRaftTerm() != 3 {
			fmt.Fprintf(&b, "header %v\n", h)
		}
		fmt.Fprintln(&b, describe(r))
	}
	select {
	case err := <-s.ended:
		fmt.Fprintf(&b, "ended: %v\n", err)
	default:
	}
	if b.Len() == 0 {
		return "nothing\n"
	}
	return b.String()
}
