package etcdapi

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/flotilladb/flotilla/internal/stop"
)

func createRequest(key string) *pb.WatchRequest {
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte(key)}}}
}

// A watch over the wire: created, an event, and the end with the server.
func TestWatchSession(t *testing.T) {
	n := newModelNode(t)
	cfg := n.config(t)
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	conn := connect(t, s)
	stream, err := pb.NewWatchClient(conn).Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(createRequest("k")); err != nil {
		t.Fatal(err)
	}
	recv := func() string {
		t.Helper()
		resp, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if h := resp.Header; h.ClusterId != 11 || h.MemberId != 7 || h.RaftTerm != 3 {
			t.Fatalf("header %v", h)
		}
		return describe(resp)
	}
	if got := recv(); got != "-> watch 0 rev 1 created" {
		t.Fatal(got)
	}
	if _, err := pb.NewKVClient(conn).Put(t.Context(), &pb.PutRequest{Key: []byte("k"), Value: []byte("v")}); err != nil {
		t.Fatal(err)
	}
	if got := recv(); got != "-> watch 0 rev 2 PUT k=v@2" {
		t.Fatal(got)
	}
	s.Stop(t.Context()) // a watch does not hold it up
	if _, err := stream.Recv(); !sameStatus(err, rpctypes.ErrGRPCStopped) {
		t.Fatalf("after the end: %v", err)
	}
	cfg.Stopper.Stop()
}

func post(t *testing.T, url, body string) (*http.Response, *bufio.Scanner) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp, bufio.NewScanner(resp.Body)
}

func wantLine(t *testing.T, lines *bufio.Scanner, parts ...string) {
	t.Helper()
	if !lines.Scan() {
		t.Fatalf("no more lines: %v", lines.Err())
	}
	// What protojson puts between tokens is random on purpose.
	line := strings.ReplaceAll(lines.Text(), " ", "")
	for _, part := range parts {
		if !strings.Contains(line, part) {
			t.Fatalf("%s\nlacks %s", line, part)
		}
	}
}

// Streams as JSON, a value in each line. "Zm9v" is foo, "YmFy" is bar.
func TestGatewayStreams(t *testing.T) {
	n := newModelNode(t)
	n.leases[5] = 60
	addr, _ := serve(t, n.config(t))
	base := "http://" + addr + "/v3/"

	_, watch := post(t, base+"watch", `{"create_request":{"key":"Zm9v"}}{"create_request":{"key":"Zm9v","start_revision":"-1"}}`)
	wantLine(t, watch, `{"result":{"header":{`, `"revision":"1"`, `"created":true`)
	wantLine(t, watch, `"watch_id":"-1"`, `"canceled":true`, `"cancel_reason":"etcdserver:mvcc:requiredrevisionhasbeencompacted"`)
	if code, body := fetch(t, "POST", base+"kv/put", `{"key":"Zm9v","value":"YmFy","lease":"5"}`); code != 200 {
		t.Fatalf("put: %d %s", code, body)
	}
	wantLine(t, watch, `"revision":"2"`, `"events":[{"kv":{"key":"Zm9v"`, `"value":"YmFy"`)

	resp, alive := post(t, base+"lease/keepalive", `{"ID":5}{"ID":6}`)
	wantLine(t, alive, `"result":{"header":{`, `"ID":"5","TTL":"60"`)
	wantLine(t, alive, `"ID":"6"`)
	if alive.Scan() || resp.StatusCode != 200 {
		t.Fatalf("a third answer: %s, status %d", alive.Text(), resp.StatusCode)
	}
	for _, path := range []string{"lease/timetolive", "kv/lease/timetolive"} {
		if code, body := fetch(t, "POST", base+path, `{"ID":5,"keys":true}`); code != 200 ||
			!strings.Contains(strings.ReplaceAll(body, " ", ""), `"grantedTTL":"60","keys":["Zm9v"]`) {
			t.Fatalf("%s: %d %s", path, code, body)
		}
	}
	if code, body := fetch(t, "POST", base+"lease/grant", `{"ID":5,"TTL":1}`); code != 400 || !strings.Contains(body, "lease already exists") {
		t.Fatalf("grant: %d %s", code, body)
	}
	if code, body := fetch(t, "POST", base+"lock/lock", `{"name":"Zm9v","lease":"5"}`); code != 200 || !strings.Contains(body, `"key":"Zm9vLzU="`) {
		t.Fatalf("lock: %d %s", code, body)
	}
	if code, body := fetch(t, "POST", base+"election/campaign", `{"name":"YmFy","lease":"5","value":"Zm9v"}`); code != 200 {
		t.Fatalf("campaign: %d %s", code, body)
	}
	_, observe := post(t, base+"election/observe", `{"name":"YmFy"}`)
	wantLine(t, observe, `"kv":{"key":"YmFyLzU="`, `"value":"Zm9v"`)
	if code, body := fetch(t, "POST", base+"lease/revoke", `{"ID":5}`); code != 200 {
		t.Fatalf("revoke: %d %s", code, body)
	}
	wantLine(t, watch, `"events":[{"type":"DELETE"`)
}

// A stream that opens 100,000 watches while its client reads nothing: the reader
// stops, and goes on with the client. What a watch costs here is next to nothing.
func TestManyWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const watches = 100_000
		f, h, st := newFakeNode(), newFakeHub(), stop.New(context.Background())
		h.auto = 10
		s := newFakeStream(context.Background())
		s.paused = make(chan struct{})
		server := newTestWatchServer(f, h, st)
		ended := make(chan error, 1)
		if err := st.Go("handler", func(context.Context) { ended <- server.serve(s); s.cancel() }); err != nil {
			t.Fatal(err)
		}
		for range watches {
			s.requests <- createRequest("k")
		}
		synctest.Wait()
		if n := len(h.takeAsked()); n != watchControlsMax {
			t.Fatalf("%d creates were handed on to a client that does not read, want %d", n, watchControlsMax)
		}
		close(s.paused)
		synctest.Wait()
		sent := s.take()
		if len(sent) != watches || sent[watches-1].WatchId != watches-1 {
			t.Fatalf("%d answers", len(sent))
		}
		if n := server.counts.watches.Load(); n != watches {
			t.Fatalf("%d watches counted", n)
		}
		s.cancel()
		if err := <-ended; !sameStatus(err, rpctypes.ErrGRPCWatchCanceled) {
			t.Fatalf("ended: %v", err)
		}
		st.Stop()
		if n := server.counts.watches.Load(); n != 0 {
			t.Fatalf("%d watches are counted after the end", n)
		}
	})
}

func TestWatchIDsAreSmall(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var ids watchIDs
	const n = 1_000_000
	for range n {
		ids.choose(0)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if per := float64(after.HeapAlloc-before.HeapAlloc) / n; per > 1 {
		t.Fatalf("an id takes %.2f bytes", per)
	}
	if ids.used.n != n {
		t.Fatal("lost some")
	}
}

// localConn is no worse than a connection where it ends.
func TestLocalConn(t *testing.T) {
	n := newModelNode(t)
	st := stop.New(t.Context())
	defer st.Stop()
	conn := newLocalConn(st)
	pb.RegisterLeaseServer(conn, &leaseServer{leases: n, id: n, alarms: n, draining: st.Context()})
	leases := pb.NewLeaseClient(conn)
	if _, err := leases.LeaseRevoke(t.Context(), &pb.LeaseRevokeRequest{ID: 1}); !sameStatus(err, rpctypes.ErrGRPCLeaseNotFound) {
		t.Fatalf("an error: %v", err)
	}
	if err := conn.Invoke(t.Context(), "/x/y", nil, nil); status.Code(err) != codes.Unimplemented {
		t.Fatalf("a method that is not: %v", err)
	}
	if _, err := conn.NewStream(t.Context(), nil, "/x/y"); status.Code(err) != codes.Unimplemented {
		t.Fatalf("a stream that is not: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := leases.LeaseKeepAlive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Fatalf("after all was said: %v", err)
	}
	if stream, err = leases.LeaseKeepAlive(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := stream.Recv(); status.Code(err) != codes.Canceled {
		t.Fatalf("after a cancel: %v", err)
	}
	n.fakeNode.err = errors.New("odd")
	n.leases[1] = 5
	if stream, err = leases.LeaseKeepAlive(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.Unknown {
		t.Fatalf("a handler that fails: %v", err)
	}
	if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: 1}); !errors.Is(err, io.EOF) {
		t.Fatalf("a send after the end: %v", err)
	}
}
