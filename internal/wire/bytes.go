package wire

import (
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// ReplyBytes estimates what a reply takes in a frame. Those that are not named are small.
func ReplyBytes(r *peerpb.Reply) (n int) {
	if r.Err != nil {
		if moved := (*peerpb.MovedError)(nil); errors.As(r.Err, &moved) {
			n = metapb.DescriptorsBytes(moved.Newer)
		}
		return n
	}
	switch b := r.Body.(type) {
	case *pb.RangeResponse:
		for _, kv := range b.Kvs {
			n += metapb.ItemBytes + len(kv.Key) + len(kv.Value)
		}
	case *peerpb.ReadPage:
		n = rowsBytes(b.Rows) + len(b.Next)
	case *pb.PutResponse:
		if kv := b.PrevKv; kv != nil {
			n = len(kv.Key) + len(kv.Value)
		}
	case *pb.DeleteRangeResponse:
		n = proto.Size(b)
	case *pb.TxnResponse:
		n = proto.Size(b)
	case *peerpb.Prepared:
		n = metapb.ItemBytes * len(b.Counts)
		for _, rows := range b.Rows {
			n += metapb.ItemBytes + rowsBytes(rows)
		}
		if b.Next != nil {
			n += len(b.Next.Key)
		}
		if b.Found != nil {
			n += foundBytes(b.Found)
		}
	case *peerpb.HistoryPage:
		for i := range b.Events {
			e := &b.Events[i]
			n += rowBytes(&e.Row)
			if e.Prev != nil {
				n += rowBytes(e.Prev)
			}
		}
	case *peerpb.HashPage:
		n = metapb.ItemBytes*len(b.Rows) + len(b.Next)
	case *placement.LookupReply:
		n = metapb.DescriptorsBytes(b.Descriptors)
	case *placement.MembersReply:
		for i := range b.Members {
			m := &b.Members[i]
			n += metapb.ItemBytes + len(m.Name) + metapb.TextsBytes(m.PeerURLs) + metapb.TextsBytes(m.ClientURLs)
		}
	case *peerpb.SplitDone:
		n = b.Left.SizeVT() + b.Right.SizeVT()
	case *peerpb.ReplicasChanged:
		n = b.Descriptor.SizeVT()
	default:
		n = leaseReplyBytes(b)
	}
	return n
}

// leaseReplyBytes is the part of ReplyBytes that has to do with leases.
func leaseReplyBytes(body any) (n int) {
	switch b := body.(type) {
	case *peerpb.LeaseFound:
		n = foundBytes(b)
	case *peerpb.LeaseInfo:
		n = metapb.SpansBytes(b.Spans)
	case *peerpb.Registered:
		n = metapb.SpansBytes(b.Spans)
	case *peerpb.LeaseList:
		n = metapb.ItemBytes * len(b.Leases)
	case *peerpb.Renewed:
		n = metapb.ItemBytes * len(b.TTLs)
	case *peerpb.Marks:
		n = metapb.ItemBytes * len(b.Absent)
	}
	return n
}

// FeedAskBytes estimates what a hub's asks take in a frame.
func FeedAskBytes(a *peerpb.FeedAsk) int {
	n := metapb.ItemBytes * (len(a.End) + len(a.Wants))
	for i := range a.Begin {
		n += metapb.ItemBytes + len(a.Begin[i].Start) + len(a.Begin[i].End)
	}
	return n
}

func rowBytes(r *peerpb.Row) int { return metapb.ItemBytes + len(r.Key) + len(r.Value) }

func rowsBytes(rows []peerpb.Row) (n int) {
	for i := range rows {
		n += rowBytes(&rows[i])
	}
	return n
}

func foundBytes(f *peerpb.LeaseFound) int {
	n := metapb.SpansBytes(f.Spans)
	for _, key := range f.Keys {
		n += metapb.ItemBytes + len(key)
	}
	return n
}
