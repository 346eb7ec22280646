package engine_test

import (
	"fmt"
	"testing"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
)

func bench(b *testing.B, run func(b *testing.B, e engine.Engine)) {
	b.Run("pebble", func(b *testing.B) {
		e, err := engine.OpenPebble(engine.Config{Dir: b.TempDir(), BallastBytes: -1})
		if err != nil {
			b.Fatal(err)
		}
		run(b, e)
		if err := e.Close(); err != nil {
			b.Fatal(err)
		}
	})
	b.Run("mem", func(b *testing.B) { run(b, engine.NewMem()) })
}

// load writes 20,000 keys of 256 B in tables, one of them with 100 versions.
func load(b *testing.B, e engine.Engine) {
	b.Helper()
	rev := metapb.Revision(1)
	for i := 0; i < 20000; {
		batch := e.NewBatch()
		for range 1000 {
			batch.Set(keys.Version(fmt.Appendf(nil, "key/%08d", i), rev, 0), make([]byte, 256))
			rev++
			i++
		}
		for range 5 {
			batch.Set(keys.Version([]byte("key/00010000"), rev, 0), make([]byte, 256))
			rev++
		}
		if err := e.Commit(batch, false); err != nil {
			b.Fatal(err)
		}
		if err := batch.Close(); err != nil {
			b.Fatal(err)
		}
	}
	if err := e.Flush(); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkPointRead(b *testing.B) {
	bench(b, func(b *testing.B, e engine.Engine) {
		load(b, e)
		lower, upper := keys.UserPrefix([]byte("key/00010000")), keys.UserPrefix([]byte("key/00010000\x00"))
		seek := keys.Version([]byte("key/00010000"), 1<<40, keys.SubMax)
		b.ReportAllocs()
		for b.Loop() {
			it, err := e.NewIter(engine.IterOptions{Lower: lower, Upper: upper, Point: true})
			if err != nil || !it.SeekPrefixGE(seek) {
				b.Fatal(err)
			}
			if v, err := it.Value(); err != nil || len(v) != 256 {
				b.Fatal(err)
			}
			if err := it.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkBatch100(b *testing.B) {
	bench(b, func(b *testing.B, e engine.Engine) {
		rev, value := metapb.Revision(1), make([]byte, 256)
		name := []byte("key/00000000")
		b.ReportAllocs()
		for b.Loop() {
			batch := e.NewBatch()
			for i := range 100 {
				name[len(name)-1] = byte(i)
				k, v := batch.SetDeferred(keys.VersionLen(name, 0), len(value))
				keys.AppendVersion(k[:0], name, rev, 0)
				copy(v, value)
				rev++
			}
			if err := e.Commit(batch, false); err != nil {
				b.Fatal(err)
			}
			if err := batch.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkScan500(b *testing.B) {
	bench(b, func(b *testing.B, e engine.Engine) {
		load(b, e)
		lower := keys.UserPrefix([]byte("key/00002000"))
		b.ReportAllocs()
		for b.Loop() {
			it, err := e.NewIter(engine.IterOptions{Lower: lower})
			if err != nil {
				b.Fatal(err)
			}
			n := 0
			for ok := it.First(); ok && n < 500; ok = it.NextPrefix() {
				if _, err := it.Value(); err != nil {
					b.Fatal(err)
				}
				n++
			}
			if err := it.Close(); err != nil || n != 500 {
				b.Fatal(n, err)
			}
		}
	})
}

// BenchmarkCommitAsync is the rate of small synced commits, 64 under way.
func BenchmarkCommitAsync(b *testing.B) {
	e, err := engine.OpenPebble(engine.Config{Dir: b.TempDir(), BallastBytes: -1})
	if err != nil {
		b.Fatal(err)
	}
	places := make(chan struct{}, 64)
	key, value := keys.RaftLog(1, 1), make([]byte, 300)
	b.ReportAllocs()
	for b.Loop() {
		places <- struct{}{}
		batch := e.NewBatch()
		batch.Set(key, value)
		if err := e.CommitAsync(batch, func(error) { <-places }); err != nil {
			b.Fatal(err)
		}
	}
	if err := e.Close(); err != nil {
		b.Fatal(err)
	}
}
