package wire

import (
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// itemBytes is what an item of a list takes beside its bytes, or more.
const itemBytes = 32

// ReplyBytes estimates what a reply takes in a frame. Those that are not named are small.
func ReplyBytes(r *peerpb.Reply) (n int) {
	if r.Err != nil {
		if moved := (*peerpb.MovedError)(nil); errors.As(r.Err, &moved) {
			n = descriptorsBytes(moved.Newer)
		}
		return n
	}
	switch b := r.Body.(type) {
	case *pb.RangeResponse:
		for _, kv := range b.Kvs {
			n += itemBytes + len(kv.Key) + len(kv.Value)
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
		n = itemBytes * len(b.Counts)
		for _, rows := range b.Rows {
			n += itemBytes + rowsBytes(rows)
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
		n = itemBytes*len(b.Rows) + len(b.Next)
	case *placement.LookupReply:
		n = descriptorsBytes(b.Descriptors)
	case *placement.MembersReply:
		for i := range b.Members {
			m := &b.Members[i]
			n += itemBytes + len(m.Name) + textBytes(m.PeerURLs) + textBytes(m.ClientURLs)
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
		n = spansBytes(b.Spans)
	case *peerpb.Registered:
		n = spansBytes(b.Spans)
	case *peerpb.LeaseList:
		n = itemBytes * len(b.Leases)
	case *peerpb.Renewed:
		n = itemBytes * len(b.TTLs)
	case *peerpb.Marks:
		n = itemBytes * len(b.Absent)
	}
	return n
}

// FeedAskBytes estimates what a hub's asks take in a frame.
func FeedAskBytes(a *peerpb.FeedAsk) int {
	n := itemBytes * (len(a.End) + len(a.Wants))
	for i := range a.Begin {
		n += itemBytes + len(a.Begin[i].Start) + len(a.Begin[i].End)
	}
	return n
}

func descriptorsBytes(ds []*metapb.Descriptor) (n int) {
	for _, d := range ds {
		n += itemBytes + d.SizeVT()
	}
	return n
}

func textBytes(texts []string) (n int) {
	for _, s := range texts {
		n += itemBytes + len(s)
	}
	return n
}

func rowBytes(r *peerpb.Row) int { return itemBytes + len(r.Key) + len(r.Value) }

func rowsBytes(rows []peerpb.Row) (n int) {
	for i := range rows {
		n += rowBytes(&rows[i])
	}
	return n
}

func foundBytes(f *peerpb.LeaseFound) int {
	n := spansBytes(f.Spans)
	for _, key := range f.Keys {
		n += itemBytes + len(key)
	}
	return n
}

func spansBytes(spans []metapb.Span) (n int) {
	for i := range spans {
		n += itemBytes + len(spans[i].Start) + len(spans[i].End)
	}
	return n
}
