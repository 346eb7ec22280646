package ranges

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/raftgroup"
)

// Ingest is a snapshot that takes the place of what a store has of a range. The
// driver runs it after it committed Apply and Append of the Ready that it came with,
// and before the store is asked for anything else of the range, and then calls
// Ingested.
type Ingest struct {
	// Tables are files of the snapshot's rows. Rows, in order, are the replica's
	// local rows, which replace everything in Local; nothing of Excise and Rest stays.
	Tables []string
	Rows   []raftgroup.Row
	Local  engine.Span
	Excise engine.Span
	Rest   []engine.Span
	in     *Incoming
	// span is all that is replaced: what the replica before had as well.
	span metapb.Span
}

// Header is what the snapshot is.
func (g *Ingest) Header() *SnapshotHeader { return &g.in.Header }

func sortRows(rows []raftgroup.Row) {
	slices.SortFunc(rows, func(a, b raftgroup.Row) int { return bytes.Compare(a.Key, b.Key) })
}

// Run puts the snapshot into the engine, all of it or, after a crash, nothing. The
// paths of files that it needs begin with prefix. Everything that was committed
// before is durable then.
func (g *Ingest) Run(ctx context.Context, eng engine.Engine, prefix string) error {
	tables := slices.Clone(g.Tables)
	write := func(name string, del engine.Span, rows []raftgroup.Row) error {
		path := prefix + "-" + name
		w, err := eng.NewTableWriter(path)
		if err != nil {
			return err
		}
		if err := w.DeleteRange(del.Start, del.End); err != nil {
			return err
		}
		for _, row := range rows {
			if err := w.Set(row.Key, row.Value); err != nil {
				return err
			}
		}
		tables = append(tables, path)
		return w.Finish()
	}
	if err := write("local", g.Local, g.Rows); err != nil {
		return err
	}
	for i, sp := range g.Rest {
		if err := write(fmt.Sprint("rest", i), sp, nil); err != nil {
			return err
		}
	}
	return eng.IngestAndExcise(ctx, tables, g.Excise)
}
