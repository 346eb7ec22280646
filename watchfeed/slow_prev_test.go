package watchfeed

import (
	"fmt"
	"math/rand"
	"strings"
	"testing"
)

// What was before an event waits for a slow client as the event does, and there is no more
// of it than may wait: a delete is small, and what it deleted may be large.
func TestSlowStreamHoldsWhatWasBefore(t *testing.T) {
	const count, valueBytes, queueBytes = 40, 32 << 10, 100 << 10
	for _, resumed := range []bool{false, true} {
		t.Run(fmt.Sprint("resumed ", resumed), func(t *testing.T) {
			w := newWorld(t, rand.New(rand.NewSource(1)), CoreConfig{})
			for i := range count {
				w.write(map[string]string{fmt.Sprintf("k%02d", i): strings.Repeat("v", valueBytes)})
			}
			w.apply(true)
			w.ready()
			c := w.open(StreamConfig{QueueBytesMax: queueBytes})
			all := everything
			all.PrevKV, all.Start = true, int64(w.current)+1
			if !resumed {
				c.create(all)
			}
			for i := range count {
				w.write(map[string]string{fmt.Sprintf("k%02d", i): ""})
				w.apply(true)
				w.ready()
			}
			if resumed {
				c.create(all)
				w.ready()
			}
			held := 0
			for i := range c.queue {
				for _, ev := range c.queue[i].Events {
					held += len(ev.Key) + len(ev.Value)
					if ev.PrevKV != nil {
						held += len(ev.PrevKV.Value)
					}
				}
			}
			if held == 0 || held > queueBytes+2*valueBytes {
				t.Errorf("the stream holds %d bytes, may hold %d", held, queueBytes)
			}
			(&randomWorld{world: w}).finish()
		})
	}
}
