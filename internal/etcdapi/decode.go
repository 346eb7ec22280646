package etcdapi

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protowire"
)

// Requests of the KV service, and renewals, out of bytes. A decoder knows its message's fields
// and answers false at anything else; the caller then asks the protobuf library.
// So what is rejected here is never refused, only slower.
//
// REQUIRES: the message is empty and owns the bytes, which its keys and values
// will point into.

// nestedDepthMax is how deep transactions may nest before the protobuf library,
// which bounds its recursion, takes over.
const nestedDepthMax = 16

// Tags of fields 1 to 8, by wire type.
const (
	tagBytes1 = (iota+1)<<3 | wireBytes
	tagBytes2
	tagBytes3
	tagBytes4
	_
	_
	tagBytes7
)

const (
	tagVarint1 = (iota+1)<<3 | wireVarint
	tagVarint2
	tagVarint3
	tagVarint4
	tagVarint5
	tagVarint6
	tagVarint7
	tagVarint8
	tagVarint9
	tagVarint10
	tagVarint11
	tagVarint12
	tagVarint13
)

// Compare.range_end has number 64, the only tag of two bytes.
const (
	tagRangeEnd64First  = 0x80 | (64<<3|wireBytes)&0x7f
	tagRangeEnd64Second = (64<<3 | wireBytes) >> 7
)

// fields walks over the fields of a message. After the end, or at bytes that
// are not a field, it stops; bad tells the two apart.
type fields struct {
	rest []byte
	bad  bool
}

// next returns the tag of the next field, 0 if there is none.
func (f *fields) next() byte {
	if len(f.rest) == 0 || f.bad {
		return 0
	}
	tag := f.rest[0]
	f.rest = f.rest[1:]
	if tag < 1<<3 { // field number 0 is not one
		f.bad = true
		return 0
	}
	return tag
}

func (f *fields) varint() uint64 {
	if len(f.rest) > 0 && f.rest[0] < 0x80 {
		v := uint64(f.rest[0])
		f.rest = f.rest[1:]
		return v
	}
	v, n := protowire.ConsumeVarint(f.rest)
	if n < 0 {
		f.bad = true
		return 0
	}
	f.rest = f.rest[n:]
	return v
}

func (f *fields) int() int64 { return int64(f.varint()) }

func (f *fields) bool() bool { return f.varint() != 0 }

// bytes returns a field's content, nil if it is empty.
func (f *fields) bytes() []byte {
	n := f.varint()
	if f.bad || n > uint64(len(f.rest)) {
		f.bad = true
		return nil
	}
	if n == 0 {
		return nil
	}
	v := f.rest[:n:n]
	f.rest = f.rest[n:]
	return v
}

// unexpected ends the walk.
func (f *fields) unexpected() { f.bad = true }

func decodePut(m *pb.PutRequest, b []byte) bool {
	f := fields{rest: b}
	for tag := f.next(); tag != 0; tag = f.next() {
		switch tag {
		case tagBytes1:
			m.Key = f.bytes()
		case tagBytes2:
			m.Value = f.bytes()
		case tagVarint3:
			m.Lease = f.int()
		case tagVarint4:
			m.PrevKv = f.bool()
		case tagVarint5:
			m.IgnoreValue = f.bool()
		case tagVarint6:
			m.IgnoreLease = f.bool()
		default:
			f.unexpected()
		}
	}
	return !f.bad
}

func decodeRange(m *pb.RangeRequest, b []byte) bool {
	f := fields{rest: b}
	for tag := f.next(); tag != 0; tag = f.next() {
		switch tag {
		case tagBytes1:
			m.Key = f.bytes()
		case tagBytes2:
			m.RangeEnd = f.bytes()
		case tagVarint3:
			m.Limit = f.int()
		case tagVarint4:
			m.Revision = f.int()
		case tagVarint5:
			m.SortOrder = pb.RangeRequest_SortOrder(f.varint())
		case tagVarint6:
			m.SortTarget = pb.RangeRequest_SortTarget(f.varint())
		case tagVarint7:
			m.Serializable = f.bool()
		case tagVarint8:
			m.KeysOnly = f.bool()
		case tagVarint9:
			m.CountOnly = f.bool()
		case tagVarint10:
			m.MinModRevision = f.int()
		case tagVarint11:
			m.MaxModRevision = f.int()
		case tagVarint12:
			m.MinCreateRevision = f.int()
		case tagVarint13:
			m.MaxCreateRevision = f.int()
		default:
			f.unexpected()
		}
	}
	return !f.bad
}

func decodeDeleteRange(m *pb.DeleteRangeRequest, b []byte) bool {
	f := fields{rest: b}
	for tag := f.next(); tag != 0; tag = f.next() {
		switch tag {
		case tagBytes1:
			m.Key = f.bytes()
		case tagBytes2:
			m.RangeEnd = f.bytes()
		case tagVarint3:
			m.PrevKv = f.bool()
		default:
			f.unexpected()
		}
	}
	return !f.bad
}

func decodeKeepAlive(m *pb.LeaseKeepAliveRequest, b []byte) bool {
	f := fields{rest: b}
	for tag := f.next(); tag != 0; tag = f.next() {
		if tag != tagVarint1 {
			f.unexpected()
			break
		}
		m.ID = f.int()
	}
	return !f.bad
}

func decodeTxn(m *pb.TxnRequest, b []byte) bool { return decodeTxnAt(m, b, 0) }

func decodeTxnAt(m *pb.TxnRequest, b []byte, depth int) bool {
	f := fields{rest: b}
	for tag := f.next(); tag != 0; tag = f.next() {
		switch tag {
		case tagBytes1:
			c := new(pb.Compare)
			f.bad = !decodeCompare(c, f.bytes()) || f.bad
			m.Compare = append(m.Compare, c)
		case tagBytes2:
			op := decodeOp(f.bytes(), depth)
			f.bad = op == nil || f.bad
			m.Success = append(m.Success, op)
		case tagBytes3:
			op := decodeOp(f.bytes(), depth)
			f.bad = op == nil || f.bad
			m.Failure = append(m.Failure, op)
		default:
			f.unexpected()
		}
	}
	return !f.bad
}

func decodeCompare(m *pb.Compare, b []byte) bool {
	f := fields{rest: b}
	for tag := f.next(); tag != 0; tag = f.next() {
		switch tag {
		case tagVarint1:
			m.Result = pb.Compare_CompareResult(f.varint())
		case tagVarint2:
			m.Target = pb.Compare_CompareTarget(f.varint())
		case tagBytes3:
			m.Key = f.bytes()
		case tagVarint4:
			m.TargetUnion = &pb.Compare_Version{Version: f.int()}
		case tagVarint5:
			m.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: f.int()}
		case tagVarint6:
			m.TargetUnion = &pb.Compare_ModRevision{ModRevision: f.int()}
		case tagBytes7:
			m.TargetUnion = &pb.Compare_Value{Value: f.bytes()}
		case tagVarint8:
			m.TargetUnion = &pb.Compare_Lease{Lease: f.int()}
		case tagRangeEnd64First:
			if len(f.rest) == 0 || f.rest[0] != tagRangeEnd64Second {
				return false
			}
			f.rest = f.rest[1:]
			m.RangeEnd = f.bytes()
		default:
			f.unexpected()
		}
	}
	return !f.bad
}

// An operation of a transaction is three messages inside each other; they are
// allocated together.
type (
	rangeOp struct {
		op  pb.RequestOp
		one pb.RequestOp_RequestRange
		req pb.RangeRequest
	}
	putOp struct {
		op  pb.RequestOp
		one pb.RequestOp_RequestPut
		req pb.PutRequest
	}
	deleteOp struct {
		op  pb.RequestOp
		one pb.RequestOp_RequestDeleteRange
		req pb.DeleteRangeRequest
	}
	txnOp struct {
		op  pb.RequestOp
		one pb.RequestOp_RequestTxn
		req pb.TxnRequest
	}
)

// decodeOp returns nil where decoders answer false. An operation that is given
// twice is left to the protobuf library, which merges the two.
func decodeOp(b []byte, depth int) *pb.RequestOp {
	if len(b) == 0 {
		return new(pb.RequestOp)
	}
	f := fields{rest: b}
	tag := f.next()
	content := f.bytes()
	if f.bad || len(f.rest) != 0 {
		return nil
	}
	ok := false
	var op *pb.RequestOp
	switch tag {
	case tagBytes1:
		o := new(rangeOp)
		o.one.RequestRange, o.op.Request, op = &o.req, &o.one, &o.op
		ok = decodeRange(&o.req, content)
	case tagBytes2:
		o := new(putOp)
		o.one.RequestPut, o.op.Request, op = &o.req, &o.one, &o.op
		ok = decodePut(&o.req, content)
	case tagBytes3:
		o := new(deleteOp)
		o.one.RequestDeleteRange, o.op.Request, op = &o.req, &o.one, &o.op
		ok = decodeDeleteRange(&o.req, content)
	case tagBytes4:
		o := new(txnOp)
		o.one.RequestTxn, o.op.Request, op = &o.req, &o.one, &o.op
		ok = depth < nestedDepthMax && decodeTxnAt(&o.req, content, depth+1)
	}
	if !ok {
		return nil
	}
	return op
}
