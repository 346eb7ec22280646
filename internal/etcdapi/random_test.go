package etcdapi

import (
	"math"
	"math/rand/v2"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Random messages for the codec's tests: every field, its zero value often, and
// the numbers at which varints change their length.

func randomBytes(rng *rand.Rand) []byte {
	b := make([]byte, rng.IntN(4)*rng.IntN(80))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func randomInt(rng *rand.Rand) int64 {
	switch rng.IntN(6) {
	case 0:
		return 0
	case 1:
		return -1
	case 2:
		return math.MaxInt64
	case 3:
		return 1<<(7*rng.IntN(9)) - int64(rng.IntN(2))
	default:
		return rng.Int64() >> rng.IntN(64)
	}
}

func randomBool(rng *rand.Rand) bool { return rng.IntN(2) == 0 }

func randomPut(rng *rand.Rand) *pb.PutRequest {
	return &pb.PutRequest{
		Key: randomBytes(rng), Value: randomBytes(rng), Lease: randomInt(rng),
		PrevKv: randomBool(rng), IgnoreValue: randomBool(rng), IgnoreLease: randomBool(rng),
	}
}

func randomRange(rng *rand.Rand) *pb.RangeRequest {
	return &pb.RangeRequest{
		Key: randomBytes(rng), RangeEnd: randomBytes(rng), Limit: randomInt(rng), Revision: randomInt(rng),
		SortOrder: pb.RangeRequest_SortOrder(randomInt(rng)), SortTarget: pb.RangeRequest_SortTarget(rng.IntN(5)),
		Serializable: randomBool(rng), KeysOnly: randomBool(rng), CountOnly: randomBool(rng),
		MinModRevision: randomInt(rng), MaxModRevision: randomInt(rng),
		MinCreateRevision: randomInt(rng), MaxCreateRevision: randomInt(rng),
	}
}

func randomDelete(rng *rand.Rand) *pb.DeleteRangeRequest {
	return &pb.DeleteRangeRequest{Key: randomBytes(rng), RangeEnd: randomBytes(rng), PrevKv: randomBool(rng)}
}

func randomCompare(rng *rand.Rand) *pb.Compare {
	c := &pb.Compare{
		Result: pb.Compare_CompareResult(rng.IntN(5)), Target: pb.Compare_CompareTarget(randomInt(rng)),
		Key: randomBytes(rng), RangeEnd: randomBytes(rng),
	}
	switch rng.IntN(6) {
	case 0:
		c.TargetUnion = &pb.Compare_Version{Version: randomInt(rng)}
	case 1:
		c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: randomInt(rng)}
	case 2:
		c.TargetUnion = &pb.Compare_ModRevision{ModRevision: randomInt(rng)}
	case 3:
		c.TargetUnion = &pb.Compare_Value{Value: randomBytes(rng)}
	case 4:
		c.TargetUnion = &pb.Compare_Lease{Lease: randomInt(rng)}
	}
	return c
}

func randomOps(rng *rand.Rand, depth int) []*pb.RequestOp {
	ops := make([]*pb.RequestOp, rng.IntN(3))
	for i := range ops {
		ops[i] = &pb.RequestOp{}
		switch k := rng.IntN(5); {
		case k == 0:
			ops[i].Request = &pb.RequestOp_RequestRange{RequestRange: randomRange(rng)}
		case k == 1:
			ops[i].Request = &pb.RequestOp_RequestPut{RequestPut: randomPut(rng)}
		case k == 2:
			ops[i].Request = &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: randomDelete(rng)}
		case k == 3 && depth > 0:
			ops[i].Request = &pb.RequestOp_RequestTxn{RequestTxn: randomTxn(rng, depth-1)}
		}
	}
	return ops
}

func randomTxn(rng *rand.Rand, depth int) *pb.TxnRequest {
	m := &pb.TxnRequest{Success: randomOps(rng, depth), Failure: randomOps(rng, depth)}
	for range rng.IntN(3) {
		m.Compare = append(m.Compare, randomCompare(rng))
	}
	return m
}

func randomHeader(rng *rand.Rand) *pb.ResponseHeader {
	if rng.IntN(4) == 0 {
		return nil
	}
	return &pb.ResponseHeader{
		ClusterId: uint64(randomInt(rng)), MemberId: uint64(randomInt(rng)),
		Revision: randomInt(rng), RaftTerm: uint64(randomInt(rng)),
	}
}

func randomKV(rng *rand.Rand) *mvccpb.KeyValue {
	return &mvccpb.KeyValue{
		Key: randomBytes(rng), Value: randomBytes(rng), CreateRevision: randomInt(rng),
		ModRevision: randomInt(rng), Version: randomInt(rng), Lease: randomInt(rng),
	}
}

func randomKVs(rng *rand.Rand) []*mvccpb.KeyValue {
	kvs := make([]*mvccpb.KeyValue, rng.IntN(20))
	for i := range kvs {
		kvs[i] = randomKV(rng)
	}
	return kvs
}

func randomPutResponse(rng *rand.Rand) *pb.PutResponse {
	m := &pb.PutResponse{Header: randomHeader(rng)}
	if randomBool(rng) {
		m.PrevKv = randomKV(rng)
	}
	return m
}

func randomRangeResponse(rng *rand.Rand) *pb.RangeResponse {
	return &pb.RangeResponse{Header: randomHeader(rng), Kvs: randomKVs(rng), More: randomBool(rng), Count: randomInt(rng)}
}

func randomDeleteResponse(rng *rand.Rand) *pb.DeleteRangeResponse {
	return &pb.DeleteRangeResponse{Header: randomHeader(rng), Deleted: randomInt(rng), PrevKvs: randomKVs(rng)}
}

func randomTxnResponse(rng *rand.Rand, depth int) *pb.TxnResponse {
	m := &pb.TxnResponse{Header: randomHeader(rng), Succeeded: randomBool(rng)}
	for range rng.IntN(4) {
		op := &pb.ResponseOp{}
		switch k := rng.IntN(5); {
		case k == 0:
			op.Response = &pb.ResponseOp_ResponseRange{ResponseRange: randomRangeResponse(rng)}
		case k == 1:
			op.Response = &pb.ResponseOp_ResponsePut{ResponsePut: randomPutResponse(rng)}
		case k == 2:
			op.Response = &pb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: randomDeleteResponse(rng)}
		case k == 3 && depth > 0:
			op.Response = &pb.ResponseOp_ResponseTxn{ResponseTxn: randomTxnResponse(rng, depth-1)}
		}
		m.Responses = append(m.Responses, op)
	}
	return m
}

func randomKeepAlive(rng *rand.Rand) *pb.LeaseKeepAliveRequest {
	return &pb.LeaseKeepAliveRequest{ID: randomInt(rng)}
}

// randomWatchResponse has a header as the server writes it, and now and then an
// event that is too long to copy.
func randomWatchResponse(rng *rand.Rand, header *pb.ResponseHeader) *pb.WatchResponse {
	m := &pb.WatchResponse{
		Header: &pb.ResponseHeader{
			ClusterId: header.ClusterId, MemberId: header.MemberId, RaftTerm: header.RaftTerm, Revision: randomInt(rng),
		},
		WatchId: randomInt(rng), Created: randomBool(rng), Canceled: randomBool(rng),
		CompactRevision: randomInt(rng), Fragment: randomBool(rng),
	}
	if randomBool(rng) {
		m.CancelReason = "a reason"
	}
	for range rng.IntN(5) {
		ev := &mvccpb.Event{Type: mvccpb.Event_EventType(rng.IntN(2)), Kv: randomKV(rng)}
		if randomBool(rng) {
			ev.PrevKv = randomKV(rng)
		}
		if rng.IntN(8) == 0 {
			ev.Kv.Value = make([]byte, sharedBytes-50+rng.IntN(100))
		}
		m.Events = append(m.Events, ev)
	}
	return m
}
