package node

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Up to a negative revision there is nothing: etcd hashes that, and says which revision it
// was asked for. Only 0 is what is current.
func TestHashAtNegativeRevision(t *testing.T) {
	n := open(t, t.TempDir())
	put(t, n.KV(), "a", "1", 2)
	const nothing = 1084519789 // what etcd answers
	for _, rev := range []int64{-1, -1 << 63} {
		resp, err := n.HashKV(t.Context(), &pb.HashKVRequest{Revision: rev})
		if err != nil || resp.Hash != nothing || resp.HashRevision != rev || resp.CompactRevision != -1 {
			t.Errorf("at %d: %v, %v", rev, resp, err)
		}
	}
	resp, err := n.HashKV(t.Context(), &pb.HashKVRequest{})
	if err != nil || resp.Hash == nothing || resp.HashRevision != 2 {
		t.Errorf("now: %v, %v", resp, err)
	}
	closeNode(t, n)
}
