package ranges

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// What a request takes beside what has no bound of its own, and an item of a list beside
// its bytes.
const (
	requestBytes = 128
	itemBytes    = 32
)

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
			n += itemBytes + len(b.Accesses[i].Start) + len(b.Accesses[i].End)
		}
		n += usesBytes(b.Uses) + len(b.From.Key)
	case *peerpb.WriteRecord:
		n += len(b.Anchor) + b.Record.SizeVT()
	case *peerpb.Push:
		n += len(b.Anchor)
	case *peerpb.Forget:
		n += len(b.Anchor)
	case *peerpb.Close:
		n += spansBytes(b.Spans)
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
		return spansBytes(b.Spans) + len(b.Range.Start) + len(b.Range.End)
	case *peerpb.LeaseKeys:
		return len(b.Span.Start) + len(b.Span.End)
	case *peerpb.RenewLeases:
		return itemBytes * len(b.IDs)
	case *peerpb.CheckpointLeases:
		return itemBytes * len(b.Leases)
	case *peerpb.ListLeases:
		return len(b.From)
	}
	return 0
}

// opBytes is the part of RequestBytes that an operation on the system range has.
func opBytes(op any) (n int) {
	switch op := op.(type) {
	case *placement.DirectoryOp:
		for _, d := range op.Descriptors {
			n += itemBytes + d.SizeVT()
		}
	case *placement.LookupOp:
		n = len(op.Start)
	case *placement.JoinOp:
		n = textBytes(op.PeerURLs) + textBytes(op.ClientURLs) + len(op.Name)
	case *placement.MemberOp:
		n = textBytes(op.PeerURLs)
	case *placement.AnnounceOp:
		n = textBytes(op.Member.PeerURLs) + textBytes(op.Member.ClientURLs)
	}
	return n
}

func textBytes(texts []string) (n int) {
	for _, s := range texts {
		n += itemBytes + len(s)
	}
	return n
}

func usesBytes(uses []peerpb.LeaseUse) (n int) {
	for i := range uses {
		n += itemBytes + len(uses[i].Key)
	}
	return n
}

func spansBytes(spans []metapb.Span) (n int) {
	for i := range spans {
		n += itemBytes + len(spans[i].Start) + len(spans[i].End)
	}
	return n
}
