package wire

import (
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/raftgroup"
)

// Messages of liveness have a lane of their own and frames of their own, one
// message in each: version, from, to, fields, checksum. They are a few dozen
// bytes, or as many ties as a message may have.

// AppendLiveness appends the bytes of a message about promises.
func AppendLiveness(dst []byte, from, to metapb.StoreID, m *raftgroup.LivenessMessage) ([]byte, error) {
	c := coder{enc: true, buf: append(dst, Version)}
	num(&c, &from)
	num(&c, &to)
	c.liveness(m)
	return c.seal(dst)
}

// DecodeLiveness takes a message about promises apart.
func DecodeLiveness(b []byte) (from, to metapb.StoreID, m *raftgroup.LivenessMessage, err error) {
	c, err := open(b)
	if err != nil {
		return 0, 0, nil, err
	}
	m = &raftgroup.LivenessMessage{}
	num(&c, &from)
	num(&c, &to)
	c.liveness(m)
	if len(c.buf) > 0 {
		c.fail(badFrame("bytes behind the end"))
	}
	if c.err != nil {
		return 0, 0, nil, c.err
	}
	return from, to, m, nil
}

func (c *coder) liveness(m *raftgroup.LivenessMessage) {
	num(c, &m.FromStart)
	num(c, &m.ToStart)
	c.flags(&m.Beat, &m.Ask, &m.Answer)
	num(c, &m.Sent)
	num(c, &m.Echo)
	num(c, &m.Promise)
	num(c, &m.Epoch)
	list(c, &m.Questions, (*coder).tie)
	list(c, &m.Follows, (*coder).tie)
	list(c, &m.Refuses, (*coder).tie)
	num(c, &m.ReleaseFirst)
	list(c, &m.Releases, (*coder).tie)
	num(c, &m.Released)
	list(c, &m.Asks, (*coder).tie)
}

func (c *coder) tie(t *raftgroup.Tie) {
	num(c, &t.Range)
	num(c, &t.Term)
}
