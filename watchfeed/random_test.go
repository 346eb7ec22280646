package watchfeed

import (
	"flag"
	"fmt"
	"math/rand"
	"testing"
	"time"
)

var (
	seeds = flag.Int("seeds", 150, "random histories")
	seed  = flag.Int("seed", 0, "one random history")
)

// Watches over ranges that are split and compacted, with transactions that end
// late, streams that are slow and updates that are lost: every watch sees what
// happened, in order, once, whole revisions, and progress is never ahead.
func TestRandom(t *testing.T) {
	from, to := 1, *seeds
	if *seed != 0 {
		from, to = *seed, *seed
	}
	sum := Stats{}
	for s := from; s <= to; s++ {
		t.Run(fmt.Sprint(s), func(t *testing.T) {
			st := randomRun(t, rand.New(rand.NewSource(int64(s))))
			sum.Delivered += st.Delivered
			sum.FellBehind += st.FellBehind
			sum.Scans += st.Scans
		})
	}
	t.Logf("%d events, %d times without room, %d scans", sum.Delivered, sum.FellBehind, sum.Scans)
	if *seed == 0 && (sum.FellBehind == 0 || sum.Scans == 0) {
		t.Error("nothing caught up")
	}
}

func randomRun(t *testing.T, rng *rand.Rand) Stats {
	w := newWorld(t, rng, CoreConfig{
		RingBytesMax:     500 + rng.Intn(5000),
		WindowBytesMax:   300 + rng.Intn(4000),
		CatchUpBytesMax:  1 + rng.Intn(9000),
		ScansMax:         1 + rng.Intn(3),
		ResponseBytesMax: 200 + rng.Intn(1000),
		ProgressInterval: 10 * time.Millisecond,
		StallMax:         20 * time.Millisecond,
	})
	r := &randomWorld{world: w, keys: 3 + rng.Intn(20)}
	w.lossy = rng.Intn(3) == 0
	for range 600 {
		r.act()
		if rng.Intn(3) > 0 {
			w.ready()
		}
	}
	r.finish()
	return w.core.Stats()
}

type randomWorld struct {
	*world
	keys int
}

func (r *randomWorld) key() string { return fmt.Sprintf("k%02d", r.rng.Intn(r.keys)) }

func (r *randomWorld) act() {
	if r.rng.Intn(2) == 0 {
		r.receive()
	}
	switch n := r.rng.Intn(100); {
	case n < 30:
		r.write(map[string]string{r.key(): r.value()})
	case n < 36:
		changes := map[string]string{}
		for range 1 + r.rng.Intn(6) {
			changes[r.key()] = r.value()
		}
		r.write(changes)
	case n < 50:
		r.apply(r.rng.Intn(4) == 0)
		if r.lossy && r.rng.Intn(8) == 0 {
			r.split(r.key())
		}
	case n < 53:
		r.split(r.key())
	case n < 54:
		if r.current > 2 {
			r.compact(max(r.compacted, Revision(1+r.rng.Int63n(int64(r.current)))))
		}
	case n < 56:
		if len(r.streams) < 5 {
			r.open(StreamConfig{QueueResponsesMax: 1 + r.rng.Intn(12), QueueBytesMax: 200 + r.rng.Intn(4000)})
		}
	case n < 60:
		r.scan()
	case n < 63:
		r.now = r.now.Add(time.Duration(r.rng.Intn(8)) * time.Millisecond)
		r.receive()
		r.core.Tick(r.now)
	default:
		r.actClient(n)
	}
}

func (r *randomWorld) value() string {
	if r.rng.Intn(4) == 0 {
		return ""
	}
	return fmt.Sprintf("v%d%s", r.issued, "................................................................"[:r.rng.Intn(64)])
}

func (r *randomWorld) actClient(n int) {
	if len(r.streams) == 0 {
		return
	}
	r.receive()
	i := r.rng.Intn(len(r.streams))
	c := r.streams[i]
	switch {
	case n < 72:
		r.createSome(c)
	case n < 75:
		if r.core.streams[c.id].watches.n > 0 {
			c.asked = append(c.asked, r.current)
		}
		r.core.RequestProgress(c.id, r.current)
	case n < 77:
		r.core.Cancel(c.id, r.rng.Int63n(c.nextID+1))
	case n < 78:
		r.core.Close(c.id)
		r.streams = append(r.streams[:i:i], r.streams[i+1:]...)
	default:
		c.take(1 + r.rng.Intn(6))
	}
}

func (r *randomWorld) createSome(c *client) {
	if len(c.watches) >= 12 {
		return
	}
	req := CreateRequest{
		Key: []byte(r.key()), PrevKV: r.rng.Intn(2) == 0, Progress: r.rng.Intn(3) == 0,
		NoPut: r.rng.Intn(8) == 0, NoDelete: r.rng.Intn(8) == 0,
	}
	switch r.rng.Intn(4) {
	case 0:
		req.Key, req.End = []byte("k"), []byte("l")
	case 1:
		req.End = []byte{}
	case 2:
		if req.End = []byte(r.key()); string(req.End) <= string(req.Key) {
			req.End = append([]byte(string(req.Key)), 0)
		}
	}
	switch r.rng.Intn(4) {
	case 0:
		req.Start = 1 + r.rng.Int63n(int64(r.current)+5)
	case 1:
		req.Start = max(1, int64(r.current)-r.rng.Int63n(10))
	}
	c.create(req)
}

// finish lets everything come to its end: then every watch has seen everything.
func (r *randomWorld) finish() {
	for len(r.pendingKeys) > 0 || r.anyPending() {
		r.apply(true)
	}
	for range 10000 {
		r.now = r.now.Add(time.Millisecond)
		r.core.Tick(r.now)
		if r.away != nil {
			r.away.source.Tick(r.now)
			r.away.readySource()
			r.away.carry(100)
		}
		r.ready()
		took := len(r.scans) > 0
		for len(r.scans) > 0 {
			r.scan()
		}
		for _, c := range r.streams {
			for len(c.queue) > 0 {
				c.take(5)
				took = true
			}
		}
		if !took && !r.core.HasWork() && len(r.scans) == 0 && len(r.core.retries) == 0 && len(r.core.scans) == 0 && r.idle() {
			break
		}
	}
	for _, c := range r.streams {
		future := false
		for id, v := range c.watches {
			if left := v.wants(r.world); len(left) > 0 || !v.created {
				r.t.Fatalf("stream %d watch %d (%q, %q) from %d was not shown %d events, the first at %d; current %d", c.id, id,
					v.req.Key, v.req.End, v.next, len(left), left[0].rev, r.current)
			}
			future = future || v.next > r.current+1
		}
		if r.core.streams[c.id].asked != 0 && !future {
			r.t.Fatalf("stream %d: progress asked at %v is not answered", c.id, c.asked)
		}
	}
	r.checkEmpty()
}

// idle: nothing comes any more but progress.
func (r *randomWorld) idle() bool {
	if r.away != nil && len(r.away.toHub)+len(r.away.toSource)+len(r.core.active) > 0 {
		return false
	}
	return r.core.stats.Catching == 0
}

func (r *randomWorld) anyPending() bool {
	for _, wr := range r.ranges {
		if wr.unled || len(wr.pending) > 0 {
			return true
		}
	}
	return false
}

// checkEmpty closes all streams: nothing is left of them.
func (r *randomWorld) checkEmpty() {
	for _, c := range r.streams {
		r.core.Close(c.id)
	}
	r.core.Ready()
	c := r.core
	if st := c.Stats(); st.Watches != 0 || st.Catching != 0 || st.Groups != 0 || st.WindowBytes != 0 || c.waits() {
		r.t.Fatalf("left over: %+v, queues %+v", st, c.queues)
	}
	sum := 0
	for _, f := range c.feeds {
		if len(f.groups) != 0 {
			r.t.Fatalf("range %d is in %d groups", f.id, len(f.groups))
		}
		for _, u := range f.ring.updates.all() {
			sum += u.size
		}
	}
	if sum != c.rings.bytes || sum > r.core.cfg.RingBytesMax {
		r.t.Fatalf("rings hold %d bytes, say %d, may %d", sum, c.rings.bytes, r.core.cfg.RingBytesMax)
	}
	gone := 0
	for _, u := range c.rings.arrived.all() {
		if u.ring == nil {
			gone++
		}
	}
	if gone != c.rings.gone {
		r.t.Fatalf("%d updates are in no ring any more, it is said of %d", gone, c.rings.gone)
	}
}
