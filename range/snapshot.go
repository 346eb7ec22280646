package ranges

import (
	"encoding/binary"
	"errors"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/raftgroup"
)

// A snapshot is a range's state at one index: its rows in every table, and a header
// with what is local to a replica. The leader's store says in Output.Snapshots who
// needs one. Its driver takes a SnapshotSender, carries chunks over and answers back,
// one at a time and at its own pace, and reports the end to SnapshotEnded. At the
// other end a SnapshotReceiver writes tables, and Store.Install makes a replica of
// them. Lost chunks and answers are sent again; a receiver that begins anew asks for
// chunk 0 and gets all of it again. A late answer, of before that, may leave a sender
// behind its receiver, which it follows chunk by chunk, or ahead of it: then that begins anew.

// WantedSnapshot says that a replica cannot be brought up from its leader's log, or has no
// leader that could.
type WantedSnapshot struct {
	Range   metapb.RangeID
	To      metapb.StoreID
	Replica metapb.ReplicaID
	// Offer says that nobody leads and its store has nothing: one that is under way goes on.
	Offer bool
}

// What is said about snapshots is in peerpb.
type (
	SnapshotHeader = peerpb.SnapshotHeader
	SnapshotChunk  = peerpb.SnapshotChunk
	SnapshotAnswer = peerpb.SnapshotAnswer
)

// SnapshotSender cuts a range's state into chunks. It is not safe for concurrent use,
// but may be used beside its store. It holds a view of the engine until it is closed.
type SnapshotSender struct {
	view   engine.View
	header SnapshotHeader
	id     uint64
	spans  []engine.Span
	bytes  int
	it     engine.Iterator // nil: at the beginning of table
	table  int
	ready  bool // it stands on a row that was not sent
	chunk  *SnapshotChunk
}

// BeginSnapshot takes the state of a range that this store leads, or that nobody does, for
// a replica. It is called between Advance and the next Collect. The log is kept until
// SnapshotEnded, which must follow. chunkBytes bounds a chunk's rows (one row always fits).
func (s *Store) BeginSnapshot(id metapb.RangeID, to metapb.ReplicaID, chunkBytes int) (*SnapshotSender, error) {
	r := s.replicas[id]
	// Also before it has applied an entry of its own term: that may need whom the
	// snapshot is for. What is applied is committed whoever leads.
	if r == nil || !r.group.IsLeader() && !r.Adrift() || r.condemned {
		return nil, peerpb.ErrNotLeader
	}
	spans := keys.Tables(r.desc.Span())
	s.snapshots++
	x := &SnapshotSender{id: s.cfg.StoreStart<<32 + s.snapshots, view: s.cfg.NewView(append(spans[:len(spans):len(spans)], keys.LocalSpan(id), keys.AppliedSteps())), bytes: chunkBytes}
	err := x.readHeader(id, r.id, to)
	x.header.Compacted = max(x.header.RemovalMark, s.compacted)
	if err == nil && !hasReplica(x.header.Descriptor, to) {
		err = peerpb.ErrBadChange
	}
	if err == nil {
		err = r.group.BeginSnapshot(to, x.header.Index)
	}
	if err != nil {
		return nil, errors.Join(err, x.Close())
	}
	x.spans = keys.Tables(x.header.Descriptor.Span())
	return x, nil
}

// readHeader reads what the view has: row and index fit each other whatever the
// replica has done since.
func (x *SnapshotSender) readHeader(id metapb.RangeID, self, to metapb.ReplicaID) error {
	own, err := readApplied(x.view, id)
	if err != nil {
		return err
	}
	ring, err := readRing(x.view)
	if err != nil {
		return err
	}
	mark, err := ReadRemovalMark(x.view, id)
	if err != nil {
		return err
	}
	d, err := readDescriptor(x.view, id)
	if err != nil {
		return err
	}
	st := own.newest(ring, id, self)
	x.header = SnapshotHeader{
		Replica: to, Descriptor: d, Index: st.index, Term: st.term, Revision: st.revision, RemovalMark: mark,
	}
	return nil
}

func readDescriptor(r engine.Reader, id metapb.RangeID) (*metapb.Descriptor, error) {
	row, closer, err := r.Get(keys.Descriptor(id))
	if err != nil {
		return nil, err
	}
	defer closer.Close()
	d := &metapb.Descriptor{}
	if err := d.UnmarshalVT(row); err != nil {
		return nil, err
	}
	return d, d.Validate()
}

// SnapshotEnded says that a replica's snapshot is there, or was given up.
func (s *Store) SnapshotEnded(id metapb.RangeID, to metapb.ReplicaID, ok bool) {
	r := s.replicas[id]
	if r == nil {
		return
	}
	if err := r.group.EndSnapshot(to, ok); err != nil {
		s.fail(err)
	}
	s.mark(r)
	r.wake()
}

// Close gives the view back.
func (x *SnapshotSender) Close() error {
	err := x.closeIter()
	return errors.Join(err, x.view.Close())
}

func (x *SnapshotSender) closeIter() error {
	if x.it == nil {
		return nil
	}
	it := x.it
	x.it = nil
	return it.Close()
}

// Chunk returns the chunk that is to be sent, the same until Answer.
func (x *SnapshotSender) Chunk() (*SnapshotChunk, error) {
	if x.chunk == nil {
		if err := x.next(0); err != nil {
			return nil, err
		}
	}
	return x.chunk, nil
}

// Answer takes the receiver's answer; done says that the snapshot is over, well or
// not.
func (x *SnapshotSender) Answer(a *SnapshotAnswer) (done, ok bool, err error) {
	switch {
	case x.chunk == nil || a.Range != x.chunk.Range || a.Replica != x.chunk.Replica || a.ID != x.id:
		return false, false, nil
	case a.Done || a.Refused:
		return true, a.Done, nil
	case a.Next == 0 && x.chunk.Number > 0: // it began anew
		err := x.closeIter()
		x.table, x.ready = 0, false
		return false, false, errors.Join(err, x.next(0))
	case a.Next > x.chunk.Number: // by more than one where it began anew because of a late answer
		return false, false, x.next(x.chunk.Number + 1)
	}
	return false, false, nil
}

// next makes a chunk of what follows.
func (x *SnapshotSender) next(number uint64) error {
	c := &SnapshotChunk{
		Range: x.header.Descriptor.ID(), Replica: x.header.Replica, Index: x.header.Index, ID: x.id, Number: number,
	}
	if number == 0 {
		h := x.header
		c.Header = &h
	}
	for x.table < len(x.spans) && len(c.Rows) == 0 {
		c.Table = x.table
		if err := x.fill(c); err != nil {
			return err
		}
	}
	c.Last = x.table == len(x.spans)
	var err error
	c.Sum, err = c.Checksum()
	x.chunk = c
	return err
}

// fill takes rows of one table, and goes on to the next when there are no more.
func (x *SnapshotSender) fill(c *SnapshotChunk) (err error) {
	if x.it == nil {
		sp := x.spans[x.table]
		if x.it, err = x.view.NewIter(engine.IterOptions{Lower: sp.Start, Upper: sp.End}); err != nil {
			return err
		}
		x.ready = x.it.First()
	}
	for x.ready {
		value, err := x.it.Value()
		if err != nil {
			return err
		}
		if n := len(c.Rows); n > 0 && n+len(x.it.Key())+len(value) > x.bytes {
			return nil
		}
		c.Rows = appendBytes(appendBytes(c.Rows, x.it.Key()), value)
		x.ready = x.it.Next()
	}
	if err := x.it.Error(); err != nil {
		return err
	}
	x.table++
	return x.closeIter()
}

func appendBytes(dst, b []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

// cutBytes takes what appendBytes wrote off the front.
func cutBytes(src []byte) (b, rest []byte, err error) {
	n, w := binary.Uvarint(src)
	if w <= 0 || n > uint64(len(src)-w) {
		return nil, nil, errBadChunk
	}
	return src[w : w+int(n)], src[w+int(n):], nil
}

// startRows are the local rows of a replica that begins on a snapshot.
func startRows(h *SnapshotHeader, hardTerm uint64, vote metapb.ReplicaID) ([]raftgroup.Row, error) {
	id := h.Descriptor.ID()
	rows, err := raftgroup.StartRows(id, raftgroup.Start{
		Index: h.Index, Term: h.Term, Conf: confOf(h.Descriptor), HardTerm: hardTerm, Vote: vote,
	})
	if err != nil {
		return nil, err
	}
	desc, err := h.Descriptor.MarshalVT()
	if err != nil {
		return nil, err
	}
	st := appliedState{index: h.Index, term: h.Term, revision: h.Revision}
	rows = append(rows,
		raftgroup.Row{Key: keys.AppliedState(id), Value: appliedRow(st)},
		raftgroup.Row{Key: keys.Descriptor(id), Value: desc},
		tombstoneRow(id, h.Replica))
	if h.RemovalMark >= 0 {
		rows = append(rows, raftgroup.Row{Key: keys.RemovalMark(id), Value: revisionRow(h.RemovalMark)})
	}
	return rows, nil
}
