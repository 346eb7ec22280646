package wire

import (
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

func (c *coder) check(m *peerpb.CheckMessage) {
	num(c, &m.Kind)
	num(c, &m.Range)
	num(c, &m.Replica)
	num(c, &m.Store)
	num(c, &m.Number)
	num(c, &m.Index)
	num(c, &m.State)
	c.bytes(&m.Sum)
	c.bool(&m.Undecided)
}

func (c *coder) rangeChecked(r *peerpb.RangeChecked) {
	num(c, &r.Index)
	for _, ids := range []*[]metapb.ReplicaID{&r.Equal, &r.Corrupt, &r.Missing} {
		list(c, ids, func(c *coder, id *metapb.ReplicaID) { num(c, id) })
	}
}
