package node

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/adminpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/router"
)

// KV is the node's KV service.
func (n *Node) KV() *KV { return &KV{Client: n.client, n: n} }

// KV is a router's client that waits for a physical compaction.
type KV struct {
	*router.Client
	n *Node
}

// Compact makes the states before a revision unreadable; with physical it
// returns when what only they needed is removed.
func (kv *KV) Compact(ctx context.Context, req *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	if err := kv.capped(false); err != nil {
		return nil, err
	}
	resp, err := kv.Client.Compact(ctx, req)
	if err != nil {
		return nil, err
	}
	// Without a replica of the system range this node would hear of it with the answer to
	// what it asks next, and not before.
	rev := metapb.Revision(req.Revision)
	err = kv.n.inLoop(ctx, func() { kv.n.core.SawCompacted(rev) })
	switch {
	case !req.Physical:
		return resp, nil // it is done, whether or not this node stops meanwhile
	case err == nil:
		err = kv.n.gc.wait(ctx, rev)
	}
	return resp, err
}

// capped returns what an active alarm answers to a request, as etcd when it
// applies one: with NOSPACE nothing is put, with CORRUPT nothing is served.
func (kv *KV) capped(puts bool) error {
	switch a := kv.n.Alarms(); {
	case len(a) == 0:
		return nil
	case kv.n.hasAlarm(pb.AlarmType_CORRUPT):
		return mvcc.ErrCorrupt
	case puts && kv.n.hasAlarm(pb.AlarmType_NOSPACE):
		return peerpb.ErrDiskFull
	}
	return nil
}

// Put stores a key.
func (kv *KV) Put(ctx context.Context, req *pb.PutRequest) (*pb.PutResponse, error) {
	if err := kv.capped(true); err != nil {
		return nil, err
	}
	return kv.Client.Put(ctx, req)
}

// DeleteRange deletes keys.
func (kv *KV) DeleteRange(ctx context.Context, req *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	if err := kv.capped(false); err != nil {
		return nil, err
	}
	return kv.Client.DeleteRange(ctx, req)
}

// Txn compares, then reads and writes.
func (kv *KV) Txn(ctx context.Context, req *pb.TxnRequest) (*pb.TxnResponse, error) {
	if err := kv.capped(len(kv.n.Alarms()) > 0 && mvcc.Puts(req)); err != nil {
		return nil, err
	}
	return kv.Client.Txn(ctx, req)
}

// Range reads.
func (kv *KV) Range(ctx context.Context, req *pb.RangeRequest) (*pb.RangeResponse, error) {
	if err := kv.capped(false); err != nil {
		return nil, err
	}
	return kv.Client.Range(ctx, req)
}

// RangeStream reads in pieces.
func (kv *KV) RangeStream(ctx context.Context, req *pb.RangeRequest, send func(*pb.RangeResponse) error) error {
	if err := kv.capped(false); err != nil {
		return err
	}
	return kv.Client.RangeStream(ctx, req, send)
}

// IDs implements etcdapi.Identity.
func (n *Node) IDs() (cluster, member uint64) { return n.ident.ClusterId, n.ident.NodeId }

// Term implements etcdapi.Identity: the term of the system range.
func (n *Node) Term() uint64 { return n.pub.term.Load() }

// Revision implements etcdapi.Identity.
func (n *Node) Revision() int64 { return n.pub.current.Load() }

// Leader implements etcdapi.Identity.
func (n *Node) Leader() uint64 { return n.pub.leader.Load() }

// Status implements etcdapi.Maintenance.
func (n *Node) Status(ctx context.Context) (*pb.StatusResponse, error) {
	st := n.eng.Stats()
	resp := &pb.StatusResponse{
		DbSize:         max(int64(st.DiskBytes), sizeInUse(&st)),
		DbSizeInUse:    sizeInUse(&st),
		DbSizeQuota:    n.cfg.QuotaBytes,
		StorageVersion: "3.7.0",
	}
	for _, a := range n.contained() {
		resp.Errors = append(resp.Errors, a.String())
	}
	err := n.inLoop(ctx, func() {
		if sys := n.core.Store().Replica(metapb.SystemRange); sys != nil {
			in := sys.Info()
			resp.RaftIndex, resp.RaftAppliedIndex = in.Last, in.Applied
		}
	})
	return resp, err
}

// HashKV implements etcdapi.Maintenance: the hash of etcd, over all ranges.
func (n *Node) HashKV(ctx context.Context, req *pb.HashKVRequest) (*pb.HashKVResponse, error) {
	sum, rev, compacted, err := n.client.HashKV(ctx, req.Revision)
	if err != nil {
		return nil, err
	}
	return &pb.HashKVResponse{Hash: sum, CompactRevision: int64(compacted), HashRevision: int64(rev)}, nil
}

// Alarm implements etcdapi.Alarms. As in etcd also a question goes to a leader.
func (n *Node) Alarm(ctx context.Context, req *pb.AlarmRequest) (*pb.AlarmResponse, error) {
	resp := &pb.AlarmResponse{}
	if req.Action != pb.AlarmRequest_GET {
		reply, err := n.client.System(ctx, &placement.AlarmOp{
			Activate: req.Action == pb.AlarmRequest_ACTIVATE,
			Alarm:    placement.Alarm{Type: req.Alarm, Member: metapb.NodeID(req.MemberID)},
		})
		if err != nil {
			return nil, err
		}
		done, ok := reply.(*placement.AlarmReply)
		if !ok {
			return nil, fmt.Errorf("alarm: unexpected reply %T", reply)
		}
		resp.Alarms = alarmMembers(done.Alarms)
	}
	// Whoever has the answer finds this node to act by it.
	if _, err := n.members(ctx); err != nil {
		return nil, err
	}
	if req.Action == pb.AlarmRequest_GET {
		for _, a := range append(slices.Clone(n.Alarms()), n.contained()...) {
			if req.Alarm == pb.AlarmType_NONE || req.Alarm == a.Alarm {
				resp.Alarms = append(resp.Alarms, a)
			}
		}
	}
	return resp, nil
}

// contained are alarms that end no service: what is corrupt is out of it.
func (n *Node) contained() []*pb.AlarmMember {
	if p := n.pub.alarms.Load(); p != nil {
		return p.contained
	}
	return nil
}

// Alarms implements etcdapi.Alarms: those by which requests are judged.
func (n *Node) Alarms() []*pb.AlarmMember {
	if p := n.pub.alarms.Load(); p != nil {
		return p.active
	}
	return nil
}

func (n *Node) hasAlarm(t pb.AlarmType) bool {
	return slices.ContainsFunc(n.Alarms(), func(m *pb.AlarmMember) bool { return m.Alarm == t })
}

// raiseNoSpace raises etcd's alarm for this node.
func (n *Node) raiseNoSpace(ctx context.Context) {
	_, err := n.Alarm(ctx, &pb.AlarmRequest{
		Action: pb.AlarmRequest_ACTIVATE, Alarm: pb.AlarmType_NOSPACE, MemberID: n.ident.NodeId,
	})
	if err != nil && ctx.Err() == nil {
		n.cfg.Logger.Error("the NOSPACE alarm could not be raised", "err", err)
	}
}

// Available implements etcdapi.Quota: whether the disk, and the quota if there
// is one, take so many bytes more. It knows what the last look at the disk saw.
//
// Between two looks what is let in is taken off, and the engine knows at once
// when the disk is low: a fast writer fills a small disk within a look.
//
// With several stores it is for the leaders of ranges to refuse, whose disks have to
// take it.
func (n *Node) Available(costBytes int64) bool {
	if !n.Direct() {
		return true
	}
	if n.pub.room.Load() > costBytes && !n.eng.DiskLow() {
		n.pub.room.Add(-costBytes)
		return true
	}
	select {
	case n.refused <- struct{}{}: // who is refused for want of space raises the alarm
	default:
	}
	return false
}

// sizeInUse is what the quota bounds: tables and what will be in tables. Not the
// engine's log, which as in etcd is not of the database: its files are used again
// and do not grow with the data, so that no compaction could bring a store with
// a small quota below it.
func sizeInUse(st *engine.Stats) int64 { return int64(st.LogicalBytes + st.MemtableBytes) }

// room returns how many bytes the store may still take from clients.
func (n *Node) room() int64 {
	st := n.eng.Stats()
	switch {
	case st.DiskFull || st.DiskLow:
		return 0
	case n.cfg.QuotaBytes == 0:
		return math.MaxInt64
	}
	return n.cfg.QuotaBytes - sizeInUse(&st)
}

// SplitRange implements etcdapi.Admin.
func (n *Node) SplitRange(ctx context.Context, req *adminpb.SplitRangeRequest) (*adminpb.SplitRangeResponse, error) {
	if len(req.Key) == 0 {
		return nil, errors.New("split: no key")
	}
	done, err := n.client.Split(ctx, req.Key)
	if err != nil {
		return nil, err
	}
	resp := &adminpb.SplitRangeResponse{Split: done.Split}
	if resp.Left, err = n.showSide(ctx, done.Left); err != nil {
		return nil, err
	}
	if done.Right != nil {
		resp.Right, err = n.showSide(ctx, done.Right)
	}
	return resp, err
}

// showSide shows one side of a split, which need not be applied here yet.
func (n *Node) showSide(ctx context.Context, d *metapb.Descriptor) (*adminpb.RangeInfo, error) {
	in, err := n.ShowRange(ctx, &adminpb.ShowRangeRequest{RangeId: d.RangeId})
	if errors.Is(err, peerpb.ErrRangeNotFound) {
		return &adminpb.RangeInfo{Descriptor_: d, LiveKeys: -1}, nil
	}
	return in, err
}
