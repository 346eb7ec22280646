package ranges

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/raftgroup"
)

// A replica that its range's configuration has no more is removed: its rows go, and
// a tombstone says which replica ids may still come. It hears of that from the range's
// leader, by itself or when it bothers or asks it, or from a message to a later replica of
// the range on this store.
//
// Its own log is not enough: then it only parts. That the change is committed may be known
// to nobody else when all who stay crash, or when the leader is lost. They begin in the
// configuration before it, in which they may need its vote. So only a leader says that it is
// gone, when most of those who stay know it, durably. Whoever does not hears it from one of
// them before it leads.

// Gone tells a store that a replica is not part of its range any more, and never
// will be. It may be lost: a replica that does not hear of it asks.
type Gone struct {
	To      metapb.StoreID
	Range   metapb.RangeID
	Replica metapb.ReplicaID
}

// parting is a replica that the entry at an index took out.
type parting struct {
	Gone
	index uint64
}

// sayGone says that replicas are gone, when a majority of those who stay knows it. Those that
// do not are in the configuration before, in which they may need its vote, should this leader
// be lost.
func (r *Replica) sayGone() {
	if len(r.parting) == 0 {
		return
	}
	r.parting = slices.DeleteFunc(r.parting, func(p parting) bool {
		known := r.group.Known(p.index)
		if known {
			r.store.farewell(p.Gone)
		}
		return known
	})
}

// dismiss says that a replica is gone that is not part of the range. Only a leader can tell
// whether most of those who stay know it.
func (r *Replica) dismiss(g Gone) {
	if r.group.Known(r.confIndex) {
		r.store.farewell(g)
	}
}

// farewellsMax bounds what waits for a sync; more is lost, and asked for again.
const farewellsMax = 1 << 12

// farewell tells another store that a replica is gone, as soon as what this one has applied
// is durable.
func (s *Store) farewell(g Gone) {
	if len(s.farewells) < farewellsMax && !slices.Contains(s.farewells, g) {
		s.farewells = append(s.farewells, g)
	}
}

// parts reports whether a command takes the replica out of its range.
func (r *Replica) parts(c *cmdpb.Command) bool {
	k, ok := c.Kind.(*cmdpb.Command_Replicas)
	return ok && k.Replicas.Descriptor_ != nil && !hasReplica(k.Replicas.Descriptor_, r.id)
}

// part is called at an entry that takes the replica out of its range. It goes on voting and
// acknowledging, as one that has not heard of it, until it is told that it is gone.
func (r *Replica) part() {
	r.stopped = true
	if !r.condemned {
		r.halted = true
		r.condemn()
	}
}

// absent is a replica that this store does not have and gets messages for.
type absent struct {
	replica metapb.ReplicaID
	since   clock.Time
}

// absentMax bounds what is kept of those: of more, messages are lost.
const absentMax = 1 << 16

// readTombstone returns the lowest id of a range's replica that may come.
func readTombstone(r engine.Reader, id metapb.RangeID) (metapb.ReplicaID, error) {
	row, closer, err := r.Get(keys.Tombstone(id))
	if errors.Is(err, engine.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer closer.Close()
	if len(row) != 8 {
		return 0, fmt.Errorf("tombstone of range %d is damaged", id)
	}
	return metapb.ReplicaID(binary.BigEndian.Uint64(row)), nil
}

func tombstoneRow(id metapb.RangeID, lowest metapb.ReplicaID) raftgroup.Row {
	return raftgroup.Row{Key: keys.Tombstone(id), Value: binary.BigEndian.AppendUint64(nil, uint64(lowest))}
}

// lowest returns the lowest id of a range's replica that may come, as far as is
// known.
func (s *Store) lowest(id metapb.RangeID) metapb.ReplicaID {
	t, err := readTombstone(s.cfg.Reader, id)
	if err != nil {
		s.fail(err)
	}
	return max(t, s.tombstones[id], s.entombed[id])
}

// remove ends a replica for good. Its rows go with the next log rows, in one batch
// that is synced.
func (s *Store) remove(r *Replica, lowest metapb.ReplicaID) {
	s.leaveRing(r)
	r.stop()
	s.wipe(r.desc, lowest)
}

// wipe removes what a store has of a range, but for a tombstone.
func (s *Store) wipe(d *metapb.Descriptor, lowest metapb.ReplicaID) {
	if s.append == nil {
		s.append = s.cfg.NewBatch()
	}
	local := keys.LocalSpan(d.ID())
	s.append.DeleteRange(local.Start, local.End)
	for _, sp := range keys.Tables(d.Span()) {
		s.append.DeleteRange(sp.Start, sp.End)
	}
	s.entomb(d.ID(), lowest)
}

// entomb writes a tombstone with the next log rows.
func (s *Store) entomb(id metapb.RangeID, lowest metapb.ReplicaID) {
	if s.append == nil {
		s.append = s.cfg.NewBatch()
	}
	row := tombstoneRow(id, lowest)
	s.append.Set(row.Key, row.Value)
	if s.tombstones == nil {
		s.tombstones = make(map[metapb.RangeID]metapb.ReplicaID)
	}
	s.tombstones[id] = lowest
	if s.absent[id].replica < lowest {
		delete(s.absent, id)
	}
}

// stop ends a replica's life in memory. What its last entries wrote, and what it
// proposed, is others' to finish.
func (r *Replica) stop() {
	s := r.store
	if r.lead == nil && r.group.IsLeader() {
		// It had not begun to lead, or was out of service. Who follows it has to hear of the
		// end all the same: its store lives.
		r.beginLead(r.group.Term())
	}
	if r.lead != nil {
		s.peers.live.EndLead(r.lead)
		r.lead = nil
	}
	r.stepDown()
	r.refuseQueue(peerpb.ErrRangeNotFound)
	r.gone = true
	s.out.Removed = append(s.out.Removed, r.desc.ID())
	s.peers.elections.Disarm(r.desc.ID())
	s.countLeader(r, false)
	delete(s.replicas, r.desc.ID())
	s.ids = nil
	s.installs = s.installs || len(s.incoming) > 0
	if at, ok := s.byStart.Get(r); ok && at == r {
		s.byStart.Delete(r)
	}
}

// Gone takes word that a replica is not part of its range any more.
func (s *Store) Gone(g Gone) {
	if r := s.replicas[g.Range]; r != nil {
		if r.id <= g.Replica {
			s.remove(r, g.Replica+1)
		}
		return
	}
	if s.ingesting[g.Range] == nil && s.lowest(g.Range) <= g.Replica {
		s.entomb(g.Range, g.Replica+1)
		s.installs = s.installs || len(s.incoming) > 0 // one may not be wanted any more
	}
}

// presentEvery is how many replicas a store asks about in an election timeout. That
// Gone was lost is rare, and what stays behind then is only room.
const presentEvery = 10

// askPresent asks, for the next few of the replicas that do not lead, whether they
// are still part of their ranges: their leaders may be at rest and say nothing.
func (s *Store) askPresent() {
	if s.now.Before(s.presentAt) {
		return
	}
	s.presentAt = s.now.Add(s.peers.live.ElectionTimeout())
	ids := s.IDs()
	at, _ := slices.BinarySearch(ids, s.presentNext)
	for _, id := range ids[at:min(len(ids), at+presentEvery)] {
		r := s.replicas[id]
		if r.group.IsLeader() || r.single() {
			continue
		}
		for _, p := range r.desc.Replicas {
			if p.ReplicaId != uint64(r.id) {
				s.out.Present = append(s.out.Present, Gone{To: metapb.StoreID(p.StoreId), Range: id, Replica: r.id})
			}
		}
		leader := r.Leader()
		if leader == 0 {
			continue
		}
		if r.desc.ReplicaOn(leader) == nil {
			s.out.Present = append(s.out.Present, Gone{To: leader, Range: id, Replica: r.id})
		}
		// Who leads no more does not answer that, nor may others who are asked. Without a
		// leader it looks for those who have the range.
		s.peers.live.Ask(leader, raftgroup.Tie{Range: id, Term: r.group.Term()})
	}
	s.presentNext = 0
	if at+presentEvery < len(ids) {
		s.presentNext = ids[at+presentEvery]
	}
}

// Present answers another store's question whether a replica of it is part of its
// range.
func (s *Store) Present(from metapb.StoreID, g Gone) {
	if r := s.replicas[g.Range]; r != nil && uint64(g.Replica) < r.desc.NextReplicaId && r.memberOf(g.Replica) == 0 {
		r.dismiss(Gone{To: from, Range: g.Range, Replica: g.Replica})
	}
}

// StepFrom takes a Raft message from a store for a replica.
func (s *Store) StepFrom(from metapb.StoreID, id metapb.RangeID, m *raftgroup.Message) error {
	r, to := s.replicas[id], metapb.ReplicaID(m.GetTo())
	if r != nil && to > r.id {
		s.remove(r, to) // there is one replica on a store: this one's time is over
		r = nil
	}
	if r == nil {
		return s.stepAbsent(from, id, m)
	}
	if to < r.id {
		return nil
	}
	switch sender := metapb.ReplicaID(m.GetFrom()); {
	case r.memberOf(sender) != 0:
	case uint64(sender) >= r.desc.NextReplicaId:
		r.meet(sender, from)
	case sender == r.group.Leader() || raftgroup.IsOfLeader(m) && m.GetTerm() >= r.group.Term():
		// It was elected before it knew that it is out, and does not know it before others
		// have what it has. Then it has another one lead.
		if from != 0 {
			r.meet(sender, from)
		}
	default:
		if from != 0 {
			r.dismiss(Gone{To: from, Range: id, Replica: sender})
		}
		return nil
	}
	if r.condemned && raftgroup.TellsToLead(m) {
		return nil
	}
	if raftgroup.HasNothing(m) {
		r.offer(metapb.ReplicaID(m.GetFrom()), from)
		return nil
	}
	r.wake()
	err := r.group.Step(m)
	if raftgroup.IsHeartbeat(m) {
		r.heardRest()
	}
	if r.group.Stirred() || len(r.parting) > 0 {
		s.mark(r)
	}
	if raftgroup.AsksForVote(m) {
		return s.steppedVote(r, from, m, err)
	}
	return err
}

// offer has the state of this replica sent to one of which its store has nothing.
//
// A store that got a snapshot of the left side of a split, instead of the entries with the
// split, never makes its replica of the right side: the leader of that brings it. If there
// are too many of them for a leader to be elected, whoever stands does it. What is applied
// is committed whoever leads, and a replica that has nothing has promised nothing. That no
// older replica on that store holds any of the span, Install sees to.
func (r *Replica) offer(to metapb.ReplicaID, store metapb.StoreID) {
	if store != 0 && r.Adrift() && !r.condemned {
		r.store.out.Snapshots = append(r.store.out.Snapshots, WantedSnapshot{Range: r.desc.ID(), To: store, Replica: to, Offer: true})
	}
}

// stepAbsent takes a message for a replica that is not here. Where a split here is
// to make it, that is waited for; then the range's leader, or who stands for election, is
// told that it has nothing, so that it sends all of it.
func (s *Store) stepAbsent(from metapb.StoreID, id metapb.RangeID, m *raftgroup.Message) error {
	to := metapb.ReplicaID(m.GetTo())
	if s.ingesting[id] != nil || to < s.lowest(id) {
		return nil
	}
	kept := s.keepVote(from, id, m)
	if from == 0 {
		if kept {
			return nil
		}
		return peerpb.ErrRangeNotFound
	}
	a, ok := s.absent[id]
	switch {
	case !ok && len(s.absent) >= absentMax:
		return nil
	case !ok || a.replica < to:
		if s.absent == nil {
			s.absent = make(map[metapb.RangeID]absent)
		}
		a = absent{to, s.now}
		s.absent[id] = a
	case a.replica > to:
		return nil
	}
	if s.now.Before(a.since.Add(s.peers.live.ElectionTimeout())) {
		return nil
	}
	if answer := raftgroup.EmptyAnswer(m); answer != nil {
		s.messages = append(s.messages, Message{id, from, answer})
	}
	return nil
}
