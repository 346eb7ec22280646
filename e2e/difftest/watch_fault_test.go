package difftest

import (
	"context"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// spoiledWatch is a server whose responses are changed on their way.
type spoiledWatch struct {
	pb.WatchClient
	fault func(resp *pb.WatchResponse) []*pb.WatchResponse
}

func (s *spoiledWatch) Watch(ctx context.Context, opts ...grpc.CallOption) (pb.Watch_WatchClient, error) {
	rpc, err := s.WatchClient.Watch(ctx, opts...)
	return &spoiledStream{Watch_WatchClient: rpc, fault: s.fault}, err
}

type spoiledStream struct {
	pb.Watch_WatchClient
	fault func(resp *pb.WatchResponse) []*pb.WatchResponse
	next  []*pb.WatchResponse
}

func (s *spoiledStream) Recv() (*pb.WatchResponse, error) {
	for len(s.next) == 0 {
		resp, err := s.Watch_WatchClient.Recv()
		if err != nil {
			return nil, err
		}
		s.next = s.fault(resp)
	}
	resp := s.next[0]
	s.next = s.next[1:]
	return resp, nil
}

// What a server could do wrong about watches must be found.
func TestPlantedWatchFaultIsFound(t *testing.T) {
	changed := func(change func(resp *pb.WatchResponse)) func(resp *pb.WatchResponse) []*pb.WatchResponse {
		return func(resp *pb.WatchResponse) []*pb.WatchResponse {
			change(resp)
			return []*pb.WatchResponse{resp}
		}
	}
	for name, fault := range map[string]func(resp *pb.WatchResponse) []*pb.WatchResponse{
		"revision split over responses": func(resp *pb.WatchResponse) []*pb.WatchResponse {
			n := len(resp.Events)
			if n < 2 || resp.Events[n-1].Kv.ModRevision != resp.Events[n-2].Kv.ModRevision {
				return []*pb.WatchResponse{resp}
			}
			rest := &pb.WatchResponse{Header: resp.Header, WatchId: resp.WatchId, Events: resp.Events[n-1:]}
			resp.Events = resp.Events[:n-1]
			return []*pb.WatchResponse{resp, rest}
		},
		"pair before left out":        changed(func(resp *pb.WatchResponse) { clearPairs(resp, 3) }),
		"event twice":                 changed(func(resp *pb.WatchResponse) { resp.Events = append(resp.Events, resp.Events...) }),
		"created at another revision": changed(func(resp *pb.WatchResponse) { resp.Header.Revision += b2i(resp.Created && !resp.Canceled) }),
		"refused in other words":      changed(func(resp *pb.WatchResponse) { resp.CancelReason = cut(resp.CancelReason) }),
		"compacted elsewhere":         changed(func(resp *pb.WatchResponse) { resp.CompactRevision -= b2i(resp.CompactRevision > 0) }),
		"header ahead of a live event": changed(func(resp *pb.WatchResponse) {
			resp.Header.Revision += b2i(len(resp.Events) > 0)
		}),
		"cancel answered twice": func(resp *pb.WatchResponse) []*pb.WatchResponse {
			if resp.Canceled && !resp.Created && resp.CompactRevision == 0 {
				return []*pb.WatchResponse{resp, resp}
			}
			return []*pb.WatchResponse{resp}
		},
	} {
		t.Run(name, func(t *testing.T) {
			etcd := newRemote(dial(t, startEtcd(t)))
			etcd.watch = &spoiledWatch{WatchClient: etcd.watch, fault: fault}
			o, err := newOracle()
			if err != nil {
				t.Fatal(err)
			}
			r := Run{Seed: 1, Requests: 2000, watch: watch(t, 1, map[string]*remote{"etcd": etcd})}
			if err := r.compare(t.Context(), etcd, o); err == nil {
				t.Fatal("the fault was not found")
			} else {
				t.Logf("%.300s", err)
			}
		})
	}
}

func b2i(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func cut(s string) string { return s[:len(s)/2] }

func clearPairs(resp *pb.WatchResponse, every int64) {
	for _, e := range resp.Events {
		if e.Kv.ModRevision%every == 0 {
			e.PrevKv = nil
		}
	}
}
