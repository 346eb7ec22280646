package raftgroup

import (
	"fmt"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/invariant"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// Conf is who counts in a group. While VotersOutgoing is not empty it is joint:
// what is decided needs a majority of Voters and one of VotersOutgoing.
type Conf struct {
	Voters, VotersOutgoing []metapb.ReplicaID
	Learners               []metapb.ReplicaID
}

// Joint reports whether two majorities are needed.
func (c Conf) Joint() bool { return len(c.VotersOutgoing) > 0 }

// Has reports whether a replica has a part in it.
func (c Conf) Has(id metapb.ReplicaID) bool {
	return slices.Contains(c.Voters, id) || slices.Contains(c.VotersOutgoing, id) || slices.Contains(c.Learners, id)
}

// sorted returns the same with its lists in order.
func (c Conf) sorted() Conf {
	out := Conf{slices.Clone(c.Voters), slices.Clone(c.VotersOutgoing), slices.Clone(c.Learners)}
	slices.Sort(out.Voters)
	slices.Sort(out.VotersOutgoing)
	slices.Sort(out.Learners)
	return out
}

// Equal reports whether two are the same, in whatever order.
func (c Conf) Equal(o Conf) bool {
	a, b := c.sorted(), o.sorted()
	return slices.Equal(a.Voters, b.Voters) && slices.Equal(a.VotersOutgoing, b.VotersOutgoing) &&
		slices.Equal(a.Learners, b.Learners)
}

func (c Conf) state() *raftpb.ConfState {
	s := c.sorted()
	return raftpb.EnsureConfState(&raftpb.ConfState{
		Voters: rawIDs(s.Voters), VotersOutgoing: rawIDs(s.VotersOutgoing), Learners: rawIDs(s.Learners),
	})
}

func rawIDs(ids []metapb.ReplicaID) []uint64 {
	out := make([]uint64, len(ids))
	for i, id := range ids {
		out[i] = uint64(id)
	}
	return out
}

// confOf exports raft's own form. Learners that wait for the joint configuration
// to end are never made: a voter leaves as a voter.
func confOf(cs *raftpb.ConfState) Conf {
	return Conf{
		Voters: replicaIDs(cs.Voters), VotersOutgoing: replicaIDs(cs.VotersOutgoing), Learners: replicaIDs(cs.Learners),
	}.sorted()
}

// Conf returns the applied configuration.
func (g *Group) Conf() Conf { return confOf(g.log.conf) }

// Known reports whether a majority of the voters, of a joint configuration two, told this
// leader that they know that its log is committed up to an index.
func (g *Group) Known(index uint64) bool {
	know := func(voters []uint64) bool {
		n := 0
		for _, id := range voters {
			if id == uint64(g.cfg.ReplicaID) && g.applied >= index || g.knownBy(metapb.ReplicaID(id)) >= index {
				n++
			}
		}
		return 2*n > len(voters)
	}
	cs := g.log.conf
	return g.isLeader && know(cs.Voters) && (len(cs.VotersOutgoing) == 0 || know(cs.VotersOutgoing))
}

// changeTo returns what brings a configuration to another. Voters change by way
// of a joint configuration only: into one, whose VotersOutgoing are from.Voters,
// and out of it.
func changeTo(from, to Conf) (*raftpb.ConfChangeV2, error) {
	bad := func(why string) (*raftpb.ConfChangeV2, error) {
		return nil, fmt.Errorf("%w: from %v to %v: %s", ErrBadConf, from, to, why)
	}
	from, to = from.sorted(), to.sorted()
	cc := &raftpb.ConfChangeV2{}
	switch {
	case len(to.Voters) == 0:
		return bad("nobody votes")
	case from.Joint():
		if !to.Equal(Conf{Voters: from.Voters, Learners: from.Learners}) {
			return bad("a joint configuration is left before anything else changes")
		}
		return cc, nil
	case to.Joint():
		if !slices.Equal(from.Voters, to.VotersOutgoing) {
			return bad("the outgoing voters are not those of now")
		}
		cc.Transition = raftpb.ConfChangeTransition_ConfChangeTransitionJointExplicit.Enum()
	case !slices.Equal(from.Voters, to.Voters):
		return bad("voters change by way of a joint configuration")
	}
	add := func(typ raftpb.ConfChangeType, id metapb.ReplicaID) {
		cc.Changes = append(cc.Changes, &raftpb.ConfChangeSingle{Type: typ.Enum(), NodeId: proto.Uint64(uint64(id))})
	}
	for _, id := range from.Voters {
		if !slices.Contains(to.Voters, id) {
			if slices.Contains(to.Learners, id) {
				return bad("a voter leaves as a voter")
			}
			add(raftpb.ConfChangeType_ConfChangeRemoveNode, id)
		}
	}
	for _, id := range from.Learners {
		if !to.Has(id) {
			add(raftpb.ConfChangeType_ConfChangeRemoveNode, id)
		}
	}
	for _, id := range to.Voters {
		if !slices.Contains(from.Voters, id) {
			add(raftpb.ConfChangeType_ConfChangeAddNode, id)
		}
	}
	for _, id := range to.Learners {
		if !slices.Contains(from.Learners, id) {
			add(raftpb.ConfChangeType_ConfChangeAddLearnerNode, id)
		}
	}
	switch {
	case len(cc.Changes) == 0:
		return bad("nothing changes")
	case !to.Joint() && len(cc.Changes) > 1:
		return bad("one learner at a time")
	}
	return cc, nil
}

// ProposeConf is Propose for an entry that, when its owner calls ApplyConf for it,
// makes a new configuration apply. Only one such entry may be proposed and not
// applied at a time; what raft would drop for that is refused with ErrDropped.
func (g *Group) ProposeConf(to Conf, data []byte) (index, term uint64, err error) {
	defer g.guard(&err)
	if g.log.failed != nil {
		return 0, 0, g.log.failed
	}
	if !g.isLeader {
		return 0, 0, ErrNotLeader
	}
	if g.confIndex > g.rn.BasicStatus().Applied {
		// Raft would put an empty entry in its place, and nobody would hear of it.
		return 0, 0, ErrDropped
	}
	cc, err := changeTo(g.Conf(), to)
	if err != nil {
		return 0, 0, err
	}
	cc.Context = data
	if err := g.rn.ProposeConfChange(cc); err == raft.ErrProposalDropped {
		return 0, 0, ErrDropped
	} else if err != nil {
		return 0, 0, err
	}
	g.lastIndex++
	g.confIndex = g.lastIndex
	g.maybeReady, g.surelyReady = true, true
	return g.lastIndex, g.term, nil
}

// ApplyConf makes the configuration of a committed entry apply and writes it into
// the batch that has the entry's other effects. An owner that finds that the entry
// is to do nothing does not call it. It comes between Ready and Applied, in the
// order of the entries.
// REQUIRES: e is of EntryConfChange.
func (g *Group) ApplyConf(b engine.Batch, e Entry) (conf Conf, err error) {
	defer g.guard(&err)
	if g.log.failed != nil {
		return Conf{}, g.log.failed
	}
	invariant.Must(e.conf != nil, "range %d: entry %d changes no configuration", g.cfg.RangeID, e.Index)
	g.log.conf = raftpb.EnsureConfState(g.rn.ApplyConfChange(e.conf))
	key, row, err := encodeConfState(g.cfg.RangeID, g.log.conf)
	if err != nil {
		return Conf{}, err
	}
	b.Set(key, row)
	g.maybeReady = true
	g.refresh()
	g.forgetRemoved()
	return g.Conf(), nil
}

// changesConf reports whether an entry changes who counts.
func changesConf(e *raftpb.Entry) bool { return e.GetType() == raftpb.EntryConfChangeV2 }

// decodeConf takes the change out of an entry; Data is then what its owner gave.
func decodeConf(e *raftpb.Entry) (Entry, error) {
	out := Entry{Index: e.GetIndex(), Term: e.GetTerm(), Type: EntryConfChange, conf: &raftpb.ConfChangeV2{}}
	if err := proto.Unmarshal(e.GetData(), out.conf); err != nil {
		return Entry{}, err
	}
	out.Data = out.conf.GetContext()
	return out, nil
}
