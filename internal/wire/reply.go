package wire

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// What a reply says, on the wire. A number is never used for anything else.
const (
	replyError byte = iota
	replyPut
	replyDeleteRange
	replyTxn
	replyRange
	replyClosed
	replyDone
	replyPrepared
	replyPushed
	replySplitDone
	replyRegistered
	replyMarks
	replyRenewed
	replyLeaseInfo
	replyLeaseFound
	replyLeaseList
	replyCompact
	replyAllocIDs
	replyAlarm
	replyReplicasChanged
	replyTransferred
	replyJoin
	replyMembers
	replyLookup
	replyReadPage
	replyRangeChecked
	replyHistoryPage
	replyHashPage
)

func (c *coder) reply(r *peerpb.Reply) {
	num(c, &r.ID)
	k := replyError
	if c.enc && r.Err == nil {
		if k = kindOfReply(r.Body); k == replyError {
			c.noForm("reply", r.Body)
			return
		}
	}
	c.kind(&k)
	if k == replyError {
		c.error(&r.Err)
		return
	}
	if !c.enc && c.err == nil {
		if r.Body = newReply(k); r.Body == nil {
			c.unknown("reply", uint64(k))
			return
		}
	}
	c.replyBody(r.Body)
}

// kindOfReply returns what an answer is on the wire, replyError if it has no form there.
func kindOfReply(b any) byte {
	switch b.(type) {
	case *pb.PutResponse:
		return replyPut
	case *pb.DeleteRangeResponse:
		return replyDeleteRange
	case *pb.TxnResponse:
		return replyTxn
	case *pb.RangeResponse:
		return replyRange
	case *peerpb.Closed:
		return replyClosed
	case *peerpb.Done:
		return replyDone
	case *peerpb.Prepared:
		return replyPrepared
	case *peerpb.Pushed:
		return replyPushed
	case *peerpb.SplitDone:
		return replySplitDone
	case *peerpb.ReplicasChanged:
		return replyReplicasChanged
	case *peerpb.Transferred:
		return replyTransferred
	case *peerpb.ReadPage:
		return replyReadPage
	case *peerpb.RangeChecked:
		return replyRangeChecked
	case *peerpb.HistoryPage:
		return replyHistoryPage
	case *peerpb.HashPage:
		return replyHashPage
	case *peerpb.Registered:
		return replyRegistered
	case *peerpb.Marks:
		return replyMarks
	case *peerpb.Renewed:
		return replyRenewed
	case *peerpb.LeaseInfo:
		return replyLeaseInfo
	case *peerpb.LeaseFound:
		return replyLeaseFound
	case *peerpb.LeaseList:
		return replyLeaseList
	case *placement.CompactReply:
		return replyCompact
	case *placement.AllocIDsReply:
		return replyAllocIDs
	case *placement.AlarmReply:
		return replyAlarm
	case *placement.JoinReply:
		return replyJoin
	case *placement.MembersReply:
		return replyMembers
	case *placement.LookupReply:
		return replyLookup
	}
	return replyError
}

// newReply returns an empty answer of a kind, nil if there is no such kind.
func newReply(k byte) any {
	switch k {
	case replyPut:
		return newPutResponse()
	case replyDeleteRange:
		return &pb.DeleteRangeResponse{}
	case replyTxn:
		return &pb.TxnResponse{}
	case replyRange:
		return &pb.RangeResponse{}
	case replyClosed:
		return &peerpb.Closed{}
	case replyDone:
		return &peerpb.Done{}
	case replyPrepared:
		return &peerpb.Prepared{}
	case replyPushed:
		return &peerpb.Pushed{}
	case replySplitDone:
		return &peerpb.SplitDone{}
	case replyRegistered:
		return &peerpb.Registered{}
	case replyMarks:
		return &peerpb.Marks{}
	case replyRenewed:
		return &peerpb.Renewed{}
	case replyLeaseInfo:
		return &peerpb.LeaseInfo{}
	case replyLeaseFound:
		return &peerpb.LeaseFound{}
	case replyLeaseList:
		return &peerpb.LeaseList{}
	case replyCompact:
		return &placement.CompactReply{}
	case replyAllocIDs:
		return &placement.AllocIDsReply{}
	case replyAlarm:
		return &placement.AlarmReply{}
	case replyReplicasChanged:
		return &peerpb.ReplicasChanged{}
	case replyTransferred:
		return &peerpb.Transferred{}
	case replyReadPage:
		return &peerpb.ReadPage{}
	case replyRangeChecked:
		return &peerpb.RangeChecked{}
	case replyHistoryPage:
		return &peerpb.HistoryPage{}
	case replyHashPage:
		return &peerpb.HashPage{}
	case replyJoin:
		return &placement.JoinReply{}
	case replyMembers:
		return &placement.MembersReply{}
	case replyLookup:
		return &placement.LookupReply{}
	}
	return nil
}

// replyBody walks over an answer that kindOfReply knows.
func (c *coder) replyBody(b any) {
	switch b := b.(type) {
	case *pb.PutResponse:
		c.putResponse(b)
	case *pb.DeleteRangeResponse:
		c.deleteRangeResponse(b)
	case *pb.TxnResponse:
		c.txnResponse(b)
	case *pb.RangeResponse:
		c.rangeResponse(b)
	case *peerpb.Closed:
		num(c, &b.S)
		num(c, &b.Index)
	case *peerpb.Done:
	case *peerpb.Prepared:
		c.prepared(b)
	case *peerpb.Pushed:
		num(c, &b.Status)
		num(c, &b.Revision)
	case *peerpb.SplitDone:
		c.bool(&b.Split)
		maybe(c, &b.Left, contract)
		maybe(c, &b.Right, contract)
	case *peerpb.ReplicasChanged:
		maybe(c, &b.Descriptor, contract)
	case *peerpb.Transferred:
		num(c, &b.Leader)
	case *peerpb.HashPage:
		list(c, &b.Rows, (*coder).hashRow)
		c.bytes(&b.Next)
	case *peerpb.HistoryPage:
		list(c, &b.Events, (*coder).feedEvent)
		num(c, &b.Through)
		num(c, &b.Removed)
	case *peerpb.ReadPage:
		list(c, &b.Rows, (*coder).row)
		num(c, &b.Count)
		c.bytes(&b.Next)
	case *peerpb.RangeChecked:
		c.rangeChecked(b)
	case *placement.CompactReply:
		num(c, &b.Compacted)
	case *placement.AllocIDsReply:
		num(c, &b.First)
	case *placement.AlarmReply:
		list(c, &b.Alarms, (*coder).alarm)
	case *placement.JoinReply:
		num(c, &b.Node)
		num(c, &b.Store)
	case *placement.MembersReply:
		list(c, &b.Members, (*coder).member)
		num(c, &b.Changed)
		list(c, &b.Alarms, (*coder).alarm)
	case *placement.LookupReply:
		pointers(c, &b.Descriptors, contract)
		c.bool(&b.More)
	default:
		c.leaseReply(b)
	}
}

func (c *coder) leaseReply(b any) {
	switch b := b.(type) {
	case *peerpb.Registered:
		num(c, &b.Number)
		list(c, &b.Spans, (*coder).span)
	case *peerpb.Marks:
		list(c, &b.Absent, num[int64])
	case *peerpb.Renewed:
		list(c, &b.TTLs, num[int64])
	case *peerpb.LeaseInfo:
		num(c, &b.TTL)
		num(c, &b.Remaining)
		list(c, &b.Spans, (*coder).span)
	case *peerpb.LeaseFound:
		c.leaseFound(b)
	case *peerpb.LeaseList:
		list(c, &b.Leases, (*coder).leaseEntry)
		c.bool(&b.More)
	default:
		c.noForm("reply", b)
	}
}

func (c *coder) prepared(p *peerpb.Prepared) {
	list(c, &p.Rows, (*coder).rows)
	list(c, &p.Counts, num[int64])
	maybe(c, &p.Next, (*coder).cursor)
	num(c, &p.Lock)
	num(c, &p.Compacted)
	num(c, &p.Known)
	maybe(c, &p.Found, (*coder).leaseFound)
}
