package engine

import (
	"context"
	"errors"
	"os"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
)

// lowest and highest are bare keys below and above every engine key.
func lowest() []byte  { return []byte{0x00} }
func highest() []byte { return []byte{0xff, 0x00} }

func bounds(s Span) (start, end []byte) {
	start, end = s.Start, s.End
	if len(start) == 0 {
		start = lowest()
	}
	if end == nil {
		end = highest()
	}
	return start, end
}

func keyRanges(spans []Span) []pebble.KeyRange {
	out := make([]pebble.KeyRange, len(spans))
	for i, s := range spans {
		out[i].Start, out[i].End = bounds(s)
	}
	return out
}

// IngestAndExcise implements Engine.
func (e *Pebble) IngestAndExcise(ctx context.Context, tables []string, span Span) error {
	if e.closed.Load() {
		return ErrClosed
	}
	if e.space.stuck.Load() != 0 {
		return ErrDiskFull
	}
	// Pebble keeps an ingest in its manifest, outside of the log: without this
	// sync a crash could lose commits that came before it.
	if err := e.db.LogData(nil, pebble.Sync); err != nil {
		return wrap("ingest", diskErr(err))
	}
	start, end := bounds(span)
	if _, err := e.db.IngestAndExcise(ctx, tables, nil, nil, pebble.KeyRange{Start: start, End: end}); err != nil {
		return wrap("ingest", readErr(err))
	}
	// Pebble has removed those that it took over, and leaves out what is empty.
	for _, path := range tables {
		if err := e.cfg.FS.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			e.cfg.Logger.Warn("a table is left", "path", path, "error", err)
		}
	}
	return nil
}

// NewTableWriter implements Engine.
func (e *Pebble) NewTableWriter(path string) (TableWriter, error) {
	f, err := e.opts.FS.Create(path, writeTable)
	if err != nil {
		return nil, wrap("table", diskErr(err))
	}
	o := e.opts.MakeWriterOptions(0, e.db.TableFormat())
	return &tableWriter{w: sstable.NewWriter(objstorageprovider.NewFileWritable(f), o)}, nil
}

type tableWriter struct{ w *sstable.Writer }

func (t *tableWriter) Set(key, value []byte) error {
	return wrap("table", diskErr(t.w.Set(key, value)))
}

func (t *tableWriter) DeleteRange(start, end []byte) error {
	return wrap("table", diskErr(t.w.DeleteRange(start, end)))
}

func (t *tableWriter) Finish() error { return wrap("table", diskErr(t.w.Close())) }
