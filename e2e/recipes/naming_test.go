package recipes

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.etcd.io/etcd/client/v3/naming/resolver"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
)

// backend is a gRPC server that others find by its name.
type backend struct {
	grpc_health_v1.UnimplementedHealthServer
	addr string
}

func (*backend) Check(context.Context, *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}, nil
}

func startBackend(t *testing.T) *backend {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	b := &backend{addr: l.Addr().String()}
	srv := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(srv, b)
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(l) })
	t.Cleanup(func() { srv.Stop(); wg.Wait() })
	return b
}

// Calls by name go to the endpoints that are registered, as they come and go.
func TestResolver(t *testing.T) {
	s := start(t)
	ctx := soon(t)
	manager, err := endpoints.NewManager(s.client(t), "service/web")
	must(t, err)
	one, other := startBackend(t), startBackend(t)
	lease, err := s.Grant(ctx, 60)
	must(t, err)
	must(t, manager.AddEndpoint(ctx, "service/web/one", endpoints.Endpoint{Addr: one.addr}, clientv3.WithLease(lease.ID)))

	builder, err := resolver.NewBuilder(s.client(t))
	must(t, err)
	conn, err := grpc.NewClient("etcd:///service/web", grpc.WithResolvers(builder),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	health := grpc_health_v1.NewHealthClient(conn)
	callUntil(ctx, t, health, one.addr)
	must(t, manager.AddEndpoint(ctx, "service/web/other", endpoints.Endpoint{Addr: other.addr}))
	callUntil(ctx, t, health, other.addr)
	_, err = s.Revoke(ctx, lease.ID)
	must(t, err)
	must(t, manager.Update(ctx, []*endpoints.UpdateWithOpts{endpoints.NewAddUpdateOpts("service/web/third", endpoints.Endpoint{Addr: one.addr})}))
	must(t, manager.DeleteEndpoint(ctx, "service/web/other"))
	for range 2 {
		callUntil(ctx, t, health, one.addr)
	}
	list, err := manager.List(ctx)
	must(t, err)
	if len(list) != 1 || list["service/web/third"].Addr != one.addr {
		t.Fatalf("registered: %v", list)
	}
}

// callUntil calls until an address answers.
func callUntil(ctx context.Context, t *testing.T, health grpc_health_v1.HealthClient, addr string) {
	t.Helper()
	for {
		var from peer.Peer
		_, err := health.Check(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.Peer(&from), grpc.WaitForReady(true))
		if err == nil && from.Addr.String() == addr {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("%s was never called: %v", addr, err)
		}
	}
}

// A watch of endpoints says what a list says.
func TestEndpointsWatch(t *testing.T) {
	s := start(t)
	ctx := soon(t)
	manager, err := endpoints.NewManager(s.client(t), "service/many")
	must(t, err)
	must(t, manager.AddEndpoint(ctx, "service/many/0", endpoints.Endpoint{Addr: "a:0"}))
	updates, err := manager.NewWatchChannel(ctx)
	must(t, err)
	for i := range 60 {
		key := fmt.Sprintf("service/many/%d", i%20)
		if i%3 == 2 {
			must(t, manager.DeleteEndpoint(ctx, key))
			continue
		}
		must(t, manager.AddEndpoint(ctx, key, endpoints.Endpoint{Addr: fmt.Sprintf("a:%d", i), Metadata: i}))
	}
	must(t, manager.AddEndpoint(ctx, "service/many/end", endpoints.Endpoint{Addr: "z:1"}))
	seen := make(map[string]string)
	for seen["service/many/end"] == "" {
		batch, ok := <-updates
		if !ok {
			t.Fatal("the watch ended")
		}
		for _, u := range batch {
			if u.Op == endpoints.Delete {
				delete(seen, u.Key)
			} else {
				seen[u.Key] = u.Endpoint.Addr
			}
		}
	}
	list, err := manager.List(ctx)
	must(t, err)
	if len(list) != len(seen) {
		t.Fatalf("watched %d, listed %d", len(seen), len(list))
	}
	for key, e := range list {
		if seen[key] != e.Addr {
			t.Errorf("%s: watched %q, listed %q", key, seen[key], e.Addr)
		}
	}
}
