package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/adminpb"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// self is what this node says of itself.
func (n *Node) self() placement.Member {
	return placement.Member{
		Node: metapb.NodeID(n.ident.NodeId), Store: metapb.StoreID(n.ident.StoreId),
		Nonce: uint64(n.folder),
		Name:  n.cfg.Name, PeerURLs: n.cfg.PeerURLs, ClientURLs: n.cfg.ClientURLs, GossipAddr: *n.gossipAddr.Load(),
	}
}

// selfToTell is what this node tells of itself. After the first time it stays where the
// cluster says that it is: that may have been corrected since.
func (n *Node) selfToTell(ctx context.Context, stays bool) (placement.Member, error) {
	self := n.self()
	select {
	case <-n.announced:
	default:
		if !stays {
			return self, nil
		}
	}
	members, err := n.members(ctx)
	for _, m := range members {
		if m.Node == self.Node {
			self.PeerURLs = m.PeerURLs
		}
	}
	return self, err
}

// announce tells the cluster who this node is now: when it starts, and when it has
// begun to gossip.
func (n *Node) announce(ctx context.Context) {
	stays := false // where another member is
	for told := ""; ; {
		self, err := n.selfToTell(ctx, stays)
		if err == nil {
			_, err = n.client.System(ctx, &placement.AnnounceOp{Member: self})
		}
		switch {
		case err == nil:
			n.announcedOnce.Do(func() { close(n.announced) })
			return
		case ctx.Err() != nil:
			return
		case errors.Is(err, placement.ErrRemoved):
			n.failSoon(removedError(err))
			return
		case errors.Is(err, placement.ErrOtherFolder):
			n.failSoon(otherFolderError())
			return
		case errors.Is(err, placement.ErrNameTaken):
			n.failSoon(fmt.Errorf("the cluster does not take this node back: %w", err))
			return
		case errors.Is(err, placement.ErrURLTaken) && !stays:
			// It serves all the same: others have heard of it where it is, and where members
			// got each other's addresses none could be the first.
			stays = true
			n.cfg.Logger.Warn("another member has a peer URL of this node: the members' list keeps what it has of this one; is --initial-advertise-peer-urls right? If so, correct the list with 'etcdctl member update'",
				"urls", n.cfg.PeerURLs, "error", err)
			continue
		case err.Error() != told:
			told = err.Error()
			n.cfg.Logger.Warn("the cluster could not be told who this node is, trying again", "error", err)
		}
		if sleep(ctx, announcePause) != nil {
			return
		}
	}
}

const announcePause = 500 * time.Millisecond

// members asks the system range for the members. What it says of the alarms besides
// holds from now on.
func (n *Node) members(ctx context.Context) ([]placement.Member, error) {
	asked := n.pub.alarmAsks.Add(1)
	got, err := n.client.System(ctx, &placement.MembersOp{})
	if err != nil {
		return nil, err
	}
	reply, ok := got.(*placement.MembersReply)
	if !ok {
		return nil, fmt.Errorf("members: unexpected reply %T", got)
	}
	n.pub.setAlarms(asked, reply.Alarms)
	return reply.Members, nil
}

// Members implements etcdapi.Cluster. A member is a node; one that has not told
// its name is known only by where it is to come from.
func (n *Node) Members(ctx context.Context, linearizable bool) ([]*pb.Member, error) {
	if !linearizable {
		return n.withSelf(n.book.all()), nil
	}
	members, err := n.members(ctx)
	if err != nil {
		return nil, err
	}
	return n.withSelf(members), nil
}

// withSelf has this node among the members also while the cluster was not told.
func (n *Node) withSelf(members []placement.Member) []*pb.Member {
	self := n.self()
	if !slices.ContainsFunc(members, func(m placement.Member) bool { return m.Node == self.Node && m.Name != "" }) {
		members = slices.DeleteFunc(slices.Clone(members), func(m placement.Member) bool { return m.Node == self.Node })
		members = append(members, self)
		slices.SortFunc(members, func(a, b placement.Member) int { return int(a.Node) - int(b.Node) })
	}
	return memberList(members)
}

func memberList(members []placement.Member) []*pb.Member {
	var out []*pb.Member
	for i := range members {
		m := &members[i]
		out = append(out, &pb.Member{ID: uint64(m.Node), Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs})
	}
	return out
}

// ChangeMember implements etcdapi.Cluster. A member to be removed that a range needs leaves
// first: its replicas are taken away. That goes on, and ends with the removal, also if
// nobody waits for it.
func (n *Node) ChangeMember(ctx context.Context, id uint64, remove bool, peerURLs []string) (changed *pb.Member, all []*pb.Member, err error) {
	op := &placement.MemberOp{Node: metapb.NodeID(id), Remove: remove, PeerURLs: peerURLs}
	members, id, err := n.changeMember(ctx, op)
	for leaves := false; remove && err == nil && hasMember(members, id); leaves = true {
		if !leaves {
			n.cfg.Logger.Info("a member is to be removed and ranges need it: their replicas are taken away from it first", "node", id)
		}
		if sleep(ctx, leavePause) != nil {
			return nil, nil, ctx.Err()
		}
		if members, _, err = n.changeMember(ctx, op); errors.Is(err, placement.ErrNoMember) {
			members, err = n.members(ctx) // it was removed meanwhile
		}
	}
	if err != nil && remove && uint64(op.Node) == n.ident.NodeId && errors.Is(n.failure(), placement.ErrRemoved) {
		// It heard of its removal in another way before it got the answer.
		members, err = slices.DeleteFunc(n.book.all(), func(m placement.Member) bool { return m.Node == op.Node }), nil
	}
	if err != nil {
		return nil, nil, err
	}
	all = memberList(members)
	for _, m := range all {
		if m.ID == id {
			changed = m
		}
	}
	return changed, all, nil
}

// leavePause is how long a member that leaves is given until somebody looks again.
const leavePause = 100 * time.Millisecond

func hasMember(members []placement.Member, id uint64) bool {
	return slices.ContainsFunc(members, func(m placement.Member) bool { return uint64(m.Node) == id })
}

// changeMember returns all members after a change, and which was changed.
func (n *Node) changeMember(ctx context.Context, op *placement.MemberOp) ([]placement.Member, uint64, error) {
	got, err := n.client.System(ctx, op)
	if errors.Is(err, placement.ErrOneStore) {
		if err = n.endOneStore(ctx); err == nil {
			got, err = n.client.System(ctx, op)
		}
	}
	if err != nil {
		return nil, 0, err
	}
	reply, ok := got.(*placement.MembersReply)
	if !ok {
		return nil, 0, fmt.Errorf("change a member: unexpected reply %T", got)
	}
	return reply.Members, uint64(reply.Changed), nil
}

// ListStores implements etcdapi.Admin.
func (n *Node) ListStores(ctx context.Context) (*adminpb.ListStoresResponse, error) {
	members, err := n.members(ctx)
	if err != nil {
		return nil, err
	}
	var format metapb.Format
	newest := metapb.Format(0)
	resp := &adminpb.ListStoresResponse{}
	err = n.inLoop(ctx, func() {
		format = n.core.Format()
		for _, m := range members {
			if m.Removed || m.Store == 0 || m.Name == "" {
				continue // it has no store yet, or its store is of no account
			}
			reads := n.core.Reads(m.Store)
			newest = max(newest, reads)
			resp.Stores = append(resp.Stores, &adminpb.StoreInfo{
				StoreId: uint64(m.Store), NodeId: uint64(m.Node), Name: m.Name, ReadsFormat: uint64(reads),
				Leaving: m.Leaving,
			})
		}
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(resp.Stores, func(a, b *adminpb.StoreInfo) int { return cmp.Compare(a.StoreId, b.StoreId) })
	for _, s := range resp.Stores {
		s.HoldsBack = format < newest && metapb.Format(s.ReadsFormat) < newest
	}
	resp.ClusterFormat, resp.NewestFormat = uint64(format), uint64(newest)
	for _, f := range metapb.Features() {
		if !format.Has(f) {
			resp.Waiting = append(resp.Waiting, f.String())
		}
	}
	return resp, nil
}

// failSoon ends the node: it cannot go on as what it is.
func (n *Node) failSoon(err error) {
	n.inbox.Lock()
	n.inbox.failure = cmp.Or(n.inbox.failure, err)
	n.inbox.Unlock()
	n.wake()
}

// failure is why the node ends, or is about to; nil: it goes on.
func (n *Node) failure() error {
	n.inbox.Lock()
	defer n.inbox.Unlock()
	return n.inbox.failure
}
