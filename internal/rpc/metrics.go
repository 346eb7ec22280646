package rpc

import (
	"fmt"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// counts are what the metrics show.
type counts struct {
	sentFrames, sentMessages, sentBytes [laneCount]atomic.Uint64
	receivedFrames, receivedBytes       [laneCount]atomic.Uint64
	dropped                             [laneCount]atomic.Uint64
	connects, refused                   atomic.Uint64
}

func (c *counts) sent(lane Lane, p *piece, bytes uint64) {
	c.sentMessages[lane].Add(1)
	c.sentBytes[lane].Add(bytes)
	if p.chunk == nil {
		c.sentFrames[lane].Add(uint64(len(p.frames)))
	} else if p.last {
		c.sentFrames[lane].Add(1)
	}
}

func (c *counts) received(lane Lane, frames, bytes uint64) {
	c.receivedFrames[lane].Add(frames)
	c.receivedBytes[lane].Add(bytes)
}

func (t *Transport) register() error {
	perLane := []struct {
		name, help string
		value      *[laneCount]atomic.Uint64
	}{
		{"sent_frames_total", "Frames sent to other stores.", &t.counts.sentFrames},
		{"sent_messages_total", "Messages that these frames went in.", &t.counts.sentMessages},
		{"sent_bytes_total", "Bytes of these messages.", &t.counts.sentBytes},
		{"received_frames_total", "Frames received from other stores.", &t.counts.receivedFrames},
		{"received_bytes_total", "Bytes of these frames.", &t.counts.receivedBytes},
		{"dropped_frames_total", "Frames that had no room, or were queued when the connection was lost.", &t.counts.dropped},
	}
	var all []prometheus.Collector
	for _, m := range perLane {
		for lane := range laneCount {
			v := &m.value[lane]
			all = append(all, prometheus.NewCounterFunc(prometheus.CounterOpts{
				Namespace: "flotilla", Subsystem: "peer", Name: m.name, Help: m.help,
				ConstLabels: prometheus.Labels{"lane": lane.String()},
			}, func() float64 { return float64(v.Load()) }))
		}
	}
	for _, m := range []struct {
		name, help string
		value      *atomic.Uint64
	}{
		{"connects_total", "Connections to other stores that came up.", &t.counts.connects},
		{"refused_total", "Connections of other processes that were refused.", &t.counts.refused},
	} {
		all = append(all, prometheus.NewCounterFunc(prometheus.CounterOpts{
			Namespace: "flotilla", Subsystem: "peer", Name: m.name, Help: m.help,
		}, func() float64 { return float64(m.value.Load()) }))
	}
	all = append(all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "flotilla", Subsystem: "peer", Name: "stores", Help: "Other stores that this one talks to.",
	}, func() float64 { return float64(t.Stores()) }))
	for _, c := range all {
		if err := t.cfg.Registerer.Register(c); err != nil {
			return fmt.Errorf("register metrics of the transport: %w", err)
		}
	}
	return nil
}
