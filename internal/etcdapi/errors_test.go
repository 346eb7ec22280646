package etcdapi

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

func TestErrorTable(t *testing.T) {
	for _, tc := range []struct {
		err  error
		code codes.Code
		text string
	}{
		{mvcc.ErrEmptyKey, codes.InvalidArgument, "etcdserver: key is not provided"},
		{fmt.Errorf("range 7: %w", mvcc.ErrCompacted), codes.OutOfRange, "etcdserver: mvcc: required revision has been compacted"},
		{mvcc.ErrFutureRevision, codes.OutOfRange, "etcdserver: mvcc: required revision is a future revision"},
		{mvcc.ErrLeaseNotFound, codes.NotFound, "etcdserver: requested lease not found"},
		{&mvcc.CorruptError{Why: "cut short"}, codes.DataLoss, "etcdserver: corrupt cluster"},
		{mvcc.ErrStreamSort, codes.Unimplemented, "RangeStream does not support custom sort orders"},
		{peerpb.ErrDiskFull, codes.ResourceExhausted, "etcdserver: mvcc: database space exceeded"},
		{peerpb.ErrUnknown, codes.Unavailable, "etcdserver: request timed out, possibly due to previous leader failure"},
		{&peerpb.MovedError{Range: 7}, codes.Unavailable, "etcdserver: request timed out"},
		{peerpb.ErrStopping, codes.Unavailable, "etcdserver: server stopped"},
		{fmt.Errorf("read: %w", &engine.CorruptionError{Path: "000007.sst", Err: errors.New("bad block")}), codes.DataLoss,
			"read: engine: corrupt data in 000007.sst: bad block"},
		{fmt.Errorf("%w: range 7", placement.ErrNeeded), codes.FailedPrecondition,
			"etcdserver: re-configuration failed due to not enough started members: placement: a range needs its replica on the node: range 7"},
		{fmt.Errorf("%w: alone", placement.ErrOneStore), codes.FailedPrecondition, "placement: the cluster is one of one store: alone"},
		{errors.New("what is this"), codes.Unknown, "what is this"},
		{status.Error(codes.Aborted, "as it is"), codes.Aborted, "as it is"},
	} {
		got := status.Convert(toGRPC(tc.err))
		if got.Code() != tc.code || got.Message() != tc.text {
			t.Errorf("%v: %v %q, want %v %q", tc.err, got.Code(), got.Message(), tc.code, tc.text)
		}
	}
	if toGRPC(nil) != nil {
		t.Error("no error became one")
	}
	if err := toGRPC(fmt.Errorf("put: %w", context.Canceled)); !errors.Is(err, context.Canceled) {
		t.Errorf("a canceled request: %v", err)
	}
}

// What clients can tell apart by the string must be in etcd's own table, or
// their libraries see a plain gRPC status.
func TestTableSpeaksEtcd(t *testing.T) {
	for _, row := range grpcErrors {
		var known rpctypes.EtcdError
		text := status.Convert(row.to).Message()
		if errors.As(rpctypes.Error(row.to), &known) || strings.HasPrefix(text, "RangeStream does not support") {
			continue
		}
		t.Errorf("%v: clients do not know %q", row.is, text)
	}
}

// A sentinel that is added to one of our packages gets a row here or a reason
// why no client can meet it.
func TestErrorTableIsComplete(t *testing.T) {
	inside := []string{
		"mvcc.ErrWait",         // evaluated again in the next batch
		"mvcc.ErrLeaseUnknown", // evaluated again when it is known
		// Between a range and a router, or whoever has leases expire:
		"peerpb.ErrLeaseNotDue", "peerpb.ErrNeedsTxn", "peerpb.ErrMarkMissing",
		"peerpb.ErrLeaseNotFound", // mvcc's
		"mvcc.ErrUnknownRequest",  // we only pass requests of the KV service
		"router.ErrBadRequest",    // the same
		// Other names of peerpb.ErrLeaseNotFound:
		"mvcc.ErrLeaseNotFound", "lease.ErrNotFound",
		"lease.ErrCheckpointed", // tried again by the node
		// Of changes of replicas, which only operators ask for:
		"peerpb.ErrBadChange", "peerpb.ErrNotCaughtUp", "peerpb.ErrLeaderLeaves", "peerpb.ErrBadTransfer",
		"peerpb.ErrLastReplica", "peerpb.ErrNoMajority", "peerpb.ErrHasReplica", "peerpb.ErrNoReplica", "peerpb.ErrUnknownStore",
		"peerpb.ErrMoveUnderWay", "peerpb.ErrMoveStalled", "peerpb.ErrWaitsForUpgrade",
		// Met when the node starts:
		"engine.ErrLocked", "engine.ErrNewerFormat", "engine.ErrEtcdData",
		"engine.ErrNotFound", // an answer, to whoever reads the engine
		// Between a store and the sequencer:
		"placement.ErrStaleAsk", "placement.ErrAskOrder", "placement.ErrTooManyUnacked", "placement.ErrBadAsk",
		// Of operations that the node itself makes:
		"placement.ErrNameTaken", "placement.ErrOtherFolder",
		"placement.ErrUnknownOp", "placement.ErrBadOp", "placement.ErrBadRow",
	}
	have := make(map[string]bool)
	table, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(table, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if pkg, ok := sel.X.(*ast.Ident); ok {
				have[pkg.Name+"."+sel.Sel.Name] = true
			}
		}
		return true
	})
	for pkg, path := range map[string]string{
		"engine":    "../../engine/errors.go",
		"mvcc":      "../../mvcc/errors.go",
		"peerpb":    "../../proto/peerpb/errors.go",
		"router":    "../../router/errors.go",
		"placement": "../../placement/errors.go",
		"lease":     "../../lease/errors.go",
		"watchfeed": "../../watchfeed/errors.go",
	} {
		for _, name := range sentinels(t, path) {
			if full := pkg + "." + name; !have[full] && !slices.Contains(inside, full) {
				t.Errorf("%s is in no row", full)
			}
		}
	}
}

func sentinels(t *testing.T, path string) (names []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, decl := range file.Decls {
		vars, ok := decl.(*ast.GenDecl)
		if !ok || vars.Tok != token.VAR {
			continue
		}
		for _, spec := range vars.Specs {
			for _, id := range spec.(*ast.ValueSpec).Names {
				if strings.HasPrefix(id.Name, "Err") {
					names = append(names, id.Name)
				}
			}
		}
	}
	return names
}
