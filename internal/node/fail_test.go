package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/range"
)

// brokenEngine is an engine whose log cannot be made durable any more once
// broken is set.
type brokenEngine struct {
	engine.Engine
	broken atomic.Bool
}

var errBroken = errors.New("the disk is broken")

func (e *brokenEngine) CommitAsync(b engine.Batch, done func(error)) error {
	return e.Engine.CommitAsync(b, func(err error) {
		if e.broken.Load() {
			err = errBroken
		}
		done(err)
	})
}

// A disk that breaks ends the node, and everybody who waits is told; nobody is
// left waiting, and nothing panics.
func TestDiskBreaks(t *testing.T) {
	for round := range 20 {
		pebble, err := engine.OpenPebble(engine.Config{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		eng := &brokenEngine{Engine: pebble}
		cfg := Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)}
		cfg.setDefaults()
		n, err := start(t.Context(), cfg, eng)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for j := 0; ; j++ {
					if i == 0 && j == 3+round {
						eng.broken.Store(true)
					}
					_, err := n.KV().Put(t.Context(), &pb.PutRequest{Key: fmt.Appendf(nil, "k%d", i)})
					if err != nil {
						return
					}
				}
			})
		}
		wg.Wait()
		<-n.Failed()
		if !errors.Is(n.Err(), errBroken) {
			t.Errorf("the node failed with %v", n.Err())
		}
		if err := n.Stop(context.Background()); err != nil {
			t.Errorf("stop: %v", err)
		}
	}
}

// What ends a node ends it also if whoever brings work comes to it before the loop.
func TestFailsInATurnOfACaller(t *testing.T) {
	n, err := Open(t.Context(), Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	n.locked(func() {
		n.failSoon(errBroken)
		n.fewTurns()
		if !errors.Is(n.turnErr, errBroken) {
			t.Errorf("after a caller's turn the loop is to end with %v", n.turnErr)
		}
	})
	if t.Failed() {
		return
	}
	<-n.Failed()
	if !errors.Is(n.Err(), errBroken) {
		t.Errorf("the node failed with %v", n.Err())
	}
	if err := n.Stop(context.Background()); err != nil {
		t.Errorf("stop: %v", err)
	}
}

// A start that fails while a replica is read to be checked gives back what that has of the
// engine: who cannot close the engine says that, and not why the node did not start.
func TestFailedStartClosesViews(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)}
	cfg.setDefaults()
	eng, err := engine.OpenPebble(engine.Config{Dir: cfg.Dir, Logger: cfg.Logger})
	if err != nil {
		t.Fatal(err)
	}
	n, err := start(t.Context(), cfg, eng)
	if err != nil {
		t.Fatal(err)
	}
	n.locked(func() {
		view := n.core.store.BeginReading(DataRange)
		if view == nil {
			t.Fatal("there is nothing to be read")
		}
		if _, _, err := view.Step(1); err != nil {
			t.Fatal(err)
		}
		n.core.views = append(n.core.views, view)
	})
	if err := errors.Join(n.abandon(), eng.Close()); err != nil {
		t.Errorf("the end of a start that failed: %v", err)
	}
}

// fullEngine is an engine whose disk has no room for a commit when full says so.
type fullEngine struct {
	engine.Engine
	full func() bool
}

func (e *fullEngine) Commit(b engine.Batch, sync bool) error {
	if e.full() {
		return engine.ErrDiskFull
	}
	return e.Engine.Commit(b, sync)
}

func (e *fullEngine) CommitAsync(b engine.Batch, done func(error)) error {
	if e.full() {
		return engine.ErrDiskFull
	}
	return e.Engine.CommitAsync(b, done)
}

// A disk that has no room at all holds writes up; they go on when it has.
func TestDiskStuck(t *testing.T) {
	pebble, err := engine.OpenPebble(engine.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	var refuse atomic.Int32
	eng := &fullEngine{Engine: pebble, full: func() bool { return refuse.Add(-1) >= 0 }}
	cfg := Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)}
	cfg.setDefaults()
	n, err := start(t.Context(), cfg, eng)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		refuse.Store(int32(i + 1))
		put(t, n.KV(), "k", "v", int64(2+i))
		if _, err := n.KV().Range(t.Context(), &pb.RangeRequest{Key: []byte("k")}); err != nil {
			t.Fatal(err)
		}
	}
	closeNode(t, n)
}

// A snapshot that comes takes the last room of the disk. The loop waits for room, and only it
// hears of more chunks, and of their end: so it gives the snapshot up. Wherever that is: its
// first chunk is written, or its second is about to be.
func TestSnapshotTakesTheLastRoom(t *testing.T) {
	for _, second := range []bool{false, true} {
		dir := t.TempDir()
		pebble, err := engine.OpenPebble(engine.Config{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		var crowded atomic.Bool // there is no room as long as there is a table of a snapshot
		eng := &fullEngine{Engine: pebble, full: func() bool {
			tables, _ := filepath.Glob(snapshotDir(dir) + "*")
			return crowded.Load() && len(tables) > 0
		}}
		cfg := Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)}
		cfg.setDefaults()
		n, err := start(t.Context(), cfg, eng)
		if err != nil {
			t.Fatal(err)
		}
		d := &metapb.Descriptor{
			RangeId: 7, Start: keys.User([]byte("a")), End: keys.User([]byte("b")), Generation: 1, NextReplicaId: 2,
			Replicas: []*metapb.Replica{{ReplicaId: 1, StoreId: 1, NodeId: 1}},
		}
		take := func(number uint64) {
			ch := &ranges.SnapshotChunk{Range: 7, Replica: 1, Index: 20, ID: 5, Number: number}
			if number == 0 {
				ch.Header = &ranges.SnapshotHeader{Replica: 1, Descriptor: d, Index: 20, Term: 6}
			}
			if ch.Sum, err = ch.Checksum(); err == nil {
				err = n.inLoop(t.Context(), func() { n.core.stepChunk(2, ch) })
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		take(0)
		key := snapshotKey{7, 1}
		until(t, "the first chunk is not there", func() (there bool) {
			err = n.inLoop(t.Context(), func() { rc := n.core.receiving[key]; there = rc != nil && !rc.busy })
			return there && err == nil
		})
		crowded.Store(true)
		if second {
			take(1)
		}
		if _, err := n.KV().Put(soon(t), &pb.PutRequest{Key: []byte("k")}); err != nil {
			t.Fatal(err)
		}
		if _, err := n.KV().Put(soon(t), &pb.PutRequest{Key: []byte("k")}); err != nil {
			t.Fatal(err)
		}
		closeNode(t, n)
	}
}
