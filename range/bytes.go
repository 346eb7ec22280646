package ranges

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// requestBytes is what a request takes beside what has no bound of its own.
const requestBytes = 128

// RequestBytes estimates what a request costs to keep, to send and to log.
func RequestBytes(b peerpb.Body) int {
	n := requestBytes
	switch b := b.(type) {
	case *peerpb.Write:
		switch req := b.Req.(type) {
		case *pb.PutRequest:
			n += len(req.Key) + len(req.Value)
		case *pb.DeleteRangeRequest:
			n += len(req.Key) + len(req.RangeEnd)
		default:
			n += proto.Size(b.Req)
		}
	case *peerpb.WriteIntents:
		for _, in := range b.Intents {
			n += in.SizeVT()
		}
	case *peerpb.Prepare:
		for i := range b.Accesses {
			n += metapb.ItemBytes + len(b.Accesses[i].Start) + len(b.Accesses[i].End)
		}
		n += usesBytes(b.Uses) + len(b.From.Key)
	case *peerpb.WriteRecord:
		n += len(b.Anchor) + b.Record.SizeVT()
	case *peerpb.Push:
		n += len(b.Anchor)
	case *peerpb.Forget:
		n += len(b.Anchor)
	case *peerpb.Close:
		n += metapb.SpansBytes(b.Spans)
	case *peerpb.Read:
		n += len(b.Start) + len(b.End)
	case *peerpb.History:
		n += len(b.Start) + len(b.End)
	case *peerpb.Hash:
		n += len(b.Start) + len(b.End)
	case *peerpb.Split:
		n += len(b.At)
	case *peerpb.System:
		n += opBytes(b.Op)
	default:
		n += leaseBytes(b)
	}
	return n
}

// leaseBytes is the part of RequestBytes that has to do with leases.
func leaseBytes(b peerpb.Body) int {
	switch b := b.(type) {
	case *peerpb.EnsureMarks:
		return usesBytes(b.Uses)
	case *peerpb.RegisterLease:
		return metapb.SpansBytes(b.Spans) + len(b.Range.Start) + len(b.Range.End)
	case *peerpb.LeaseKeys:
		return len(b.Span.Start) + len(b.Span.End)
	case *peerpb.RenewLeases:
		return metapb.ItemBytes * len(b.IDs)
	case *peerpb.CheckpointLeases:
		return metapb.ItemBytes * len(b.Leases)
	case *peerpb.ListLeases:
		return len(b.From)
	}
	return 0
}

// opBytes is the part of RequestBytes that an operation on the system range has.
func opBytes(op any) (n int) {
	switch op := op.(type) {
	case *placement.DirectoryOp:
		n = metapb.DescriptorsBytes(op.Descriptors)
	case *placement.LookupOp:
		n = len(op.Start)
	case *placement.JoinOp:
		n = metapb.TextsBytes(op.PeerURLs) + metapb.TextsBytes(op.ClientURLs) + len(op.Name)
	case *placement.MemberOp:
		n = metapb.TextsBytes(op.PeerURLs)
	case *placement.AnnounceOp:
		n = metapb.TextsBytes(op.Member.PeerURLs) + metapb.TextsBytes(op.Member.ClientURLs)
	}
	return n
}

func usesBytes(uses []peerpb.LeaseUse) (n int) {
	for i := range uses {
		n += metapb.ItemBytes + len(uses[i].Key)
	}
	return n
}
