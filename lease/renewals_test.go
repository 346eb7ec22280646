package lease

import (
	"fmt"
	"math/rand"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
)

func at(seconds int64) clock.Time { return clock.Time(seconds * int64(time.Second)) }

// TestCell says of each state of a cell what a renewal and a claim make of it:
// whichever comes first wins, and the other finds that it did.
func TestCell(t *testing.T) {
	for _, test := range []struct {
		name      string
		ops       func(c *cell) []bool
		want      string
		open      bool
		remaining clock.Time // the deadline
	}{
		{"renewed before the deadline", func(c *cell) []bool { return []bool{c.renew(at(9)), c.claim(at(10))} }, "[true false]", true, at(19)},
		{"claimed at the deadline", func(c *cell) []bool { return []bool{c.claim(at(10)), c.renew(at(9))} }, "[true false]", false, at(10)},
		{"not claimed before it", func(c *cell) []bool { return []bool{c.claim(at(10) - 1), c.renew(at(9))} }, "[false true]", true, at(19)},
		{"not renewed at it", func(c *cell) []bool { return []bool{c.renew(at(10))} }, "[false]", true, at(10)},
		{"a late renewal does not move it back", func(c *cell) []bool { return []bool{c.renew(at(9)), c.renew(at(5))} }, "[true true]", true, at(19)},
		{"shut", func(c *cell) []bool { c.shut(); return []bool{c.renew(at(5)), c.claim(at(9)), c.claim(at(10))} }, "[false false true]", false, at(10)},
		{"shut and opened", func(c *cell) []bool { c.shut(); c.extend(at(12)); return []bool{c.renew(at(5))} }, "[true]", true, at(15)},
		{"opened, not moved back", func(c *cell) []bool { c.shut(); c.extend(at(8)); return []bool{c.claim(at(9))} }, "[false]", true, at(10)},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := &cell{ttl: 10}
			c.set(at(10), true)
			if got := fmt.Sprint(test.ops(c)); got != test.want || c.open() != test.open || c.deadline() != test.remaining {
				t.Errorf("%s, open %t, deadline %d s", got, c.open(), c.deadline()/at(1))
			}
		})
	}
}

// TestCellRace lets a renewal and a claim meet on one cell, many times: exactly
// one of them wins.
func TestCellRace(t *testing.T) {
	const rounds = 400_000
	c := &cell{ttl: 10}
	var begun, done atomic.Int64
	won := false // of the renewal; read after done
	go func() {
		for round := int64(1); round <= rounds; round++ {
			for begun.Load() < round {
				runtime.Gosched()
			}
			won = c.renew(at(10) - 1)
			done.Store(round)
		}
	}()
	for round := int64(1); round <= rounds; round++ {
		c.set(at(10), true)
		begun.Store(round)
		for range round % 32 { // the renewal takes a moment to begin
			begun.Load()
		}
		claimed := c.claim(at(10))
		for done.Load() < round {
			runtime.Gosched()
		}
		if claimed == won || c.open() != won {
			t.Fatalf("round %d: claimed %t, renewed %t, open %t", round, claimed, won, c.open())
		}
	}
}

// TestRenewalsTwin finds leases in the table of places as in a map, while they
// come and go.
func TestRenewalsTwin(t *testing.T) {
	for seed := range int64(20) {
		rng := rand.New(rand.NewSource(seed))
		var s states
		s.init()
		twin := map[ID]int64{}
		ids := 1 + rng.Intn(3000)
		for range 20_000 {
			id := ID(rng.Intn(ids)-ids/2) << uint(rng.Intn(2)*40)
			i, st := s.find(id)
			ttl, ok := twin[id]
			if ok != (st != nil) || ok && (st.id != id || st.ttl != ttl) {
				t.Fatalf("seed %d: lease %d: there %t, found %v", seed, id, ok, st)
			}
			switch {
			case !ok:
				twin[id] = 1 + rng.Int63n(100)
				s.add(id, twin[id], at(1), 0)
			case rng.Intn(2) == 0:
				delete(twin, id)
				s.drop(i)
			}
			if s.len() != len(twin) {
				t.Fatalf("seed %d: %d leases, want %d", seed, s.len(), len(twin))
			}
		}
	}
}

// TestRenewRefused goes through what Renew leaves to the expirer.
func TestRenewRefused(t *testing.T) {
	table := NewTable(metapb.Span{})
	now := at(100)
	e, err := NewExpirer(DefaultExpirerConfig())
	if err != nil {
		t.Fatal(err)
	}
	grant := func(r Record) {
		if err := table.Apply([]*cmdpb.Row{r.Row()}); err != nil {
			t.Fatal(err)
		}
	}
	grant(Record{ID: 1, TTL: 10, Number: 1})
	grant(Record{ID: 2, TTL: 1000, Number: 1, Remaining: 500})
	e.Begin(now, table, nil)
	clockNow := func() clock.Time { return now }
	refused := func(id ID, why string) {
		t.Helper()
		if ttl, ok := e.Renewals().Renew(id, now, clockNow); ok {
			t.Errorf("%s: renewed for %d s", why, ttl)
		}
	}
	renewed := func(id ID, why string) {
		t.Helper()
		if _, ok := e.Renewals().Renew(id, now, clockNow); !ok {
			t.Errorf("%s: refused", why)
		}
	}
	e.Renewals().SetLease(Forever)
	refused(1, "not taken in yet")
	e.Tick(now)
	renewed(1, "taken in")
	refused(2, "checkpointed")
	refused(3, "not there")
	e.Renewals().SetLease(now)
	refused(1, "the leaderLease has run out")
	e.Renewals().SetLease(now + 1)
	renewed(1, "the leaderLease runs")
	e.Ending(1)
	refused(1, "its end has begun")
	if _, err := e.Renewed(1, now); err != nil {
		t.Fatal(err)
	}
	renewed(1, "it goes on living")
	table.Split(metapb.Span{Start: DeleteRow(1).Address})
	e.Bounded()
	refused(1, "split away")
	grant(Record{ID: 4, TTL: 1, Number: 1})
	e.Renewals().SetLease(0)
	refused(2, "stepped down")
}

// TestRenewalsRace renews leases from many goroutines while the expirer's clock
// goes on, in steps that bring leases to their deadline all the time. Nobody is
// told that a lease lives which is then found due before that is over, and nobody
// renews one after it was found due. There are few leases at a time, so that
// renewals and claims meet.
func TestRenewalsRace(t *testing.T) {
	const atOnce, all, ttl, workers = 2, 2000, 1, 3
	cfg := DefaultExpirerConfig()
	cfg.RevokesInFlightMax, cfg.RevokesPerSecondMax = all, 1e9
	e, err := NewExpirer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var now atomic.Int64 // the expirer's clock, told before it acts
	now.Store(int64(at(1)))
	read := func() clock.Time { return clock.Time(now.Load()) }
	table := NewTable(metapb.Span{})
	e.Begin(read(), table, nil)
	e.Renewals().SetLease(Forever)
	var live [atOnce]atomic.Int64
	last := ID(0)
	grant := func(i int) {
		last++
		r := Record{ID: last, TTL: ttl, Number: 1}
		if err := table.Apply([]*cmdpb.Row{r.Row()}); err != nil {
			t.Fatal(err)
		}
		e.Granted(last, ttl, read())
		live[i].Store(int64(last))
	}
	for i := range live {
		grant(i)
	}
	var ended atomic.Bool
	renewing := make(chan struct{}, workers) // one for each worker that renewed
	promised := make([]map[ID]clock.Time, workers)
	var wait sync.WaitGroup
	for w := range workers {
		promised[w] = make(map[ID]clock.Time)
		wait.Add(1)
		go func() {
			defer wait.Done()
			for i := w; !ended.Load(); i++ {
				id, at := ID(live[i%atOnce].Load()), read()
				if _, ok := e.Renewals().Renew(id, at, read); ok {
					if len(promised[w]) == 0 {
						renewing <- struct{}{}
					}
					promised[w][id] = max(promised[w][id], deadline(at, ttl))
				}
			}
		}()
	}
	for range workers {
		<-renewing // none is due before time goes on
	}
	rng := rand.New(rand.NewSource(1))
	found := map[ID]clock.Time{}
	for len(found) < all {
		now.Add(int64(time.Second) - rng.Int63n(int64(20*time.Millisecond)) + int64(10*time.Millisecond))
		for e.Tick(read()) {
		}
		for _, d := range slices.Clone(e.Ready()) {
			found[d.ID] = read()
			i := 0
			for ID(live[i].Load()) != d.ID {
				i++
			}
			grant(i)
			if rng.Intn(2) == 0 { // another may take its place in the table of cells
				_ = table.Apply([]*cmdpb.Row{DeleteRow(d.ID)})
				e.Revoked(d.ID)
			}
		}
	}
	ended.Store(true)
	wait.Wait()
	renewed := 0
	for w := range promised {
		renewed += len(promised[w])
		for id, until := range promised[w] {
			if due, ok := found[id]; ok && due.Before(until) {
				t.Errorf("lease %d was promised until %d and found due at %d", id, until, due)
			}
		}
	}
	if renewed == 0 {
		t.Error("nothing was renewed")
	}
}
