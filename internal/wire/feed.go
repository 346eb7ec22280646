package wire

import "github.com/flotilladb/flotilla/proto/peerpb"

func (c *coder) feedAsk(a *peerpb.FeedAsk) {
	num(c, &a.Epoch)
	list(c, &a.Begin, (*coder).feedBegin)
	list(c, &a.End, num[uint64])
	list(c, &a.Wants, (*coder).feedWant)
	num(c, &a.TakenCount)
	num(c, &a.TakenBytes)
}

func (c *coder) feedBegin(b *peerpb.FeedBegin) {
	num(c, &b.Feed)
	c.bytes(&b.Start)
	c.bytes(&b.End)
	num(c, &b.After)
}

func (c *coder) feedWant(w *peerpb.FeedWant) {
	num(c, &w.Feed)
	num(c, &w.Revision)
}

func (c *coder) feedNews(n *peerpb.FeedNews) {
	num(c, &n.Epoch)
	list(c, &n.Changes, (*coder).feedChange)
	num(c, &n.Count)
	num(c, &n.Bytes)
}

func (c *coder) feedChange(ch *peerpb.FeedChange) {
	num(c, &ch.Feed)
	list(c, &ch.Events, (*coder).feedEvent)
	num(c, &ch.Through)
	c.bool(&ch.Over)
	num(c, &ch.Compacted)
}

func (c *coder) feedEvent(e *peerpb.FeedEvent) {
	c.row(&e.Row)
	num(c, &e.Sub)
	c.bool(&e.Tombstone)
	maybe(c, &e.Prev, (*coder).row)
}

func (c *coder) hash(b *peerpb.Hash) {
	num(c, &b.Epoch)
	c.bytes(&b.Start)
	c.bytes(&b.End)
	num(c, &b.Revision)
	num(c, &b.Compacted)
	c.bool(&b.NoneLive)
	num(c, &b.AfterRevision)
	num(c, &b.AfterSub)
}

func (c *coder) hashRow(r *peerpb.HashRow) {
	num(c, &r.Revision)
	num(c, &r.Sub)
	num(c, &r.CRC)
	num(c, &r.Len)
}
