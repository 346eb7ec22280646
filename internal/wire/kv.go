package wire

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/flotilladb/flotilla/proto/peerpb"
)

// Requests of etcd's API as they cross between nodes. Fields that this version
// of the API does not know are dropped: the node that took the request would not
// have known what they ask.

// nestedDepthMax is how deep transactions may nest, as deep as the protobuf
// library lets a client nest them.
const nestedDepthMax = 10000

func kindOfWrite(w *peerpb.Write) byte {
	switch w.Req.(type) {
	case *pb.PutRequest:
		return kindPut
	case *pb.DeleteRangeRequest:
		return kindDeleteRange
	case *pb.TxnRequest:
		return kindTxn
	}
	return 0
}

// newWrite makes a write and its request in one allocation.
func newWrite(k byte) *peerpb.Write {
	switch k {
	case kindPut:
		b := &struct {
			write peerpb.Write
			req   pb.PutRequest
		}{}
		b.write.Req = &b.req
		return &b.write
	case kindDeleteRange:
		return &peerpb.Write{Req: &pb.DeleteRangeRequest{}}
	}
	return &peerpb.Write{Req: &pb.TxnRequest{}}
}

func (c *coder) write(w *peerpb.Write) {
	switch m := w.Req.(type) {
	case *pb.PutRequest:
		c.put(m)
	case *pb.DeleteRangeRequest:
		c.deleteRange(m)
	case *pb.TxnRequest:
		c.txn(m)
	}
}

func (c *coder) put(m *pb.PutRequest) {
	c.bytes(&m.Key)
	c.bytes(&m.Value)
	num(c, &m.Lease)
	c.flags(&m.PrevKv, &m.IgnoreValue, &m.IgnoreLease)
}

func (c *coder) deleteRange(m *pb.DeleteRangeRequest) {
	c.bytes(&m.Key)
	c.bytes(&m.RangeEnd)
	c.bool(&m.PrevKv)
}

func (c *coder) readRange(m *pb.RangeRequest) {
	c.bytes(&m.Key)
	c.bytes(&m.RangeEnd)
	num(c, &m.Limit)
	num(c, &m.Revision)
	num(c, &m.SortOrder)
	num(c, &m.SortTarget)
	c.flags(&m.Serializable, &m.KeysOnly, &m.CountOnly)
	num(c, &m.MinModRevision)
	num(c, &m.MaxModRevision)
	num(c, &m.MinCreateRevision)
	num(c, &m.MaxCreateRevision)
}

func (c *coder) txn(m *pb.TxnRequest) {
	if c.depth++; c.depth > nestedDepthMax {
		c.fail(badFrame("transactions nest too deep"))
		return
	}
	pointers(c, &m.Compare, (*coder).compare)
	pointers(c, &m.Success, (*coder).requestOp)
	pointers(c, &m.Failure, (*coder).requestOp)
	c.depth--
}

// What a compare compares with: the number of the field in etcd's API.
const (
	targetNone byte = iota
	targetVersion
	targetCreate
	targetMod
	targetValue
	targetLease
)

func (c *coder) compare(m *pb.Compare) {
	num(c, &m.Result)
	num(c, &m.Target)
	c.bytes(&m.Key)
	c.bytes(&m.RangeEnd)
	var k byte
	switch m.TargetUnion.(type) {
	case *pb.Compare_Version:
		k = targetVersion
	case *pb.Compare_CreateRevision:
		k = targetCreate
	case *pb.Compare_ModRevision:
		k = targetMod
	case *pb.Compare_Value:
		k = targetValue
	case *pb.Compare_Lease:
		k = targetLease
	}
	if c.kind(&k); !c.enc {
		switch k {
		case targetNone:
		case targetVersion:
			m.TargetUnion = &pb.Compare_Version{}
		case targetCreate:
			m.TargetUnion = &pb.Compare_CreateRevision{}
		case targetMod:
			m.TargetUnion = &pb.Compare_ModRevision{}
		case targetValue:
			m.TargetUnion = &pb.Compare_Value{}
		case targetLease:
			m.TargetUnion = &pb.Compare_Lease{}
		default:
			c.unknown("compare", uint64(k))
		}
	}
	switch u := m.TargetUnion.(type) {
	case *pb.Compare_Version:
		num(c, &u.Version)
	case *pb.Compare_CreateRevision:
		num(c, &u.CreateRevision)
	case *pb.Compare_ModRevision:
		num(c, &u.ModRevision)
	case *pb.Compare_Value:
		c.bytes(&u.Value)
	case *pb.Compare_Lease:
		num(c, &u.Lease)
	}
}

// An operation of a transaction, and its answer.
const (
	txnOpNone byte = iota
	txnOpRange
	txnOpPut
	txnOpDeleteRange
	txnOpTxn
)

func (c *coder) requestOp(m *pb.RequestOp) {
	var k byte
	switch m.Request.(type) {
	case *pb.RequestOp_RequestRange:
		k = txnOpRange
	case *pb.RequestOp_RequestPut:
		k = txnOpPut
	case *pb.RequestOp_RequestDeleteRange:
		k = txnOpDeleteRange
	case *pb.RequestOp_RequestTxn:
		k = txnOpTxn
	}
	if c.kind(&k); !c.enc {
		switch k {
		case txnOpNone:
		case txnOpRange:
			m.Request = &pb.RequestOp_RequestRange{}
		case txnOpPut:
			m.Request = &pb.RequestOp_RequestPut{}
		case txnOpDeleteRange:
			m.Request = &pb.RequestOp_RequestDeleteRange{}
		case txnOpTxn:
			m.Request = &pb.RequestOp_RequestTxn{}
		default:
			c.unknown("operation of a transaction", uint64(k))
		}
	}
	switch o := m.Request.(type) {
	case *pb.RequestOp_RequestRange:
		maybe(c, &o.RequestRange, (*coder).readRange)
	case *pb.RequestOp_RequestPut:
		maybe(c, &o.RequestPut, (*coder).put)
	case *pb.RequestOp_RequestDeleteRange:
		maybe(c, &o.RequestDeleteRange, (*coder).deleteRange)
	case *pb.RequestOp_RequestTxn:
		maybe(c, &o.RequestTxn, (*coder).txn)
	}
}

func (c *coder) responseOp(m *pb.ResponseOp) {
	var k byte
	switch m.Response.(type) {
	case *pb.ResponseOp_ResponseRange:
		k = txnOpRange
	case *pb.ResponseOp_ResponsePut:
		k = txnOpPut
	case *pb.ResponseOp_ResponseDeleteRange:
		k = txnOpDeleteRange
	case *pb.ResponseOp_ResponseTxn:
		k = txnOpTxn
	}
	if c.kind(&k); !c.enc {
		switch k {
		case txnOpNone:
		case txnOpRange:
			m.Response = &pb.ResponseOp_ResponseRange{}
		case txnOpPut:
			m.Response = &pb.ResponseOp_ResponsePut{}
		case txnOpDeleteRange:
			m.Response = &pb.ResponseOp_ResponseDeleteRange{}
		case txnOpTxn:
			m.Response = &pb.ResponseOp_ResponseTxn{}
		default:
			c.unknown("answer of a transaction", uint64(k))
		}
	}
	switch o := m.Response.(type) {
	case *pb.ResponseOp_ResponseRange:
		maybe(c, &o.ResponseRange, (*coder).rangeResponse)
	case *pb.ResponseOp_ResponsePut:
		maybe(c, &o.ResponsePut, (*coder).putResponse)
	case *pb.ResponseOp_ResponseDeleteRange:
		maybe(c, &o.ResponseDeleteRange, (*coder).deleteRangeResponse)
	case *pb.ResponseOp_ResponseTxn:
		maybe(c, &o.ResponseTxn, (*coder).txnResponse)
	}
}

// newPutResponse makes a response and its header in one allocation.
func newPutResponse() *pb.PutResponse {
	r := &struct {
		resp   pb.PutResponse
		header pb.ResponseHeader
	}{}
	r.resp.Header = &r.header
	return &r.resp
}

// header walks over a header, into the one that is there if there is one. A put
// is decoded with room for a header, so what is there may have to go.
func (c *coder) header(p **pb.ResponseHeader) {
	has := *p != nil
	c.bool(&has)
	switch {
	case c.enc && !has:
		return
	case !c.enc && (!has || c.err != nil):
		*p = nil
		return
	case *p == nil:
		*p = &pb.ResponseHeader{}
	}
	h := *p
	num(c, &h.ClusterId)
	num(c, &h.MemberId)
	num(c, &h.Revision)
	num(c, &h.RaftTerm)
}

func (c *coder) keyValue(kv *mvccpb.KeyValue) {
	c.bytes(&kv.Key)
	num(c, &kv.CreateRevision)
	num(c, &kv.ModRevision)
	num(c, &kv.Version)
	c.bytes(&kv.Value)
	num(c, &kv.Lease)
}

func (c *coder) putResponse(m *pb.PutResponse) {
	c.header(&m.Header)
	maybe(c, &m.PrevKv, (*coder).keyValue)
}

func (c *coder) deleteRangeResponse(m *pb.DeleteRangeResponse) {
	c.header(&m.Header)
	num(c, &m.Deleted)
	pointers(c, &m.PrevKvs, (*coder).keyValue)
}

func (c *coder) rangeResponse(m *pb.RangeResponse) {
	c.header(&m.Header)
	pointers(c, &m.Kvs, (*coder).keyValue)
	c.bool(&m.More)
	num(c, &m.Count)
}

func (c *coder) txnResponse(m *pb.TxnResponse) {
	if c.depth++; c.depth > nestedDepthMax {
		c.fail(badFrame("transactions nest too deep"))
		return
	}
	c.header(&m.Header)
	c.bool(&m.Succeeded)
	pointers(c, &m.Responses, (*coder).responseOp)
	c.depth--
}
