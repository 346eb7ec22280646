package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/txnpb"
	"github.com/flotilladb/flotilla/raftgroup"
)

func newDebug(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "debug",
		Short: "Look into the data of a stopped node",
		Args:  cobra.ArbitraryArgs,
		RunE:  needCommand,
	}
	cmd.AddCommand(newDebugLog(a))
	return cmd
}

// entryView is an entry of a log as it is printed.
type entryView struct {
	Index      uint64   `json:"index"`
	Term       uint64   `json:"term"`
	Type       string   `json:"type"`
	Bytes      int      `json:"bytes"`
	EvalTerm   uint64   `json:"evaluated_term,omitempty"`
	Generation uint64   `json:"generation,omitempty"`
	Contents   []string `json:"contents"`
	Error      string   `json:"error,omitempty"`
}

func newDebugLog(a *app) *cobra.Command {
	var rangeID, from, limit uint64
	var dir, output string
	cmd := &cobra.Command{
		Use:   "log --range ID --data-dir DIR",
		Short: "Print a range's Raft log",
		Args:  exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case rangeID == 0:
				return &usageError{cmd, errors.New("--range: which range?")}
			case dir == "":
				return &usageError{cmd, errors.New("--data-dir: which folder?")}
			case output != "table" && output != "json":
				return &usageError{cmd, fmt.Errorf("--output: %q: want table or json", output)}
			}
			entries, err := readLog(dir, metapb.RangeID(rangeID), from, limit)
			if err != nil {
				return fmt.Errorf("log of range %d: %w", rangeID, err)
			}
			if output == "json" {
				return a.printJSON(entries)
			}
			return a.printLog(entries)
		},
	}
	fs := cmd.Flags()
	fs.Uint64Var(&rangeID, "range", 0, "id of the range")
	fs.StringVar(&dir, "data-dir", "", "data folder of the node, which must be stopped")
	fs.Uint64Var(&from, "from", 0, "first index to print")
	fs.Uint64Var(&limit, "limit", 0, "how many entries to print at most; 0 is all")
	fs.StringVarP(&output, "output", "o", "table", "table or json")
	return cmd
}

// errEnough ends the walk over a log.
var errEnough = errors.New("enough")

// readLog opens the folder as a node does, and so refuses one that is in use.
func readLog(dir string, id metapb.RangeID, from, limit uint64) (entries []entryView, err error) {
	// Opening would make a new store where there is none.
	if files, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(files) == 0 {
		if _, statErr := os.Stat(dir); errors.Is(statErr, fs.ErrNotExist) {
			return nil, fmt.Errorf("folder %s does not exist", dir)
		}
		return nil, fmt.Errorf("folder %s holds no data", dir)
	}
	eng, err := engine.OpenPebble(engine.Config{Dir: dir})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, eng.Close()) }()
	entries = []entryView{}
	err = raftgroup.ReadLog(eng, id, from, func(row raftgroup.LogRow) error {
		if limit > 0 && uint64(len(entries)) == limit {
			return errEnough
		}
		entries = append(entries, viewOfEntry(row))
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return entries, err
}

func viewOfEntry(row raftgroup.LogRow) entryView {
	v := entryView{Index: row.Index, Term: row.Term, Type: row.Type.String(), Bytes: row.RowBytes, Contents: []string{}}
	switch {
	case row.Err != nil:
		v.Type, v.Error = "damaged", row.Err.Error()
		return v
	case row.Type != raftgroup.EntryNormal:
		v.Contents = append(v.Contents, fmt.Sprintf("%x", row.Data))
		return v
	case len(row.Data) == 0:
		v.Contents = append(v.Contents, "a leader's term begins")
		return v
	}
	var e cmdpb.Entry
	if err := e.UnmarshalVT(row.Data); err != nil {
		v.Error = fmt.Sprintf("not a command of this version: %v", err)
		return v
	}
	v.EvalTerm, v.Generation = e.Term, e.Generation
	for _, u := range e.Updates {
		for _, m := range u.Mutations {
			v.Contents = append(v.Contents, formatMutation(u.Revision, m))
		}
	}
	for _, c := range e.Commands {
		v.Contents = append(v.Contents, formatCommand(c))
	}
	return v
}

func formatMutation(rev int64, m *txnpb.Mutation) string {
	if m.Tombstone {
		return fmt.Sprintf("%d.%d delete %q", rev, m.Sub, m.Key)
	}
	out := fmt.Sprintf("%d.%d put %q (%d bytes) create %d version %d", rev, m.Sub, m.Key, len(m.Value), m.CreateRevision, m.Version)
	if m.Lease != 0 {
		out += fmt.Sprintf(" lease %x", uint64(m.Lease))
	}
	return out
}

func formatTxn(id *txnpb.TxnID) string {
	return fmt.Sprintf("txn %d.%d.%d.%d", id.GetStoreId(), id.GetStoreStart(), id.GetNumber(), id.GetAttempt())
}

func formatCommand(c *cmdpb.Command) string {
	switch k := c.Kind.(type) {
	case *cmdpb.Command_Intent:
		var parts []string
		for _, in := range k.Intent.Intents {
			parts = append(parts, fmt.Sprintf("%s: %s at %d, %d mutations", formatTxn(in.Intent.GetId()),
				keys.FormatAddress(in.Address), in.Intent.GetRevision(), len(in.Intent.GetMutations())))
		}
		return "intent " + strings.Join(parts, "; ")
	case *cmdpb.Command_Record:
		return fmt.Sprintf("record %s: %s at %d", formatTxn(k.Record.Id), k.Record.Status, k.Record.Revision)
	case *cmdpb.Command_Resolve:
		return fmt.Sprintf("resolve %s, commit %v", formatTxn(k.Resolve.Id), k.Resolve.Commit)
	case *cmdpb.Command_Forget:
		return "forget " + formatTxn(k.Forget.Id)
	case *cmdpb.Command_Split:
		return fmt.Sprintf("split before %s: range %d generation %d, range %d", keys.FormatAddress(k.Split.Right.GetStart()),
			k.Split.Left.GetRangeId(), k.Split.Left.GetGeneration(), k.Split.Right.GetRangeId())
	case *cmdpb.Command_Rows:
		var parts []string
		for _, r := range k.Rows.Rows {
			verb := "set"
			if r.Deleted {
				verb = "delete"
			}
			parts = append(parts, fmt.Sprintf("%s %s (%d bytes)", verb, keys.FormatAddress(r.Address), len(r.Value)))
		}
		return "rows " + strings.Join(parts, "; ")
	}
	return "unknown command"
}

func (a *app) printLog(entries []entryView) error {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "INDEX\tTERM\tTYPE\tBYTES\tCONTENTS")
	for _, e := range entries {
		lines := e.Contents
		if e.Error != "" {
			lines = append(lines, "ERROR: "+e.Error)
		}
		if len(lines) == 0 {
			lines = []string{"nothing"}
		}
		fmt.Fprintf(w, "%d\t%d\t%s\t%d\t%s\n", e.Index, e.Term, e.Type, e.Bytes, lines[0])
		for _, line := range lines[1:] {
			fmt.Fprintf(w, "\t\t\t\t%s\n", line)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.out, "%d entries\n", len(entries))
	return err
}
