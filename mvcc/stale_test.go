package mvcc

import (
	"errors"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/engine"
)

// Who does not know what is compacted may say of a revision that it is, and not
// that it is not.
func TestReadAtWhileStale(t *testing.T) {
	for _, x := range []struct {
		rev   int64
		stale bool
		want  error
	}{
		{rev: 3, want: ErrCompacted},
		{rev: 3, stale: true, want: ErrCompacted},
		{rev: 4},
		{rev: 4, stale: true, want: ErrWait},
		{rev: 0, stale: true},
		{rev: 11, stale: true, want: ErrWait},
	} {
		get := &pb.RangeRequest{Key: []byte("a"), Revision: x.rev}
		req := &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: get}}}}
		state := NewEngineState(engine.NewMem(), nil, nil)
		_, err := Evaluate(state, Env{Revision: OpenRevision, Known: 10, Compacted: 4, Stale: x.stale}, req)
		if !errors.Is(err, x.want) {
			t.Errorf("a read at %d, stale %v: %v, want %v", x.rev, x.stale, err, x.want)
		}
		if err := state.Close(); err != nil {
			t.Error(err)
		}
	}
}
