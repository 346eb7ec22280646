package wire

import (
	"github.com/flotilladb/flotilla/internal/frame"
	"github.com/flotilladb/flotilla/placement"
)

// Operations on the system range, on the wire.
const (
	_ byte = iota
	opCompact
	opAllocIDs
	opAlarm
	opDirectory
	opCeiling
	opClusterVersion
	opJoin
	opAnnounce
	opMember
	opMembers
	opLookup
	opCorrupt
	opFormat
)

func kindOfOp(op any) byte {
	switch op.(type) {
	case *placement.CompactOp:
		return opCompact
	case *placement.AllocIDsOp:
		return opAllocIDs
	case *placement.AlarmOp:
		return opAlarm
	case *placement.DirectoryOp:
		return opDirectory
	case *placement.CeilingOp:
		return opCeiling
	case *placement.ClusterVersionOp:
		return opClusterVersion
	case *placement.JoinOp:
		return opJoin
	case *placement.AnnounceOp:
		return opAnnounce
	case *placement.MemberOp:
		return opMember
	case *placement.MembersOp:
		return opMembers
	case *placement.LookupOp:
		return opLookup
	case *placement.CorruptOp:
		return opCorrupt
	case *placement.FormatOp:
		return opFormat
	}
	return 0
}

func newOp(k byte) any {
	switch k {
	case opCompact:
		return &placement.CompactOp{}
	case opAllocIDs:
		return &placement.AllocIDsOp{}
	case opAlarm:
		return &placement.AlarmOp{}
	case opDirectory:
		return &placement.DirectoryOp{}
	case opCeiling:
		return &placement.CeilingOp{}
	case opClusterVersion:
		return &placement.ClusterVersionOp{}
	case opJoin:
		return &placement.JoinOp{}
	case opAnnounce:
		return &placement.AnnounceOp{}
	case opMember:
		return &placement.MemberOp{}
	case opMembers:
		return &placement.MembersOp{}
	case opLookup:
		return &placement.LookupOp{}
	case opCorrupt:
		return &placement.CorruptOp{}
	case opFormat:
		return &placement.FormatOp{}
	}
	return nil
}

// op walks over an operation on the system range.
func (c *coder) op(p *any) {
	k := kindOfOp(*p)
	if k == 0 && c.enc {
		c.noForm("operation", *p)
		return
	}
	c.kind(&k)
	if !c.enc && c.err == nil {
		if *p = newOp(k); *p == nil {
			c.unknown("operation", uint64(k))
			return
		}
	}
	switch o := (*p).(type) {
	case *placement.CompactOp:
		num(c, &o.Revision)
		num(c, &o.Current)
	case *placement.AllocIDsOp:
		num(c, &o.Kind)
		num(c, &o.N)
	case *placement.AlarmOp:
		c.bool(&o.Activate)
		c.alarm(&o.Alarm)
	case *placement.DirectoryOp:
		pointers(c, &o.Descriptors, contract)
	case *placement.CeilingOp:
		num(c, &o.Epoch)
		num(c, &o.Number)
		num(c, &o.Ceiling)
		c.flags(&o.Exact, &o.EndOneStore)
	case *placement.ClusterVersionOp:
		c.string(&o.Version)
	case *placement.JoinOp:
		c.string(&o.Name)
		num(c, &o.Nonce)
		list(c, &o.PeerURLs, (*coder).string)
		list(c, &o.ClientURLs, (*coder).string)
	case *placement.AnnounceOp:
		c.member(&o.Member)
	case *placement.MemberOp:
		num(c, &o.Node)
		c.bool(&o.Remove)
		list(c, &o.PeerURLs, (*coder).string)
	case *placement.CorruptOp:
		num(c, &o.Range)
		num(c, &o.Replica)
		num(c, &o.Member)
		c.bool(&o.Undecided)
	case *placement.FormatOp:
		num(c, &o.Format)
	case *placement.LookupOp:
		c.bytes(&o.Start)
		num(c, &o.Max)
	}
}

func (c *coder) member(m *placement.Member) {
	num(c, &m.Node)
	num(c, &m.Store)
	num(c, &m.Nonce)
	c.string(&m.Name)
	list(c, &m.PeerURLs, (*coder).string)
	list(c, &m.ClientURLs, (*coder).string)
	c.string(&m.GossipAddr)
	c.flags(&m.Removed, &m.Leaving)
}

func (c *coder) alarm(a *placement.Alarm) {
	num(c, &a.Type)
	num(c, &a.Member)
	c.bool(&a.Contained)
}

func (c *coder) askName(n *placement.AskName) {
	num(c, &n.Store)
	num(c, &n.StoreStart)
	num(c, &n.Range)
	num(c, &n.Term)
	num(c, &n.Number)
}

func (c *coder) ask(a *placement.Ask) {
	c.askName(&a.Name)
	num(c, &a.N)
	num(c, &a.Seq)
	num(c, &a.Epoch)
}

func (c *coder) answer(a *placement.Answer) {
	c.askName(&a.Name)
	num(c, &a.Seq)
	num(c, &a.First)
	num(c, &a.N)
	num(c, &a.Epoch)
	num(c, &a.Compacted)
	c.maybeError(&a.Err)
}

func (c *coder) forward(w *frame.Forward) {
	num(c, &w.Store)
	num(c, &w.Start)
	c.bool(&w.Passed)
	list(c, &w.Asks, (*coder).ask)
	num(c, &w.AskedUpTo)
	list(c, &w.Answers, (*coder).answer)
}
