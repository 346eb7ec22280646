package etcdapi

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// registerMetrics makes the codec's counters visible under etcd's names.
func registerMetrics(r prometheus.Registerer, c *codec) error {
	for _, m := range []prometheus.Collector{
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "etcd_network_client_grpc_received_bytes_total",
			Help: "The total number of bytes received from grpc clients.",
		}, func() float64 { return float64(c.received.Load()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "etcd_network_client_grpc_sent_bytes_total",
			Help: "The total number of bytes sent to grpc clients.",
		}, func() float64 { return float64(c.sent.Load()) }),
	} {
		if err := r.Register(m); err != nil {
			return fmt.Errorf("etcdapi: register a metric: %w", err)
		}
	}
	return nil
}
