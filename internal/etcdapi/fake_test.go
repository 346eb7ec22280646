package etcdapi

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"sort"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/flotilladb/flotilla/internal/stop"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/adminpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// fakeNode is everything behind the API: a map without history.
type fakeNode struct {
	mu     sync.Mutex
	rows   map[string]*mvccpb.KeyValue
	rev    int64
	leader uint64
	err    error // answers every KV request, if set
	alarms []*pb.AlarmMember
	full   bool
}

func newFakeNode() *fakeNode {
	return &fakeNode{rows: make(map[string]*mvccpb.KeyValue), rev: 1, leader: 7}
}

func (f *fakeNode) Put(_ context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	f.rev++
	resp := &pb.PutResponse{Header: &pb.ResponseHeader{Revision: f.rev}}
	old := f.rows[string(r.Key)]
	if r.PrevKv {
		resp.PrevKv = old
	}
	kv := &mvccpb.KeyValue{Key: r.Key, Value: r.Value, CreateRevision: f.rev, ModRevision: f.rev, Version: 1, Lease: r.Lease}
	if old != nil {
		kv.CreateRevision, kv.Version = old.CreateRevision, old.Version+1
	}
	f.rows[string(r.Key)] = kv
	return resp, nil
}

func (f *fakeNode) Range(_ context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	resp := &pb.RangeResponse{}
	for _, kv := range f.rows {
		in := bytes.Equal(kv.Key, r.Key)
		if len(r.RangeEnd) != 0 {
			in = bytes.Compare(kv.Key, r.Key) >= 0 && (bytes.Equal(r.RangeEnd, []byte{0}) || bytes.Compare(kv.Key, r.RangeEnd) < 0)
		}
		if in {
			resp.Kvs = append(resp.Kvs, kv)
		}
	}
	sort.Slice(resp.Kvs, func(i, j int) bool { return bytes.Compare(resp.Kvs[i].Key, resp.Kvs[j].Key) < 0 })
	resp.Count = int64(len(resp.Kvs))
	return resp, nil
}

func (f *fakeNode) RangeStream(ctx context.Context, r *pb.RangeRequest, send func(*pb.RangeResponse) error) error {
	resp, err := f.Range(ctx, r)
	if err != nil {
		return err
	}
	for _, kv := range resp.Kvs {
		if err := send(&pb.RangeResponse{Kvs: []*mvccpb.KeyValue{kv}}); err != nil {
			return err
		}
	}
	return send(&pb.RangeResponse{Header: &pb.ResponseHeader{Revision: f.Revision()}, Count: resp.Count})
}

func (f *fakeNode) DeleteRange(context.Context, *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	return &pb.DeleteRangeResponse{}, f.err
}

func (f *fakeNode) Txn(context.Context, *pb.TxnRequest) (*pb.TxnResponse, error) {
	return &pb.TxnResponse{Succeeded: true}, f.err
}

func (f *fakeNode) Compact(context.Context, *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	return &pb.CompactionResponse{}, f.err
}

func (f *fakeNode) IDs() (cluster, member uint64) { return 11, 7 }
func (f *fakeNode) Term() uint64                  { return 3 }
func (f *fakeNode) Leader() uint64                { return f.leader }

func (f *fakeNode) Revision() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rev
}

func (f *fakeNode) Status(context.Context) (*pb.StatusResponse, error) {
	return &pb.StatusResponse{DbSize: 4096, RaftIndex: 9, StorageVersion: "3.7.0"}, nil
}

func (f *fakeNode) MoveLeader(_ context.Context, node uint64) error {
	if node != 8 { // the other voter
		return peerpb.ErrBadTransfer
	}
	return nil
}

func (f *fakeNode) HashKV(_ context.Context, r *pb.HashKVRequest) (*pb.HashKVResponse, error) {
	return &pb.HashKVResponse{Hash: 42, HashRevision: r.Revision}, f.err
}

func (f *fakeNode) Alarm(_ context.Context, r *pb.AlarmRequest) (*pb.AlarmResponse, error) {
	return &pb.AlarmResponse{Alarms: f.alarms}, nil
}

func (f *fakeNode) Alarms() []*pb.AlarmMember { return f.alarms }

func (f *fakeNode) Members(context.Context, bool) ([]*pb.Member, error) {
	return []*pb.Member{{ID: 7, Name: "fake", ClientURLs: []string{"http://127.0.0.1:2379"}}}, nil
}

func (f *fakeNode) ChangeMember(_ context.Context, id uint64, remove bool, peerURLs []string) (*pb.Member, []*pb.Member, error) {
	switch {
	case id == 404:
		return nil, nil, placement.ErrNoMember
	case remove:
		return nil, nil, nil
	case id == 0:
		id = 8
	}
	m := &pb.Member{ID: id, PeerURLs: peerURLs}
	return m, []*pb.Member{{ID: 7, Name: "fake"}, m}, nil
}

func (f *fakeNode) Available(int64) bool { return !f.full }

func (f *fakeNode) ListRanges(context.Context) (*adminpb.ListRangesResponse, error) {
	return &adminpb.ListRangesResponse{Ranges: []*adminpb.RangeInfo{{Descriptor_: &metapb.Descriptor{RangeId: 1}}}}, nil
}

func (f *fakeNode) ShowRange(_ context.Context, r *adminpb.ShowRangeRequest) (*adminpb.RangeInfo, error) {
	if r.RangeId > 1 {
		return nil, peerpb.ErrRangeNotFound
	}
	return &adminpb.RangeInfo{Descriptor_: &metapb.Descriptor{RangeId: 1}}, nil
}

func (f *fakeNode) SplitRange(context.Context, *adminpb.SplitRangeRequest) (*adminpb.SplitRangeResponse, error) {
	return &adminpb.SplitRangeResponse{Split: true}, f.err
}

func (f *fakeNode) TransferLeader(_ context.Context, r *adminpb.TransferLeaderRequest) (*adminpb.TransferLeaderResponse, error) {
	return &adminpb.TransferLeaderResponse{LeaderStoreId: r.ToStoreId}, f.err
}

func testConfig(t testing.TB, f *fakeNode) Config {
	reg := prometheus.NewRegistry()
	cfg := DefaultConfig()
	cfg.KV, cfg.Identity, cfg.Maintenance, cfg.Alarms, cfg.Cluster, cfg.Admin, cfg.Quota = f, f, f, f, f, f, f
	cfg.Stopper = stop.New(t.Context())
	cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	cfg.Registerer, cfg.Gatherer = reg, reg
	return cfg
}

// serve starts a server on a port of its own and connects to it.
func serve(t testing.TB, cfg Config) (addr string, conn *grpc.ClientConn) {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(l); err != nil {
		t.Fatal(err)
	}
	conn, err = grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		s.Stop(ctx)
		cfg.Stopper.Quiesce()
		if err := cfg.Stopper.Wait(ctx); err != nil {
			t.Errorf("still running: %v", cfg.Stopper.Running())
		}
	})
	return l.Addr().String(), conn
}

// hangingKV never answers a put by itself.
type hangingKV struct {
	*fakeNode
	entered chan struct{}
	hang    chan struct{}
}

func (h *hangingKV) Put(ctx context.Context, _ *pb.PutRequest) (*pb.PutResponse, error) {
	close(h.entered)
	select {
	case <-h.hang:
	case <-ctx.Done():
	}
	return nil, ctx.Err()
}

// connect serves on a port of its own without stopping at the end.
func connect(t testing.TB, s *Server) *grpc.ClientConn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(l); err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func (f *fakeNode) CheckRange(context.Context, *adminpb.CheckRangeRequest) (*adminpb.CheckRangeResponse, error) {
	return &adminpb.CheckRangeResponse{}, f.err
}

func (f *fakeNode) TrustReplica(context.Context, *adminpb.TrustReplicaRequest) (*adminpb.TrustReplicaResponse, error) {
	return &adminpb.TrustReplicaResponse{}, f.err
}

func (f *fakeNode) ListStores(context.Context) (*adminpb.ListStoresResponse, error) {
	return &adminpb.ListStoresResponse{}, f.err
}

func (f *fakeNode) MoveReplica(context.Context, *adminpb.MoveReplicaRequest) (*adminpb.MoveReplicaResponse, error) {
	return &adminpb.MoveReplicaResponse{}, f.err
}
