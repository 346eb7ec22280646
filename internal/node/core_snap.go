package node

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/frame"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/raftgroup"
	"github.com/flotilladb/flotilla/range"
)

// A snapshot goes chunk by chunk, each sent when the one before was taken. What
// reads or writes much of the engine is a SnapshotJob, which the driver runs beside
// the loop; a snapshot has one at a time.
//
//	wanted ─> sending: read ─> chunk ══> write ─> answer ══> read the next ...
//	          all is there: no view is held; the last chunk is asked about until
//	          the replica is installed, or one end gives up
//
// Chunks and answers may be lost: a chunk without an answer is sent again, so that a
// snapshot goes on where it was when the way between the stores is open again. A
// receiver that was started anew asks for the first chunk.

// snapshots are those under way.
type snapshots struct {
	wanted    []ranges.WantedSnapshot // wait for their turn
	sending   map[snapshotKey]*sending
	receiving map[snapshotKey]*receiving
	// pauses say when a snapshot may be begun once more that came to nothing.
	pauses map[snapshotKey]clock.Time
	jobs   []*SnapshotJob
	open   []*ranges.SnapshotSender // that have a view of the engine
	// receiveAt is when snapshots are taken again, after the disk had no room for one.
	receiveAt clock.Time
	// unused are tables that nobody needs any more.
	unused []string
	files  uint64 // that were named
}

// snapshotKey is whom a snapshot is for.
type snapshotKey struct {
	id      metapb.RangeID
	replica metapb.ReplicaID
}

// sending is a snapshot that goes to another store.
type sending struct {
	to     metapb.StoreID
	sender *ranges.SnapshotSender // nil: all of it is there
	chunk  *ranges.SnapshotChunk  // without an answer
	busy   bool                   // a job has sender
	over   bool                   // to be closed when it has no more
	// heardAt is when something was heard of it, wholeAt when all was there.
	heardAt, sentAt, wholeAt clock.Time
}

// receiving is a snapshot that comes.
type receiving struct {
	from      metapb.StoreID
	receiver  *ranges.SnapshotReceiver
	index, id uint64
	busy      bool // a job has receiver
	whole     bool // it was given to the store
	heardAt   clock.Time
}

const (
	// Those that wait for their place do not count: the one that makes room for them may
	// still have to come. Of them a store keeps up to snapshotsWaitMax.
	snapshotsSentMax     = 4
	snapshotsReceivedMax = 8
	snapshotsWaitMax     = 64
	snapshotsWantedMax   = 1 << 16
	// snapshotResend is when a chunk is sent again that was not answered.
	snapshotResend = 500 * time.Millisecond
	// snapshotSilence is when a snapshot is given up of which nothing is heard: until
	// then it goes on where it was.
	snapshotSilence = 10 * time.Second
	// snapshotPlaceMax is how long one that has arrived may wait for its place.
	snapshotPlaceMax = 30 * time.Second
	// snapshotPause is between two snapshots for one replica, snapshotFullPause how long
	// none is begun here after the disk had no room for one.
	snapshotPause      = 500 * time.Millisecond
	snapshotFullPause  = 5 * time.Second
	snapshotChunkBytes = 256 << 10
)

func newSnapshots() snapshots {
	return snapshots{
		sending:   make(map[snapshotKey]*sending),
		receiving: make(map[snapshotKey]*receiving),
		pauses:    make(map[snapshotKey]clock.Time),
	}
}

// SnapshotJob is work on a snapshot, or the hash of what a replica has. Exactly one of
// sender, receiver, dropped, ingest and hash is set.
type SnapshotJob struct {
	key  snapshotKey
	path string // of files that it writes

	sender   *ranges.SnapshotSender
	answer   *ranges.SnapshotAnswer // nil: the first chunk is wanted
	read     *ranges.SnapshotChunk
	over, ok bool

	receiver *ranges.SnapshotReceiver
	chunk    *ranges.SnapshotChunk
	taken    ranges.SnapshotAnswer

	dropped *ranges.SnapshotReceiver
	ingest  *ranges.Ingest

	hash  *ranges.StateHash
	check ranges.CheckID
	sum   []byte

	err error
}

// Ingests reports whether the job puts a snapshot into the engine: it must not begin
// before the batches of its Ready are committed.
func (j *SnapshotJob) Ingests() bool { return j.ingest != nil }

// Hashes reports whether the job goes over all that a replica has: it takes long, and
// is to be paced.
func (j *SnapshotJob) Hashes() bool { return j.hash != nil }

func sortedKeys[V any](m map[snapshotKey]V) []snapshotKey {
	keys := make([]snapshotKey, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b snapshotKey) int {
		return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.replica, b.replica))
	})
	return keys
}

// snapshotPath names a file.
func (c *Core) snapshotPath() string {
	c.files++
	return fmt.Sprintf("%ssnapshot-%d-%d", c.cfg.SnapshotDir, c.cfg.StoreStart, c.files)
}

// SnapshotDone takes back a job that was run. An error means that the store cannot
// go on.
func (c *Core) SnapshotDone(j *SnapshotJob) error {
	switch {
	case j.ingest != nil:
		return c.ingested(j)
	case j.sender != nil:
		return c.chunkRead(j)
	case j.hash != nil:
		c.hashDone(j)
		return nil
	case j.dropped != nil:
		c.unused = append(c.unused, j.dropped.Files()...)
		return nil
	}
	c.chunkWritten(j)
	return nil
}

// CloseSnapshots gives back what snapshots under way have of the engine. It is called
// when no job runs any more, and nothing else will be.
func (c *Core) CloseSnapshots() (err error) {
	for _, x := range c.open {
		err = errors.Join(err, x.Close())
	}
	for _, x := range c.views {
		err = errors.Join(err, x.Close())
	}
	c.views = nil
	for _, rc := range c.receiving { // any order
		rc.receiver.Close()
	}
	c.open = nil
	return err
}

func (c *Core) closeSender(x *ranges.SnapshotSender) {
	c.open = slices.DeleteFunc(c.open, func(o *ranges.SnapshotSender) bool { return o == x })
	if err := x.Close(); err != nil {
		c.fail(err)
	}
}

// wantSnapshot takes in that a replica needs a snapshot.
func (c *Core) wantSnapshot(w ranges.WantedSnapshot) {
	key := snapshotKey{w.Range, w.Replica}
	if s := c.sending[key]; s != nil {
		if w.Offer {
			return
		}
		c.endSending(key, s) // the group has forgotten it
	}
	c.wanted = slices.DeleteFunc(c.wanted, func(o ranges.WantedSnapshot) bool { return o.Range == w.Range && o.Replica == w.Replica })
	if len(c.wanted) >= snapshotsWantedMax || c.cfg.NewView == nil {
		c.store.SnapshotEnded(w.Range, w.Replica, false)
		return
	}
	c.wanted = append(c.wanted, w)
}

// beginSnapshots begins those whose turn it is. It is called between the store's
// Advance and its next Collect.
func (c *Core) beginSnapshots() {
	waiting := c.wanted
	c.wanted = nil
	for i, w := range waiting {
		key := snapshotKey{w.Range, w.Replica}
		switch {
		case c.snapshotsUnderWay() >= snapshotsSentMax:
			c.wanted = append(c.wanted, waiting[i:]...)
			return
		case !c.store.Live(w.To):
			c.store.SnapshotEnded(w.Range, w.Replica, false)
		case c.now.Before(c.pauses[key]) || c.sending[key] != nil:
			c.wanted = append(c.wanted, w)
		default:
			c.beginSnapshot(key, w.To)
		}
	}
}

// snapshotsUnderWay counts those of which something is still to be sent.
func (c *Core) snapshotsUnderWay() (n int) {
	for _, s := range c.sending { // any order
		if s.sender != nil {
			n++
		}
	}
	return n
}

// snapshotsComing counts those that arrive, and those that wait for their place.
func (c *Core) snapshotsComing() (arrive, wait int) {
	for _, rc := range c.receiving { // any order
		if rc.whole {
			wait++
		} else {
			arrive++
		}
	}
	return arrive, wait
}

func (c *Core) beginSnapshot(key snapshotKey, to metapb.StoreID) {
	x, err := c.store.BeginSnapshot(key.id, key.replica, c.cfg.SnapshotChunkBytes)
	switch {
	case errors.Is(err, peerpb.ErrNotLeader), errors.Is(err, peerpb.ErrBadChange), errors.Is(err, raftgroup.ErrNotApplied):
		c.store.SnapshotEnded(key.id, key.replica, false)
		return
	case err != nil:
		c.fail(fmt.Errorf("range %d: begin a snapshot: %w", key.id, err))
		return
	}
	c.open = append(c.open, x)
	c.pauses[key] = c.now.Add(snapshotPause)
	c.sending[key] = &sending{to: to, sender: x, busy: true, heardAt: c.now}
	c.jobs = append(c.jobs, &SnapshotJob{key: key, sender: x})
}

// chunkRead takes a chunk that is to be sent.
func (c *Core) chunkRead(j *SnapshotJob) error {
	s := c.sending[j.key]
	if s == nil || s.sender != j.sender {
		c.closeSender(j.sender) // it was given up meanwhile
		return nil
	}
	s.busy = false
	switch {
	case ranges.Unreadable(j.err):
		c.giveUpSending(j.key, s)
		c.doubt(j.key.id)
		return nil
	case j.err != nil:
		c.endSending(j.key, s)
		return fmt.Errorf("range %d: read a snapshot: %w", j.key.id, j.err)
	case j.over:
		c.endSending(j.key, s)
		c.store.SnapshotEnded(j.key.id, j.key.replica, j.ok)
		return nil
	}
	s.chunk = j.read
	c.sendChunk(s)
	return nil
}

func (c *Core) sendChunk(s *sending) {
	s.sentAt = c.now
	f := c.frameTo(s.to, frame.Snapshots)
	f.Chunks = []*peerpb.SnapshotChunk{s.chunk}
	c.out = append(c.out, f)
}

// endSending forgets a snapshot. Where a job has its sender, that closes it.
func (c *Core) endSending(key snapshotKey, s *sending) {
	delete(c.sending, key)
	if s.sender != nil && !s.busy {
		c.closeSender(s.sender)
	}
}

// giveUpSending tells the group that a snapshot came to nothing.
func (c *Core) giveUpSending(key snapshotKey, s *sending) {
	c.endSending(key, s)
	c.store.SnapshotEnded(key.id, key.replica, false)
}

// stepTaken takes what a receiver says.
func (c *Core) stepTaken(from metapb.StoreID, a *ranges.SnapshotAnswer) {
	key := snapshotKey{a.Range, a.Replica}
	s := c.sending[key]
	if s == nil || s.to != from || s.busy || s.chunk == nil || s.chunk.ID != a.ID {
		return
	}
	s.heardAt = c.now
	switch {
	case a.Done || a.Refused:
		c.endSending(key, s)
		c.store.SnapshotEnded(key.id, key.replica, a.Done)
	case s.sender == nil && a.Next == 0:
		c.giveUpSending(key, s) // it has lost what it had
	case s.sender == nil:
	case s.chunk.Last && a.Next > s.chunk.Number:
		c.allSent(s)
	case a.Next > s.chunk.Number, a.Next == 0 && s.chunk.Number > 0:
		s.busy = true
		c.jobs = append(c.jobs, &SnapshotJob{key: key, sender: s.sender, answer: a})
	}
}

// allSent lets the view go. What is left is to hear of the end.
func (c *Core) allSent(s *sending) {
	c.closeSender(s.sender)
	s.sender, s.wholeAt = nil, c.now
	// It is only asked about, by a number that no snapshot begins with: a receiver that
	// was started again would take a snapshot of one chunk, without its rows, for whole.
	last := *s.chunk
	last.Number, last.Header, last.Rows = last.Number+1, nil, nil
	var err error
	if last.Sum, err = last.Checksum(); err != nil {
		c.fail(err)
	}
	s.chunk = &last
}

// tickSnapshots sends again what was not answered, and gives up what does not move.
func (c *Core) tickSnapshots() {
	for _, key := range sortedKeys(c.sending) {
		s := c.sending[key]
		switch {
		case c.now.Sub(s.heardAt) > snapshotSilence && !s.busy, s.sender == nil && c.now.Sub(s.wholeAt) > snapshotPlaceMax:
			c.giveUpSending(key, s)
		case !s.busy && c.now.Sub(s.sentAt) > snapshotResend:
			c.sendChunk(s)
		}
	}
	for _, key := range sortedKeys(c.receiving) {
		rc := c.receiving[key]
		switch silent := c.now.Sub(rc.heardAt) > snapshotSilence; {
		case !silent || rc.busy:
		case rc.whole:
			c.store.Uninstall(key.id, key.replica)
		default:
			c.dropReceiving(key, rc)
		}
	}
	for _, key := range sortedKeys(c.pauses) {
		if c.now.After(c.pauses[key]) {
			delete(c.pauses, key)
		}
	}
	c.beginSnapshots()
}

// stepChunk takes a chunk of another store.
func (c *Core) stepChunk(from metapb.StoreID, ch *ranges.SnapshotChunk) {
	key := snapshotKey{ch.Range, ch.Replica}
	rc := c.receiving[key]
	if rc == nil || rc.from != from || rc.id != ch.ID || rc.index != ch.Index {
		if rc = c.beginReceiving(from, key, rc, ch); rc == nil {
			return
		}
	}
	rc.heardAt = c.now
	switch {
	case rc.busy: // it comes again
	case rc.whole:
		c.sendTaken(from, ranges.SnapshotAnswer{Range: ch.Range, Replica: ch.Replica, Index: ch.Index, ID: ch.ID, Next: ch.Number + 1})
	default:
		rc.busy = true
		c.jobs = append(c.jobs, &SnapshotJob{key: key, receiver: rc.receiver, chunk: ch})
	}
}

// beginReceiving makes a receiver for a snapshot's first chunk, if it is of use.
func (c *Core) beginReceiving(from metapb.StoreID, key snapshotKey, old *receiving, ch *ranges.SnapshotChunk) *receiving {
	answer := ranges.SnapshotAnswer{Range: ch.Range, Replica: ch.Replica, Index: ch.Index, ID: ch.ID}
	answer.Done, answer.Refused = c.store.Receives(ch.Range, ch.Replica, ch.Index)
	switch {
	case answer.Done || answer.Refused:
		c.sendTaken(from, answer)
		return nil
	case old != nil && (old.index > ch.Index || old.busy || old.whole):
		return nil
	case old != nil && old.index == ch.Index && old.from != from:
		return nil // the one is as good as the other, and neither would ever be whole
	case ch.Number > 0:
		c.sendTaken(from, answer) // from the beginning
		return nil
	case old != nil:
		c.dropReceiving(key, old)
	}
	switch arrive, wait := c.snapshotsComing(); {
	case arrive >= snapshotsReceivedMax, c.now.Before(c.receiveAt):
		return nil
	case wait >= snapshotsWaitMax && ch.Header != nil && c.store.NoPlaceFor(ch.Header.Descriptor):
		answer.Refused = true
		c.sendTaken(from, answer)
		return nil
	}
	rc := &receiving{from: from, index: ch.Index, id: ch.ID, receiver: ranges.NewSnapshotReceiver(c.cfg.Tables, c.snapshotPath())}
	c.receiving[key] = rc
	return rc
}

func (c *Core) dropReceiving(key snapshotKey, rc *receiving) {
	c.jobs = append(c.jobs, &SnapshotJob{key: key, dropped: rc.receiver})
	delete(c.receiving, key)
}

// DropSnapshots gives up the snapshots of which only a part is here, and returns their
// files: the disk has no room left, and who could give some back may be the driver itself,
// which waits for it. It may be called at any time.
func (c *Core) DropSnapshots() (files []string) {
	for _, key := range sortedKeys(c.receiving) {
		rc := c.receiving[key]
		at := slices.IndexFunc(c.jobs, func(j *SnapshotJob) bool { return j.receiver == rc.receiver })
		if rc.whole || rc.busy && at < 0 { // who runs the job gives the room back
			continue
		}
		if at >= 0 {
			c.jobs = slices.Delete(c.jobs, at, at+1)
		}
		rc.receiver.Close()
		files = append(files, rc.receiver.Files()...)
		delete(c.receiving, key)
	}
	c.receiveAt = c.now.Add(snapshotFullPause)
	return files
}

func (c *Core) sendTaken(to metapb.StoreID, a ranges.SnapshotAnswer) {
	f := c.frameTo(to, frame.Snapshots)
	f.Taken = []peerpb.SnapshotAnswer{a}
	c.out = append(c.out, f)
}

// chunkWritten takes a chunk that was written.
func (c *Core) chunkWritten(j *SnapshotJob) {
	rc := c.receiving[j.key]
	if rc == nil || rc.receiver != j.receiver {
		return
	}
	rc.busy = false
	if j.err != nil { // damaged, or the disk is full: it begins anew
		if errors.Is(j.err, engine.ErrDiskFull) {
			c.receiveAt = c.now.Add(snapshotFullPause)
		}
		c.dropReceiving(j.key, rc)
		return
	}
	c.sendTaken(rc.from, j.taken)
	if in := rc.receiver.Incoming(); in != nil && !rc.whole {
		rc.whole = true
		c.store.Install(in)
	}
}

// ingestLater hands out what the store's Ready has to be ingested.
func (c *Core) ingestLater(all []*ranges.Ingest) (upTo metapb.Revision) {
	upTo = -1
	for _, g := range all {
		h := g.Header()
		upTo = max(upTo, h.Compacted)
		c.jobs = append(c.jobs, &SnapshotJob{key: snapshotKey{h.Descriptor.ID(), h.Replica}, ingest: g, path: c.snapshotPath()})
	}
	return upTo
}

// ingested lets a replica live whose rows are in the engine.
func (c *Core) ingested(j *SnapshotJob) error {
	h := j.ingest.Header()
	id := h.Descriptor.ID()
	if j.err != nil {
		return fmt.Errorf("range %d: ingest a snapshot: %w", id, j.err)
	}
	if err := c.store.Ingested(j.ingest); err != nil {
		return fmt.Errorf("range %d: %w", id, err)
	}
	if id == metapb.SystemRange {
		if err := c.system.Load(c.cfg.Reader); err != nil {
			return fmt.Errorf("system rows: %w", err)
		}
	}
	// How far the range to the left is closed says nothing about this one, which was
	// not cut off from it here.
	c.closingOf(id)
	c.keepLeader(id)
	c.Want(id, c.current)
	c.reached = max(c.reached, h.Revision)
	c.lost = append(c.lost, id)
	return nil
}

// installed tells the sender what became of a snapshot.
func (c *Core) installed(in *ranges.Installed) {
	c.unused = append(c.unused, in.Tables...)
	key := snapshotKey{in.Range, in.Replica}
	if rc := c.receiving[key]; rc != nil && rc.id == in.ID && rc.whole {
		delete(c.receiving, key)
		c.sendTaken(rc.from, ranges.SnapshotAnswer{
			Range: in.Range, Replica: in.Replica, Index: in.Index, ID: in.ID, Done: in.OK, Refused: !in.OK,
		})
	}
}
