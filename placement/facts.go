package placement

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// facts are the system rows, decoded.
type facts struct {
	clusterID uint64
	next      map[string]uint64 // next id by the name of its row
	compacted metapb.Revision   // -1: never compacted
	ceiling   ceiling           // zero: none was ever persisted
	oneStore  bool
	version   string
	format    metapb.Format
	alarms    []Alarm   // by type, then member
	members   []*Member // by node
	corrupt   []Corrupt // by range, then replica
	// noticeVersion grows with each row of a member or an alarm.
	noticeVersion uint64
	dir           *Directory
}

func newFacts() *facts {
	return &facts{next: make(map[string]uint64), compacted: -1, format: metapb.FormatFirst, dir: NewDirectory()}
}

func (f *facts) clone() *facts {
	c := *f
	c.next = make(map[string]uint64, len(f.next))
	for name, n := range f.next {
		c.next[name] = n
	}
	c.alarms = slices.Clone(f.alarms)
	c.members = slices.Clone(f.members)
	c.dir = f.dir.Clone()
	c.corrupt = slices.Clone(f.corrupt)
	return &c
}

// ceiling is the sequencer's ceiling and whose proposal it was.
type ceiling struct {
	rev           metapb.Revision
	epoch, number uint64
}

// follows reports whether c was proposed after o.
func (c ceiling) follows(o ceiling) bool {
	return cmp.Or(cmp.Compare(c.epoch, o.epoch), cmp.Compare(c.number, o.number)) > 0
}

// set takes in a row. Rows of unknown names are of a newer version, which all
// that needs them will know; they are passed over.
func (f *facts) set(name string, value []byte, deleted bool) error {
	switch {
	case name == rowOneStore:
		f.oneStore = !deleted
		return nil
	case name == rowCeiling:
		return f.setCeiling(name, value, deleted)
	case name == rowVersion:
		f.version = string(value)
		return nil
	case strings.HasPrefix(name, prefixAlarm):
		return f.setAlarm(name, value, deleted)
	case strings.HasPrefix(name, prefixCorrupt):
		return f.setCorrupt(name, value, deleted)
	case strings.HasPrefix(name, prefixDir):
		return f.setDescriptor(name, value, deleted)
	case strings.HasPrefix(name, prefixMember):
		return f.setMember(name, value, deleted)
	}
	return f.setNumber(name, value, deleted)
}

func (f *facts) setNumber(name string, value []byte, deleted bool) error {
	switch name {
	case rowCluster, rowCompacted, rowFormat, rowNodeID, rowRangeID, rowStoreID:
	default:
		return nil
	}
	if deleted || len(value) != 8 {
		return badRow(name)
	}
	n := binary.BigEndian.Uint64(value)
	switch name {
	case rowCluster:
		f.clusterID = n
	case rowCompacted:
		f.compacted = metapb.Revision(n)
	case rowFormat:
		f.format = metapb.Format(n)
	default:
		f.next[name] = n
	}
	return nil
}

func (f *facts) setCeiling(name string, value []byte, deleted bool) error {
	if deleted || len(value) != 24 {
		return badRow(name)
	}
	f.ceiling = ceiling{
		rev:    metapb.Revision(binary.BigEndian.Uint64(value)),
		epoch:  binary.BigEndian.Uint64(value[8:]),
		number: binary.BigEndian.Uint64(value[16:]),
	}
	return nil
}

func (f *facts) setAlarm(name string, value []byte, deleted bool) error {
	a, err := decodeAlarmName(name)
	if err != nil {
		return err
	}
	a.Contained = len(value) > 0
	f.noticeVersion++
	i, ok := slices.BinarySearchFunc(f.alarms, a, compareAlarms)
	switch {
	case deleted && ok:
		f.alarms = slices.Delete(f.alarms, i, i+1)
	case !deleted && !ok:
		f.alarms = slices.Insert(f.alarms, i, a)
	case !deleted:
		f.alarms[i] = a
	}
	return nil
}

func compareAlarms(a, b Alarm) int {
	return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Member, b.Member))
}

// active returns an alarm as it is; ok is false if it is not active.
func (f *facts) active(a Alarm) (Alarm, bool) {
	i, ok := slices.BinarySearchFunc(f.alarms, a, compareAlarms)
	if !ok {
		return a, false
	}
	return f.alarms[i], true
}

func (f *facts) setDescriptor(name string, value []byte, deleted bool) error {
	end, err := decodeDirName(name)
	if err != nil {
		return err
	}
	if deleted {
		f.dir.remove(end)
		return nil
	}
	d := &metapb.Descriptor{}
	if err := d.UnmarshalVT(value); err != nil {
		return badRow(name)
	}
	if d.Validate() != nil || string(d.End) != string(end) {
		return badRow(name)
	}
	f.dir.put(d)
	return nil
}
