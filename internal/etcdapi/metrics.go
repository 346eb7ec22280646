package etcdapi

import (
	"fmt"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// watchCounts is what is counted of watches.
type watchCounts struct{ streams, watches, events atomic.Int64 }

// registerMetrics makes the codec's and the watches' counters visible under
// etcd's names.
func registerMetrics(r prometheus.Registerer, c *codec, w *watchCounts) error {
	for _, m := range []prometheus.Collector{
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "etcd_network_client_grpc_received_bytes_total",
			Help: "The total number of bytes received from grpc clients.",
		}, func() float64 { return float64(c.received.Load()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "etcd_network_client_grpc_sent_bytes_total",
			Help: "The total number of bytes sent to grpc clients.",
		}, func() float64 { return float64(c.sent.Load()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "etcd_debugging_mvcc_watch_stream_total",
			Help: "Total number of watch streams.",
		}, func() float64 { return float64(w.streams.Load()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "etcd_debugging_mvcc_watcher_total",
			Help: "Total number of watchers.",
		}, func() float64 { return float64(w.watches.Load()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "etcd_debugging_mvcc_events_total",
			Help: "Total number of events sent by this member.",
		}, func() float64 { return float64(w.events.Load()) }),
	} {
		if err := r.Register(m); err != nil {
			return fmt.Errorf("etcdapi: register a metric: %w", err)
		}
	}
	return nil
}
