package etcdapi

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// healthChecks answers /health, /livez and /readyz as etcd does.
type healthChecks struct {
	kv      KV
	alarms  Alarms
	id      Identity
	timeout time.Duration // of one read
	logger  *slog.Logger
}

// read asks for the smallest key, as a client would.
func (h *healthChecks) read(ctx context.Context, serializable bool) error {
	ctx, cancel := context.WithTimeout(ctx, h.timeout)
	defer cancel()
	_, err := h.kv.Range(ctx, &pb.RangeRequest{Key: []byte{0}, KeysOnly: true, Limit: 1, Serializable: serializable})
	if err != nil {
		return toGRPC(err)
	}
	return nil
}

// serveHealth answers /health: the body is JSON, the reason empty when healthy.
func (h *healthChecks) serveHealth(w http.ResponseWriter, r *http.Request) {
	if !allowGet(w, r) {
		return
	}
	reason := h.reason(r.Context(), r.URL.Query()["exclude"], r.URL.Query().Get("serializable") == "true")
	body, err := json.Marshal(struct {
		Health string `json:"health"`
		Reason string `json:"reason"`
	}{fmt.Sprint(reason == ""), reason})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if reason != "" {
		h.logger.Warn("not healthy", "reason", reason)
		http.Error(w, string(body), http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write(body) // the client may be gone
}

// reason says why the node is not healthy.
func (h *healthChecks) reason(ctx context.Context, excluded []string, serializable bool) string {
	for _, a := range h.alarms.Alarms() {
		if !slices.Contains(excluded, a.Alarm.String()) {
			return "ALARM " + a.Alarm.String()
		}
	}
	if !serializable && h.id.Leader() == 0 {
		return "RAFT NO LEADER"
	}
	if err := h.read(ctx, serializable); err != nil {
		return "RANGE ERROR:" + err.Error()
	}
	return ""
}

// check is one named part of /livez or /readyz.
type check struct {
	name string
	run  func(context.Context) error
}

func (h *healthChecks) livez() []check {
	return []check{{"serializable_read", h.serializable}}
}

func (h *healthChecks) readyz() []check {
	return []check{
		{"data_corruption", h.noCorruption},
		{"serializable_read", h.serializable},
		{"linearizable_read", func(ctx context.Context) error { return h.read(ctx, false) }},
		{"non_learner", func(context.Context) error { return nil }}, // every node serves everything
	}
}

func (h *healthChecks) serializable(ctx context.Context) error { return h.read(ctx, true) }

func (h *healthChecks) noCorruption(context.Context) error {
	for _, a := range h.alarms.Alarms() {
		if a.Alarm == pb.AlarmType_CORRUPT {
			return fmt.Errorf("alarm activated: %s", a.Alarm)
		}
	}
	return nil
}

// handle serves path with all checks but those that the caller excludes, and
// path/<name> with one of them.
func (h *healthChecks) handle(mux *http.ServeMux, path string, checks []check) {
	mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		excluded := r.URL.Query()["exclude"]
		h.serve(w, r, slices.DeleteFunc(slices.Clone(checks), func(c check) bool {
			return slices.Contains(excluded, c.name)
		}))
	})
	for i := range checks {
		mux.HandleFunc(path+"/"+checks[i].name, func(w http.ResponseWriter, r *http.Request) {
			h.serve(w, r, checks[i:i+1])
		})
	}
}

func (h *healthChecks) serve(w http.ResponseWriter, r *http.Request, checks []check) {
	if !allowGet(w, r) {
		return
	}
	var report strings.Builder
	healthy := true
	for _, c := range checks {
		if err := c.run(r.Context()); err != nil {
			healthy = false
			fmt.Fprintf(&report, "[-]%s failed: %v\n", c.name, err)
		} else {
			fmt.Fprintf(&report, "[+]%s ok\n", c.name)
		}
	}
	if !healthy {
		h.logger.Warn("not healthy", "path", r.URL.Path, "reason", report.String())
		http.Error(w, report.String(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if verbose(r.URL) {
		fmt.Fprint(w, report.String())
	}
	fmt.Fprint(w, "ok\n")
}

func verbose(u *url.URL) bool {
	_, ok := u.Query()["verbose"]
	return ok
}

// allowGet refuses all but GET.
func allowGet(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodGet {
		return true
	}
	w.Header().Set("Allow", http.MethodGet)
	http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
	return false
}
