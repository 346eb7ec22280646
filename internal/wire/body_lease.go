package wire

import "github.com/flotilladb/flotilla/proto/peerpb"

func kindOfLease(b peerpb.Body) byte {
	switch b.(type) {
	case *peerpb.GrantLease:
		return kindGrantLease
	case *peerpb.RegisterLease:
		return kindRegisterLease
	case *peerpb.EnsureMarks:
		return kindEnsureMarks
	case *peerpb.RevokeLease:
		return kindRevokeLease
	case *peerpb.RemoveLease:
		return kindRemoveLease
	case *peerpb.RenewLeases:
		return kindRenewLeases
	case *peerpb.LookupLease:
		return kindLookupLease
	case *peerpb.LeaseKeys:
		return kindLeaseKeys
	case *peerpb.ListLeases:
		return kindListLeases
	case *peerpb.CheckpointLeases:
		return kindCheckpointLeases
	}
	return 0
}

func newLeaseBody(k byte) peerpb.Body {
	switch k {
	case kindGrantLease:
		return &peerpb.GrantLease{}
	case kindRegisterLease:
		return &peerpb.RegisterLease{}
	case kindEnsureMarks:
		return &peerpb.EnsureMarks{}
	case kindRevokeLease:
		return &peerpb.RevokeLease{}
	case kindRemoveLease:
		return &peerpb.RemoveLease{}
	case kindRenewLeases:
		return &peerpb.RenewLeases{}
	case kindLookupLease:
		return &peerpb.LookupLease{}
	case kindLeaseKeys:
		return &peerpb.LeaseKeys{}
	case kindListLeases:
		return &peerpb.ListLeases{}
	case kindCheckpointLeases:
		return &peerpb.CheckpointLeases{}
	}
	return nil
}

func (c *coder) leaseBody(b peerpb.Body) {
	switch b := b.(type) {
	case *peerpb.GrantLease:
		num(c, &b.ID)
		num(c, &b.TTL)
		num(c, &b.Number)
	case *peerpb.RegisterLease:
		num(c, &b.ID)
		list(c, &b.Spans, (*coder).span)
		c.span(&b.Range)
	case *peerpb.EnsureMarks:
		list(c, &b.Uses, (*coder).leaseUse)
	case *peerpb.RevokeLease:
		num(c, &b.ID)
		c.bool(&b.Expired)
	case *peerpb.RemoveLease:
		maybe(c, &b.Txn, (*coder).txnID)
		num(c, &b.Lock)
		num(c, &b.ID)
	case *peerpb.RenewLeases:
		list(c, &b.IDs, num[int64])
	case *peerpb.LookupLease:
		num(c, &b.ID)
	case *peerpb.LeaseKeys:
		num(c, &b.ID)
		c.span(&b.Span)
	case *peerpb.ListLeases:
		c.bytes(&b.From)
		num(c, &b.LimitMax)
	case *peerpb.CheckpointLeases:
		list(c, &b.Leases, (*coder).leaseCheckpoint)
	default:
		c.noForm("request", b)
	}
}

func (c *coder) leaseUse(u *peerpb.LeaseUse) {
	num(c, &u.Lease)
	c.bytes(&u.Key)
}

func (c *coder) leaseRevoke(r *peerpb.LeaseRevoke) {
	num(c, &r.ID)
	c.flags(&r.Home, &r.Expired)
}

func (c *coder) leaseCheckpoint(p *peerpb.LeaseCheckpoint) {
	num(c, &p.ID)
	num(c, &p.Remaining)
	num(c, &p.Number)
}

func (c *coder) leaseFound(f *peerpb.LeaseFound) {
	list(c, &f.Spans, (*coder).span)
	list(c, &f.Keys, (*coder).bytes)
}

func (c *coder) leaseEntry(e *peerpb.LeaseEntry) {
	num(c, &e.ID)
	num(c, &e.Remaining)
}
