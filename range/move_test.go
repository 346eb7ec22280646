package ranges

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/raftgroup"
)

type snapshotKey struct {
	id      metapb.RangeID
	replica metapb.ReplicaID
}

// snapshotTraffic is what a node does about snapshots; a crash ends all of it.
type snapshotTraffic struct {
	senders   map[snapshotKey]*SnapshotSender
	targets   map[snapshotKey]metapb.StoreID
	receivers map[snapshotKey]*SnapshotReceiver
	indexes   map[snapshotKey]uint64 // of receivers
	from      map[snapshotKey]metapb.StoreID
	chunkAt   time.Duration
	ingests   []*Ingest // to be run
	files     int
}

func newSnapshotTraffic() snapshotTraffic {
	return snapshotTraffic{
		senders: make(map[snapshotKey]*SnapshotSender), targets: make(map[snapshotKey]metapb.StoreID),
		receivers: make(map[snapshotKey]*SnapshotReceiver), indexes: make(map[snapshotKey]uint64),
		from: make(map[snapshotKey]metapb.StoreID),
	}
}

// output does what a store wants of its node besides replies.
func (n *clusterStore) output(out *Output) error {
	c := n.c
	for i := range out.Gone {
		c.send(clusterPacket{from: n.id, to: out.Gone[i].To, gone: &out.Gone[i]})
	}
	for i := range out.Present {
		c.send(clusterPacket{from: n.id, to: out.Present[i].To, present: &out.Present[i]})
	}
	for _, w := range out.SnapshotsLost {
		c.lost++
		if key := (snapshotKey{w.Range, w.Replica}); n.senders[key] != nil {
			n.endSnapshot(key, false)
		}
	}
	for _, w := range out.Snapshots {
		key := snapshotKey{w.Range, w.Replica}
		if old := n.senders[key]; old != nil {
			if w.Offer {
				continue
			}
			old.Close()
			delete(n.senders, key)
		}
		x, err := n.store.BeginSnapshot(w.Range, w.Replica, 200)
		if errors.Is(err, peerpb.ErrNotLeader) || errors.Is(err, peerpb.ErrBadChange) {
			n.store.SnapshotEnded(w.Range, w.Replica, false)
			continue
		}
		if err != nil {
			return err
		}
		n.senders[key], n.targets[key] = x, w.To
	}
	if err := n.takeCheckpoints(out.Checkpoints); err != nil {
		return err
	}
	for _, in := range out.Installed {
		key := snapshotKey{in.Range, in.Replica}
		a := &SnapshotAnswer{Range: in.Range, Replica: in.Replica, Index: in.Index, ID: in.ID, Done: in.OK, Refused: !in.OK}
		c.send(clusterPacket{from: n.id, to: n.from[key], answer: a})
		delete(n.receivers, key)
		delete(n.indexes, key)
	}
	return nil
}

// sendChunks sends what was not answered, again and again.
func (n *clusterStore) sendChunks() {
	if n.c.now < n.chunkAt {
		return
	}
	n.chunkAt = n.c.now + 30*time.Millisecond
	for key := range n.targets {
		if n.senders[key] == nil {
			delete(n.targets, key)
		}
	}
	var ks []snapshotKey
	for key := range n.senders {
		ks = append(ks, key)
	}
	slices.SortFunc(ks, func(a, b snapshotKey) int {
		return int(a.id)*1000 + int(a.replica) - int(b.id)*1000 - int(b.replica)
	})
	for _, key := range ks {
		if n.c.rng.IntN(100) == 0 {
			n.endSnapshot(key, false) // the driver gives it up
			continue
		}
		n.sendChunk(key)
	}
}

func (n *clusterStore) sendChunk(key snapshotKey) {
	chunk, err := n.senders[key].Chunk()
	if err != nil {
		panic(err)
	}
	if !n.c.calm && n.c.rng.IntN(50) == 0 && len(chunk.Rows) > 0 { // damaged on its way
		bad := *chunk
		bad.Rows = slices.Clone(chunk.Rows)
		bad.Rows[n.c.rng.IntN(len(bad.Rows))]++
		chunk = &bad
	}
	n.c.send(clusterPacket{from: n.id, to: n.targets[key], chunk: chunk})
}

func (n *clusterStore) endSnapshot(key snapshotKey, ok bool) {
	n.senders[key].Close()
	delete(n.senders, key)
	n.store.SnapshotEnded(key.id, key.replica, ok)
}

// deliver hands a packet over.
func (n *clusterStore) deliver(p clusterPacket) error {
	switch {
	case p.live != nil:
		n.store.StepLiveness(p.from, p.live)
	case p.gone != nil:
		n.store.Gone(*p.gone)
	case p.present != nil:
		n.store.Present(p.from, *p.present)
	case p.chunk != nil:
		n.stepChunk(p.from, p.chunk)
	case p.answer != nil:
		key := snapshotKey{p.answer.Range, p.answer.Replica}
		x := n.senders[key]
		if x == nil {
			return nil
		}
		before, err := x.Chunk()
		if err != nil {
			return err
		}
		done, ok, err := x.Answer(p.answer)
		if err != nil {
			return err
		}
		after, err := x.Chunk()
		switch {
		case done:
			n.endSnapshot(key, ok)
		case after != before:
			n.sendChunk(key)
		}
		return err
	case n.store.Hear(p.from, p.start):
		return n.store.StepFrom(p.from, p.raft.Range, p.raft.Raft)
	}
	return nil
}

func (n *clusterStore) stepChunk(from metapb.StoreID, c *SnapshotChunk) {
	key := snapshotKey{c.Range, c.Replica}
	x := n.receivers[key]
	of := x != nil && n.from[key] == from && x.Of(c) // ids of different stores may be the same
	if x != nil && !of && (n.indexes[key] > c.Index || c.Number > 0) {
		return
	}
	if !of {
		n.files++
		x = NewSnapshotReceiver(n.eng, fmt.Sprintf("snapshot-%d-%d", n.start, n.files))
		n.receivers[key], n.indexes[key], n.from[key] = x, c.Index, from
	}
	had := x.Incoming() != nil
	answer, err := x.Step(c)
	if err != nil {
		delete(n.receivers, key) // the next chunk's answer has it begin anew
		return
	}
	if in := x.Incoming(); in != nil && !had {
		n.store.Install(in)
	}
	n.c.send(clusterPacket{from: n.id, to: from, answer: &answer})
}

// ingest runs some of what Readys said, in any order, or crashes around it.
func (n *clusterStore) ingest(all []*Ingest) error {
	n.ingests = append(n.ingests, all...)
	for len(n.ingests) > 0 && n.c.rng.IntN(3) == 0 {
		i := n.c.rng.IntN(len(n.ingests))
		g := n.ingests[i]
		n.ingests = slices.Delete(n.ingests, i, i+1)
		if !n.c.calm && n.c.rng.IntN(8) == 0 {
			n.crash()
			return nil
		}
		n.files++
		if err := g.Run(context.Background(), n.eng, fmt.Sprintf("ingest-%d-%d", n.start, n.files)); err != nil {
			return err
		}
		if !n.c.calm && n.c.rng.IntN(8) == 0 {
			n.crash()
			return nil
		}
		if err := n.store.Ingested(g); err != nil {
			return err
		}
		n.c.snapshots++
	}
	return nil
}

// change does something about the replicas of a range that a store leads.
func (c *storeCluster) change(n *clusterStore) {
	var led []*Replica
	for _, id := range n.store.IDs() {
		// The system range's rows are also in memory, which a snapshot does not mend.
		if r := n.store.replicas[id]; r.leading != 0 && id != metapb.SystemRange {
			led = append(led, r)
		}
	}
	if len(led) == 0 {
		return
	}
	r := led[c.rng.IntN(len(led))]
	body := c.nextChange(n, r.desc)
	if body != nil {
		c.request(n, r.desc.Start, &clusterRequest{at: c.issued, body: body})
	}
}

func (c *storeCluster) nextChange(n *clusterStore, d *metapb.Descriptor) *peerpb.ChangeReplicas {
	var voters, learners, free []metapb.StoreID
	for _, other := range c.nodes {
		switch p := d.ReplicaOn(other.id); {
		case p == nil:
			free = append(free, other.id)
		case p.Kind == metapb.ReplicaKind_LEARNER:
			learners = append(learners, other.id)
		case other != n:
			voters = append(voters, other.id)
		}
	}
	x := c.rng.IntN(10)
	switch {
	case len(learners) == 0 && len(free) > 0 && x < 8:
		to := free[c.rng.IntN(len(free))]
		return &peerpb.ChangeReplicas{Learner: to, Node: metapb.NodeID(to)}
	case len(learners) > 0 && x == 0:
		return &peerpb.ChangeReplicas{Remove: learners[:1]}
	case len(learners) > 0:
		body := &peerpb.ChangeReplicas{Promote: learners[:1]}
		if len(voters) >= 2 && x < 9 {
			body.Remove = []metapb.StoreID{voters[c.rng.IntN(len(voters))]}
		}
		return body
	case len(voters) >= 3:
		return &peerpb.ChangeReplicas{Remove: []metapb.StoreID{voters[c.rng.IntN(len(voters))]}}
	}
	return nil
}

// describeProgress tells what a leader knows of its replicas.
func describeProgress(r *Replica) (text string) {
	r.group.Progress(func(p raftgroup.PeerProgress) { text += fmt.Sprintf(" %+v", p) })
	return text + fmt.Sprint(" ", r.desc)
}

// ranges returns all ranges that any store has.
func (c *storeCluster) ranges() (ids []metapb.RangeID) {
	for _, n := range c.nodes {
		if n.store != nil {
			ids = append(ids, n.store.IDs()...)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// checkOverlap looks for replicas on one store that share addresses, and for two of
// one range.
func (c *storeCluster) checkOverlap() error {
	for _, n := range c.nodes {
		if n.store == nil {
			continue
		}
		ids := n.store.IDs()
		for i, a := range ids {
			for _, b := range ids[:i] {
				x, y := n.store.Replica(a).desc, n.store.Replica(b).desc
				if x.Span().Overlaps(y.Span()) {
					return fmt.Errorf("store %d: %v and %v overlap", n.id, x, y)
				}
			}
		}
	}
	return nil
}

// checkMoved compares the replicas of each range, and looks that there is nothing of
// it elsewhere and that all that was acknowledged is there.
func (c *storeCluster) checkMoved() error {
	if err := c.checkOverlap(); err != nil {
		return err
	}
	all := make(map[string]bool)
	for _, id := range c.ranges() {
		var d *metapb.Descriptor
		for _, n := range c.nodes {
			if r := n.store.Replica(id); r != nil && (d == nil || r.desc.Generation > d.Generation) {
				d = r.desc
			}
		}
		if isJoint(d) {
			return fmt.Errorf("range %d is still joint: %s", id, c.describe(id))
		}
		first, state := "", appliedState{}
		for _, n := range c.nodes {
			rows, err := rowsOf(n.eng, d.Span(), all)
			if err != nil {
				return err
			}
			r := n.store.Replica(id)
			switch p := d.ReplicaOn(n.id); {
			case p == nil && r != nil:
				return fmt.Errorf("range %d: store %d has a replica that is not of %v: %s", id, n.id, d, c.describe(id))
			case p == nil && rows != "":
				return fmt.Errorf("range %d: store %d has no replica, but rows: %.100s", id, n.id, rows)
			case p == nil:
			case r == nil:
				return fmt.Errorf("range %d: store %d has no replica of %v: %s", id, n.id, d, c.describe(id))
			case state == (appliedState{}):
				first, state = rows, r.state
			case state != r.state || first != rows:
				return fmt.Errorf("range %d: store %d differs: %s", id, n.id, c.describe(id))
			}
		}
	}
	for key, revs := range c.keyRevs { // any order
		for _, rev := range revs {
			if !all[string(keys.Version([]byte(key), rev, 0))] {
				return fmt.Errorf("%s was acknowledged at %d and is gone", key, rev)
			}
		}
	}
	return nil
}

// rowsOf returns all rows of a span in one text, and notes their keys.
func rowsOf(eng *engine.Mem, span metapb.Span, all map[string]bool) (text string, err error) {
	for _, sp := range keys.Tables(span) {
		it, err := eng.NewIter(engine.IterOptions{Lower: sp.Start, Upper: sp.End})
		if err != nil {
			return "", err
		}
		for ok := it.First(); ok; ok = it.Next() {
			v, err := it.Value()
			if err != nil {
				return "", err
			}
			all[string(it.Key())] = true
			text += fmt.Sprintf("%s=%q\n", keys.Format(it.Key()), v)
		}
		if err := it.Close(); err != nil {
			return "", err
		}
	}
	return text, nil
}

// TestMoves lets five stores live through what happens while the replicas of three
// move between them.
func TestMoves(t *testing.T) {
	var sum storeCluster
	seeds := *clusterSeeds
	for seed := *clusterFrom; seed < *clusterFrom+uint64(seeds); seed++ {
		c, err := newStoreClusterOf(seed, soundCluster, 5)
		if err == nil {
			c.moves = true
			err = c.play(12000)
		}
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		sum.acked += c.acked
		sum.crashes += c.crashes
		sum.splits += c.splits
		sum.changes += c.changes
		sum.snapshots += c.snapshots
		sum.lost += c.lost
	}
	t.Logf("%d acknowledged, %d crashes, %d splits, %d changes of replicas, %d snapshots, %d given up for the log",
		sum.acked, sum.crashes, sum.splits, sum.changes, sum.snapshots, sum.lost)
	if sum.acked < seeds*200 || sum.crashes < seeds || sum.changes < seeds*3 || sum.snapshots < seeds {
		t.Fatal("too little happened")
	}
}
