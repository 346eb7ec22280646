package watchfeed

import "github.com/prometheus/client_golang/prometheus"

// collector is the hub's metrics, read when they are asked for.
type collector struct {
	hub     *Hub
	metrics []metric
}

type metric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*Stats) float64
}

// Collector returns the hub's metrics.
func (h *Hub) Collector() prometheus.Collector {
	c := &collector{hub: h}
	add := func(name, help string, kind prometheus.ValueType, value func(*Stats) float64) {
		c.metrics = append(c.metrics, metric{prometheus.NewDesc(name, help, nil, nil), kind, value})
	}
	gauge, counter := prometheus.GaugeValue, prometheus.CounterValue
	add("etcd_debugging_mvcc_slow_watcher_total", "Total number of unsynced slow watchers.", gauge,
		func(s *Stats) float64 { return float64(s.Catching) })
	add("flotilla_watch_groups", "Sets of neighbouring ranges that watches are merged over.", gauge,
		func(s *Stats) float64 { return float64(s.Groups) })
	add("flotilla_watch_delivered_total", "Events given to watches.", counter,
		func(s *Stats) float64 { return float64(s.Delivered) })
	add("flotilla_watch_fell_behind_total", "Times that a watch found no room in its stream and had to catch up.", counter,
		func(s *Stats) float64 { return float64(s.FellBehind) })
	add("flotilla_watch_scans_total", "Reads of the engine for watches that catch up.", counter,
		func(s *Stats) float64 { return float64(s.Scans) })
	add("flotilla_watch_recent_bytes", "Memory of recent events.", gauge,
		func(s *Stats) float64 { return float64(s.RingBytes) })
	add("flotilla_watch_caught_up_bytes", "Memory of events that were read for watches that catch up.", gauge,
		func(s *Stats) float64 { return float64(s.WindowBytes) })
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, m := range c.metrics {
		out <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	s := c.hub.Stats()
	for _, m := range c.metrics {
		out <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(&s))
	}
}
