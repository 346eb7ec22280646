package etcdapi

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"

	"github.com/flotilladb/flotilla/watchfeed"
)

// benchHub delivers left events to watches 0 to 99, a hundred at a time, as
// when one key is put that all of them watch.
type benchHub struct {
	*fakeHub
	left  *atomic.Int64
	event []*watchfeed.Event
	rev   int64
}

func (h *benchHub) Recv(ctx context.Context, buf []watchfeed.Response) ([]watchfeed.Response, error) {
	const watches = 100
	if h.left.Add(-watches) < 0 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	h.rev++
	for id := range int64(watches) {
		buf = append(buf, watchfeed.Response{Kind: watchfeed.Events, ID: id, Revision: h.rev, Events: h.event})
	}
	return buf, nil
}

func benchEvent(valueBytes int) *mvccpb.Event {
	return &mvccpb.Event{Kv: &mvccpb.KeyValue{
		Key: []byte("0123456789abcdef"), Value: make([]byte, valueBytes), CreateRevision: 1 << 20, ModRevision: 1 << 21, Version: 9,
	}}
}

// dropStream encodes what it is sent and forgets it.
type dropStream struct {
	*fakeStream
	codec *codec
	left  int
}

func (s *dropStream) SendMsg(m any) error {
	out, err := s.codec.Marshal(m)
	if err != nil {
		return err
	}
	out.Free()
	if s.left--; s.left <= 0 {
		return errors.New("enough")
	}
	return nil
}

// BenchmarkWatchEncode is what a delivered event costs between the hub and gRPC.
func BenchmarkWatchEncode(b *testing.B) {
	for name, size := range map[string]int{"256B": 256, "4KiB": 4096} {
		b.Run(name, func(b *testing.B) {
			f, h := newFakeNode(), &benchHub{fakeHub: newFakeHub(), left: new(atomic.Int64)}
			h.event = []*watchfeed.Event{testEvent(benchEvent(size))}
			h.left.Store(int64(b.N) + 100)
			st := testConfig(b, f).Stopper
			s := newTestWatchServer(f, h.fakeHub, st)
			s.open = func(watchfeed.StreamConfig) (WatchStream, error) { return h, nil }
			stream := &dropStream{newFakeStream(b.Context()), newCodec(), b.N}
			b.ReportAllocs()
			b.ResetTimer()
			_ = s.serve(stream)
			b.StopTimer()
			stream.cancel()
			st.Stop()
		})
		b.Run(name+"/protobuf", func(b *testing.B) {
			ev, c, f := benchEvent(size), newCodec(), newFakeNode()
			b.ReportAllocs()
			for i := range b.N {
				m := &pb.WatchResponse{Header: &pb.ResponseHeader{Revision: 1 << 20}, WatchId: int64(i % 100), Events: []*mvccpb.Event{ev}}
				fillHeader(f, &m.Header)
				out, err := c.rare.Marshal(m)
				if err != nil {
					b.Fatal(err)
				}
				out.Free()
			}
		})
	}
}

// deafCodec is a client's that does not look at what it gets.
type deafCodec struct{ *codec }

func (deafCodec) Unmarshal(mem.BufferSlice, any) error { return nil }

// slowWatch is the Watch service as one would write it with generated messages.
type slowWatch struct {
	pb.UnimplementedWatchServer
	left *atomic.Int64
	ev   *mvccpb.Event
}

func (s *slowWatch) Watch(stream pb.Watch_WatchServer) error {
	for i := int64(0); s.left.Add(-1) >= 0; i++ {
		m := &pb.WatchResponse{
			Header:  &pb.ResponseHeader{ClusterId: 11, MemberId: 7, RaftTerm: 3, Revision: 1<<20 + i/100},
			WatchId: i % 100, Events: []*mvccpb.Event{s.ev},
		}
		if err := stream.Send(m); err != nil {
			return err
		}
	}
	<-stream.Context().Done()
	return nil
}

// BenchmarkWatchDeliver sends events to one client over loopback. cpu-ns/op has
// both ends in it; the client does not decode.
func BenchmarkWatchDeliver(b *testing.B) {
	for _, slow := range []bool{false, true} {
		name := "ours"
		if slow {
			name = "protobuf"
		}
		b.Run(name, func(b *testing.B) {
			var left atomic.Int64
			f, h := newFakeNode(), &benchHub{fakeHub: newFakeHub(), left: &left}
			h.event = []*watchfeed.Event{testEvent(benchEvent(256))}
			cfg := testConfig(b, f)
			codec := newCodec()
			server := grpc.NewServer(serverOptions(&cfg, codec)...)
			if slow {
				server = grpc.NewServer()
				pb.RegisterWatchServer(server, &slowWatch{left: &left, ev: benchEvent(256)})
			} else {
				s := newTestWatchServer(f, h.fakeHub, cfg.Stopper)
				s.open = func(watchfeed.StreamConfig) (WatchStream, error) { return h, nil }
				pb.RegisterWatchServer(server, s)
			}
			deliver(b, cfg, server, &left)
		})
	}
}

func deliver(b *testing.B, cfg Config, server *grpc.Server, left *atomic.Int64) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	if err := cfg.Stopper.Go("grpc", func(context.Context) { _ = server.Serve(l) }); err != nil {
		b.Fatal(err)
	}
	defer server.Stop()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(deafCodec{newCodec()})))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	n := (int64(b.N) + 99) / 100 * 100
	left.Store(n)
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime()
	stream, err := pb.NewWatchClient(conn).Watch(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	var m pb.WatchResponse
	for range n {
		if err := stream.RecvMsg(&m); err != nil && !errors.Is(err, io.EOF) {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64((cpuTime()-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
}
