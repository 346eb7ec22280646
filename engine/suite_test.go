package engine_test

import (
	"context"
	"math/rand"
	randv2 "math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/engine/enginetest"
)

func TestMem(t *testing.T) {
	enginetest.Run(t, enginetest.Harness{
		Open: func(t *testing.T) (engine.Engine, string) { return engine.NewMem(), "tables" },
		Crash: func(t *testing.T, e engine.Engine, seed int64) engine.Engine {
			rng := rand.New(rand.NewSource(seed))
			return e.(*engine.Mem).Crash(func(n int) int { return rng.Intn(n + 1) })
		},
	})
}

// crashing opens Pebble on a file system in memory that can crash.
type crashing struct{ fs map[engine.Engine]*vfs.MemFS }

func (c *crashing) openOn(t *testing.T, fs *vfs.MemFS) engine.Engine {
	e, err := engine.OpenPebble(engine.Config{Dir: "/db", FS: fs, MemtableBytes: 256 << 10, CacheBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	c.fs[e] = fs
	return e
}

func TestPebble(t *testing.T) {
	c := &crashing{fs: make(map[engine.Engine]*vfs.MemFS)}
	enginetest.Run(t, enginetest.Harness{
		Open: func(t *testing.T) (engine.Engine, string) {
			fs := vfs.NewCrashableMem()
			if err := fs.MkdirAll("/tables", 0o755); err != nil {
				t.Fatal(err)
			}
			return c.openOn(t, fs), "/tables"
		},
		Crash: func(t *testing.T, e engine.Engine, seed int64) engine.Engine {
			after := c.fs[e].CrashClone(vfs.CrashCloneCfg{
				UnsyncedDataPercent: int(seed%3) * 50,
				RNG:                 randv2.New(randv2.NewPCG(uint64(seed), 0)),
			})
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			return c.openOn(t, after)
		},
	})
}

// On the machine's own file system, where tables are linked and logs recycled.
func TestPebbleOnDisk(t *testing.T) {
	dir := t.TempDir()
	e, err := engine.OpenPebble(engine.Config{Dir: dir + "/db", BallastBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	w, err := e.NewTableWriter(dir + "/table")
	if err != nil {
		t.Fatal(err)
	}
	key := []byte("\x20k\x00")
	if err := w.Set(key, []byte("v")); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	if err := e.IngestAndExcise(context.Background(), []string{dir + "/table"}, engine.Span{}); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if e, err = engine.OpenPebble(engine.Config{Dir: dir + "/db", BallastBytes: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	v, c, err := e.Get(key)
	if err != nil || string(v) != "v" {
		t.Fatalf("%q %v", v, err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if s := e.Stats(); s.DiskFreeBytes == 0 || s.DiskTotalBytes == 0 || s.DiskBytes == 0 {
		t.Fatalf("%+v", s)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}
