package lease

import (
	"errors"
	"fmt"
	"math/rand"
	"slices"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// slack is how much later than its deadline a lease may be found due.
const slack = 1 << tickBits

// expirerTwin is an expirer as one would write it first: it looks at every lease.
type expirerTwin struct {
	at, checkpoint map[ID]clock.Time
	ttl            map[ID]int64
	out            map[ID]bool // handed out
}

// TestExpirerTwin leads random lives: whoever is handed out is past its deadline,
// whoever is past it by more than the slack is handed out, and a renewal
// succeeds exactly before the deadline.
func TestExpirerTwin(t *testing.T) {
	for seed := range int64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { runTwin(t, rand.New(rand.NewSource(seed))) })
	}
}

func runTwin(t *testing.T, rng *rand.Rand) {
	cfg := DefaultExpirerConfig()
	cfg.RevokesInFlightMax, cfg.RevokesPerSecondMax = 1<<30, 1e9
	cfg.CheckpointInterval, cfg.TickWorkMax = 0, 1+rng.Intn(50)
	e, err := NewExpirer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	now := clock.Time(rng.Int63n(1 << uint(20+rng.Intn(38))))
	table := NewTable(metapb.Span{})
	twin := expirerTwin{at: map[ID]clock.Time{}, ttl: map[ID]int64{}, out: map[ID]bool{}}
	grant := func(id ID, ttl int64) {
		r := Record{ID: id, TTL: ttl, Number: 1}
		if err := table.Apply([]*cmdpb.Row{r.Row()}); err != nil {
			t.Fatal(err)
		}
		twin.at[id], twin.ttl[id] = deadline(now, ttl), ttl
		delete(twin.out, id)
	}
	ttlMax := int64(1) << uint(1+rng.Intn(33))
	for range rng.Intn(100) {
		grant(ID(rng.Intn(100)-20)|1, 1+rng.Int63n(ttlMax))
	}
	e.Begin(now, table, nil)
	for range 2000 {
		id := ID(rng.Intn(100)-20) | 1
		switch rng.Intn(6) {
		case 0:
			ttl := 1 + rng.Int63n(ttlMax)
			grant(id, ttl)
			e.Granted(id, ttl, now)
		case 1:
			_ = table.Apply([]*cmdpb.Row{DeleteRow(id)})
			e.Revoked(id)
			delete(twin.at, id)
		case 2, 3:
			twin.renew(t, e, id, now)
		case 4:
			now = min(now+clock.Time(rng.Int63n(int64(time.Second)*(1+min(ttlMax/8, 1<<28)))), 1<<62)
		case 5:
			for e.Tick(now) {
			}
			twin.check(t, e, now, rng)
		}
	}
}

func (w *expirerTwin) renew(t *testing.T, e *Expirer, id ID, now clock.Time) {
	at, ok := w.at[id]
	ttl, err := e.Renewed(id, now)
	switch {
	case !ok:
		if err != ErrNotFound {
			t.Fatalf("%d is not there: %v", id, err)
		}
	case !now.Before(at):
		if err != ErrExpired {
			t.Fatalf("%d expired at %d, now %d: %v", id, at, now, err)
		}
	default:
		if err != nil || ttl != w.ttl[id] {
			t.Fatalf("%d: renewed for %d, %v; granted %d", id, ttl, err, w.ttl[id])
		}
		w.at[id] = deadline(now, ttl)
	}
}

func (w *expirerTwin) check(t *testing.T, e *Expirer, now clock.Time, rng *rand.Rand) {
	for _, d := range slices.Clone(e.Ready()) {
		at, ok := w.at[d.ID]
		if !ok || at.After(now) || w.out[d.ID] {
			t.Fatalf("%d was handed out at %d; its deadline: %d (%t), out before: %t", d.ID, now, at, ok, w.out[d.ID])
		}
		if w.out[d.ID] = true; rng.Intn(4) == 0 {
			e.Done(d.ID, errors.New("refused"))
			// It comes again, at an unknown time: from here on it is not compared.
			delete(w.at, d.ID)
			e.Revoked(d.ID)
		}
	}
	for id, at := range w.at {
		if at.Before(now-slack) && !w.out[id] {
			t.Fatalf("%d expired at %d and was not handed out at %d", id, at, now)
		}
		if left, ok := e.Remaining(id, now); !ok || left != max(0, at.Sub(now)) {
			t.Fatalf("%d: %v remain, want %v", id, left, at.Sub(now))
		}
	}
	if next, ok := e.Next(); ok {
		for id, at := range w.at {
			if !w.out[id] && at.Before(next-slack) {
				t.Fatalf("next is at %d, but %d expires at %d", next, id, at)
			}
		}
	} else if len(w.at) > len(w.out) {
		for id := range w.at {
			if !w.out[id] {
				t.Fatalf("nothing is to come, but %d", id)
			}
		}
	}
}
