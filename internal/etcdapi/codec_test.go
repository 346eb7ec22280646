package etcdapi

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// hotRequests makes an empty message of each kind that decode.go knows.
func hotRequests() []proto.Message {
	return []proto.Message{&pb.PutRequest{}, &pb.RangeRequest{}, &pb.TxnRequest{}, &pb.DeleteRangeRequest{}, &pb.LeaseKeepAliveRequest{}}
}

// hotResponses makes an empty message of each kind that encode.go knows.
func hotResponses() []proto.Message {
	return []proto.Message{
		&pb.PutResponse{}, &pb.RangeResponse{}, &pb.TxnResponse{}, &pb.DeleteRangeResponse{}, &pb.RangeStreamResponse{},
		&pb.LeaseKeepAliveResponse{},
	}
}

// checkDecode decodes data as every kind of request, with the codec and with
// the protobuf library, and wants the same answer.
func checkDecode(t *testing.T, data []byte) {
	t.Helper()
	c := newCodec()
	for _, m := range hotRequests() {
		want := proto.Clone(m)
		wantErr := proto.Unmarshal(data, want)
		wire := bytes.Clone(data)
		gotErr := c.Unmarshal(mem.BufferSlice{mem.SliceBuffer(wire)}, m)
		for i := range wire { // the buffer goes back to gRPC
			wire[i] = 0xff
		}
		if (wantErr == nil) != (gotErr == nil) {
			t.Fatalf("%T of %x: error %v, protobuf says %v", m, data, gotErr, wantErr)
		}
		if wantErr == nil && !proto.Equal(m, want) {
			t.Fatalf("%T of %x:\n%v, protobuf says\n%v", m, data, m, want)
		}
	}
}

// checkEncode wants the protobuf library's bytes for a response.
func checkEncode(t *testing.T, m proto.Message) {
	t.Helper()
	want, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	out, err := newCodec().Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if got := out.Materialize(); !bytes.Equal(got, want) {
		t.Fatalf("%T %v:\n%x, protobuf says\n%x", m, m, got, want)
	}
	out.Free()
}

func FuzzDecodeRequest(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		for _, m := range []proto.Message{randomPut(rng), randomRange(rng), randomTxn(rng, 2), randomDelete(rng)} {
			data, err := proto.Marshal(m)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Add([]byte{0x0a, 0x01, 'k', 0x0a, 0x00})                         // a field twice, the second time empty
	f.Add([]byte{0x12, 0x08, 0x12, 0x03, 0x0a, 0x01, 'a', 0x12, 0, 0}) // an operation twice
	f.Add([]byte{0x8a, 0x00, 0x01, 'k'})                               // an overlong tag
	f.Add([]byte{0x0a, 0x81, 0x00, 'k'})                               // an overlong length
	f.Add([]byte{0xfa, 0x3f, 0x01, 'x'})                               // an unknown field
	f.Add([]byte{0x0b, 0x0c})                                          // a group
	f.Add([]byte{0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02})
	f.Fuzz(checkDecode)
}

func FuzzEncodeResponse(f *testing.F) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		data, err := proto.Marshal(randomTxnResponse(rng, 2))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, m := range hotResponses() {
			err := proto.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(data, m)
			if err == nil {
				checkEncode(t, m)
			}
		}
	})
}

func TestCodecAgreesWithProtobuf(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 500 {
		for _, m := range []proto.Message{randomPut(rng), randomRange(rng), randomTxn(rng, 3), randomDelete(rng), randomKeepAlive(rng)} {
			data, err := proto.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			checkDecode(t, data)
			checkDecode(t, data[:rng.IntN(len(data)+1)])
			if len(data) > 0 {
				data[rng.IntN(len(data))] = byte(rng.Uint32())
				checkDecode(t, data)
			}
		}
		for _, m := range []proto.Message{
			randomPutResponse(rng), randomRangeResponse(rng), randomDeleteResponse(rng), randomTxnResponse(rng, 3),
			&pb.RangeStreamResponse{RangeResponse: randomRangeResponse(rng)},
			&pb.LeaseKeepAliveResponse{Header: randomHeader(rng), ID: randomInt(rng), TTL: randomInt(rng)},
		} {
			checkEncode(t, m)
		}
	}
}

// What a server might build by hand and bytes never decode to.
func TestEncodeOddities(t *testing.T) {
	for _, m := range []proto.Message{
		&pb.RangeResponse{Kvs: []*mvccpb.KeyValue{nil, {}, {Key: []byte{}}}},
		&pb.TxnResponse{Responses: []*pb.ResponseOp{nil, {}, {Response: &pb.ResponseOp_ResponsePut{}}, {Response: &pb.ResponseOp_ResponseTxn{}}}},
		&pb.RangeStreamResponse{},
		&pb.PutResponse{Header: &pb.ResponseHeader{ClusterId: math.MaxUint64, Revision: -1}},
		&pb.RangeResponse{Kvs: []*mvccpb.KeyValue{{Key: []byte("k"), Value: make([]byte, 1<<20)}}},
	} {
		checkEncode(t, m)
	}
}

// The hand-written decoders take what clients send: the fallback must not be
// what answers.
func TestDecodersTakeCommonRequests(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for range 200 {
		put, _ := proto.Marshal(randomPut(rng))
		get, _ := proto.Marshal(randomRange(rng))
		del, _ := proto.Marshal(randomDelete(rng))
		txn, _ := proto.Marshal(randomTxn(rng, 3))
		alive, _ := proto.Marshal(randomKeepAlive(rng))
		if !decodeKeepAlive(new(pb.LeaseKeepAliveRequest), alive) {
			t.Fatalf("a decoder gave up: %x", alive)
		}
		if !decodePut(new(pb.PutRequest), put) || !decodeRange(new(pb.RangeRequest), get) ||
			!decodeDeleteRange(new(pb.DeleteRangeRequest), del) || !decodeTxn(new(pb.TxnRequest), txn) {
			t.Fatalf("a decoder gave up: %x %x %x %x", put, get, del, txn)
		}
	}
}

func TestDecodeLeavesDeepNestingToProtobuf(t *testing.T) {
	m := &pb.TxnRequest{}
	for range nestedDepthMax + 2 {
		m = &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestTxn{RequestTxn: m}}}}
	}
	data, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if decodeTxn(new(pb.TxnRequest), data) {
		t.Fatal("decoded beyond the limit of nesting")
	}
	checkDecode(t, data)
}
