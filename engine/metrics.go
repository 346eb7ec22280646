package engine

import (
	"github.com/cockroachdb/pebble/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// events counts and logs what Pebble reports. DataCorruption must be set:
// Pebble's default ends the process, while we refuse the one block.
func (e *Pebble) events() *pebble.EventListener {
	log := e.cfg.Logger
	l := &pebble.EventListener{
		BackgroundError: func(err error) { log.Error("pebble: background work", "error", err.Error()) },
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			// Once per file: it is met again by every read.
			if _, known := e.corrupt.LoadOrStore(i.Path, true); !known {
				log.Error("corrupt data: what is in the damaged part of the file is not served", "path", i.Path, "error", i.Details.Error())
				if e.cfg.Damaged != nil {
					e.cfg.Damaged(i.Bounds.Start, i.Bounds.End.Key)
				}
			}
		},
		WriteStallBegin: func(i pebble.WriteStallBeginInfo) {
			e.stalls.Add(1)
			log.Warn("writes are stalled", "reason", i.Reason)
		},
		WriteStallEnd: func() { log.Info("writes go on") },
	}
	l.EnsureDefaults(nil)
	return l
}

// Stats implements Engine. A closed engine has none.
func (e *Pebble) Stats() Stats {
	m := e.pebbleMetrics()
	if m == nil {
		return Stats{}
	}
	return e.stats(m)
}

// DiskLow implements Engine.
func (e *Pebble) DiskLow() bool { return e.space.low.Load() || e.space.full.Load() }

func (e *Pebble) stats(m *pebble.Metrics) Stats {
	total := m.Total()
	return Stats{
		DiskBytes:      m.DiskSpaceUsage(),
		LogicalBytes:   uint64(total.TablesSize),
		DiskFreeBytes:  e.space.free.Load(),
		DiskTotalBytes: e.space.total.Load(),
		L0Sublevels:    int(m.Levels[0].Sublevels),
		L0SublevelsMax: l0StopWrites,
		MemtableBytes:  m.MemTable.Size,
		CacheBytes:     m.BlockCache.Size,
		WriteStalls:    e.stalls.Load(),
		CompactionDebt: m.Compact.EstimatedDebt,
		DiskLow:        e.space.low.Load(),
		DiskFull:       e.space.full.Load(),
	}
}

// pebbleMetrics returns nil once the engine is closed.
func (e *Pebble) pebbleMetrics() *pebble.Metrics {
	e.open.RLock()
	defer e.open.RUnlock()
	if e.closed.Load() {
		return nil
	}
	return e.db.Metrics()
}

// collector is the engine's metrics, read when they are asked for.
type collector struct {
	e       *Pebble
	metrics []metric
}

type metric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(s *Stats, m *pebble.Metrics) float64
}

func newCollector(e *Pebble) *collector {
	c := &collector{e: e}
	add := func(name, help string, kind prometheus.ValueType, value func(*Stats, *pebble.Metrics) float64) {
		desc := prometheus.NewDesc("flotilla_engine_"+name, help, nil, nil)
		c.metrics = append(c.metrics, metric{desc: desc, kind: kind, value: value})
	}
	gauge, counter := prometheus.GaugeValue, prometheus.CounterValue
	flag := func(on bool) float64 {
		if on {
			return 1
		}
		return 0
	}
	type s = *Stats
	type m = *pebble.Metrics
	add("disk_bytes", "Bytes on disk, log included.", gauge, func(s s, _ m) float64 { return float64(s.DiskBytes) })
	add("live_bytes", "Bytes of live tables.", gauge, func(s s, _ m) float64 { return float64(s.LogicalBytes) })
	add("disk_free_bytes", "Free bytes of the file system.", gauge, func(s s, _ m) float64 { return float64(s.DiskFreeBytes) })
	add("disk_low", "1 while less than the reserve is free.", gauge, func(s s, _ m) float64 { return flag(s.DiskLow) })
	add("disk_full", "1 after a write failed for want of space.", gauge, func(s s, _ m) float64 { return flag(s.DiskFull) })
	add("l0_sublevels", "Read amplification of level 0.", gauge, func(s s, _ m) float64 { return float64(s.L0Sublevels) })
	add("memtable_bytes", "Bytes of memtables.", gauge, func(s s, _ m) float64 { return float64(s.MemtableBytes) })
	add("cache_bytes", "Bytes of the block cache in use.", gauge, func(s s, _ m) float64 { return float64(s.CacheBytes) })
	add("cache_hits_total", "Blocks found in the cache.", counter, func(_ s, m m) float64 { return float64(m.BlockCache.Hits) })
	add("cache_misses_total", "Blocks not found in the cache.", counter, func(_ s, m m) float64 { return float64(m.BlockCache.Misses) })
	add("write_stalls_total", "Times that writes were stopped.", counter, func(s s, _ m) float64 { return float64(s.WriteStalls) })
	add("compaction_debt_bytes", "Bytes to compact until at rest.", gauge, func(s s, _ m) float64 { return float64(s.CompactionDebt) })
	add("compactions_total", "Compactions.", counter, func(_ s, m m) float64 { return float64(m.Compact.Count) })
	add("flushes_total", "Memtable flushes.", counter, func(_ s, m m) float64 { return float64(m.Flush.Count) })
	add("ingests_total", "Ingests.", counter, func(_ s, m m) float64 { return float64(m.Ingest.Count) })
	add("wal_bytes_total", "Bytes given to the log.", counter, func(_ s, m m) float64 { return float64(m.WAL.BytesIn) })
	add("wal_files", "Log files that are in use.", gauge, func(_ s, m m) float64 { return float64(m.WAL.Files) })
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
	pm := c.e.pebbleMetrics()
	if pm == nil {
		return
	}
	s := c.e.stats(pm)
	for _, m := range c.metrics {
		out <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(&s, pm))
	}
}
