package watchfeed

import (
	"fmt"
	"math/rand"
	"strings"
	"testing"

	"github.com/flotilladb/flotilla/proto/peerpb"
)

// A transaction that deletes much is told to another store in pieces: with what was before,
// it is larger than anything that may be sent at once. Whoever watches there gets it whole,
// and once, also when the link is lost in between.
func TestLargeRevisionIsToldInPieces(t *testing.T) {
	const count, valueBytes, newsBytes = 12, 10 << 10, 25 << 10
	pieces := 1
	for broken := 0; broken <= pieces; broken++ {
		e := newElsewhere(t, rand.New(rand.NewSource(1)), CoreConfig{NewsBytesMax: newsBytes})
		pump := func(n int) {
			for range n {
				e.carry(1)
				e.ready()
			}
		}
		puts, deletes := map[string]string{}, map[string]string{"k99": "v"}
		for i := range count {
			key := fmt.Sprintf("k%02d", i)
			puts[key], deletes[key] = strings.Repeat("v", valueBytes), ""
		}
		e.write(puts)
		e.apply(true)
		c := e.open(StreamConfig{})
		all := everything
		all.PrevKV = true
		c.create(all)
		pump(20)
		e.write(deletes)
		e.apply(true)
		if pieces = 0; len(e.toHub) < 2 {
			t.Fatalf("%d pieces", len(e.toHub))
		}
		for _, in := range e.toHub {
			if in.News == nil {
				continue
			}
			pieces++
			if n := newsBytesOf(in.News); n > newsBytes+2*valueBytes {
				t.Errorf("news of %d bytes", n)
			}
		}
		pump(broken)
		e.breakLink()
		for range 20 {
			e.carry(1)
			e.ready()
			for _, f := range e.core.feeds {
				if n := len(f.ring.updates.all()); n > pieces {
					t.Fatalf("the link was lost after %d of %d pieces: the ring has %d updates", broken, pieces, n)
				}
			}
		}
		e.done = true
		e.world.step(Step{})
		e.finish()
	}
}

// A watch over very many ranges of another store, with long keys between them, is asked for
// in pieces, in order, and what is said besides comes behind them.
func TestManyFeedsAreBegunInPieces(t *testing.T) {
	const count, keyBytes, askBytes = 40, 1 << 10, 5 << 10
	c := newElsewhere(t, rand.New(rand.NewSource(1)), CoreConfig{NewsBytesMax: askBytes}).core
	for i := range uint64(count) {
		a := c.askTo(2)
		a.Begin = append(a.Begin, peerpb.FeedBegin{Feed: i, End: make([]byte, keyBytes)})
		a.End, a.Wants = append(a.End, i), append(a.Wants, peerpb.FeedWant{Feed: i})
	}
	c.askTo(3).TakenCount = 1
	begun, ended := uint64(0), 0
	for _, o := range c.takeFeedsOut() {
		if o.Store == 3 {
			continue
		}
		if ended > 0 || len(o.Ask.Begin)*keyBytes > askBytes {
			t.Errorf("an ask begins %d feeds behind %d that end", len(o.Ask.Begin), ended)
		}
		for _, b := range o.Ask.Begin {
			if b.Feed != begun {
				t.Errorf("feed %d is begun, not %d", b.Feed, begun)
			}
			begun++
		}
		if ended = len(o.Ask.End); ended != len(o.Ask.Wants) {
			t.Errorf("%d feeds end, and %d are wanted", ended, len(o.Ask.Wants))
		}
	}
	if begun != count || ended != count {
		t.Errorf("%d feeds begin, %d end", begun, ended)
	}
}

func newsBytesOf(news *peerpb.FeedNews) (n int) {
	for i := range news.Changes {
		for _, e := range news.Changes[i].Events {
			n += len(e.Row.Key) + len(e.Row.Value)
			if e.Prev != nil {
				n += len(e.Prev.Key) + len(e.Prev.Value)
			}
		}
	}
	return n
}
