package raftgroup

import (
	"google.golang.org/protobuf/proto"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// Resign makes a leader a follower of the next term, which nobody leads: as if it had
// heard of that term from a peer. Whoever leads after that was elected anew. It does
// nothing where the replica does not lead, or has no peers.
func (g *Group) Resign() (err error) {
	defer g.guard(&err)
	if g.log.failed != nil || !g.isLeader {
		return g.log.failed
	}
	peer := metapb.ReplicaID(0)
	g.Progress(func(p PeerProgress) {
		if p.ReplicaID != g.cfg.ReplicaID {
			peer = p.ReplicaID
		}
	})
	if peer == 0 {
		return nil
	}
	err = g.rn.Step(&raftpb.Message{
		Type: raftpb.MsgAppResp.Enum(), From: proto.Uint64(uint64(peer)), To: proto.Uint64(uint64(g.cfg.ReplicaID)), Term: proto.Uint64(g.term + 1),
	})
	g.maybeReady = true
	g.refresh()
	return err
}
