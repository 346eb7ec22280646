package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/engine"
)

// damage flips a byte of a value where the versions of keys are: they sort behind all
// else, such as the entry of the log that has the same value.
func damage(t *testing.T, dir string, value []byte) (table string) {
	t.Helper()
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(tables) // their numbers grow with the keys of a flush
	for _, name := range slices.Backward(tables) {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.LastIndex(raw, value)
		if at < 0 {
			continue
		}
		raw[at+len(value)/2] ^= 0xff
		if err := os.WriteFile(name, raw, 0o644); err != nil {
			t.Fatal(err)
		}
		return name
	}
	t.Fatal("no table has the value")
	return ""
}

// randomValues are n of 64 KiB that do not compress.
func randomValues(n int) [][]byte {
	rng := rand.New(rand.NewPCG(1, 1))
	values := make([][]byte, n)
	for i := range values {
		values[i] = make([]byte, 64<<10)
		for j := range values[i] {
			values[i][j] = byte(rng.Uint32())
		}
	}
	return values
}

// What a damaged block holds is refused at once, naming its file; the node
// starts, and everything else is served and written.
func TestCorruptBlock(t *testing.T) {
	dir := t.TempDir()
	n := open(t, dir)
	values := randomValues(64)
	for i, value := range values {
		if _, err := n.KV().Put(t.Context(), &pb.PutRequest{Key: fmt.Appendf(nil, "k%03d", i), Value: value}); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(n.eng.Flush(), n.Stop(t.Context())); err != nil {
		t.Fatal(err)
	}
	table := damage(t, dir, values[40])
	n = open(t, dir)
	var bad []byte // a key in the damage
	served, refused := 0, 0
	for i := range 64 {
		key := fmt.Appendf(nil, "k%03d", i)
		_, err := n.KV().Range(soon(t), &pb.RangeRequest{Key: key})
		if err == nil {
			served++
			continue
		}
		refused++
		bad = key
		namesFile(t, err, table)
	}
	if served == 0 || refused == 0 {
		t.Fatalf("%d served, %d refused", served, refused)
	}
	// What needs the old version is refused, by itself; what does not is not.
	_, err := n.KV().Put(soon(t), &pb.PutRequest{Key: bad, PrevKv: true})
	namesFile(t, err, table)
	_, err = n.KV().DeleteRange(soon(t), &pb.DeleteRangeRequest{Key: []byte("k"), RangeEnd: []byte("l"), PrevKv: true})
	namesFile(t, err, table)
	_, err = n.KV().Txn(soon(t), &pb.TxnRequest{Compare: []*pb.Compare{{
		Key: bad, Target: pb.Compare_VALUE, TargetUnion: &pb.Compare_Value{Value: []byte("x")},
	}}})
	namesFile(t, err, table)
	put, err := n.KV().Put(soon(t), &pb.PutRequest{Key: []byte("new")})
	if err != nil {
		t.Fatal(err)
	}
	_, err = n.KV().Compact(soon(t), &pb.CompactionRequest{Revision: put.Header.Revision, Physical: true})
	namesFile(t, err, table)
	closeNode(t, n)
}

func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func namesFile(t *testing.T, err error, table string) {
	t.Helper()
	var c *engine.CorruptionError
	if !errors.As(err, &c) || filepath.Base(c.Path) != filepath.Base(table) {
		t.Errorf("got %v, want an error that names %s", err, table)
	}
}
