package ranges

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/btree"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/invariant"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/raftgroup"
)

// Revision is the logical time of a write.
type Revision = metapb.Revision

// Store is the core of all replicas of one store. It is not safe for
// concurrent use.
type Store struct {
	cfg      Config
	replicas map[metapb.RangeID]*Replica
	byStart  *btree.BTreeG[*Replica] // the same replicas, by the start of their span
	ids      []metapb.RangeID        // theirs, sorted; nil: to be made anew
	now      clock.Time

	// dirty are the replicas with something to do, each once, in the order in
	// which they got it.
	dirty []*Replica

	// flying is how many entries the replicas here have proposed and not applied.
	flying int

	asks []Ask
	out  Output
	// What the last call handed out, to be used again.
	spareDirty []*Replica
	spareAsks  []Ask
	spareOut   Output
	works      []work // room for requests

	apply   engine.Batch                 // rows of applied entries since the last Ready
	ring    stepRing                     // how far the replicas applied
	loading map[metapb.RangeID]ringState // while NewStore loads them
	append  engine.Batch                 // log rows that wait for a free sync
	tokens  []groupToken                 // what append makes durable
	// uncut are the replicas whose logs are to be cut, at cutLogsAt or after.
	uncut     []*Replica
	cutLogsAt clock.Time

	syncing []syncRound // handed out and not synced, oldest first
	// farewells are to be said when the next sync is durable.
	farewells []Gone
	token     uint64
	messages  []Message
	applied   []Applied
	// advance are the replicas that wait for the apply rows to be committed.
	advance []*Replica
	// waiting are the replicas whose next batch waits for a free sync, timed
	// those that want to be told the time. Both name a replica once.
	waiting []*Replica
	timed   []*Replica
	touched []*Replica // whose Bound may have changed since Touched
	// led are the ranges that have got a leader since Led, spareLed is its room.
	led, spareLed []metapb.RangeID
	sends         uint64 // the ID of the last of Output.Sends
	handout       uint64 // counts the calls of Output
	// rows counts what was read, or deleted, key by key since the last Collect,
	// deadPerRow dead keys as one row, and many bytes as several: who would add to
	// it waits for the next turn of the driver when it is much.
	rows int

	// known is the highest revision that was current, as far as the store heard: a
	// request may read there. What is given out above it may be in use, but a
	// header that shows it would go ahead of what others see. Invariant: grows.
	known Revision
	// visible is the highest revision of a change, or of a transaction decided
	// here, that can be read; deciding the same with what Advance will make so.
	visible, deciding Revision
	// many: the cluster has several stores, and what is current the sequencer knows.
	many      bool
	epoch     uint64
	compacted Revision
	// refusal answers what needs space, by range; nil: it is taken.
	refusal   func(metapb.RangeID) error
	format    metapb.Format     // what all members of the cluster read
	pushes    map[uint64]pushOf // unanswered Sends, by number
	failed    error
	peers     peers
	snapshots uint64 // that were begun
	// checkpoints are those handed out and not closed.
	checkpoints int
	// incoming are snapshots that wait for their place, ingesting those that are
	// handed out. installs: it may be time for one.
	incoming  []*Incoming
	ingesting map[metapb.RangeID]*Ingest
	installs  bool
	// tombstones are those that are not in the engine yet, entombed those that were
	// handed out and may not be either; absent the replicas that this store gets messages
	// for and does not have.
	tombstones map[metapb.RangeID]metapb.ReplicaID
	entombed   map[metapb.RangeID]metapb.ReplicaID
	absent     map[metapb.RangeID]absent
	// At presentAt the replicas from presentNext on are asked about.
	presentAt   clock.Time
	presentNext metapb.RangeID
	// more says that what was applied lets others go on that will log something
	// at once: the log rows wait for them, so that both share a sync.
	more bool
	// parts counts the steps since all that had something to do had their turn.
	parts int
}

// groupToken says that a sync makes what a group handed out under token durable.
type groupToken struct {
	repl  *Replica
	token raftgroup.Token
}

type syncRound struct {
	token  uint64
	groups []groupToken
	began  clock.Time
	// farewells are said when it is durable.
	farewells []Gone
}

// NewStore loads the replicas that the engine holds.
func NewStore(cfg Config) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.setDefaults()
	s := &Store{
		cfg:      cfg,
		format:   metapb.FormatFirst,
		replicas: make(map[metapb.RangeID]*Replica),
		byStart:  btree.NewG(16, replicaLess),
		pushes:   make(map[uint64]pushOf),
	}
	if err := s.peers.init(s); err != nil {
		return nil, err
	}
	var err error
	if s.compacted, err = readCompacted(cfg.Reader); err != nil {
		return nil, err
	}
	if s.loading, err = readRing(cfg.Reader); err != nil {
		return nil, err
	}
	err = s.loadAll()
	s.loading = nil
	return s, err
}

// applyBatch returns the batch for the rows of applied entries.
func (s *Store) applyBatch() engine.Batch {
	if s.apply == nil {
		s.apply = s.cfg.NewBatch()
	}
	return s.apply
}

// load makes the replica that the engine holds for a descriptor. Its own rows are read
// from a reader of the engine.
func (s *Store) load(d *metapb.Descriptor, born *leases, rows engine.Reader) error {
	r, err := newReplica(s, d, born, rows)
	if err != nil {
		return fmt.Errorf("range %d: %w", d.RangeId, err)
	}
	s.enter(r)
	delete(s.absent, d.ID())
	s.addPeers(d)
	s.mark(r)
	return nil
}

// Campaign is called once after NewStore. Every replica that is alone in its group
// leads it at once. The others stand for election, one after the other, when what
// an earlier start of the store may have promised has run out.
func (s *Store) Campaign() error {
	for _, id := range s.IDs() {
		if r := s.replicas[id]; r.single() {
			s.campaign(r)
		} else {
			s.arm(r)
		}
	}
	return s.failed
}

// campaign lets a replica stand for election.
func (s *Store) campaign(r *Replica) {
	if r.group.IsLeader() || r.condemned {
		return
	}
	switch err := r.group.Campaign(); {
	case err == nil:
	case !r.single() && (errors.Is(err, raftgroup.ErrPromised) || errors.Is(err, raftgroup.ErrCannotCampaign)):
	default:
		s.fail(fmt.Errorf("range %d: campaign: %w", r.desc.RangeId, err))
	}
	s.mark(r)
}

// fail stops the store: the engine cannot be read, or a log is damaged. The next
// Collect returns the first such error.
func (s *Store) fail(err error) {
	if s.failed == nil {
		s.failed = err
	}
}

func (s *Store) lockLimits() lockLimits {
	return lockLimits{ageMax: s.cfg.LockAgeMax, pushEvery: s.cfg.IntentAgeMax}
}

// SetMany says that the cluster has several stores.
func (s *Store) SetMany() { s.many = true }

// HoldsLease reports whether the leader of a range is here and may answer from
// memory.
func (s *Store) HoldsLease(id metapb.RangeID) bool {
	r := s.replicas[id]
	return r != nil && r.holdsLease()
}

// mark notes that a replica has something to do.
func (s *Store) mark(r *Replica) {
	if !r.dirty {
		r.dirty = true
		s.dirty = append(s.dirty, r)
	}
}

// Request takes a request for the leader of a range.
func (s *Store) Request(req *peerpb.Request) {
	r := s.replicas[req.Range]
	if r == nil {
		s.reply(req.ID, nil, peerpb.ErrRangeNotFound)
		return
	}
	r.request(req)
}

// worksChunk is how many works are allocated at once.
const worksChunk = 32

// work returns room for a request that waits.
func (s *Store) work(req *peerpb.Request) *work {
	if len(s.works) == 0 {
		s.works = make([]work, worksChunk)
	}
	w := &s.works[0]
	s.works = s.works[1:]
	w.req, w.bytes = req, RequestBytes(req.Body)
	return w
}

func (s *Store) reply(id uint64, body any, err error) {
	s.out.Replies = append(s.out.Replies, peerpb.Reply{ID: id, Body: body, Err: err})
}

// Step takes a Raft message for a replica, from a store that is not known.
func (s *Store) Step(id metapb.RangeID, m *raftgroup.Message) error { return s.StepFrom(0, id, m) }

// SetNow tells the time and nothing else: what comes next is not before it. The
// clock was read after what is stepped in afterwards had arrived: leaderLeases are
// checked against this time, and an answer from memory is true of this moment.
func (s *Store) SetNow(now clock.Time) {
	if s.now == 0 {
		for _, r := range s.replicas { // any order
			r.adriftFrom = now
		}
	}
	s.now = max(s.now, now)
	s.peers.live.SetNow(s.now)
}

// Tick tells the time, several times in a heartbeat interval.
func (s *Store) Tick(now clock.Time) {
	s.SetNow(now)
	s.tickPeers()
	timed := s.timed
	s.timed = nil
	for _, r := range timed {
		r.timed = false
		r.tick()
	}
}

// watchClock notes that a replica wants to be told the time once.
func (s *Store) watchClock(r *Replica) {
	if !r.timed {
		r.timed = true
		s.timed = append(s.timed, r)
	}
}

// Visible returns the highest revision of a change, or of a transaction that was
// decided here, that can be read since NewStore.
func (s *Store) Visible() Revision { return s.visible }

// decided notes the revision of a change, or of a committed transaction, that
// can be read after the next Advance.
func (s *Store) decided(rev Revision) { s.deciding = max(s.deciding, rev) }

// Revision returns the highest revision of which any replica applied an effect,
// intents of undecided transactions included.
func (s *Store) Revision() Revision {
	rev := Revision(0)
	for _, r := range s.replicas {
		rev = max(rev, r.state.revision)
	}
	return rev
}

// SetRefusal says what a leader here answers to what needs space on disks; nil, or a
// nil error, has it taken.
func (s *Store) SetRefusal(refusal func(metapb.RangeID) error) { s.refusal = refusal }

// SetFormat says what all members of the cluster read: nothing newer is proposed.
func (s *Store) SetFormat(f metapb.Format) { s.format = f }

// SetFull has all that needs space refused, or ends that.
func (s *Store) SetFull(full bool) {
	s.refusal = nil
	if full {
		s.refusal = func(metapb.RangeID) error { return peerpb.ErrDiskFull }
	}
}

// noRoom returns what is answered to what needs space, nil if it is taken.
func (r *Replica) noRoom() error {
	if r.store.refusal == nil {
		return nil
	}
	return r.store.refusal(r.desc.ID())
}

// Asks returns what to ask the sequencer, in order, and forgets it. The slice is
// valid until the next call.
func (s *Store) Asks() []Ask {
	asks := s.asks
	s.asks, s.spareAsks = s.spareAsks[:0], asks
	return asks
}

// PutBack gives asks back that cannot be asked yet; they come again.
func (s *Store) PutBack(asks []Ask) { s.asks = append(slices.Clone(asks), s.asks...) }

// Output returns what is for others of the node and forgets it. It is valid until
// the next call.
func (s *Store) Output() Output {
	s.handout++
	out := s.out
	clear(s.spareOut.Replies)
	s.out = Output{Replies: s.spareOut.Replies[:0]}
	s.spareOut = out
	return out
}

// HasOutput reports whether Output has something.
func (s *Store) HasOutput() bool {
	return len(s.out.Replies)+len(s.out.Sends)+len(s.out.Descriptors)+len(s.out.Expired)+
		len(s.out.Gone)+len(s.out.Present)+len(s.out.Snapshots)+len(s.out.Removed)+len(s.out.Installed)+len(s.out.Transfers)+
		len(s.out.Checks)+len(s.out.Checkpoints)+len(s.out.SnapshotsLost) > 0
}

// HasWork reports whether Evaluate or Collect has something to do now.
func (s *Store) HasWork() bool {
	return len(s.dirty) > 0 || len(s.messages) > 0 || s.syncFree() && (s.installs || len(s.tombstones) > 0 && s.append != nil) || ((len(s.tokens) > 0 || s.wantsSync()) && s.syncFree()) || s.peers.live.HasReady() || s.cutsDue()
}

// wantsSync reports whether a sync is needed that may have no rows.
func (s *Store) wantsSync() bool { return len(s.farewells) > 0 || s.peers.live.WantsSync() }

func (s *Store) syncFree() bool { return len(s.syncing) < s.cfg.SyncsMax }

// looked counts rows and bytes that a request read, or deletes, in this turn.
func (s *Store) looked(rows, bytes int) {
	s.rows += max(rows, int(int64(bytes)*int64(s.cfg.EntryKeysMax)/int64(s.cfg.EntryBytesMax)))
}

// deadPerRow is how many dead keys a scan steps over in the time of a row that it
// shows and somebody deletes.
const deadPerRow = 8

// turn returns the replicas that the next step is about: those that have waited
// longest. A step about thousands would keep heartbeats waiting.
func (s *Store) turn() []*Replica { return s.dirty[:min(len(s.dirty), s.cfg.StepReplicasMax)] }

// partsMax is in how many steps in a row no sync begins because there are replicas
// that have not had their turn: what they log is to share it.
const partsMax = 8

// Evaluate makes batches of what waits at the replicas. Asks has what they need.
// All read the engine through the same iterators: nothing is applied meanwhile.
func (s *Store) Evaluate() {
	free := s.syncFree()
	base := mvcc.NewEngineState(s.cfg.Reader, nil, nil)
	base.DeadMax = deadPerRow * s.cfg.EntryKeysMax
	for _, r := range s.turn() {
		r.evaluate(free, base)
	}
	_ = base.Close() // says again what the reads said to who read
}

// Granted takes the sequencer's answer to an ask.
func (s *Store) Granted(g Grant) {
	if !g.Refused {
		s.known = max(s.known, g.Current)
		s.epoch = max(s.epoch, g.Epoch)
		s.SetCompacted(g.Compacted)
	}
	if r := s.replicas[g.Range]; r != nil {
		r.granted(g)
	}
}

// SetCompacted tells the store the compacted revision.
func (s *Store) SetCompacted(rev Revision) { s.compacted = max(s.compacted, rev) }

// Compacted is the highest compacted revision that the store knows of: from the system
// range, from the sequencer's answers, or from what was removed here; -1: none.
func (s *Store) Compacted() Revision { return s.compacted }

// Known says that a revision is current.
func (s *Store) Known(rev Revision) { s.known = max(s.known, rev) }

// Collect gathers the rows of all replicas that have something to do. The
// driver commits them as Ready says.
func (s *Store) Collect() (Ready, error) {
	if s.failed != nil {
		return Ready{}, s.failed
	}
	s.rows, s.entombed = 0, nil // what was handed out last is in the engine
	dirty, rest := s.turn(), s.dirty[len(s.turn()):]
	s.dirty, s.spareDirty = append(s.spareDirty[:0], rest...), s.dirty
	for _, r := range dirty {
		r.dirty = false
		if r.again {
			s.mark(r)
		}
		s.touch(r)
	}
	for _, r := range dirty {
		if err := r.collect(); err != nil {
			return Ready{}, fmt.Errorf("range %d: %w", r.desc.RangeId, err)
		}
	}
	if err := s.cutLogs(); err != nil {
		return Ready{}, err
	}
	s.writeStates()
	rd := Ready{Messages: s.messages, Applied: s.applied, Apply: s.apply}
	s.messages, s.applied, s.apply = nil, nil, nil
	more := s.more
	s.more = false
	if s.parts++; len(rest) == 0 || s.parts >= partsMax {
		s.parts = 0
	} else {
		more = true
	}
	wanted := s.wantsSync()
	if wanted && s.append == nil {
		s.append = s.cfg.NewBatch()
	}
	if s.append != nil && (len(s.tokens) > 0 || !s.append.Empty() || wanted) && s.syncFree() && !more {
		s.token++
		rd.Append, rd.Token = s.append, s.token
		s.syncing = append(s.syncing, syncRound{s.token, s.tokens, s.now, s.farewells})
		s.append, s.tokens, s.farewells = nil, nil, nil
		s.entombed, s.tombstones = s.tombstones, nil
		s.peers.live.SyncBegins()
	}
	rd.Liveness = s.peers.live.Ready()
	if s.installs && (s.append == nil || s.append.Empty() && len(s.tokens) == 0) && !s.borders() {
		s.installs = false
		rd.Ingests = s.startInstalls()
		s.noteLacking(&rd)
	}
	return rd, nil
}

// noteLacking has what snapshots may lack durable before they are there.
func (s *Store) noteLacking(rd *Ready) {
	if len(rd.Ingests) == 0 || s.compacted < 0 {
		return
	}
	if rd.Apply == nil {
		rd.Apply = s.cfg.NewBatch()
	}
	rd.Apply.Set(keys.StoreRow(rowLacking), revisionRow(s.compacted))
}

// Advance says that the last Ready's apply rows are committed: what was applied
// may be read and answered.
func (s *Store) Advance() {
	s.visible = s.deciding
	s.known = max(s.known, s.visible)
	todo := s.advance
	s.advance = nil
	for _, r := range todo {
		r.advance()
		s.touch(r)
	}
}

func (s *Store) touch(r *Replica) {
	if !r.touched {
		r.touched = true
		s.touched = append(s.touched, r)
	}
}

// Touched calls fn for every replica whose Bound may have changed since the last
// call.
func (s *Store) Touched(fn func(*Replica)) {
	for _, r := range s.touched {
		r.touched = false
		fn(r)
	}
	clear(s.touched)
	s.touched = s.touched[:0]
}

// Synced says that the Append of a Ready is durable. Tokens come in order.
func (s *Store) Synced(token uint64) error {
	invariant.Must(len(s.syncing) > 0 && s.syncing[0].token == token, "sync %d is not the oldest", token)
	round := s.syncing[0]
	s.syncing = s.syncing[1:]
	s.peers.live.Synced(round.began, s.now)
	s.out.Gone = append(s.out.Gone, round.farewells...)
	for _, g := range round.groups {
		if err := g.repl.group.Synced(g.token); err != nil {
			return fmt.Errorf("range %d: %w", g.repl.desc.RangeId, err)
		}
		s.mark(g.repl)
	}
	waiting := s.waiting
	s.waiting = nil
	for _, r := range waiting {
		r.waiting = false
		s.mark(r)
	}
	return nil
}
