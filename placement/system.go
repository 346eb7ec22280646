package placement

import (
	"slices"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/invariant"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// System is what a replica of the system range knows: the global facts as rows
// say them, and, at the leader, as they will be when everything evaluated is
// applied. It is a core; not safe for concurrent use.
//
//	Evaluate ──rows──> the range's log ──> Apply, on every replica
//
// The leader evaluates one operation after the other, each against the effects
// of those before it, applied or not.
type System struct {
	applied *facts
	// proposed is applied plus what is evaluated and not yet applied; nil if
	// nothing was evaluated since the last Reset.
	proposed *facts
	lives    func(metapb.StoreID) bool // nil: all do
	planned  bool                      // a planner is at work
	// reads is the highest format that a store is known to read, 0: it is not known; nil: all
	// read any.
	reads func(metapb.StoreID) metapb.Format
}

// NewSystem returns the facts of no rows at all.
func NewSystem() *System { return &System{applied: newFacts()} }

// SetLives has members be removed only if those whose stores live can do without them.
// planned: a planner takes replicas away from members that leave, so who is needed may begin
// to.
func (s *System) SetLives(lives func(metapb.StoreID) bool, planned bool) {
	s.lives, s.planned = lives, planned
}

// SetReads has the format be raised only to what all members read.
func (s *System) SetReads(reads func(metapb.StoreID) metapb.Format) { s.reads = reads }

// Load replaces everything by the rows that an engine holds.
func (s *System) Load(r engine.Reader) error {
	span := keys.RowSpan(keys.SystemSpan(""))
	it, err := r.NewIter(engine.IterOptions{Lower: span.Start, Upper: span.End})
	if err != nil {
		return err
	}
	defer it.Close()
	f := newFacts()
	for ok := it.First(); ok; ok = it.Next() {
		addr, err := keys.DecodeRow(it.Key())
		if err != nil {
			return err
		}
		value, err := it.Value()
		if err != nil {
			return err
		}
		if err := f.set(string(addr[1:]), value, false); err != nil {
			return err
		}
	}
	if err := it.Error(); err != nil {
		return err
	}
	f.noticeVersion += s.applied.noticeVersion + 1
	s.applied, s.proposed = f, nil
	return nil
}

// Apply takes in rows of the system range that were applied. Rows of other
// addresses are passed over.
func (s *System) Apply(rows []*cmdpb.Row) { s.applied.apply(rows) }

func (f *facts) apply(rows []*cmdpb.Row) {
	for _, row := range rows {
		if len(row.Address) == 0 || row.Address[0] != byte(keys.KindSystem) {
			continue
		}
		// The entry's checksum was right, so a bad row is our own doing, and to
		// pass over it would let replicas differ.
		err := f.set(string(row.Address[1:]), row.Value, row.Deleted)
		invariant.Must(err == nil, "apply of a system row: %v", err)
	}
}

// Reset forgets what was evaluated and will not be applied, or may not be: the
// replica lost its leadership, or a proposal was dropped. Whoever leads next
// evaluates only after it has applied all that came before.
func (s *System) Reset() { s.proposed = nil }

// Evaluate decides an operation. The rows are to go through the system range's
// log; the reply is given when they are applied. Without rows nothing changes.
func (s *System) Evaluate(op any) (rows []*cmdpb.Row, reply any, err error) {
	if s.proposed == nil {
		s.proposed = s.applied.clone()
	}
	f := s.proposed
	switch o := op.(type) {
	case *CompactOp:
		rows, reply, err = f.compact(o)
	case *AllocIDsOp:
		rows, reply, err = f.allocIDs(o)
	case *AlarmOp:
		rows, reply = f.alarm(o)
	case *DirectoryOp:
		rows, reply, err = f.report(o)
	case *CeilingOp:
		rows, reply, err = f.raiseCeiling(o)
	case *ClusterVersionOp:
		rows, reply = []*cmdpb.Row{setRow(rowVersion, []byte(o.Version))}, &peerpb.Done{}
	case *FormatOp:
		rows, reply = f.raiseFormat(o, s.reads), &peerpb.Done{}
	case *JoinOp:
		rows, reply, err = f.join(o)
	case *AnnounceOp:
		rows, reply, err = f.announce(o)
	case *MemberOp:
		rows, reply, err = f.changeMember(o, s.lives, s.planned)
	case *MembersOp:
		reply = &MembersReply{Members: f.live(0), Alarms: slices.Clone(f.alarms)}
	case *CorruptOp:
		rows, reply = f.condemn(o)
	case *LookupOp:
		reply, err = f.lookup(o)
	default:
		return nil, nil, ErrUnknownOp
	}
	if err != nil {
		return nil, nil, err
	}
	f.apply(rows)
	return rows, reply, nil
}

// compact checks in etcd's order: a revision below both bounds is compacted.
// Nothing is compacted at -1, so a fresh cluster accepts revision 0 once.
func (f *facts) compact(o *CompactOp) ([]*cmdpb.Row, any, error) {
	switch {
	case o.Revision <= f.compacted:
		return nil, nil, ErrCompacted
	case o.Revision > o.Current:
		return nil, nil, ErrFutureRevision
	}
	row := numberRow(rowCompacted, uint64(o.Revision))
	return []*cmdpb.Row{row}, &CompactReply{Compacted: o.Revision}, nil
}

// idsMax bounds one AllocIDsOp, so that a broken asker cannot use ids up.
const idsMax = 1 << 20

func (f *facts) allocIDs(o *AllocIDsOp) ([]*cmdpb.Row, any, error) {
	name, ok := idRow(o.Kind)
	if !ok || o.N <= 0 || o.N > idsMax {
		return nil, nil, ErrBadOp
	}
	first := max(f.next[name], 1) // zero is no id
	row := numberRow(name, first+uint64(o.N))
	return []*cmdpb.Row{row}, &AllocIDsReply{First: first}, nil
}

// alarm answers as etcd: to activate what is active changes nothing and names
// it; to deactivate what is not active names nothing.
func (f *facts) alarm(o *AlarmOp) ([]*cmdpb.Row, any) {
	was, active := f.active(o.Alarm)
	reply := &AlarmReply{Alarms: []Alarm{o.Alarm}}
	switch {
	case o.Alarm.Type == 0, !o.Activate && !active:
		return nil, &AlarmReply{}
	case o.Activate && active && was == o.Alarm:
		return nil, reply
	case o.Activate:
		return []*cmdpb.Row{alarmRow(o.Alarm)}, reply
	}
	return []*cmdpb.Row{deleteRow(alarmName(o.Alarm))}, reply
}

// report takes in descriptors. Those that are not newer than what is known are
// passed over.
func (f *facts) report(o *DirectoryOp) ([]*cmdpb.Row, any, error) {
	dir := f.dir.Clone()
	var rows []*cmdpb.Row
	for _, d := range o.Descriptors {
		if d.Validate() != nil {
			return nil, nil, ErrBadOp
		}
		displaced, ok := dir.Insert(d)
		if !ok {
			continue
		}
		for _, old := range displaced {
			if string(old.End) != string(d.End) {
				rows = append(rows, deleteRow(dirName(old.End)))
			}
		}
		row, err := descriptorRow(d)
		if err != nil {
			return nil, nil, err
		}
		rows = append(append(rows, row), f.mended(d)...)
	}
	return rows, &peerpb.Done{}, nil
}

// raiseCeiling persists the ceiling. Only what a sequencer proposed later comes behind it;
// that may be lower: it knows what it gave out, and may not know of the one before, if that
// was not answered in time.
func (f *facts) raiseCeiling(o *CeilingOp) ([]*cmdpb.Row, any, error) {
	c := ceiling{rev: o.Ceiling, epoch: o.Epoch, number: o.Number}
	if o.Ceiling < 1 || !c.follows(f.ceiling) {
		return nil, nil, ErrBadOp
	}
	rows := []*cmdpb.Row{ceilingRow(c)}
	if o.EndOneStore && f.oneStore {
		rows = append(rows, deleteRow(rowOneStore))
	}
	return rows, &peerpb.Done{}, nil
}

// ClusterID is the cluster's id.
func (s *System) ClusterID() uint64 { return s.applied.clusterID }

// Compacted is the compacted revision, -1 if nothing was ever compacted.
func (s *System) Compacted() metapb.Revision { return s.applied.compacted }

// Ceiling is the sequencer's persisted ceiling, 0 if there never was one.
func (s *System) Ceiling() metapb.Revision { return s.applied.ceiling.rev }

// OneStore is the fact that the cluster has one store.
func (s *System) OneStore() bool { return s.applied.oneStore }

// ClusterVersion is the version that all nodes have at least.
func (s *System) ClusterVersion() string { return s.applied.version }

// Format is what all members read: nothing newer is written.
func (s *System) Format() metapb.Format { return s.applied.format }

// raiseFormat sets the format that all members read. Since whoever asks for it has looked one
// may have joined that does not.
func (f *facts) raiseFormat(o *FormatOp, reads func(metapb.StoreID) metapb.Format) []*cmdpb.Row {
	old := func(m *Member) bool { return m.Joined() && reads != nil && reads(m.Store) < o.Format }
	if o.Format <= f.format || slices.ContainsFunc(f.members, old) {
		return nil
	}
	return []*cmdpb.Row{numberRow(rowFormat, uint64(o.Format))}
}

// Alarms returns the active alarms by type, then member.
func (s *System) Alarms() []Alarm { return slices.Clone(s.applied.alarms) }

// Directory is the index of ranges as applied. It must not be changed.
func (s *System) Directory() *Directory { return s.applied.dir }
