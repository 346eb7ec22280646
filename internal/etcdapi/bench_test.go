package etcdapi

import (
	"bytes"
	"context"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/internal/stop"
)

// nullKV answers puts at once.
type nullKV struct{ *fakeNode }

func (nullKV) Put(context.Context, *pb.PutRequest) (*pb.PutResponse, error) {
	return &pb.PutResponse{Header: &pb.ResponseHeader{Revision: 12345}}, nil
}

// cpuTime is what this process has used, user and system.
func cpuTime() time.Duration {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		panic(err)
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// BenchmarkServer holds the settings of gRPC's server against each other: 500
// puts of 256 bytes under way over 50 connections, to a server that answers at
// once, all in this process. cpu-us/op has the clients in it, who are the same
// each time. See serverOptions for what came of it.
func BenchmarkServer(b *testing.B) {
	type settings = []grpc.ServerOption
	for _, tc := range []struct {
		name  string
		codec bool
		extra settings
	}{
		{"protobuf", false, nil},
		{"base", true, nil},
		{"workers=2", true, settings{grpc.NumStreamWorkers(2)}},
		{"workers=16", true, settings{grpc.NumStreamWorkers(16)}},
		{"workers=512", true, settings{grpc.NumStreamWorkers(512)}},
		{"sharedwrite", true, settings{grpc.SharedWriteBuffer(true)}},
		{"write=128K", true, settings{grpc.WriteBufferSize(128 << 10)}},
		{"write=8K", true, settings{grpc.WriteBufferSize(8 << 10)}},
		{"read=128K", true, settings{grpc.ReadBufferSize(128 << 10)}},
		{"read=8K", true, settings{grpc.ReadBufferSize(8 << 10)}},
		{"window=1M", true, settings{grpc.InitialWindowSize(1 << 20), grpc.InitialConnWindowSize(1 << 20)}},
		{"window=8M", true, settings{grpc.InitialWindowSize(8 << 20), grpc.InitialConnWindowSize(16 << 20)}},
		{"window=8M,workers=16", true, settings{grpc.InitialWindowSize(8 << 20), grpc.InitialConnWindowSize(16 << 20), grpc.NumStreamWorkers(16)}},
	} {
		b.Run(tc.name, func(b *testing.B) {
			cfg := testConfig(b, newFakeNode())
			cfg.Quota = nil
			opts := []grpc.ServerOption{grpc.MaxConcurrentStreams(cfg.MaxConcurrentStreams)}
			if tc.codec {
				opts = append(opts, grpc.ForceServerCodecV2(newCodec()))
			}
			server := grpc.NewServer(append(opts, tc.extra...)...)
			pb.RegisterKVServer(server, &kvServer{
				kv: nullKV{newFakeNode()}, id: cfg.Identity, maxTxnOps: 128, maxRequestBytes: cfg.MaxRequestBytes,
			})
			benchmarkPuts(b, cfg.Stopper, server)
		})
	}
}

func benchmarkPuts(b *testing.B, st *stop.Stopper, server *grpc.Server) {
	const connections, perConnection = 50, 10
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	if err := st.Go("grpc", func(context.Context) { _ = server.Serve(l) }); err != nil {
		b.Fatal(err)
	}
	defer server.Stop()
	clients := make([]pb.KVClient, connections)
	for i := range clients {
		conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		clients[i] = pb.NewKVClient(conn)
		if _, err := clients[i].Put(b.Context(), &pb.PutRequest{Key: []byte("k")}); err != nil {
			b.Fatal(err)
		}
	}
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime()
	for i := range connections * perConnection {
		wg.Add(1)
		if err := st.Go("client", func(context.Context) {
			defer wg.Done()
			req := &pb.PutRequest{Key: []byte("0123456789abcdef"), Value: bytes.Repeat([]byte("v"), 256)}
			for left.Add(-1) >= 0 {
				if _, err := clients[i%connections].Put(context.Background(), req); err != nil {
					b.Error(err)
					return
				}
			}
		}); err != nil {
			b.Fatal(err)
		}
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64((cpuTime()-before).Microseconds())/float64(b.N), "cpu-us/op")
}

// BenchmarkCodec holds the codec against the protobuf library.
func BenchmarkCodec(b *testing.B) {
	put, err := proto.Marshal(&pb.PutRequest{Key: []byte("0123456789abcdef"), Value: bytes.Repeat([]byte("v"), 256)})
	if err != nil {
		b.Fatal(err)
	}
	resp := &pb.PutResponse{Header: &pb.ResponseHeader{ClusterId: 1 << 63, MemberId: 1, Revision: 1 << 20, RaftTerm: 7}}
	c := newCodec()
	for _, tc := range []struct {
		name      string
		unmarshal func(mem.BufferSlice, any) error
		marshal   func(any) (mem.BufferSlice, error)
	}{{"ours", c.Unmarshal, c.Marshal}, {"protobuf", c.rare.Unmarshal, c.rare.Marshal}} {
		b.Run("unmarshal-put/"+tc.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := tc.unmarshal(mem.BufferSlice{mem.SliceBuffer(put)}, new(pb.PutRequest)); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("marshal-put/"+tc.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := tc.marshal(resp); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
