package ranges

import (
	"math"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/invariant"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/proto/txnpb"
	"github.com/flotilladb/flotilla/raftgroup"
)

// Replica is the core of one replica of a range. Its store drives it.
type Replica struct {
	store *Store
	id    metapb.ReplicaID
	desc  *metapb.Descriptor // replaced, never changed
	// members are the replicas of desc, close together: each message of each range asks.
	members []member
	group   *raftgroup.Group
	state   appliedState

	// leading is the term in which this replica leads and has applied an entry
	// of it; 0 while it may not evaluate.
	leading uint64
	// lead is what says whether this leader of others holds its lease. Nil while it
	// does not lead, and where there are no others.
	lead *raftgroup.Leadership
	// awake: this leader of others is ticked. ledAt is when it began to lead, in ledIn.
	awake   bool
	ledAt   clock.Time
	ledIn   uint64
	counted bool // in peers.leaders
	// adriftFrom is since when it knows no leader; 0: it knows one.
	adriftFrom clock.Time
	// tickedLast is the end of the log at the last tick, unticked how many ticks the
	// group was not told of since.
	tickedLast uint64
	unticked   int
	// leaving is a transfer of the leadership that was asked for, balked to whom the last one was
	// that was given up in this leadership; 0: none was.
	leaving *transfer
	balked  metapb.ReplicaID
	// cutAt is the size of the log at which to look whether it can be cut; uncut: it is
	// to be.
	cutAt uint64
	uncut bool
	// restedAt is when it last began to rest while it led; restNoted: it is in the list.
	restedAt  clock.Time
	restNoted bool
	// bornOf is the left side of the split that made the replica here; 0: none did
	// in this life of the store.
	bornOf metapb.RangeID
	// before is the descriptor before the changes of replicas that are applied and
	// not advanced; nil: there are none. gone: the replica was stopped for good.
	before *metapb.Descriptor
	gone   bool
	// confIndex is that of the last change of replicas, or later if that was before the start.
	confIndex uint64
	// parting are replicas that changes took out, and are not told so yet.
	parting []parting
	// strangers sent messages and are not in the descriptor, oldest first.
	strangers []stranger

	queue  workQueue
	parked map[uint64]*work // wait for locks, by ticket
	// filling says that a batch is being filled from the queue; what locks let
	// on meanwhile waits in unparked.
	filling  bool
	again    bool // there is more to evaluate at once
	unparked []*work
	tickets  uint64
	locks    *lockTable
	overlay  *mvcc.Overlay
	batches  uint64 // the number of the last batch. Invariant: grows.
	asked    *batch // waits for its grant; the next is not begun before
	// inflight are the batches proposed and not advanced, in order of log and
	// revision; the first applied of them are applied.
	inflight []*batch
	applied  int
	// proposed is the bytes of the entries of inflight.
	proposed int
	// advanced is the number of the last batch that was advanced: what it and
	// its predecessors wrote can be read in the engine.
	advanced uint64
	reads    []answer // wait for a batch that they saw
	closes   []closing
	// called is the highest revision that the range called closed, for whatever keys,
	// while this replica led it.
	called Revision
	// splits counts the splits that wait or are under way; no transaction takes
	// locks meanwhile. frozen: a split is proposed, and what is evaluated before
	// it is applied would have the old generation.
	splits int
	frozen bool
	// awaited is the learner that somebody waits for, as far as this replica knows.
	awaited awaited
	// settling: who is first in the queue waits until nothing is under way.
	settling bool
	held     []*work     // wait for locks to go, or for a split to be done
	rights   []bornRange // born by applied splits, not yet loaded
	// dropped: operations of the system range were evaluated and are lost. Before
	// the next the state that they left is forgotten, once what was proposed
	// before them is applied and cannot be forgotten with them.
	dropped bool

	// txns mirrors the rows of unfinished transactions, ended are those whose
	// end is applied and not advanced.
	txns    txnRows
	ended   []*txnpb.TxnID
	sweeps  map[txnKey]*sweep
	sweepAt clock.Time

	leases
	// lessor is leaseOf, made once.
	lessor func(id int64, key []byte) mvcc.LeaseState

	stats stats

	// checking is a check whose entry is applied and not hashed yet; rest are entries
	// that wait for that. condemned: the data was found to be corrupt.
	checking  *checkpoint
	rest      []raftgroup.Entry
	condemned bool
	undecided bool // so are all, and one of them may be right
	// heir is the replica for which this one was given up, from heirToken on durably.
	// trustedOver: an operator trusted this one over all others below it; 0: none did.
	heir, trustedOver metapb.ReplicaID
	heirToken         uint64
	// stopped: an entry is of a newer version, and nothing from there on is applied. halted:
	// that, and no damage, is why the replica is out of service, as one that is condemned.
	stopped, halted bool
	abdicateAt      clock.Time

	ringStep uint64 // of the row in the store's ring that has its state; 0: its own row has

	dirty, waiting, timed, advancing, touched, noted bool // in the store's list of that name
}

// newReplica loads a replica from the engine, its local rows through a reader that may
// have them at hand.
func newReplica(s *Store, d *metapb.Descriptor, born *leases, rows engine.Reader) (*Replica, error) {
	self := d.ReplicaOn(s.cfg.StoreID)
	invariant.Must(self != nil, "range %d has no replica on store %d", d.RangeId, s.cfg.StoreID)
	state, err := readApplied(rows, d.ID())
	if err != nil {
		return nil, err
	}
	if now := state.newest(s.loading, d.ID(), metapb.ReplicaID(self.ReplicaId)); now != state {
		state = now
		writeApplied(s.applyBatch(), d.ID(), state) // rows of the ring are used again
	}
	r := &Replica{
		store:   s,
		id:      metapb.ReplicaID(self.ReplicaId),
		state:   state,
		cutAt:   s.logShare(),
		locks:   newLockTable(0, s.lockLimits()),
		overlay: mvcc.NewOverlay(),
	}
	r.setDescriptor(d)
	r.confIndex = state.index
	r.group, err = raftgroup.New(raftgroup.Config{
		Gate:         voteGate{r},
		RangeID:      d.ID(),
		ReplicaID:    metapb.ReplicaID(self.ReplicaId),
		AppliedIndex: state.index,
		// Never less than what is proposed here: a batch that has its revisions
		// must not be dropped for want of room.
		UncommittedBytesMax: math.MaxInt64,
		Logger:              s.cfg.Logger,
		Rows:                rows,
	}, s.cfg.Reader)
	if err != nil {
		return nil, err
	}
	r.lessor, r.adriftFrom = r.leaseOf, s.now
	if err := r.loadCondemned(rows); err != nil {
		return nil, err
	}
	if err := r.checkConf(); err != nil {
		return nil, err
	}
	if err := r.loadIntents(); err != nil {
		return nil, err
	}
	return r, r.loadLeases(born)
}

// member is a replica in a descriptor.
type member struct {
	id    metapb.ReplicaID
	store metapb.StoreID
}

func (r *Replica) setDescriptor(d *metapb.Descriptor) {
	r.desc, r.members = d, make([]member, 0, len(d.Replicas))
	for _, m := range d.Replicas {
		r.members = append(r.members, member{metapb.ReplicaID(m.ReplicaId), metapb.StoreID(m.StoreId)})
	}
}

// memberOf returns the store of a replica in the descriptor, 0 if it is not there.
func (r *Replica) memberOf(id metapb.ReplicaID) metapb.StoreID {
	for _, m := range r.members {
		if m.id == id {
			return m.store
		}
	}
	return 0
}

// Descriptor returns the range's descriptor; it is not changed afterwards.
func (r *Replica) Descriptor() *metapb.Descriptor { return r.desc }

// BornOf returns the range from which a split applied here cut this one off; 0 if
// the replica was loaded, or came by a snapshot.
func (r *Replica) BornOf() metapb.RangeID { return r.bornOf }

// Leads reports whether the replica leads its range and may evaluate.
func (r *Replica) Leads() bool { return r.leading != 0 }

// notLeader says who leads instead.
func (r *Replica) notLeader() error {
	not := &peerpb.NotLeaderError{Range: r.desc.ID(), Leader: r.Leader(), Term: r.group.Term()}
	if not.Leader == r.store.cfg.StoreID {
		not.Leader = 0
	}
	return not
}

// Applied returns the index of the last entry that is applied. After the driver
// called Advance its effects can be read.
func (r *Replica) Applied() uint64 { return r.state.index }

// Term returns the highest term that the replica has seen.
func (r *Replica) Term() uint64 { return r.group.Term() }

// holdsLease reports whether this leader may answer from memory at this moment. It
// is asked after what is answered was read. Alone in its group a leader may always:
// nobody else can have been elected.
func (r *Replica) holdsLease() bool {
	return r.leading != 0 && (r.single() || r.lead != nil && r.lead.Holds(r.store.now))
}

// HoldsLease is holdsLease for those who answer from what they know of the range.
func (r *Replica) HoldsLease() bool { return r.holdsLease() }

// single reports whether the range has no other replicas.
func (r *Replica) single() bool { return len(r.desc.Replicas) == 1 }

// Revision returns the highest revision of which the replica applied an effect.
func (r *Replica) Revision() Revision { return r.state.revision }

// request takes a request into the queue.
func (r *Replica) request(req *peerpb.Request) {
	if req.Generation != r.desc.Generation {
		r.store.reply(req.ID, nil, r.moved(req))
		return
	}
	if r.undecided {
		r.store.reply(req.ID, nil, mvcc.ErrCorrupt)
		return
	}
	if r.leading == 0 && !r.group.IsLeader() || r.deserted() || r.condemned {
		r.store.reply(req.ID, nil, r.notLeader())
		return
	}
	if r.answerLeases(req) {
		return
	}
	w := r.store.work(req)
	if !r.queue.fits(w, r.store.cfg.QueueBytesMax) {
		r.store.reply(req.ID, nil, peerpb.ErrOverloaded)
		return
	}
	if !r.holds(req.Body) {
		r.store.reply(req.ID, nil, r.moved(req))
		return
	}
	if body, ok := req.Body.(*peerpb.WriteIntents); ok {
		if err := r.acceptIntents(body); err != nil {
			r.store.reply(req.ID, nil, err)
			return
		}
	}
	if urgent(req.Body) {
		r.queue.pushUrgent(w)
	} else {
		r.queue.push(w)
	}
	r.store.mark(r)
}

// moved answers who used another descriptor than the range's with what the store
// knows of the ranges around it.
func (r *Replica) moved(*peerpb.Request) error {
	err := &peerpb.MovedError{Range: r.desc.ID(), Newer: []*metapb.Descriptor{r.desc}}
	r.store.byStart.AscendGreaterOrEqual(r, func(next *Replica) bool {
		if next != r {
			err.Newer = append(err.Newer, next.desc)
		}
		return len(err.Newer) < 3
	})
	return err
}

// tick tells the replica the time, if it asked for that.
func (r *Replica) tick() {
	if r.gone {
		return
	}
	r.leaveJoint()
	r.tickTxns(r.store.now)
	r.tickLeases(r.store.now)
	r.releaseHeld()
	r.advanceTransfer()
	r.abdicate()
	if len(r.closes) > 0 || len(r.parked) > 0 {
		r.store.watchClock(r)
	}
	if len(r.closes)+len(r.parked)+len(r.queue.items) > 0 {
		r.store.mark(r)
	}
}

// collect takes what the group has to do: rows for the log, entries to apply.
func (r *Replica) collect() error {
	s := r.store
	if rest := r.rest; len(rest) > 0 && !r.gone {
		r.rest = nil
		if err := r.applyEntries(rest); err != nil {
			return err
		}
	}
	r.group.HoldCommits(r.leading != 0 && r.moreComes())
	for !r.gone && r.group.HasReady() {
		if s.append == nil {
			s.append = s.cfg.NewBatch()
		}
		rd, err := r.group.Ready(s.append)
		if err != nil {
			return err
		}
		if rd.Token != 0 {
			s.tokens = append(s.tokens, groupToken{r, rd.Token})
		}
		for _, to := range rd.Snapshots {
			s.out.Snapshots = append(s.out.Snapshots, WantedSnapshot{Range: r.desc.ID(), To: r.storeOf(to), Replica: to})
		}
		r.sendAll(rd.Messages)
		if rd.Changed {
			r.leaderChanged(rd.Leader)
		}
		if err := r.applyEntries(rd.Committed); err != nil {
			return err
		}
	}
	r.checkCloses()
	r.advanceTransfer()
	r.sayGone()
	if !r.moreComes() {
		r.sendAll(r.group.TakeHeld())
	}
	return nil
}

// moreComes reports whether the log is about to grow, or more of it to be committed.
func (r *Replica) moreComes() bool {
	return r.asked != nil || len(r.queue.items) > 0 || r.applied < len(r.inflight)
}

// sendAll sends messages to the stores of the replicas that they are for.
func (r *Replica) sendAll(ms []*raftgroup.Message) {
	s := r.store
	for _, m := range ms {
		to := r.storeOf(metapb.ReplicaID(m.GetTo()))
		// Heartbeats of thousands of ranges to a store that is dead are half of the
		// work that its death makes.
		if to != 0 && (!raftgroup.IsHeartbeat(m) || s.Live(to)) {
			s.messages = append(s.messages, Message{r.desc.ID(), to, m})
		}
	}
}

// begin is called when the first entry of the replica's own term is applied:
// everything before it is, so it may evaluate.
func (r *Replica) begin(term uint64) {
	if r.condemned {
		r.abdicate()
		return
	}
	r.leading, r.called = term, 0
	r.beginLead(term)
	r.leaveJoint()
	r.overlay = mvcc.NewOverlay()
	r.beginTxns()
	if err := r.beginLeases(); err != nil {
		r.store.fail(err)
	}
	r.store.mark(r)
}

// stepDown ends what the replica did as leader. What was proposed may or may not
// be applied by the next leader: its outcome is unknown.
func (r *Replica) stepDown() {
	if r.leading == 0 {
		return
	}
	r.leading = 0
	for _, b := range r.inflight[r.applied:] {
		r.refuse(b, peerpb.ErrUnknown)
		r.store.flying--
	}
	r.inflight = r.inflight[:r.applied]
	r.proposed = inflightBytes(r.inflight)
	if r.asked != nil {
		r.refuse(r.asked, peerpb.ErrRefused)
		r.asked = nil
	}
	r.refuseReads(0)
	for _, c := range r.closes {
		r.store.reply(c.id, nil, peerpb.ErrNotLeader)
	}
	r.closes = nil
	r.refuseQueue(peerpb.ErrNotLeader)
	r.endLeases()
	r.locks = newLockTable(r.locks.nextToken, r.store.lockLimits())
	r.overlay = mvcc.NewOverlay()
	r.splits, r.frozen, r.dropped = 0, false, false
	r.leaving, r.balked, r.parting = nil, 0, nil
	if r.desc.ID() == metapb.SystemRange {
		r.store.cfg.System.Reset()
	}
}

// refuse answers everybody in a batch that will not be applied, or may not be.
func (r *Replica) refuse(b *batch, err error) {
	for _, a := range b.answers {
		r.store.reply(a.id, nil, err)
	}
	r.checkpointsDone(b.checkpoints, peerpb.ErrRefused)
	for _, w := range b.goOn {
		r.store.reply(w.req.ID, nil, err)
	}
	if b.splits > 0 {
		r.splits -= b.splits
		r.frozen = false
	}
	r.dropped = r.dropped || len(b.system) > 0
}

// refuseReads answers those who wait for a batch from a number on that they saw
// and that will not be applied, or may not be.
func (r *Replica) refuseReads(from uint64) {
	waiting := r.reads[:0]
	for _, a := range r.reads {
		if a.touched >= from {
			r.store.reply(a.id, nil, peerpb.ErrRefused)
		} else {
			waiting = append(waiting, a)
		}
	}
	r.reads = waiting
}

// refuseQueue answers everything that waits.
func (r *Replica) refuseQueue(err error) {
	for _, w := range r.queue.items {
		r.store.reply(w.req.ID, nil, err)
	}
	for _, w := range r.held {
		r.store.reply(w.req.ID, nil, err)
	}
	r.queue, r.held = workQueue{}, nil
	for _, t := range sortedTickets(r.parked) {
		r.store.reply(r.parked[t].req.ID, nil, err)
	}
	r.parked = nil
}
