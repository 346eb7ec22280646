package mvcc

import (
	"bufio"
	"fmt"
	"hash/crc32"
	"math/rand"
	"os"
	"testing"

	"github.com/flotilladb/flotilla/engine"
)

// The numbers in testdata/hash are etcd's. The history is hashed before
// anything is removed, and again when the compaction's garbage is gone.
func TestHashIsEtcds(t *testing.T) {
	w := newWorld(t)
	for _, req := range hashHistory() {
		if _, err := w.do(req); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open("testdata/hash")
	must(t, err)
	defer f.Close()
	removed, lines := Revision(0), 0
	for in := bufio.NewScanner(f); in.Scan(); lines++ {
		var opts HashOptions
		var want uint32
		if _, err := fmt.Sscanf(in.Text(), "compacted=%d revision=%d hash=%d", &opts.Compacted, &opts.Revision, &want); err != nil {
			t.Fatalf("%q: %v", in.Text(), err)
		}
		opts.NoneLive = len(w.live(nil, nil, opts.Revision)) == 0
		for _, when := range []string{"before removal", "after removal"} {
			for _, rows := range []int{1, 3, 100} {
				got, err := hashAll(w.eng, nil, nil, opts, rows)
				must(t, err)
				if got != want {
					t.Errorf("%s, %s, %d rows at once: %d", in.Text(), when, rows, got)
				}
			}
			if opts.Compacted > removed {
				w.collect(removed, opts.Compacted, CollectBudget{})
				removed = opts.Compacted
			}
		}
	}
	if lines < 20 {
		t.Fatalf("only %d lines in testdata/hash", lines)
	}
}

func TestChecksumsJoin(t *testing.T) {
	table := crc32.MakeTable(crc32.Castagnoli)
	rng := rand.New(rand.NewSource(1))
	h, all := NewKVHash(), []byte("key")
	for i := range 200 {
		part := make([]byte, rng.Intn(1<<(i%17)))
		rng.Read(part)
		all = append(all, part...)
		h.Add(HashRow{CRC: crc32.Checksum(part, table), Len: uint32(len(part))})
		if want := crc32.Checksum(all, table); h.Sum() != want {
			t.Fatalf("after %d bytes: %08x, want %08x", len(all), h.Sum(), want)
		}
	}
}

// hashAll hashes all of [start, end) of one engine, rowsMax rows at a time.
func hashAll(r engine.Reader, start, end []byte, opts HashOptions, rowsMax int) (uint32, error) {
	h, pages := NewKVHash(), NewHashRows(rowsMax)
	for {
		if _, err := HashKeys(r, start, end, opts, 0, pages.Add); err != nil {
			return 0, err
		}
		rows, done := pages.Page()
		for _, row := range rows {
			h.Add(row)
		}
		if done {
			return h.Sum(), nil
		}
	}
}
