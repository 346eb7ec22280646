// Package etcdapi is the door that clients come through: etcd's gRPC services,
// the operators' service, and what is spoken over plain HTTP, all on one port.
//
//	listener ── first bytes ──┬─ HTTP/2 ─> gRPC: KV, Watch, Lease, Lock, Election,
//	                          │            Cluster, Maintenance, Auth, health, Admin
//	                          └─ HTTP/1 ─> /health /livez /readyz /version
//	                                       /metrics /debug/pprof /v3 (JSON)
//
// It owns the order of etcd's checks, the headers, and the one table that turns
// our errors into etcd's codes and strings (errors.go). What a request means is
// decided behind the interfaces of api.go; this package only keeps out what is
// malformed and dresses what comes back.
//
// No interceptor stands on the way of a request, and requests of the KV service
// and renewals of leases are decoded and encoded by hand-written code (codec.go):
// at tens of thousands of requests a second this package is most of what the
// server does. What goes to watches is written by hand as well (watch_encode.go).
//
// A connection that does nothing but renew leases, thousands a second, is read in
// batches (pace.go).
//
// Watches come from the node's hub, which keeps all there is to know of them. Here
// a watch is one bit: that its id is in use (watch_ids.go). A client that does not
// read stops the reading of its requests, so that what waits for it is bounded.
//
// Goroutines, all started through internal/stop: one "accept" per listener, one
// "sniff" per connection until its first bytes came, "grpc" and "http" that
// serve, "compactor"; one "watch requests" per stream of watches, beside the
// handler, which sends; one "local stream" per stream of the JSON gateway. gRPC and
// net/http start their own per connection.
package etcdapi
