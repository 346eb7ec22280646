package etcdapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/adminpb"
)

// The leader goes where it is sent, from where it is, and nowhere else.
func TestMoveLeader(t *testing.T) {
	f := newFakeNode()
	_, conn := serve(t, testConfig(t, f))
	m := pb.NewMaintenanceClient(conn)
	for _, tc := range []struct {
		leader, target uint64
		want           error
	}{
		{7, 8, nil}, {7, 7, nil}, {7, 9, rpctypes.ErrGRPCBadLeaderTransferee},
		{8, 7, rpctypes.ErrGRPCNotLeader}, {0, 8, rpctypes.ErrGRPCNotLeader},
	} {
		f.leader = tc.leader
		_, err := m.MoveLeader(t.Context(), &pb.MoveLeaderRequest{TargetID: tc.target})
		if status.Code(err) != status.Code(tc.want) || rpctypes.ErrorDesc(err) != rpctypes.ErrorDesc(tc.want) {
			t.Errorf("from %d to %d: %v, want %v", tc.leader, tc.target, err, tc.want)
		}
	}
}

// A client's first minutes: write, read, list, look around.
func TestClientSession(t *testing.T) {
	f := newFakeNode()
	_, conn := serve(t, testConfig(t, f))
	kv := pb.NewKVClient(conn)
	ctx := t.Context()

	put, err := kv.Put(ctx, &pb.PutRequest{Key: []byte("a"), Value: bytes.Repeat([]byte("v"), 5000)})
	if err != nil {
		t.Fatal(err)
	}
	if h := put.Header; h.ClusterId != 11 || h.MemberId != 7 || h.RaftTerm != 3 || h.Revision != 2 {
		t.Fatalf("header of a put: %v", h)
	}
	get, err := kv.Range(ctx, &pb.RangeRequest{Key: []byte("a")})
	if err != nil {
		t.Fatal(err)
	}
	if len(get.Kvs) != 1 || len(get.Kvs[0].Value) != 5000 || get.Header.Revision != 2 {
		t.Fatalf("read back: %v, header %v", len(get.Kvs), get.Header)
	}
	members, err := pb.NewClusterClient(conn).MemberList(ctx, &pb.MemberListRequest{})
	if err != nil || len(members.Members) != 1 || members.Header.Revision != 0 {
		t.Fatalf("members: %v, %v", members, err)
	}
	st, err := pb.NewMaintenanceClient(conn).Status(ctx, &pb.StatusRequest{})
	if err != nil || st.Version != "3.7.3" || st.Leader != st.Header.MemberId || st.DbSize != 4096 {
		t.Fatalf("status: %v, %v", st, err)
	}
	auth, err := pb.NewAuthClient(conn).AuthStatus(ctx, &pb.AuthStatusRequest{})
	if err != nil || auth.Enabled || auth.AuthRevision != 1 {
		t.Fatalf("auth status: %v, %v", auth, err)
	}
	hc, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	if err != nil || hc.Status != healthpb.HealthCheckResponse_SERVING {
		t.Fatalf("gRPC health: %v, %v", hc, err)
	}
	ranges, err := adminpb.NewAdminClient(conn).ListRanges(ctx, &adminpb.ListRangesRequest{})
	if err != nil || len(ranges.Ranges) != 1 {
		t.Fatalf("ranges: %v, %v", ranges, err)
	}
}

func TestRangeStream(t *testing.T) {
	f := newFakeNode()
	_, conn := serve(t, testConfig(t, f))
	kv := pb.NewKVClient(conn)
	for _, k := range []string{"a", "b", "c"} {
		if _, err := kv.Put(t.Context(), &pb.PutRequest{Key: []byte(k)}); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := kv.RangeStream(t.Context(), &pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte{0}})
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for {
		piece, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, kv := range piece.RangeResponse.Kvs {
			keys = append(keys, string(kv.Key))
		}
		if h := piece.RangeResponse.Header; h != nil && (h.MemberId != 7 || h.Revision != 4) {
			t.Fatalf("header of the last piece: %v", h)
		}
	}
	if got := strings.Join(keys, ""); got != "abc" {
		t.Fatalf("streamed %q", got)
	}
}

// One fault each, and of two faults the first in etcd's order.
func TestRefusals(t *testing.T) {
	f := newFakeNode()
	cfg := testConfig(t, f)
	cfg.MaxRequestBytes = 1000
	cfg.MaxTxnOps = 2
	_, conn := serve(t, cfg)
	kv := pb.NewKVClient(conn)
	big := make([]byte, 2000)
	put := func(r *pb.PutRequest) func() error {
		return func() error { _, err := kv.Put(t.Context(), r); return err }
	}
	txn := func(r *pb.TxnRequest) func() error {
		return func() error { _, err := kv.Txn(t.Context(), r); return err }
	}
	putOp := func(key string, value []byte) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key), Value: value}}}
	}
	getOp := &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: big}}}
	delOp := &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte("k")}}}
	for _, tc := range []struct {
		name string
		full bool
		do   func() error
		want error
	}{
		{"empty key", false, put(&pb.PutRequest{}), rpctypes.ErrGRPCEmptyKey},
		{"quota before shape", true, put(&pb.PutRequest{}), rpctypes.ErrGRPCNoSpace},
		{"shape before size", false, put(&pb.PutRequest{Key: []byte("k"), Value: big, IgnoreValue: true}), rpctypes.ErrGRPCValueProvided},
		{"size", false, put(&pb.PutRequest{Key: []byte("k"), Value: big}), rpctypes.ErrGRPCRequestTooLarge},
		{"too many ops", false, txn(&pb.TxnRequest{Success: []*pb.RequestOp{delOp, delOp, delOp}}), rpctypes.ErrGRPCTooManyOps},
		{"key twice before size", false, txn(&pb.TxnRequest{Success: []*pb.RequestOp{putOp("k", big), putOp("k", nil)}}), rpctypes.ErrGRPCDuplicateKey},
		{"size of a txn", false, txn(&pb.TxnRequest{Failure: []*pb.RequestOp{putOp("k", big)}}), rpctypes.ErrGRPCRequestTooLarge},
		{"a txn of reads has no size", false, txn(&pb.TxnRequest{Success: []*pb.RequestOp{getOp}}), nil},
		{"quota of a txn", true, txn(&pb.TxnRequest{Failure: []*pb.RequestOp{putOp("k", nil)}}), rpctypes.ErrGRPCNoSpace},
		{"a delete needs no space", true, txn(&pb.TxnRequest{Success: []*pb.RequestOp{delOp}}), nil},
		{"empty operation", false, txn(&pb.TxnRequest{Success: []*pb.RequestOp{{}}}), rpctypes.ErrGRPCKeyNotFound},
		{"sort order", false, func() error {
			_, err := kv.Range(t.Context(), &pb.RangeRequest{Key: []byte("k"), SortOrder: 3})
			return err
		}, rpctypes.ErrGRPCInvalidSortOption},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f.full = tc.full
			defer func() { f.full = false }()
			err := tc.do()
			if status.Code(err) != status.Code(tc.want) || status.Convert(err).Message() != status.Convert(tc.want).Message() {
				t.Fatalf("%v, want %v", err, tc.want)
			}
		})
	}
}

func TestMessageBeyondTheWireLimit(t *testing.T) {
	cfg := testConfig(t, newFakeNode())
	cfg.MaxRequestBytes = 1000
	_, conn := serve(t, cfg)
	_, err := pb.NewKVClient(conn).Put(t.Context(), &pb.PutRequest{Key: []byte("k"), Value: make([]byte, 1<<20)})
	if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "received message larger than max (1048583 vs. 525288)") {
		t.Fatalf("%v", err)
	}
}

func TestCallerMetadata(t *testing.T) {
	f := newFakeNode()
	_, conn := serve(t, testConfig(t, f))
	kv := pb.NewKVClient(conn)
	get := func(key, value string) error {
		ctx := metadata.AppendToOutgoingContext(t.Context(), key, value)
		_, err := kv.Range(ctx, &pb.RangeRequest{Key: []byte("k")})
		return err
	}
	if err := get(rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader); err != nil {
		t.Fatalf("with a leader: %v", err)
	}
	f.leader = 0
	if err := get(rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader); !sameStatus(err, rpctypes.ErrGRPCNoLeader) {
		t.Fatalf("without a leader: %v", err)
	}
	if err := get(rpctypes.MetadataRequireLeaderKey, "no"); err != nil {
		t.Fatalf("without a leader, but not asked for: %v", err)
	}
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs(rpctypes.MetadataClientAPIVersionKey, "3.\xff"))
	if err := checkCaller(ctx, f); !sameStatus(err, rpctypes.ErrGRPCInvalidClientAPIVersion) {
		t.Fatalf("a version that is not text: %v", err)
	}
}

// Whatever is asked, who wants a leader hears at once that there is none.
func TestEveryRequestMayWantALeader(t *testing.T) {
	n := newModelNode(t)
	n.leader = 0
	_, conn := serve(t, n.config(t))
	ctx := metadata.AppendToOutgoingContext(t.Context(), rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader)
	for _, service := range []grpc.ServiceDesc{
		pb.KV_ServiceDesc, pb.Lease_ServiceDesc, pb.Cluster_ServiceDesc, pb.Maintenance_ServiceDesc, pb.Auth_ServiceDesc,
		v3lockpb.Lock_ServiceDesc, v3electionpb.Election_ServiceDesc,
	} {
		for _, m := range service.Methods { // nothing in it is an empty request of any of them
			err := conn.Invoke(ctx, "/"+service.ServiceName+"/"+m.MethodName, &pb.RangeRequest{}, &pb.RangeResponse{})
			if !sameStatus(err, rpctypes.ErrGRPCNoLeader) {
				t.Errorf("%s: %v", m.MethodName, err)
			}
		}
	}
	stream, err := pb.NewMaintenanceClient(conn).Snapshot(ctx, &pb.SnapshotRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); !sameStatus(err, rpctypes.ErrGRPCNoLeader) {
		t.Errorf("Snapshot: %v", err)
	}
}

func sameStatus(a, b error) bool {
	return status.Code(a) == status.Code(b) && status.Convert(a).Message() == status.Convert(b).Message()
}

func TestNotYetThereIsSaid(t *testing.T) {
	_, conn := serve(t, testConfig(t, newFakeNode()))
	_, err := pb.NewLeaseClient(conn).LeaseGrant(t.Context(), &pb.LeaseGrantRequest{TTL: 5})
	if status.Code(err) != codes.Unimplemented {
		t.Fatalf("lease grant: %v", err)
	}
	_, err = pb.NewClusterClient(conn).MemberAdd(t.Context(), &pb.MemberAddRequest{})
	if !sameStatus(err, rpctypes.ErrGRPCMemberBadURLs) {
		t.Fatalf("member add without a URL: %v", err)
	}
	_, err = adminpb.NewAdminClient(conn).ShowRange(t.Context(), &adminpb.ShowRangeRequest{RangeId: 99})
	if status.Code(err) != codes.NotFound {
		t.Fatalf("a range that does not exist: %v", err)
	}
	_, err = adminpb.NewAdminClient(conn).SplitRange(t.Context(), &adminpb.SplitRangeRequest{})
	if status.Code(err) != codes.InvalidArgument {
		t.Fatalf("a split without a key: %v", err)
	}
}

func fetch(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(out))
}

// Everything that is spoken over HTTP, on the port that gRPC is on.
func TestHTTP(t *testing.T) {
	f := newFakeNode()
	addr, _ := serve(t, testConfig(t, f))
	base := "http://" + addr
	for _, tc := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/health", "", 200, `{"health":"true","reason":""}`},
		{"POST", "/health", "", 405, "Method Not Allowed"},
		{"GET", "/livez", "", 200, "ok"},
		{"GET", "/livez/serializable_read", "", 200, "ok"},
		{"GET", "/readyz?verbose", "", 200, "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok"},
		{"GET", "/readyz?verbose&exclude=data_corruption&exclude=non_learner", "", 200, "[+]serializable_read ok\n[+]linearizable_read ok\nok"},
		{"GET", "/version", "", 200, `{"etcdserver":"3.7.3","etcdcluster":"3.7.0","storage":"3.7.0"}`},
		{"GET", "/nothing", "", 404, "404 page not found"},
		{"GET", "/debug/pprof/", "", 404, "404 page not found"},
	} {
		code, body := fetch(t, tc.method, base+tc.path, tc.body)
		if code != tc.status || body != tc.want {
			t.Errorf("%s %s: %d %q, want %d %q", tc.method, tc.path, code, body, tc.status, tc.want)
		}
	}
	code, body := fetch(t, "GET", base+"/metrics", "")
	if code != 200 || !strings.Contains(body, "etcd_network_client_grpc_received_bytes_total") {
		t.Errorf("metrics: %d %q", code, body)
	}
}

func TestHTTPNotHealthy(t *testing.T) {
	f := newFakeNode()
	addr, _ := serve(t, testConfig(t, f))
	base := "http://" + addr

	f.alarms = []*pb.AlarmMember{{MemberID: 7, Alarm: pb.AlarmType_CORRUPT}}
	if code, body := fetch(t, "GET", base+"/health", ""); code != 503 || body != `{"health":"false","reason":"ALARM CORRUPT"}` {
		t.Errorf("with an alarm: %d %s", code, body)
	}
	if code, _ := fetch(t, "GET", base+"/health?exclude=CORRUPT", ""); code != 200 {
		t.Errorf("with the alarm excluded: %d", code)
	}
	if code, body := fetch(t, "GET", base+"/readyz", ""); code != 503 || !strings.HasPrefix(body, "[-]data_corruption failed: alarm activated: CORRUPT") {
		t.Errorf("readyz with an alarm: %d %s", code, body)
	}
	if code, _ := fetch(t, "GET", base+"/livez", ""); code != 200 {
		t.Errorf("livez with an alarm: %d", code)
	}
	f.alarms, f.leader = nil, 0
	if code, body := fetch(t, "GET", base+"/health", ""); code != 503 || !strings.Contains(body, "RAFT NO LEADER") {
		t.Errorf("without a leader: %d %s", code, body)
	}
	if code, _ := fetch(t, "GET", base+"/health?serializable=true", ""); code != 200 {
		t.Errorf("without a leader, local: %d", code)
	}
	f.leader, f.err = 7, mvcc.ErrCorrupt
	if code, body := fetch(t, "GET", base+"/health", ""); code != 503 || !strings.Contains(body, "RANGE ERROR:") {
		t.Errorf("with a failing read: %d %s", code, body)
	}
}

func TestGateway(t *testing.T) {
	addr, _ := serve(t, testConfig(t, newFakeNode()))
	base := "http://" + addr
	// "Zm9v" is foo, "YmFy" is bar.
	if code, body := fetch(t, "POST", base+"/v3/kv/put", `{"key":"Zm9v","value":"YmFy"}`); code != 200 ||
		!strings.Contains(body, `"revision":"2"`) {
		t.Fatalf("put: %d %s", code, body)
	}
	code, body := fetch(t, "POST", base+"/v3beta/kv/range", `{"key":"Zm9v","unknown":1}`)
	var got struct {
		Kvs   []struct{ Key, Value string }
		Count string
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil || code != 200 {
		t.Fatalf("range: %d %s %v", code, body, err)
	}
	if len(got.Kvs) != 1 || got.Kvs[0].Value != "YmFy" || got.Count != "1" {
		t.Fatalf("range: %s", body)
	}
	if code, body := fetch(t, "POST", base+"/v3/kv/put", `{}`); code != 400 || !strings.Contains(body, "etcdserver: key is not provided") {
		t.Fatalf("a put without a key: %d %s", code, body)
	}
}

// Stop ends calls that do not end by themselves once its time is up.
func TestStopHasALimit(t *testing.T) {
	f := newFakeNode()
	cfg := testConfig(t, f)
	hang := make(chan struct{})
	defer close(hang)
	cfg.KV = &hangingKV{fakeNode: f, entered: make(chan struct{}), hang: hang}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	conn := connect(t, s)
	failed := make(chan error, 1)
	if err := cfg.Stopper.Go("client", func(context.Context) {
		_, err := pb.NewKVClient(conn).Put(context.Background(), &pb.PutRequest{Key: []byte("k")})
		failed <- err
	}); err != nil {
		t.Fatal(err)
	}
	<-cfg.KV.(*hangingKV).entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.Stop(ctx)
	if err := <-failed; status.Code(err) != codes.Unavailable && status.Code(err) != codes.Canceled {
		t.Fatalf("the call under way: %v", err)
	}
}
