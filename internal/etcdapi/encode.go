package etcdapi

import (
	"math/bits"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/flotilladb/flotilla/internal/invariant"
)

// Responses of the KV service and to renewals as bytes. A response is measured once and then
// written from its end to its beginning: the length of a nested message is then
// known when it has to be written, without measuring it again.
//
// The fields that these functions know are all there are (etcd's API v3.7): a
// response is built by this server, so it carries no unknown fields.

// Wire types of protobuf, the low three bits of a field's tag.
const (
	wireVarint = 0
	wireBytes  = 2
)

// sizeVarint is the number of bytes of v: seven bits in each.
func sizeVarint(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// The size of a field with a one-byte tag; zero values are not written.

func sizeUint(v uint64) int {
	if v == 0 {
		return 0
	}
	return 1 + sizeVarint(v)
}

func sizeInt(v int64) int { return sizeUint(uint64(v)) }

func sizeBool(v bool) int {
	if v {
		return 2
	}
	return 0
}

func sizeBytes(v []byte) int {
	if len(v) == 0 {
		return 0
	}
	return sizeNested(len(v))
}

// sizeNested is the size of a message field whose content has n bytes.
func sizeNested(n int) int { return 1 + sizeVarint(uint64(n)) + n }

// backWriter fills b from its end. Invariant: b[at:] is written.
type backWriter struct {
	b  []byte
	at int
}

func (w *backWriter) varint(v uint64) {
	at := w.at - sizeVarint(v)
	w.at = at
	for v >= 0x80 {
		w.b[at] = byte(v) | 0x80
		v >>= 7
		at++
	}
	w.b[at] = byte(v)
}

func (w *backWriter) tag(num, wire byte) {
	w.at--
	w.b[w.at] = num<<3 | wire
}

func (w *backWriter) uint(num byte, v uint64) {
	if v != 0 {
		w.varint(v)
		w.tag(num, wireVarint)
	}
}

func (w *backWriter) int(num byte, v int64) { w.uint(num, uint64(v)) }

func (w *backWriter) bool(num byte, v bool) {
	if v {
		w.uint(num, 1)
	}
}

func (w *backWriter) bytes(num byte, v []byte) {
	if len(v) == 0 {
		return
	}
	w.at -= len(v)
	copy(w.b[w.at:], v)
	w.varint(uint64(len(v)))
	w.tag(num, wireBytes)
}

// nested ends (in reading order: begins) a message field whose content has been
// written down from end.
func (w *backWriter) nested(num byte, end int) {
	w.varint(uint64(end - w.at))
	w.tag(num, wireBytes)
}

// done checks that measuring and writing agree.
func (w *backWriter) done() {
	invariant.Must(w.at == 0, "response measured %d bytes too long", w.at)
}

func sizeHeader(h *pb.ResponseHeader) int {
	if h == nil {
		return 0
	}
	return sizeNested(sizeUint(h.ClusterId) + sizeUint(h.MemberId) + sizeInt(h.Revision) + sizeUint(h.RaftTerm))
}

func (w *backWriter) header(h *pb.ResponseHeader) {
	if h == nil {
		return
	}
	end := w.at
	w.uint(4, h.RaftTerm)
	w.int(3, h.Revision)
	w.uint(2, h.MemberId)
	w.uint(1, h.ClusterId)
	w.nested(1, end)
}

func sizeKV(kv *mvccpb.KeyValue) int {
	if kv == nil {
		return 0
	}
	return sizeBytes(kv.Key) + sizeInt(kv.CreateRevision) + sizeInt(kv.ModRevision) +
		sizeInt(kv.Version) + sizeBytes(kv.Value) + sizeInt(kv.Lease)
}

func (w *backWriter) kv(num byte, kv *mvccpb.KeyValue) {
	end := w.at
	if kv != nil {
		w.int(6, kv.Lease)
		w.bytes(5, kv.Value)
		w.int(4, kv.Version)
		w.int(3, kv.ModRevision)
		w.int(2, kv.CreateRevision)
		w.bytes(1, kv.Key)
	}
	w.nested(num, end)
}

func sizeKVs(kvs []*mvccpb.KeyValue) int {
	n := 0
	for _, kv := range kvs {
		n += sizeNested(sizeKV(kv))
	}
	return n
}

func (w *backWriter) kvs(num byte, kvs []*mvccpb.KeyValue) {
	for i := len(kvs) - 1; i >= 0; i-- {
		w.kv(num, kvs[i])
	}
}

// The response messages. Each measures and writes its content; putResponse and
// its like are also what a top-level response is.

func sizePutResponse(m *pb.PutResponse) int {
	if m == nil {
		return 0
	}
	n := sizeHeader(m.Header)
	if m.PrevKv != nil {
		n += sizeNested(sizeKV(m.PrevKv))
	}
	return n
}

func (w *backWriter) putResponse(m *pb.PutResponse) {
	if m == nil {
		return
	}
	if m.PrevKv != nil {
		w.kv(2, m.PrevKv)
	}
	w.header(m.Header)
}

func sizeRangeResponse(m *pb.RangeResponse) int {
	if m == nil {
		return 0
	}
	return sizeHeader(m.Header) + sizeKVs(m.Kvs) + sizeBool(m.More) + sizeInt(m.Count)
}

func (w *backWriter) rangeResponse(m *pb.RangeResponse) {
	if m == nil {
		return
	}
	w.int(4, m.Count)
	w.bool(3, m.More)
	w.kvs(2, m.Kvs)
	w.header(m.Header)
}

func sizeRangeStreamResponse(m *pb.RangeStreamResponse) int {
	if m == nil || m.RangeResponse == nil {
		return 0
	}
	return sizeNested(sizeRangeResponse(m.RangeResponse))
}

func (w *backWriter) rangeStreamResponse(m *pb.RangeStreamResponse) {
	if m == nil || m.RangeResponse == nil {
		return
	}
	end := w.at
	w.rangeResponse(m.RangeResponse)
	w.nested(1, end)
}

func sizeDeleteRangeResponse(m *pb.DeleteRangeResponse) int {
	if m == nil {
		return 0
	}
	return sizeHeader(m.Header) + sizeInt(m.Deleted) + sizeKVs(m.PrevKvs)
}

func (w *backWriter) deleteRangeResponse(m *pb.DeleteRangeResponse) {
	if m == nil {
		return
	}
	w.kvs(3, m.PrevKvs)
	w.int(2, m.Deleted)
	w.header(m.Header)
}

func sizeKeepAliveResponse(m *pb.LeaseKeepAliveResponse) int {
	if m == nil {
		return 0
	}
	return sizeHeader(m.Header) + sizeInt(m.ID) + sizeInt(m.TTL)
}

func (w *backWriter) keepAliveResponse(m *pb.LeaseKeepAliveResponse) {
	if m == nil {
		return
	}
	w.int(3, m.TTL)
	w.int(2, m.ID)
	w.header(m.Header)
}

func sizeTxnResponse(m *pb.TxnResponse) int {
	if m == nil {
		return 0
	}
	n := sizeHeader(m.Header) + sizeBool(m.Succeeded)
	for _, op := range m.Responses {
		n += sizeNested(sizeResponseOp(op))
	}
	return n
}

func (w *backWriter) txnResponse(m *pb.TxnResponse) {
	if m == nil {
		return
	}
	for i := len(m.Responses) - 1; i >= 0; i-- {
		end := w.at
		w.responseOp(m.Responses[i])
		w.nested(3, end)
	}
	w.bool(2, m.Succeeded)
	w.header(m.Header)
}

func sizeResponseOp(op *pb.ResponseOp) int {
	switch op := op.GetResponse().(type) {
	case *pb.ResponseOp_ResponseRange:
		return sizeNested(sizeRangeResponse(op.ResponseRange))
	case *pb.ResponseOp_ResponsePut:
		return sizeNested(sizePutResponse(op.ResponsePut))
	case *pb.ResponseOp_ResponseDeleteRange:
		return sizeNested(sizeDeleteRangeResponse(op.ResponseDeleteRange))
	case *pb.ResponseOp_ResponseTxn:
		return sizeNested(sizeTxnResponse(op.ResponseTxn))
	}
	return 0
}

func (w *backWriter) responseOp(op *pb.ResponseOp) {
	end := w.at
	switch op := op.GetResponse().(type) {
	case *pb.ResponseOp_ResponseRange:
		w.rangeResponse(op.ResponseRange)
		w.nested(1, end)
	case *pb.ResponseOp_ResponsePut:
		w.putResponse(op.ResponsePut)
		w.nested(2, end)
	case *pb.ResponseOp_ResponseDeleteRange:
		w.deleteRangeResponse(op.ResponseDeleteRange)
		w.nested(3, end)
	case *pb.ResponseOp_ResponseTxn:
		w.txnResponse(op.ResponseTxn)
		w.nested(4, end)
	}
}
