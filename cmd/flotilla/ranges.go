package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/adminpb"
	"github.com/flotilladb/flotilla/proto/metapb"
)

func newRange(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "range",
		Short: "Look at ranges, cut, move and check them",
		Args:  cobra.ArbitraryArgs,
		RunE:  needCommand,
	}
	flags := &clientFlags{}
	flags.add(cmd)
	cmd.AddCommand(newRangeList(a, flags), newRangeShow(a, flags), newRangeSplit(a, flags), newRangeTransfer(a, flags),
		newRangeAdd(a, flags), newRangeRemove(a, flags), newRangeMove(a, flags), newRangeCheck(a, flags), newRangeTrust(a, flags))
	return cmd
}

func newRangeList(a *app, flags *clientFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the ranges in the order of their keys",
		Long: "List the ranges in the order of their keys. Of those without a replica on the node that\n" +
			"is asked it shows the span, the replicas, and the leader if the node has heard of it; ask\n" +
			"one that has a replica for the rest ('?'), with --endpoints.",
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := flags.check(cmd); err != nil {
				return err
			}
			var resp *adminpb.ListRangesResponse
			err := flags.ask(cmd.Context(), func(ctx context.Context, c adminpb.AdminClient) (err error) {
				resp, err = c.ListRanges(ctx, &adminpb.ListRangesRequest{})
				return err
			})
			if err != nil {
				return fmt.Errorf("list ranges: %w", err)
			}
			views := make([]rangeView, len(resp.Ranges))
			for i, info := range resp.Ranges {
				views[i] = viewOf(info, flags.hex)
			}
			if resp.OnlyHere {
				fmt.Fprintln(a.err, "the directory cannot be read now: these are the ranges with a replica on the node that was asked, and there may be more")
			}
			return a.printRanges(flags.output, views)
		},
	}
}

func newRangeShow(a *app, flags *clientFlags) *cobra.Command {
	var byKey bool
	cmd := &cobra.Command{
		Use:   "show ID|KEY",
		Short: "Show one range",
		Long: "Show one range: by its id if the argument is a number, else by a key that it holds.\n" +
			"A node with a replica of it knows most (--endpoints).",
		Args: exactly(1, "the id of a range or a key"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := flags.check(cmd); err != nil {
				return err
			}
			req := &adminpb.ShowRangeRequest{}
			if id, err := strconv.ParseUint(args[0], 10, 64); err == nil && id > 0 && !byKey {
				req.RangeId = id
			} else if req.Key, err = flags.key(cmd, args[0]); err != nil {
				return err
			}
			var resp *adminpb.ShowRangeResponse
			err := flags.ask(cmd.Context(), func(ctx context.Context, c adminpb.AdminClient) (err error) {
				resp, err = c.ShowRange(ctx, req)
				return err
			})
			if err != nil {
				return fmt.Errorf("show range %s: %w", args[0], err)
			}
			return a.printRange(flags.output, viewOf(resp.Range, flags.hex))
		},
	}
	cmd.Flags().BoolVar(&byKey, "key", false, "the argument is a key, though it looks like a number")
	return cmd
}

// splitView is one split as it is printed.
type splitView struct {
	Key   string     `json:"key"`
	Split bool       `json:"split"` // false: the key began a range already
	Left  *rangeView `json:"left,omitempty"`
	Right *rangeView `json:"right,omitempty"`
}

func newRangeSplit(a *app, flags *clientFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "split KEY...",
		Short: "Cut ranges just before keys",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &usageError{cmd, errors.New("want at least one key to cut before")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := flags.check(cmd); err != nil {
				return err
			}
			var done []splitView
			for _, arg := range args {
				view, err := a.split(cmd, flags, arg)
				if err != nil {
					return err
				}
				if flags.output == "table" {
					a.printSplit(view)
				}
				done = append(done, view)
			}
			if flags.output == "json" {
				return a.printJSON(done)
			}
			return nil
		},
	}
}

func (a *app) split(cmd *cobra.Command, flags *clientFlags, arg string) (splitView, error) {
	key, err := flags.key(cmd, arg)
	if err != nil {
		return splitView{}, err
	}
	var resp *adminpb.SplitRangeResponse
	err = flags.ask(cmd.Context(), func(ctx context.Context, c adminpb.AdminClient) (err error) {
		resp, err = c.SplitRange(ctx, &adminpb.SplitRangeRequest{Key: key})
		return err
	})
	if err != nil {
		return splitView{}, fmt.Errorf("split before %s: %w", arg, err)
	}
	view := splitView{Key: arg, Split: resp.Split}
	if resp.Left != nil {
		left := viewOf(resp.Left, flags.hex)
		view.Left = &left
	}
	if resp.Right != nil {
		right := viewOf(resp.Right, flags.hex)
		view.Right = &right
	}
	return view, nil
}

func (a *app) printSplit(v splitView) {
	switch {
	case !v.Split:
		fmt.Fprintf(a.out, "%s: begins a range already\n", v.Key)
	case v.Left != nil && v.Right != nil:
		fmt.Fprintf(a.out, "%s: range %d keeps [%s, %s), range %d is [%s, %s)\n", v.Key,
			v.Left.ID, v.Left.Start, v.Left.End, v.Right.ID, v.Right.Start, v.Right.End)
	default:
		fmt.Fprintf(a.out, "%s: split\n", v.Key)
	}
}

// rangeView is a range as it is printed. Start and End show addresses: system
// rows, leases, then the keys of users.
type rangeView struct {
	ID         uint64        `json:"id"`
	Start      string        `json:"start"`
	End        string        `json:"end"`
	Generation uint64        `json:"generation"`
	Replicas   []replicaView `json:"replicas"`
	Leader     uint64        `json:"leader_replica"`
	Term       uint64        `json:"term"`
	Applied    uint64        `json:"applied_index"`
	LogFirst   uint64        `json:"log_first_index"`
	LogLast    uint64        `json:"log_last_index"`
	LogBytes   uint64        `json:"log_bytes"`
	SizeBytes  uint64        `json:"size_bytes"`
	LiveKeys   int64         `json:"live_keys"` // -1: not counted yet
	Writes     float64       `json:"writes_per_second"`
	WriteBytes float64       `json:"write_bytes_per_second"`
	// Undecided: its replicas differ, and nobody knows which are right.
	Undecided bool `json:"undecided"`
	// Elsewhere: the node that was asked has no replica, and knows span and replicas only,
	// and perhaps the leader.
	Elsewhere bool `json:"elsewhere,omitempty"`
}

type replicaView struct {
	ID    uint64 `json:"id"`
	Store uint64 `json:"store"`
	Node  uint64 `json:"node"`
	Kind  string `json:"kind"`
	// Corrupt: it is out of service, and will be replaced.
	Corrupt bool `json:"corrupt,omitempty"`
}

func viewOf(info *adminpb.RangeInfo, hexKeys bool) rangeView {
	d := info.GetDescriptor_()
	v := rangeView{
		ID: d.GetRangeId(), Start: formatBorder(d.GetStart(), hexKeys, "begin"), End: formatBorder(d.GetEnd(), hexKeys, "end"),
		Generation: d.GetGeneration(), Leader: info.GetLeaderReplicaId(), Term: info.GetTerm(),
		Applied: info.GetAppliedIndex(), LogFirst: info.GetFirstIndex(), LogLast: info.GetLastIndex(),
		LogBytes: info.GetLogBytes(), SizeBytes: info.GetSizeBytes(), LiveKeys: info.GetLiveKeys(),
		Writes: info.GetWritesPerSecond(), WriteBytes: info.GetWriteBytesPerSecond(),
		Replicas: []replicaView{}, Undecided: info.GetUndecided(),
		Elsewhere: info.GetElsewhere(),
	}
	for _, r := range d.GetReplicas() {
		kind := "voter"
		if r.Kind == metapb.ReplicaKind_LEARNER {
			kind = "learner"
		}
		v.Replicas = append(v.Replicas, replicaView{
			ID: r.ReplicaId, Store: r.StoreId, Node: r.NodeId, Kind: kind, Corrupt: slices.Contains(info.GetCorruptReplicaIds(), r.ReplicaId),
		})
	}
	return v
}

// formatBorder shows one end of a span; an empty one is the keyspace's. A bare
// first byte is where a kind of address begins.
func formatBorder(addr []byte, hexKeys bool, empty string) string {
	switch {
	case len(addr) == 0:
		return empty
	case hexKeys:
		return hex.EncodeToString(addr)
	case len(addr) > 1:
		return keys.FormatAddress(addr)
	}
	switch keys.Kind(addr[0]) {
	case keys.KindLease:
		return "leases"
	case keys.KindSystem:
		return "system"
	case keys.KindUser:
		return "users"
	}
	return keys.FormatAddress(addr)
}

func (a *app) printRanges(output string, views []rangeView) error {
	if output == "json" {
		return a.printJSON(views)
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tSTART\tEND\tGEN\tREPLICAS\tLEADER\tSIZE\tKEYS\tWRITES/S")
	for _, v := range views {
		rest := "?\t?\t?"
		if !v.Elsewhere {
			rest = fmt.Sprintf("%s\t%s\t%.1f", formatSize(v.SizeBytes), formatCount(v.LiveKeys), v.Writes)
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%d\t%s\t%s\t%s\n", v.ID, v.Start, v.End, v.Generation,
			formatReplicas(v.Replicas), v.leader(), rest)
	}
	return w.Flush()
}

func (a *app) printRange(output string, v rangeView) error {
	if output == "json" {
		return a.printJSON(v)
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	if v.Undecided {
		defer fmt.Fprintf(a.out, "\nThe replicas differ and no majority agrees: none is in service until 'flotilla range trust %d STORE'.\n", v.ID)
	}
	leader := fmt.Sprintf("replica %d, term %d", v.Leader, v.Term)
	if v.Elsewhere && v.Leader == 0 {
		leader = "not known to this node"
	}
	rows := [][2]string{
		{"range", fmt.Sprint(v.ID)},
		{"span", fmt.Sprintf("[%s, %s)", v.Start, v.End)},
		{"generation", fmt.Sprint(v.Generation)},
		{"replicas", formatReplicas(v.Replicas)},
		{"leader", leader},
	}
	if v.Elsewhere {
		rows = append(rows, [2]string{"the rest", "not known to a node without a replica: ask another one, with --endpoints"})
	} else {
		rows = append(rows, [][2]string{
			{"log", fmt.Sprintf("entries %d to %d, %s, applied to %d", v.LogFirst, v.LogLast, formatSize(v.LogBytes), v.Applied)},
			{"size", formatSize(v.SizeBytes)},
			{"live keys", formatCount(v.LiveKeys)},
			{"writes", fmt.Sprintf("%.1f/s (%s/s)", v.Writes, formatSize(uint64(max(v.WriteBytes, 0))))},
		}...)
	}
	for _, row := range rows {
		fmt.Fprintf(w, "%s\t%s\n", row[0], row[1])
	}
	return w.Flush()
}

// leader says who leads, where there is somebody to be asked.
func (v *rangeView) leader() string {
	switch {
	case v.Undecided:
		return "undecided"
	case v.Elsewhere && v.Leader == 0:
		return "?"
	}
	return fmt.Sprint(v.Leader)
}

func formatReplicas(rs []replicaView) string {
	out := ""
	for i, r := range rs {
		if i > 0 {
			out += ","
		}
		out += fmt.Sprintf("%d@s%d", r.ID, r.Store)
		if r.Kind == "learner" {
			out += "(learner)"
		}
		if r.Corrupt {
			out += "(corrupt)"
		}
	}
	return out
}

func formatCount(n int64) string {
	if n < 0 {
		return "?"
	}
	return fmt.Sprint(n)
}

// formatSize shows bytes with the largest unit that leaves one digit or more.
func formatSize(n uint64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	size, unit := float64(n)/1024, 0
	for ; size >= 1024 && unit < 4; unit++ {
		size /= 1024
	}
	return fmt.Sprintf("%.1f %ciB", size, "KMGTP"[unit])
}

// unreachable reports whether an endpoint gave no answer of its own.
func unreachable(st *status.Status) bool {
	return st.Code() == codes.Unavailable || st.Code() == codes.DeadlineExceeded
}
