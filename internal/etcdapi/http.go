package etcdapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/pprof"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/etcdserverpb/gw"
	"go.etcd.io/etcd/api/v3/version"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	electiongw "go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb/gw"
	lockgw "go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb/gw"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/flotilladb/flotilla/internal/stop"
)

// newMux is all that is spoken over plain HTTP.
func (s *Server) newMux(svc services) (http.Handler, error) {
	mux := http.NewServeMux()
	h := &healthChecks{
		kv: s.cfg.KV, alarms: s.cfg.Alarms, id: s.cfg.Identity,
		timeout: s.cfg.RequestTimeout, logger: s.cfg.Logger,
	}
	mux.HandleFunc("/health", h.serveHealth)
	h.handle(mux, "/livez", h.livez())
	h.handle(mux, "/readyz", h.readyz())
	mux.HandleFunc("/version", serveVersion)
	mux.Handle("/metrics", promhttp.HandlerFor(s.cfg.Gatherer, promhttp.HandlerOpts{}))
	if s.cfg.Pprof {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	if s.cfg.Gateway {
		gateway, err := newGateway(s.cfg.Stopper, svc)
		if err != nil {
			return nil, err
		}
		mux.Handle("/v3/", gateway)
	}
	return access(mux), nil
}

// serveVersion answers /version. The cluster's version is fixed as long as there
// is one version of us.
func serveVersion(w http.ResponseWriter, r *http.Request) {
	if !allowGet(w, r) {
		return
	}
	minor := version.V3_7.String()
	body, err := json.Marshal(version.Versions{Server: version.Version, Cluster: minor, Storage: minor})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // the client may be gone
}

// newGateway translates JSON to calls of the services, in this process. A stream
// is a JSON value in each line, in both directions.
func newGateway(st *stop.Stopper, svc services) (http.Handler, error) {
	ctx := st.Context()
	// What has streams is called as if over a connection.
	conn := newLocalConn(st)
	pb.RegisterWatchServer(conn, svc.watch)
	pb.RegisterLeaseServer(conn, svc.lease)
	v3electionpb.RegisterElectionServer(conn, svc.election)
	mux := runtime.NewServeMux(runtime.WithMarshalerOption(runtime.MIMEWildcard, &runtime.HTTPBodyMarshaler{
		Marshaler: &runtime.JSONPb{
			MarshalOptions:   protojson.MarshalOptions{UseProtoNames: true},
			UnmarshalOptions: protojson.UnmarshalOptions{DiscardUnknown: true},
		},
	}))
	for _, err := range []error{
		gw.RegisterKVHandlerServer(ctx, mux, svc.kv),
		gw.RegisterClusterHandlerServer(ctx, mux, svc.cluster),
		gw.RegisterMaintenanceHandlerServer(ctx, mux, svc.maintenance),
		gw.RegisterAuthHandlerServer(ctx, mux, svc.auth),
		gw.RegisterLeaseHandlerClient(ctx, mux, pb.NewLeaseClient(conn)),
		gw.RegisterWatchHandlerClient(ctx, mux, pb.NewWatchClient(conn)),
		lockgw.RegisterLockHandlerServer(ctx, mux, svc.lock),
		electiongw.RegisterElectionHandlerClient(ctx, mux, v3electionpb.NewElectionClient(conn)),
	} {
		if err != nil {
			return nil, fmt.Errorf("etcdapi: JSON gateway: %w", err)
		}
	}
	return mux, nil
}

// access is what etcd does with every HTTP request first: an old prefix still
// works, and a page of any origin may ask.
func access(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if rest, ok := strings.CutPrefix(r.URL.Path, "/v3beta/"); ok {
			r.URL.Path = "/v3/" + rest
		}
		w.Header().Add("Access-Control-Allow-Methods", "POST, GET, OPTIONS, PUT, DELETE")
		w.Header().Add("Access-Control-Allow-Origin", "*")
		w.Header().Add("Access-Control-Allow-Headers", "accept, content-type, authorization")
		if r.Method == http.MethodOptions {
			return
		}
		next.ServeHTTP(w, r)
	})
}
