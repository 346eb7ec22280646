package node

import (
	"errors"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/frame"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/range"
)

// What a member that is away read may not be what it reads when it is back: it can be
// started with the version of before. Until it is back the format is not raised, nor when it
// has said that it is about to stop.
func TestAwayMemberHoldsFormatBack(t *testing.T) {
	now := clock.Time(time.Minute)
	rows, err := placement.InitialRows(placement.InitialFacts{
		ManyStores: true, Members: []placement.Member{{Node: 1, Store: 1, Name: "a"}, {Node: 2, Store: 2, Name: "b"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	system := placement.NewSystem()
	system.Apply(rows)
	newest := frame.Formats{Reads: metapb.FormatNewest}
	for name, away := range map[string]func(c *Core, a, b *link){
		"it lives":         nil,
		"its disk is full": func(c *Core, a, b *link) { b.full = true; a.step(b.hello(now), now) },
		"it is silent":     func(c *Core, a, b *link) { c.now = now.Add(awayAfter) },
		"it leaves":        func(c *Core, a, b *link) { b.leaves = true; a.step(b.hello(now), now) },
		"it has ended":     func(c *Core, a, b *link) { b.end(); a.step(b.take(now), now) },
		"it came again": func(c *Core, a, b *link) {
			again := &link{self: 2, peer: 1, selfStart: 2}
			a.step(again.hello(now), now)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := &Core{
				cfg: CoreConfig{StoreID: 1, StoreStart: 1, Reads: metapb.FormatNewest}, many: true, now: now,
				system: system, store: &ranges.Store{}, peers: newPeers(),
			}
			a, b := linked(t, now)
			c.links[2], c.order = a, []metapb.StoreID{2}
			b.formats = newest
			a.step(b.hello(now), now)
			if away != nil {
				away(c, a, b)
			}
			to, ok := c.lowestRead()
			if want := away == nil || b.full; ok != want || ok && to != metapb.FormatNewest {
				t.Errorf("all read %d, %v", to, ok)
			}
		})
	}
}

// A node joined in the moment in which the format was raised to what it does not read, by one
// that had not heard of that. As soon as any other says so it ends.
func TestOldVersionEndsWhenItHears(t *testing.T) {
	for cluster, want := range map[metapb.Format]error{metapb.FormatFirst: nil, metapb.FormatFirst + 1: ErrOldVersion} {
		now := clock.Time(time.Minute)
		c := &Core{
			cfg: CoreConfig{StoreID: 1, StoreStart: 1, Reads: metapb.FormatFirst}, many: true, now: now,
			system: placement.NewSystem(), store: &ranges.Store{}, peers: newPeers(),
		}
		a, b := linked(t, now)
		c.links[2], c.order = a, []metapb.StoreID{2}
		b.formats = frame.Formats{Reads: metapb.FormatNewest, Cluster: cluster}
		a.step(b.hello(now), now)
		if c.tickFormat(); !errors.Is(c.failed, want) {
			t.Errorf("the cluster writes format %d: it ends with %v", cluster, c.failed)
		}
	}
}
