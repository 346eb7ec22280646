package engine

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/flotilladb/flotilla/internal/keys"
)

// The file of an ingested table without rows is gone too, though Pebble does not take it over.
func TestEmptyTableIsGone(t *testing.T) {
	dir := t.TempDir()
	e := openTest(t, Config{Dir: filepath.Join(dir, "db")})
	put(t, e, true, 0, 10)
	var tables []string
	for _, name := range []string{"empty", "other"} {
		path := filepath.Join(dir, name)
		w, err := e.NewTableWriter(path)
		if err == nil && name == "other" {
			err = w.Set(keys.RaftLog(2, 1), []byte("x"))
		}
		if err == nil {
			err = w.Finish()
		}
		if err != nil {
			t.Fatal(err)
		}
		tables = append(tables, path)
	}
	if err := e.IngestAndExcise(t.Context(), tables, keys.VersionSpan(nil, nil)); err != nil {
		t.Fatal(err)
	}
	if n, err := count(t, e); n != 1 || err != nil {
		t.Errorf("%d rows, %v", n, err)
	}
	for _, path := range tables {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}
