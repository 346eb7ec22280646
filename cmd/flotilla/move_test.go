package main

import (
	"context"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/flotilladb/flotilla/internal/stop"
	"github.com/flotilladb/flotilla/proto/adminpb"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// movingNode answers a move with an error, and shows a range as it then is.
type movingNode struct {
	adminpb.UnimplementedAdminServer
	err      codes.Code
	replicas []*metapb.Replica
}

func (n *movingNode) MoveReplica(context.Context, *adminpb.MoveReplicaRequest) (*adminpb.MoveReplicaResponse, error) {
	return nil, status.Error(n.err, "move refused")
}

func (n *movingNode) ShowRange(_ context.Context, req *adminpb.ShowRangeRequest) (*adminpb.ShowRangeResponse, error) {
	d := &metapb.Descriptor{RangeId: req.RangeId, Replicas: n.replicas}
	return &adminpb.ShowRangeResponse{Range: &adminpb.RangeInfo{Descriptor_: d}}, nil
}

// serve returns the endpoint of a node.
func (n *movingNode) serve(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, s := grpc.NewServer(), stop.New(context.Background())
	adminpb.RegisterAdminServer(server, n)
	if err := s.Go("server", func(context.Context) { _ = server.Serve(l) }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Stop()
		s.Stop()
	})
	return l.Addr().String()
}

// The first endpoint does what is asked, and does not get to say so. The next one has nothing
// to do, and refuses: what was asked for is so. Where it is not, or nobody can have done it,
// the refusal is what the command says.
func TestMoveDoneByTheFirstEndpoint(t *testing.T) {
	replicas := func(kind metapb.ReplicaKind, voters ...uint64) (out []*metapb.Replica) {
		for _, store := range voters {
			out = append(out, &metapb.Replica{ReplicaId: store, StoreId: store})
		}
		return append(out, &metapb.Replica{ReplicaId: 9, StoreId: 9, Kind: kind})
	}
	const voter, learner, outgoing = metapb.ReplicaKind_VOTER, metapb.ReplicaKind_LEARNER, metapb.ReplicaKind_OUTGOING
	late := (&movingNode{err: codes.DeadlineExceeded}).serve(t)
	lost := (&movingNode{err: codes.Unavailable}).serve(t)
	refuses := (&movingNode{err: codes.FailedPrecondition}).serve(t)
	for _, tc := range []struct {
		args, first string
		replicas    []*metapb.Replica
		ok          bool
	}{
		{"add 2 9", late, replicas(voter, 1, 2), true},
		{"add 2 9", lost, replicas(voter, 1, 2), true},
		{"add 2 9", late, replicas(learner, 1, 2), false},
		{"add 2 8", late, replicas(voter, 1, 2), false},
		{"remove 2 3", late, replicas(voter, 1, 2), true},
		{"remove 2 9", late, replicas(outgoing, 1, 2), false},
		{"move 2 3 9", late, replicas(voter, 1, 2), true},
		{"move 2 1 9", late, replicas(voter, 1, 2), false},
		{"move 2 3 8", late, replicas(voter, 1, 2), false},
		{"remove 2 3", freeAddr(t), replicas(voter, 1, 2), false}, // nobody was asked
		{"remove 2 3", refuses, replicas(voter, 1, 2), false},
	} {
		next := (&movingNode{err: codes.FailedPrecondition, replicas: tc.replicas}).serve(t)
		args := append([]string{"range"}, strings.Fields(tc.args)...)
		code, out, errs := flotilla(t, append(args, "--endpoints="+tc.first+","+next)...)
		want := exitFailed
		if tc.ok {
			want = 0
		}
		if code != want || tc.ok != strings.Contains(out, "range 2: replicas 1@s1,2@s2,9@s9") || tc.ok == strings.Contains(errs, "move refused") {
			t.Errorf("%s, and now %v: code %d\n%s%s", tc.args, tc.replicas, code, out, errs)
		}
	}
}
