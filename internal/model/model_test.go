package model

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

// TestScript executes requests in protobuf text form. The command is the type
// of request; the output is the answer and, for what changes something, the
// revision after it.
func TestScript(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := mustNew(t)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "events":
				return events(t, s, d)
			case "watch":
				return watched(t, s, d)
			}
			req := parse(t, d)
			before := s
			next, resp, err := Step(s, req)
			if before.revision != s.revision {
				t.Fatal("the old state changed")
			}
			s = next
			if err != nil {
				return fmt.Sprintf("%s: %s\n", status.Code(err), status.Convert(err).Message())
			}
			return show(resp)
		})
	})
}

func mustNew(t *testing.T) *State {
	t.Helper()
	s, err := New(Limits{TxnOpsMax: 4, RequestBytesMax: 100, LeaseTTLMin: 2})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func parse(t *testing.T, d *datadriven.TestData) any {
	t.Helper()
	requests := map[string]proto.Message{
		"range": &pb.RangeRequest{}, "stream": &pb.RangeRequest{}, "put": &pb.PutRequest{},
		"delete": &pb.DeleteRangeRequest{}, "txn": &pb.TxnRequest{}, "compact": &pb.CompactionRequest{},
		"grant": &pb.LeaseGrantRequest{}, "revoke": &pb.LeaseRevokeRequest{}, "expire": &pb.LeaseRevokeRequest{},
		"keepalive": &pb.LeaseKeepAliveRequest{}, "ttl": &pb.LeaseTimeToLiveRequest{}, "leases": &pb.LeaseLeasesRequest{},
	}
	req, ok := requests[d.Cmd]
	if !ok {
		d.Fatalf(t, "no request %q", d.Cmd)
	}
	if err := prototext.Unmarshal([]byte(d.Input), req); err != nil {
		d.Fatalf(t, "%v", err)
	}
	switch d.Cmd {
	case "stream":
		return Stream{Range: req.(*pb.RangeRequest)}
	case "expire":
		return Expire{ID: req.(*pb.LeaseRevokeRequest).ID}
	}
	return req
}

// show writes an answer by hand: prototext's spacing changes from build to
// build on purpose.
func show(m proto.Message) string {
	switch r := m.(type) {
	case *pb.LeaseGrantResponse:
		return fmt.Sprintf("rev=%d id=%d ttl=%d\n", r.Header.Revision, r.ID, r.TTL)
	case *pb.LeaseRevokeResponse:
		return fmt.Sprintf("rev=%d\n", r.Header.Revision)
	case *pb.LeaseKeepAliveResponse:
		return fmt.Sprintf("rev=%d id=%d ttl=%d\n", r.Header.Revision, r.ID, r.TTL)
	case *pb.LeaseTimeToLiveResponse:
		return fmt.Sprintf("rev=%d id=%d ttl=%d granted=%d keys=%q\n", r.Header.Revision, r.ID, r.TTL, r.GrantedTTL, r.Keys)
	case *pb.LeaseLeasesResponse:
		var ids []int64
		for _, l := range r.Leases {
			ids = append(ids, l.ID)
		}
		return fmt.Sprintf("rev=%d %d\n", r.Header.Revision, ids)
	case *pb.RangeResponse:
		return fmt.Sprintf("rev=%d count=%d more=%t%s\n", r.Header.Revision, r.Count, r.More, pairs(r.Kvs))
	case *pb.PutResponse:
		return fmt.Sprintf("rev=%d%s\n", r.Header.Revision, pairs([]*mvccpb.KeyValue{r.PrevKv}))
	case *pb.DeleteRangeResponse:
		return fmt.Sprintf("rev=%d deleted=%d%s\n", r.Header.Revision, r.Deleted, pairs(r.PrevKvs))
	case *pb.CompactionResponse:
		return fmt.Sprintf("rev=%d\n", r.Header.Revision)
	case *pb.TxnResponse:
		var b strings.Builder
		fmt.Fprintf(&b, "rev=%d succeeded=%t\n", r.Header.Revision, r.Succeeded)
		for _, op := range r.Responses {
			b.WriteString("  " + strings.ReplaceAll(strings.TrimSuffix(show(inner(op)), "\n"), "\n", "\n  ") + "\n")
		}
		return b.String()
	default:
		return fmt.Sprintf("%T\n", m)
	}
}

func inner(op *pb.ResponseOp) proto.Message {
	switch r := op.Response.(type) {
	case *pb.ResponseOp_ResponseRange:
		return r.ResponseRange
	case *pb.ResponseOp_ResponsePut:
		return r.ResponsePut
	case *pb.ResponseOp_ResponseDeleteRange:
		return r.ResponseDeleteRange
	default:
		return op.GetResponseTxn()
	}
}

func pairs(kvs []*mvccpb.KeyValue) string {
	var b strings.Builder
	for _, kv := range kvs {
		if kv != nil {
			fmt.Fprintf(&b, "\n  %q=%q created=%d mod=%d version=%d", kv.Key, kv.Value, kv.CreateRevision, kv.ModRevision, kv.Version)
			if kv.Lease != 0 {
				fmt.Fprintf(&b, " lease=%d", kv.Lease)
			}
		}
	}
	return b.String()
}

func events(t *testing.T, s *State, d *datadriven.TestData) string {
	var after, upTo int64
	d.ScanArgs(t, "after", &after)
	d.ScanArgs(t, "upto", &upTo)
	var b strings.Builder
	for _, e := range s.Events(after, upTo) {
		if e.KV == nil {
			fmt.Fprintf(&b, "%d.%d delete %q\n", e.Main, e.Sub, e.Key)
			continue
		}
		fmt.Fprintf(&b, "%d.%d put %q=%q\n", e.Main, e.Sub, e.Key, e.KV.Value)
	}
	return b.String()
}

// watched shows what a watch that is created now must get, up to now.
func watched(t *testing.T, s *State, d *datadriven.TestData) string {
	req := &pb.WatchCreateRequest{}
	if err := prototext.Unmarshal([]byte(d.Input), req); err != nil {
		d.Fatalf(t, "%v", err)
	}
	w, refusal := NewWatch(req, s.Revision())
	if refusal != "" {
		return "refused: " + refusal + "\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "start=%d\n", w.Start)
	for _, e := range s.WatchEvents(w, w.Start, s.Revision()) {
		fmt.Fprintf(&b, "%s%s", e.Type, pairs([]*mvccpb.KeyValue{e.Kv}))
		if e.PrevKv != nil {
			fmt.Fprintf(&b, "\n  before:%s", pairs([]*mvccpb.KeyValue{e.PrevKv}))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// A generator must draw the same requests again, and among them everything
// that a server can be asked: answers of every kind and each of these errors.
func TestGeneratorReachesEverything(t *testing.T) {
	cfg := DefaultGeneratorConfig()
	cfg.LeasePercent, cfg.LeaseTTLLow, cfg.LeaseTTLHigh = 20, 3, 60
	draw := func(seed uint64, n int) (reqs []any, seen map[string]int) {
		g, err := NewGenerator(cfg, rand.New(rand.NewPCG(seed, 0)))
		if err != nil {
			t.Fatal(err)
		}
		s, err := New(DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		seen = make(map[string]int)
		for range n {
			req := g.Next(s)
			next, resp, err := Step(s, req)
			s = next
			seen[fmt.Sprintf("%T", req)]++
			if err != nil {
				seen[status.Convert(err).Message()]++
			}
			if r, ok := resp.(*pb.TxnResponse); ok {
				seen[fmt.Sprintf("succeeded=%t", r.Succeeded)]++
			}
			if r, ok := resp.(*pb.RangeResponse); ok && r.More {
				seen["more"]++
			}
			if r, ok := resp.(*pb.LeaseTimeToLiveResponse); ok && len(r.Keys) > 2 {
				seen["keys of a lease"]++
			}
			if r, ok := resp.(*pb.LeaseRevokeResponse); ok && len(next.Events(r.Header.Revision-1, r.Header.Revision)) > 1 {
				seen["keys revoked"]++
			}
			if _, refusal := NewWatch(g.Watch(s), s.Revision()); refusal != "" {
				seen[refusal]++
			} else {
				seen["watch"]++
			}
			reqs = append(reqs, req)
		}
		return reqs, seen
	}
	reqs, seen := draw(2, 50_000)
	for _, want := range []string{
		"*etcdserverpb.RangeRequest", "model.Stream", "*etcdserverpb.PutRequest", "*etcdserverpb.DeleteRangeRequest",
		"*etcdserverpb.TxnRequest", "*etcdserverpb.CompactionRequest", "succeeded=true", "succeeded=false", "more",
		"etcdserver: key is not provided", "etcdserver: key not found", "etcdserver: value is provided",
		"etcdserver: lease is provided", "etcdserver: invalid sort option", "etcdserver: too many operations in txn request",
		"etcdserver: duplicate key given in txn request", "etcdserver: request is too large",
		"etcdserver: mvcc: required revision has been compacted", "etcdserver: mvcc: required revision is a future revision",
		"etcdserver: requested lease not found", "etcdserver: lease already exists", "etcdserver: too large lease TTL",
		"*etcdserverpb.LeaseKeepAliveRequest", "*etcdserverpb.LeaseLeasesRequest", "keys of a lease", "keys revoked",
		"watch", "mvcc: watcher range is empty",
	} {
		if seen[want] < 2 {
			t.Errorf("drawn %d times: %s", seen[want], want)
		}
	}
	again, _ := draw(2, 1000)
	for i := range again {
		if s, ok := again[i].(Stream); ok {
			if !proto.Equal(s.Range, reqs[i].(Stream).Range) {
				t.Fatalf("request %d differs", i)
			}
		} else if reflect.TypeOf(again[i]) != reflect.TypeOf(reqs[i]) || !proto.Equal(again[i].(proto.Message), reqs[i].(proto.Message)) {
			t.Fatalf("request %d differs", i)
		}
	}
}

// What Equal must let pass, and what it must not.
func TestEqual(t *testing.T) {
	row := func(key string, version int64) *mvccpb.KeyValue {
		return &mvccpb.KeyValue{Key: []byte(key), Version: version}
	}
	rows := func(more bool, kvs ...*mvccpb.KeyValue) *pb.RangeResponse {
		return &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: 5}, More: more, Kvs: kvs}
	}
	byVersion := &pb.RangeRequest{SortTarget: pb.RangeRequest_VERSION}
	for _, c := range []struct {
		name  string
		req   any
		a, b  proto.Message
		equal bool
	}{
		{"ties in another order", byVersion, rows(false, row("a", 1), row("b", 1)), rows(false, row("b", 1), row("a", 1)), true},
		{"rows that do not tie in another order", byVersion, rows(false, row("a", 1), row("b", 2)), rows(false, row("b", 2), row("a", 1)), false},
		{"another row that ties at the limit", byVersion, rows(true, row("a", 1), row("b", 2)), rows(true, row("a", 1), row("c", 2)), true},
		{"another row without a limit", byVersion, rows(false, row("a", 1)), rows(false, row("c", 1)), false},
		{"another row above the last tie", byVersion, rows(true, row("a", 1), row("b", 2)), rows(true, row("c", 1), row("b", 2)), false},
		{"keys in another order", &pb.RangeRequest{}, rows(false, row("a", 1), row("b", 1)), rows(false, row("b", 1), row("a", 1)), false},
		{
			"another member", &pb.PutRequest{},
			&pb.PutResponse{Header: &pb.ResponseHeader{Revision: 5, MemberId: 1, ClusterId: 2, RaftTerm: 3}},
			&pb.PutResponse{Header: &pb.ResponseHeader{Revision: 5}}, true,
		},
		{
			"another revision", &pb.PutRequest{},
			&pb.PutResponse{Header: &pb.ResponseHeader{Revision: 5}}, &pb.PutResponse{Header: &pb.ResponseHeader{Revision: 6}}, false,
		},
	} {
		if diff := Equal(c.req, c.a, c.b, nil, nil); (diff == "") != c.equal {
			t.Errorf("%s: %q", c.name, diff)
		}
	}
}
