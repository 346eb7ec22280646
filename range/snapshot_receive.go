package ranges

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// SnapshotReceiver collects one snapshot into tables. It is not safe for concurrent
// use, but may be used beside its store.
type SnapshotReceiver struct {
	tables TableMaker
	prefix string

	header *SnapshotHeader
	id     uint64 // of its sender
	spans  []engine.Span
	next   uint64 // chunk
	table  int    // of writer
	writer engine.TableWriter
	last   []byte // key written to writer
	done   bool
	files  []string
}

// TableMaker begins table files: an engine.
type TableMaker interface {
	NewTableWriter(path string) (engine.TableWriter, error)
}

// Incoming is a snapshot that has arrived.
type Incoming struct {
	Header SnapshotHeader
	// Tables are files of the rows. All but the one of the last table begin with the
	// deletion of what the range has there.
	Tables []string
	id     uint64
}

// Of reports whether the receiver is of a chunk's snapshot. A first chunk of another
// one with the same index or a higher one takes its place.
func (x *SnapshotReceiver) Of(c *SnapshotChunk) bool {
	return x.header != nil && x.id == c.ID && x.header.Index == c.Index
}

// NewSnapshotReceiver returns the receiver of one snapshot, which writes files whose
// paths begin with prefix.
func NewSnapshotReceiver(tables TableMaker, prefix string) *SnapshotReceiver {
	return &SnapshotReceiver{tables: tables, prefix: prefix}
}

// Close gives the file under way back. Nothing else is called then but Files.
func (x *SnapshotReceiver) Close() {
	if x.writer != nil && !x.done && x.table < len(x.spans) {
		_ = x.writer.Finish() // nobody wants it
	}
	x.writer = nil
}

// Files are those written so far: whoever gives the snapshot up removes them.
func (x *SnapshotReceiver) Files() []string { return x.files }

// Incoming returns the whole snapshot, or nil as long as something lacks.
func (x *SnapshotReceiver) Incoming() *Incoming {
	if !x.done {
		return nil
	}
	return &Incoming{Header: *x.header, Tables: x.files, id: x.id}
}

// Step takes a chunk. Those that it has it passes over; its answer says what comes next.
// After an error the snapshot begins anew, with another receiver: also where one lacks
// that its sender takes for taken, because of an answer to the receiver before this one.
func (x *SnapshotReceiver) Step(c *SnapshotChunk) (SnapshotAnswer, error) {
	sum, err := c.Checksum()
	if err != nil || sum != c.Sum {
		return SnapshotAnswer{}, fmt.Errorf("range %d: snapshot chunk %d: %w", c.Range, c.Number, errBadChunk)
	}
	if c.Number > x.next && x.next > 0 && !x.done {
		return SnapshotAnswer{}, fmt.Errorf("range %d: snapshot chunk %d: chunk %d lacks: %w", c.Range, c.Number, x.next, errBadChunk)
	}
	if c.Number == x.next && !x.done {
		if err := x.take(c); err != nil {
			return SnapshotAnswer{}, fmt.Errorf("range %d: snapshot chunk %d: %w", c.Range, c.Number, err)
		}
		x.next++
	}
	return SnapshotAnswer{Range: c.Range, Replica: c.Replica, Index: c.Index, ID: c.ID, Next: x.next}, nil
}

func (x *SnapshotReceiver) take(c *SnapshotChunk) error {
	if c.Number == 0 {
		if err := x.begin(c); err != nil {
			return err
		}
	} else if c.Replica != x.header.Replica || c.Index != x.header.Index || c.ID != x.id || c.Range != x.header.Descriptor.ID() {
		return errBadChunk
	}
	if c.Table < x.table || c.Table >= len(x.spans) {
		return errBadChunk
	}
	for x.table < c.Table {
		if err := x.nextTable(); err != nil {
			return err
		}
	}
	for rows := c.Rows; len(rows) > 0; {
		var key, value []byte
		var err error
		if key, rows, err = cutBytes(rows); err != nil {
			return err
		}
		if value, rows, err = cutBytes(rows); err != nil {
			return err
		}
		if len(key) == 0 || key[0] != x.spans[x.table].Start[0] {
			return errBadChunk
		}
		if err := x.writer.Set(key, value); err != nil {
			return err
		}
	}
	if !c.Last {
		return nil
	}
	for x.table < len(x.spans) {
		if err := x.nextTable(); err != nil {
			return err
		}
	}
	x.done = true
	return nil
}

func (x *SnapshotReceiver) begin(c *SnapshotChunk) error {
	h := c.Header
	if h == nil || h.Descriptor == nil || h.Descriptor.Validate() != nil || h.Descriptor.ID() != c.Range || h.Replica != c.Replica ||
		h.Index != c.Index || !hasReplica(h.Descriptor, h.Replica) {
		return errBadChunk
	}
	x.id = c.ID
	x.header, x.spans = h, keys.Tables(h.Descriptor.Span())
	return x.open()
}

// open begins the file of a table. Where the last one's rows go is excised.
func (x *SnapshotReceiver) open() (err error) {
	path := fmt.Sprintf("%s-%d", x.prefix, x.table)
	x.files = append(x.files, path)
	if x.writer, err = x.tables.NewTableWriter(path); err != nil || x.table == len(x.spans)-1 {
		return err
	}
	return x.writer.DeleteRange(x.spans[x.table].Start, x.spans[x.table].End)
}

func (x *SnapshotReceiver) nextTable() error {
	w := x.writer
	x.writer = nil
	if err := w.Finish(); err != nil {
		return err
	}
	x.table++
	if x.table == len(x.spans) {
		return nil
	}
	return x.open()
}

// Install makes a replica of a snapshot, as soon as no other replica of the store is
// in its way. Output.Installed says when that is done, or that it is not wanted.
func (s *Store) Install(in *Incoming) {
	s.incoming = append(s.incoming, in)
	s.installs = true
}

// Uninstall gives up a snapshot that waits for its place; nothing happens to one
// that does not wait any more.
func (s *Store) Uninstall(id metapb.RangeID, replica metapb.ReplicaID) {
	s.incoming = slices.DeleteFunc(s.incoming, func(in *Incoming) bool {
		if in.Header.Descriptor.ID() != id || in.Header.Replica != replica {
			return false
		}
		s.installed(in, false, in.Tables)
		return true
	})
}

// Receives says whether a snapshot for a replica is of use: not if the replica is
// there and as far, and not if its time is over.
func (s *Store) Receives(id metapb.RangeID, replica metapb.ReplicaID, index uint64) (has, refused bool) {
	r := s.replicas[id]
	switch {
	case r != nil && r.id == replica:
		return r.state.index >= index, r.group.IsLeader()
	case r != nil && r.id > replica:
		return false, true
	}
	return false, replica < s.lowest(id)
}

// Installed says what became of a snapshot.
type Installed struct {
	Range   metapb.RangeID
	Replica metapb.ReplicaID
	Index   uint64
	ID      uint64 // of the sender
	// OK says that the replica is there, with this index or a higher one.
	OK bool
	// Tables are files that were not used.
	Tables []string
}

func (s *Store) installed(in *Incoming, ok bool, tables []string) {
	s.out.Installed = append(s.out.Installed, Installed{
		Range: in.Header.Descriptor.ID(), Replica: in.Header.Replica, Index: in.Header.Index, ID: in.id, OK: ok, Tables: tables,
	})
}

// startInstalls takes the snapshots that nothing is in the way of. It is called when
// all rows of this store were handed out: those of the replica that is replaced must
// not come after the snapshot.
func (s *Store) startInstalls() (out []*Ingest) {
	waiting := s.incoming
	s.incoming = nil
	for _, in := range waiting {
		id := in.Header.Descriptor.ID()
		old := s.replicas[id]
		switch {
		case s.ingesting[id] != nil:
			s.installed(in, false, in.Tables)
		case in.Header.Replica < s.lowest(id) && (old == nil || old.id != in.Header.Replica):
			s.installed(in, false, in.Tables)
		case old != nil && old.id == in.Header.Replica && (old.state.index >= in.Header.Index || old.group.Has(in.Header.Index, in.Header.Term)):
			// What lacks is in its log, and more: it may be committed because of that.
			s.installed(in, true, in.Tables)
		case old != nil && (old.id > in.Header.Replica || old.group.IsLeader()):
			s.installed(in, false, in.Tables)
		case s.inTheWay(in):
			s.incoming = append(s.incoming, in)
		default:
			g, err := s.ingest(in, old)
			if err != nil {
				s.fail(err)
				return out
			}
			out = append(out, g)
		}
	}
	return out
}

// borders reports whether there are replicas whose new descriptors, or the right
// sides of whose splits, are not known to the store before Advance.
func (s *Store) borders() bool {
	return slices.ContainsFunc(s.advance, func(r *Replica) bool { return len(r.rights) > 0 || r.before != nil })
}

// inTheWay reports whether a replica of another range holds some of a snapshot's
// span: it has not split yet, or is to go.
func (s *Store) inTheWay(in *Incoming) bool { return s.NoPlaceFor(in.Header.Descriptor) }

// NoPlaceFor reports whether a snapshot with a descriptor would have to wait.
func (s *Store) NoPlaceFor(d *metapb.Descriptor) bool {
	id, span := d.ID(), d.Span()
	for other, r := range s.replicas { // any order: one is enough
		if other != id && r.desc.Span().Overlaps(span) {
			return true
		}
	}
	for other, g := range s.ingesting { // any order
		if other != id && g.span.Overlaps(span) {
			return true
		}
	}
	return false
}

// ingest ends the replica that was there and says what takes its place.
func (s *Store) ingest(in *Incoming, old *Replica) (*Ingest, error) {
	h := &in.Header
	tables := keys.Tables(h.Descriptor.Span())
	g := &Ingest{in: in, Tables: in.Tables, Excise: tables[len(tables)-1], Local: keys.LocalSpan(h.Descriptor.ID())}
	g.span = h.Descriptor.Span()
	var term uint64
	var vote metapb.ReplicaID
	if old != nil {
		if was := old.desc.End; len(was) == 0 || len(g.span.End) != 0 && bytes.Compare(was, g.span.End) > 0 {
			g.span.End = was
		}
		if old.id == h.Replica {
			term, vote = old.group.HardState()
		}
		// Of a span that was wider nothing may stay: it is another's now.
		for i, was := range keys.Tables(old.desc.Span()) {
			switch {
			case i >= len(tables): // the range has no client keys any more
				g.Rest = append(g.Rest, was)
			case bytes.Compare(was.End, tables[i].End) <= 0:
			case i == len(tables)-1:
				g.Excise.End = was.End
			default:
				g.Rest = append(g.Rest, engine.Span{Start: tables[i].End, End: was.End})
			}
		}
		old.stop()
	}
	var err error
	s.SetCompacted(h.Compacted)
	g.Rows, err = startRows(h, term, vote)
	sortRows(g.Rows)
	if s.ingesting == nil {
		s.ingesting = make(map[metapb.RangeID]*Ingest)
	}
	s.ingesting[h.Descriptor.ID()] = g
	return g, err
}

// Ingested says that an Ingest was run.
func (s *Store) Ingested(g *Ingest) error {
	d := g.in.Header.Descriptor
	delete(s.ingesting, d.ID())
	delete(s.tombstones, d.ID())
	s.SetCompacted(g.in.Header.Compacted) // what is garbage since then is not there
	if err := s.load(d, nil, s.cfg.Reader); err != nil {
		return err
	}
	s.installs = s.installs || len(s.incoming) > 0
	s.out.Descriptors = append(s.out.Descriptors, d)
	s.installed(g.in, true, nil)
	s.arm(s.replicas[d.ID()])
	return nil
}
