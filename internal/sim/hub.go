package sim

import (
	"math/rand/v2"
	"time"

	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/router"
	"github.com/flotilladb/flotilla/watchfeed"
)

// simHub drives the core of a node's hub as watchfeed.Hub does: steps of the
// loop, answers of scans and commands of streams wait in an inbox until it comes
// to them, in a goroutine of its own.
type simHub struct {
	n    *simNode
	core *watchfeed.Core

	steps    []watchfeed.Step
	scanned  []watchfeed.Scanned
	commands []func(*watchfeed.Core)
	scanning int
	streams  map[watchfeed.StreamID]*watchClient
	awake    bool
}

const hubTickEvery = 50 * time.Millisecond

func (n *simNode) openHub() error {
	cfg := n.s.cfg.Hub
	cfg.Reader = n.eng
	core, err := watchfeed.NewCore(cfg)
	n.hub = &simHub{n: n, core: core, streams: make(map[watchfeed.StreamID]*watchClient)}
	return err
}

// feed takes a step of the loop. That waits until the hub has it where rows go.
func (h *simHub) feed(s watchfeed.Step) {
	h.steps = watchfeed.AppendStep(h.steps, s, len(h.steps) < h.n.s.cfg.HubStepsMax)
	if s.RowsGo {
		h.turn()
		return
	}
	h.wake()
}

// send takes a command of a stream.
func (h *simHub) send(do func(*watchfeed.Core)) {
	h.commands = append(h.commands, do)
	h.wake()
}

func (h *simHub) wake() {
	if h.awake {
		return
	}
	h.awake = true
	s := h.n.s
	delay := between(s.watching, 0, turnDelayMax)
	if s.watching.IntN(50) == 0 {
		delay += s.lateness(s.cfg.HubStall)
	}
	s.after(delay, h.n.planned(func() {
		h.awake = false
		h.turn()
	}))
}

// turn is what the hub does when it was woken.
func (h *simHub) turn() {
	for {
		h.receive()
		h.flush()
		if !h.core.HasWork() {
			return
		}
	}
}

func (h *simHub) receive() {
	steps, scanned, commands := h.steps, h.scanned, h.commands
	h.steps, h.scanned, h.commands = nil, nil, nil
	for i := range steps {
		h.core.Step(&steps[i])
	}
	for i := range scanned {
		h.core.Scanned(&scanned[i])
	}
	for _, do := range commands {
		do(h.core)
	}
}

func (h *simHub) flush() {
	rd := h.core.Ready()
	if len(rd.Wants) > 0 {
		h.n.wants = append(h.n.wants, rd.Wants...)
		h.n.wake()
	}
	if len(rd.Feeds) > 0 {
		h.n.feedsOut = append(h.n.feedsOut, rd.Feeds...)
		h.n.wake()
	}
	if rd.Asks {
		h.ask()
	}
	for _, sc := range rd.Scans {
		h.scan(sc)
	}
	for i := range rd.Outputs {
		out := &rd.Outputs[i]
		if w := h.streams[out.Stream]; w != nil {
			responses, bytes := w.put(out)
			h.core.Drained(out.Stream, responses, bytes)
		}
	}
}

// ask asks for the hub what is current.
func (h *simHub) ask() {
	call := &router.Call{Req: &router.ReadTicket{}, Done: make(chan struct{}, 1)}
	h.n.submit(call, func() {
		var now metapb.Revision
		if call.Err == nil {
			now = call.Resp.(*router.ReadReply).S
		}
		if h.n.hub == h {
			h.send(func(c *watchfeed.Core) { c.Current(now) })
		}
	})
}

// scan reads for the hub, some time, and tells it some time later.
func (h *simHub) scan(sc watchfeed.Scan) {
	s := h.n.s
	h.scanning++
	s.stats.WatchScans++
	if sc.Parts != nil {
		h.scanParts(sc, nil, func(res watchfeed.Scanned) {
			h.scanning--
			h.scanned = append(h.scanned, res)
			h.wake()
		})
		return
	}
	s.after(s.lateness(s.cfg.ScanMax), h.n.planned(func() {
		res := sc.Do(h.n.eng, func() metapb.Revision { return h.n.pub.Removal() }, nil)
		s.after(s.lateness(s.cfg.ScanMax), h.n.planned(func() {
			h.scanning--
			h.scanned = append(h.scanned, res)
			h.wake()
		}))
	}))
}

// lateness draws a delay that is bounded by nothing else. There is none when a
// run is to become quiet: small windows and slow readers take for ever else.
func (s *Sim) lateness(max time.Duration) time.Duration {
	if s.ending {
		return 0
	}
	return between(s.watching, 0, max)
}

func (h *simHub) planTick() {
	h.n.s.after(hubTickEvery, h.n.planned(func() {
		h.core.Tick(h.n.clock())
		h.wake()
		h.planTick()
	}))
}

// busy says what the hub has under way.
func (h *simHub) busy() bool {
	return len(h.steps)+len(h.scanned)+len(h.commands)+h.scanning > 0 || h.core.HasWork()
}

// end ends all streams: the node goes.
func (h *simHub) end() {
	for _, w := range h.n.s.watchers {
		if w.node == h.n {
			w.lose()
		}
	}
	h.streams = nil
}

// open begins a stream for a client.
func (h *simHub) open(w *watchClient, cfg watchfeed.StreamConfig) {
	conn := w.conn
	h.send(func(c *watchfeed.Core) {
		id, err := c.Open(cfg)
		if err != nil {
			h.n.s.fail(err)
			return
		}
		if w.conn == conn {
			w.stream = id
			h.streams[id] = w
			return
		}
		c.Close(id)
	})
}

// drawHub draws a hub with bounds that are met.
func drawHub(c *Config, rng *rand.Rand) {
	c.HubStepsMax = pick(rng, 1, 3, 20, 1000)
	c.HubStall = pick(rng, 100*time.Microsecond, 5*time.Millisecond, 100*time.Millisecond)
	c.ScanMax = pick(rng, 100*time.Microsecond, 2*time.Millisecond, 50*time.Millisecond)
	c.Hub = watchfeed.CoreConfig{
		RingBytesMax:     pick(rng, 1, 2000, 20_000, 1<<20),
		CatchUpBytesMax:  pick(rng, 1, 5000, 1<<20),
		WindowBytesMax:   pick(rng, 1, 600, 4000, 1<<20),
		ScansMax:         pick(rng, 1, 2, 3),
		ResponseBytesMax: pick(rng, 1, 600, 1<<16),
		ProgressInterval: pick(rng, 60*time.Millisecond, 300*time.Millisecond, time.Second),
		StallMax:         pick(rng, 60*time.Millisecond, time.Second),
		NoLeaderAfter:    time.Hour,
	}
	c.Hub.NewsBytesMax = c.Hub.ResponseBytesMax
}

// drawStream draws the bounds of one stream.
func drawStream(rng *rand.Rand) watchfeed.StreamConfig {
	return watchfeed.StreamConfig{
		QueueResponsesMax: pick(rng, 1, 3, 20, 1<<16),
		QueueBytesMax:     pick(rng, 1, 500, 5000, 4<<20),
	}
}
