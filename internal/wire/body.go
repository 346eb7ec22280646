package wire

import (
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// What a request asks, on the wire. A number is never used for anything else.
const (
	_ byte = iota
	kindPut
	kindDeleteRange
	kindTxn
	kindClose
	kindPrepare
	kindWriteIntents
	kindWriteRecord
	kindPush
	kindResolve
	kindRelease
	kindForget
	kindSplit
	kindSystem
	kindGrantLease
	kindRegisterLease
	kindEnsureMarks
	kindRevokeLease
	kindRemoveLease
	kindRenewLeases
	kindLookupLease
	kindLeaseKeys
	kindListLeases
	kindCheckpointLeases
	kindChangeReplicas
	kindTransfer
	kindRead
	kindCheckRange
	kindHistory
	kindHash
)

func (c *coder) request(r *peerpb.Request) {
	num(c, &r.ID)
	num(c, &r.Range)
	num(c, &r.Generation)
	k := kindOf(r.Body)
	if k == 0 && c.enc {
		c.noForm("request", r.Body)
		return
	}
	c.kind(&k)
	if !c.enc && c.err == nil {
		if r.Body = newBody(k); r.Body == nil {
			c.unknown("request", uint64(k))
			return
		}
	}
	c.body(r.Body)
}

// kindOf returns what a body is on the wire, 0 if it has no form there.
func kindOf(b peerpb.Body) byte {
	switch b := b.(type) {
	case *peerpb.Write:
		return kindOfWrite(b)
	case *peerpb.Close:
		return kindClose
	case *peerpb.Prepare:
		return kindPrepare
	case *peerpb.WriteIntents:
		return kindWriteIntents
	case *peerpb.WriteRecord:
		return kindWriteRecord
	case *peerpb.Push:
		return kindPush
	case *peerpb.Resolve:
		return kindResolve
	case *peerpb.Release:
		return kindRelease
	case *peerpb.Forget:
		return kindForget
	case *peerpb.Split:
		return kindSplit
	case *peerpb.ChangeReplicas:
		return kindChangeReplicas
	case *peerpb.Transfer:
		return kindTransfer
	case *peerpb.Read:
		return kindRead
	case *peerpb.CheckRange:
		return kindCheckRange
	case *peerpb.History:
		return kindHistory
	case *peerpb.Hash:
		return kindHash
	case *peerpb.System:
		return kindSystem
	}
	return kindOfLease(b)
}

// newBody returns an empty body of a kind, nil if there is no such kind.
func newBody(k byte) peerpb.Body {
	switch k {
	case kindPut, kindDeleteRange, kindTxn:
		return newWrite(k)
	case kindClose:
		return &peerpb.Close{}
	case kindPrepare:
		return &peerpb.Prepare{}
	case kindWriteIntents:
		return &peerpb.WriteIntents{}
	case kindWriteRecord:
		return &peerpb.WriteRecord{}
	case kindPush:
		return &peerpb.Push{}
	case kindResolve:
		return &peerpb.Resolve{}
	case kindRelease:
		return &peerpb.Release{}
	case kindForget:
		return &peerpb.Forget{}
	case kindSplit:
		return &peerpb.Split{}
	case kindSystem:
		return &peerpb.System{}
	case kindChangeReplicas:
		return &peerpb.ChangeReplicas{}
	case kindTransfer:
		return &peerpb.Transfer{}
	case kindRead:
		return &peerpb.Read{}
	case kindCheckRange:
		return &peerpb.CheckRange{}
	case kindHistory:
		return &peerpb.History{}
	case kindHash:
		return &peerpb.Hash{}
	}
	return newLeaseBody(k)
}

// body walks over a body that kindOf knows.
func (c *coder) body(b peerpb.Body) {
	switch b := b.(type) {
	case *peerpb.Write:
		c.write(b)
	case *peerpb.Close:
		num(c, &b.S)
		num(c, &b.Epoch)
		list(c, &b.Spans, (*coder).span)
	case *peerpb.Prepare:
		c.prepare(b)
	case *peerpb.WriteIntents:
		maybe(c, &b.Txn, (*coder).txnID)
		num(c, &b.Lock)
		num(c, &b.Revision)
		num(c, &b.Epoch)
		pointers(c, &b.Intents, contract)
	case *peerpb.WriteRecord:
		c.bytes(&b.Anchor)
		maybe(c, &b.Record, contract)
	case *peerpb.CheckRange:
		num(c, &b.Store)
		num(c, &b.Number)
	case *peerpb.Push:
		maybe(c, &b.Txn, (*coder).txnID)
		c.bytes(&b.Anchor)
	case *peerpb.Resolve:
		maybe(c, &b.Txn, (*coder).txnID)
		c.bool(&b.Commit)
	case *peerpb.Release:
		maybe(c, &b.Txn, (*coder).txnID)
		num(c, &b.Lock)
	case *peerpb.Forget:
		maybe(c, &b.Txn, (*coder).txnID)
		c.bytes(&b.Anchor)
	case *peerpb.Split:
		c.bytes(&b.At)
		num(c, &b.RightID)
	case *peerpb.System:
		c.op(&b.Op)
	case *peerpb.ChangeReplicas:
		num(c, &b.Learner)
		num(c, &b.Node)
		list(c, &b.Promote, num[metapb.StoreID])
		list(c, &b.Remove, num[metapb.StoreID])
		c.bool(&b.Leave)
	case *peerpb.Transfer:
		num(c, &b.To)
	case *peerpb.Read:
		num(c, &b.Revision)
		num(c, &b.Epoch)
		c.bytes(&b.Start)
		c.bytes(&b.End)
		num(c, &b.LimitRows)
		num(c, &b.BytesMax)
		c.flags(&b.KeysOnly, &b.CountOnly)
	case *peerpb.History:
		num(c, &b.Epoch)
		c.bytes(&b.Start)
		c.bytes(&b.End)
		num(c, &b.From)
		num(c, &b.To)
		num(c, &b.BytesMax)
		c.bool(&b.Prev)
	case *peerpb.Hash:
		c.hash(b)
	default:
		c.leaseBody(b)
	}
}

func (c *coder) span(s *metapb.Span) {
	c.bytes(&s.Start)
	c.bytes(&s.End)
}

func (c *coder) txnID(id *txnpb.TxnID) {
	num(c, &id.StoreId)
	num(c, &id.StoreStart)
	num(c, &id.Number)
	num(c, &id.Attempt)
}

func (c *coder) prepare(p *peerpb.Prepare) {
	maybe(c, &p.Txn, (*coder).txnID)
	list(c, &p.Accesses, (*coder).access)
	num(c, &p.Hold)
	c.bool(&p.Puts)
	list(c, &p.Uses, (*coder).leaseUse)
	maybe(c, &p.Revoke, (*coder).leaseRevoke)
	num(c, &p.Lock)
	c.cursor(&p.From)
}

func (c *coder) access(a *peerpb.Access) {
	c.bytes(&a.Start)
	c.bytes(&a.End)
	c.flags(&a.Write, &a.NeedValues, &a.Deletes)
	num(c, &a.Revision)
}

func (c *coder) cursor(p *peerpb.Cursor) {
	num(c, &p.Access)
	c.bytes(&p.Key)
}

func (c *coder) row(r *peerpb.Row) {
	c.bytes(&r.Key)
	c.bytes(&r.Value)
	num(c, &r.CreateRevision)
	num(c, &r.ModRevision)
	num(c, &r.Version)
	num(c, &r.Lease)
}

func (c *coder) rows(p *[]peerpb.Row) { list(c, p, (*coder).row) }
