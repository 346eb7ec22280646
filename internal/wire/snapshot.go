package wire

import "github.com/flotilladb/flotilla/proto/peerpb"

func (c *coder) gone(g *peerpb.Gone) {
	num(c, &g.Range)
	num(c, &g.Replica)
}

func (c *coder) chunk(p *peerpb.SnapshotChunk) {
	num(c, &p.Range)
	num(c, &p.Replica)
	num(c, &p.Index)
	num(c, &p.ID)
	num(c, &p.Number)
	maybe(c, &p.Header, (*coder).snapshotHeader)
	num(c, &p.Table)
	c.bytes(&p.Rows)
	c.bool(&p.Last)
	num(c, &p.Sum)
}

func (c *coder) snapshotHeader(h *peerpb.SnapshotHeader) {
	num(c, &h.Replica)
	maybe(c, &h.Descriptor, contract)
	num(c, &h.Index)
	num(c, &h.Term)
	num(c, &h.Revision)
	num(c, &h.RemovalMark)
	num(c, &h.Compacted)
}

func (c *coder) taken(a *peerpb.SnapshotAnswer) {
	num(c, &a.Range)
	num(c, &a.Replica)
	num(c, &a.Index)
	num(c, &a.ID)
	num(c, &a.Next)
	c.flags(&a.Done, &a.Refused)
}
