package wire

import "github.com/flotilladb/flotilla/raftgroup"

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
