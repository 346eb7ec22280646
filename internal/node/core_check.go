package node

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/frame"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/range"
)

// A store that leads a range has its replicas compared, one range after the other:
// regularly, after each move, and when somebody has reason to doubt one.
//
//	wanted ─> entry in the log ─> every store hashes what its replica has there
//	       <─ asked again and again until all have said ─────┘
//	all the same ─> done
//	they differ  ─> once more; who differs twice is condemned
//
// Stores hash beside the loop, one range at a time. What a store hashed it tells
// whoever asks, for a while.

// checks are those under way.
type checks struct {
	checkNumber uint64
	under       *check // that this store began
	// wants are ranges to be checked before others, nextCheck is where the regular
	// ones go on, at checkAt.
	wants     []checkWant
	nextCheck metapb.RangeID
	checkAt   clock.Time
	// moved is the next replica id of each range when it was last looked at.
	moved map[metapb.RangeID]uint64
	// hashes are those of this store, in the order in which they were begun.
	hashes []*hashed
	views  []*ranges.StateHash // that have a view of the engine
	// doubts are ranges of which this store may have damaged bytes. At doubtAt their
	// leaders are asked for checks once more.
	doubts  []metapb.RangeID
	doubtAt clock.Time
	corrupts
	trusts
}

// checkWant is a range that is to be checked; call is who asked for it, 0: this core.
type checkWant struct {
	id   metapb.RangeID
	call uint64
	at   clock.Time
	// first is what differed in the check before, span what the range had then.
	first *ranges.Verdict
	span  metapb.Span
	moved bool // it is since replicas came
}

// check is the comparison of a range's replicas.
type check struct {
	checkWant
	name    ranges.CheckID
	desc    *metapb.Descriptor
	answers map[metapb.ReplicaID]peerpb.CheckMessage
	heardAt map[metapb.ReplicaID]clock.Time
	index   uint64
	askAt   clock.Time
	begun   clock.Time
}

// hashed is what this store has, or will have, to say about a check.
type hashed struct {
	name    ranges.CheckID
	replica metapb.ReplicaID
	index   uint64
	state   peerpb.CheckState
	sum     []byte
}

const (
	checkWantsMax = 1024
	hashesMax     = 256
	// checkAskEvery is when a store is asked again, checkSilence how long it may say
	// nothing until it is left out.
	checkAskEvery = 200 * time.Millisecond
	checkSilence  = 10 * time.Second
	// checkStartMax is how long the entry of a check may take to be applied here.
	checkStartMax = 10 * time.Second
	// checkMax is how long a check may take until who has not answered is left out.
	checkMax = 10 * time.Minute
	// checkRetry is when a check is tried again that came to nothing, checkMissing the
	// same where a replica that differed did not answer again, checkAfterMove when a
	// range is checked that was moved.
	checkRetry     = 5 * time.Second
	checkMissing   = time.Minute
	checkAfterMove = time.Second
	// doubtEvery is when a check is asked for again by who doubts a replica of its own.
	doubtEvery = 2 * time.Second
	// checkPauseMin is between two regular checks.
	checkPauseMin = 100 * time.Millisecond
)

// wantCheck has a range checked that is led here, from a time on.
func (c *Core) wantCheck(w checkWant) {
	if w.call == 0 && slices.ContainsFunc(c.wants, func(o checkWant) bool { return o.id == w.id && o.call == 0 }) {
		return
	}
	if len(c.wants) >= checkWantsMax {
		c.endCheck(w, nil, peerpb.ErrOverloaded)
		return
	}
	c.wants = append(c.wants, w)
}

// endCheck answers who asked for a check.
func (c *Core) endCheck(w checkWant, done *peerpb.RangeChecked, err error) {
	if w.call == 0 {
		return
	}
	rep := peerpb.Reply{ID: w.call, Err: err}
	if err == nil {
		rep.Body = done
	}
	c.reply(rep)
}

// watchMoves notes whose replicas changed, so that they are checked.
func (c *Core) watchMoves(d *metapb.Descriptor) {
	if c.cfg.CheckInterval == 0 {
		return
	}
	if c.moved == nil {
		c.moved = make(map[metapb.RangeID]uint64)
	}
	last, known := c.moved[d.ID()]
	if !known {
		c.moved[d.ID()] = d.NextReplicaId
		return
	}
	if settled := !slices.ContainsFunc(d.Replicas, func(p *metapb.Replica) bool { return p.Kind != metapb.ReplicaKind_VOTER }); !settled || d.NextReplicaId == last || !c.leads(d.ID()) {
		return
	}
	c.moved[d.ID()] = d.NextReplicaId
	c.wantCheck(checkWant{id: d.ID(), at: c.now.Add(checkAfterMove), moved: true})
}

// tickChecks goes on with the check under way, or begins one.
func (c *Core) tickChecks() {
	c.tickCorrupts()
	c.tickTrusts()
	c.tickDoubts()
	if c.under != nil {
		c.tickCheck(c.under)
		return
	}
	if i := slices.IndexFunc(c.wants, func(w checkWant) bool { return !c.now.Before(w.at) }); i >= 0 {
		w := c.wants[i]
		c.wants = slices.Delete(c.wants, i, i+1)
		c.beginCheck(w)
		return
	}
	c.regularCheck()
}

// regularCheck begins a check of the next range that is led here, if it is time.
func (c *Core) regularCheck() {
	if c.cfg.CheckInterval == 0 || c.stopping || c.now.Before(c.checkAt) {
		return
	}
	ids := slices.DeleteFunc(slices.Clone(c.store.IDs()), func(id metapb.RangeID) bool { return !c.store.Replica(id).Leads() })
	pause := c.cfg.CheckInterval / time.Duration(max(len(ids), 1))
	first := c.checkAt == 0
	c.checkAt = c.now.Add(max(pause, checkPauseMin))
	if first || len(ids) == 0 {
		return // not all stores at once, when all start
	}
	at, _ := slices.BinarySearch(ids, c.nextCheck)
	if at == len(ids) {
		at = 0
	}
	c.nextCheck = ids[at] + 1
	c.beginCheck(checkWant{id: ids[at]})
}

func (c *Core) beginCheck(w checkWant) {
	c.checkNumber++
	number := c.cfg.StoreStart<<32 + c.checkNumber
	if err := c.store.BeginCheck(w.id, number); err != nil {
		c.endCheck(w, nil, err)
		c.handOn(w)
		return
	}
	c.under = &check{
		checkWant: w, name: ranges.CheckID{Range: w.id, Store: c.cfg.StoreID, Number: number}, desc: c.store.Replica(w.id).Descriptor(),
		answers: make(map[metapb.ReplicaID]peerpb.CheckMessage), heardAt: make(map[metapb.ReplicaID]clock.Time), begun: c.now,
	}
}

// tickCheck asks who has not answered yet, and ends the check when nobody is left.
func (c *Core) tickCheck(k *check) {
	own := c.hashOf(k.name)
	switch {
	case own != nil && own.state == peerpb.CheckSkipped, own == nil && c.now.Sub(k.begun) > checkStartMax:
		c.abandonCheck(k)
		return
	case own == nil || c.now.Before(k.askAt):
		return
	}
	k.index = own.index
	k.askAt = c.now.Add(checkAskEvery)
	waits := false
	for _, p := range k.desc.Replicas {
		id := metapb.ReplicaID(p.ReplicaId)
		if a := k.answers[id]; a.State >= peerpb.CheckDone {
			continue
		}
		q := peerpb.CheckMessage{Kind: peerpb.CheckAsks, Range: k.id, Replica: id, Store: k.name.Store, Number: k.name.Number, Index: k.index}
		if metapb.StoreID(p.StoreId) == c.cfg.StoreID {
			a := c.answerCheck(&q)
			k.answers[id] = a
			waits = waits || a.State < peerpb.CheckDone
			continue
		}
		if c.now.Sub(max(k.heardAt[id], k.begun)) > checkSilence {
			continue
		}
		waits = true
		c.sayCheck(metapb.StoreID(p.StoreId), q)
	}
	if !waits || c.allAnswered(k) || c.now.Sub(k.begun) > checkMax {
		c.judge(k)
	}
}

func (c *Core) allAnswered(k *check) bool {
	return !slices.ContainsFunc(k.desc.Replicas, func(p *metapb.Replica) bool {
		return k.answers[metapb.ReplicaID(p.ReplicaId)].State < peerpb.CheckDone
	})
}

// abandonCheck ends a check that came to nothing: the leader went, or it could not
// hash what it has.
func (c *Core) abandonCheck(k *check) {
	c.under = nil
	c.endCheck(k.checkWant, nil, peerpb.ErrRefused)
	if (k.call == 0 || k.first != nil) && c.leads(k.id) {
		k.call, k.at = 0, c.now.Add(checkRetry)
		c.wantCheck(k.checkWant)
		return
	}
	c.handOn(k.checkWant)
}

// handOn has whoever leads the range now check it, where its replicas differed once, or
// some of them came.
func (c *Core) handOn(w checkWant) {
	if (w.first != nil || w.moved) && !c.leads(w.id) {
		c.doubt(w.id)
	}
}

// judge ends a check.
func (c *Core) judge(k *check) {
	c.under = nil
	for _, x := range c.corrupt {
		if x.id == k.id && !x.undecided {
			k.answers[x.replica] = peerpb.CheckMessage{State: peerpb.CheckSkipped} // it has no vote
		}
	}
	v := ranges.Judge(k.desc, k.answers)
	differ := len(v.Undecided)
	if len(v.Corrupt)+len(v.Undecided) > 0 && k.first == nil {
		// A cluster that takes a replica out of service for a mistake of its own is
		// worse than one that looks twice.
		k.first, k.span = &v, k.desc.Span()
		k.at = 0
		c.wants = slices.Insert(c.wants, 0, k.checkWant)
		return
	}
	if k.first != nil {
		first, now := *k.first, v.Clone()
		v = v.Confirms(first)
		c.compareMore(k, first, now, v)
		// It may have split since, and what differed be on the right side.
		c.store.Within(k.span, func(r *ranges.Replica) {
			if id := r.Descriptor().ID(); id != k.id {
				c.doubt(id)
			}
		})
	}
	for _, id := range v.Corrupt {
		c.condemn(k.desc, id, false)
	}
	// All of them or none: of who would be left nobody can say that it is right.
	if len(v.Missing) == 0 && len(v.Undecided) > 1 && len(v.Undecided) == differ {
		for _, id := range v.Undecided {
			c.condemn(k.desc, id, true)
		}
	} else if len(v.Undecided) > 0 && k.call == 0 {
		c.wantCheck(checkWant{id: k.id, at: c.now.Add(checkRetry)})
	}
	c.endCheck(k.checkWant, &peerpb.RangeChecked{
		Index: k.index, Equal: v.Equal, Corrupt: append(v.Corrupt, v.Undecided...), Missing: v.Missing,
	}, nil)
}

// compareMore has a range checked again if its replicas differ now, or differed in the
// check before, and it is neither confirmed nor was it a mistake: some did not answer.
func (c *Core) compareMore(k *check, first, now, confirmed ranges.Verdict) {
	w := checkWant{id: k.id, first: &first, span: k.span}
	settled := append(slices.Clone(confirmed.Corrupt), confirmed.Undecided...)
	open := func(id metapb.ReplicaID) bool { return !slices.Contains(settled, id) }
	known := len(first.Corrupt) > 0
	switch {
	case slices.ContainsFunc(now.Undecided, open):
		if w.at = c.now.Add(checkRetry); !known {
			w.first = &now
		}
	case known && slices.ContainsFunc(now.Corrupt, open):
		// Where nobody could say who is right, who came since by a snapshot of one that is
		// not must not decide it.
		w.first, w.at = &now, c.now.Add(checkRetry)
	case slices.ContainsFunc(now.Missing, func(id metapb.ReplicaID) bool {
		return (slices.Contains(first.Corrupt, id) || slices.Contains(first.Undecided, id)) && !c.knowsCorrupt(k.id, id)
	}):
		w.at = c.now.Add(checkMissing)
	default:
		return
	}
	c.wantCheck(w)
}

// sayCheck tells a store something about checks. It may be lost.
func (c *Core) sayCheck(to metapb.StoreID, m peerpb.CheckMessage) {
	if n := len(c.out); n > 0 && c.out[n-1].To == to && len(c.out[n-1].Checks) > 0 {
		c.out[n-1].Checks = append(c.out[n-1].Checks, m)
		return
	}
	f := c.frameTo(to, frame.Raft)
	f.Checks = append(f.Checks, m)
	c.meetStore(to)
	c.out = append(c.out, f)
}

// stepCheck takes what a store says about checks.
func (c *Core) stepCheck(from metapb.StoreID, m *peerpb.CheckMessage) {
	switch m.Kind {
	case peerpb.CheckAsks:
		c.sayCheck(from, c.answerCheck(m))
	case peerpb.CheckAnswers:
		k := c.under
		if k == nil || k.name != (ranges.CheckID{Range: m.Range, Store: m.Store, Number: m.Number}) {
			return
		}
		if p := k.desc.ReplicaOn(from); p == nil || p.ReplicaId != uint64(m.Replica) || k.answers[m.Replica].State >= peerpb.CheckDone {
			return
		}
		k.answers[m.Replica], k.heardAt[m.Replica] = *m, c.now
		if c.allAnswered(k) {
			c.judge(k)
		}
	case peerpb.CheckWanted:
		if c.leads(m.Range) {
			c.wantCheck(checkWant{id: m.Range})
		}
	case peerpb.CheckCondemns, peerpb.CheckCondemned:
		c.stepCorrupt(from, m)
	case peerpb.CheckTrusts, peerpb.CheckTrusted, peerpb.CheckGivesUp, peerpb.CheckGaveUp:
		c.stepTrust(from, m)
	}
}

func (c *Core) hashOf(name ranges.CheckID) *hashed {
	for _, h := range c.hashes {
		if h.name == name {
			return h
		}
	}
	return nil
}

// answerCheck says what this store knows of a check.
func (c *Core) answerCheck(q *peerpb.CheckMessage) peerpb.CheckMessage {
	a := *q
	a.Kind = peerpb.CheckAnswers
	h := c.hashOf(ranges.CheckID{Range: q.Range, Store: q.Store, Number: q.Number})
	r := c.store.Replica(q.Range)
	switch {
	case r != nil && r.Heir() != 0:
		a.State = peerpb.CheckSkipped // it was given up
	case h != nil && h.replica == q.Replica:
		a.State, a.Sum = h.state, h.sum
		if h.index != q.Index { // it is not the same entry: it was proposed once
			a.State = peerpb.CheckSkipped
		}
	case r == nil || r.ID() != q.Replica || r.Applied() >= q.Index || r.Stopped():
		a.State = peerpb.CheckSkipped // it came by a snapshot, has forgotten it, or never comes to it
	default:
		a.State = peerpb.CheckUnderWay
	}
	return a
}

// takeCheckpoints begins to hash what replicas have.
func (c *Core) takeCheckpoints(all []ranges.Checkpoint) {
	for _, p := range all {
		h := &hashed{name: p.Check, replica: p.Replica, index: p.Index, state: peerpb.CheckSkipped}
		if old := c.hashOf(p.Check); old != nil { // before a start, or by another replica
			c.hashes = slices.DeleteFunc(c.hashes, func(o *hashed) bool { return o == old })
		}
		if len(c.hashes) >= hashesMax {
			c.hashes = slices.Delete(c.hashes, 0, 1)
		}
		c.hashes = append(c.hashes, h)
		if p.Hash == nil {
			continue
		}
		h.state = peerpb.CheckUnderWay
		c.doubts = slices.DeleteFunc(c.doubts, func(id metapb.RangeID) bool { return id == p.Check.Range })
		c.views = append(c.views, p.Hash)
		c.jobs = append(c.jobs, &SnapshotJob{hash: p.Hash, check: p.Check})
	}
}

// hashDone takes back a hash that was computed, or not.
func (c *Core) hashDone(j *SnapshotJob) {
	c.store.CheckpointClosed()
	c.views = slices.DeleteFunc(c.views, func(x *ranges.StateHash) bool { return x == j.hash })
	c.trustRead(j)
	if h := c.hashOf(j.check); h != nil && h.state == peerpb.CheckUnderWay {
		switch {
		case j.err == nil:
			h.state, h.sum = peerpb.CheckDone, j.sum
		case ranges.Unreadable(j.err):
			h.state = peerpb.CheckUnreadable
			// Who asked may end before it has judged, and the engine says it once.
			c.doubt(j.check.Range)
			c.doubtAt = c.now.Add(doubtEvery)
		default:
			h.state = peerpb.CheckSkipped
		}
	}
	if k := c.under; k != nil && k.name == j.check {
		k.askAt = 0
	}
}

// Doubt says that bytes of the engine are damaged between two keys, or that nobody
// knows where: the ranges that have something there are checked.
func (c *Core) Doubt(first, last []byte) {
	if !c.many {
		return
	}
	for _, id := range c.store.IDs() {
		hit := len(last) == 0
		for _, sp := range keys.Tables(c.store.Replica(id).Descriptor().Span()) {
			hit = hit || bytes.Compare(sp.Start, last) <= 0 && (sp.End == nil || bytes.Compare(first, sp.End) < 0)
		}
		if hit {
			c.doubt(id)
		}
	}
}

// doubt has a range checked, whoever leads it, as often as it takes.
func (c *Core) doubt(id metapb.RangeID) {
	if !slices.Contains(c.doubts, id) {
		c.doubts = append(c.doubts, id)
		c.doubtAt = 0
	}
}

// tickDoubts asks for checks.
func (c *Core) tickDoubts() {
	if len(c.doubts) == 0 || c.now.Before(c.doubtAt) {
		return
	}
	c.doubtAt = c.now.Add(doubtEvery)
	c.doubts = slices.DeleteFunc(c.doubts, func(id metapb.RangeID) bool { return !c.store.Shown(id) })
	for _, id := range c.doubts {
		if c.leads(id) {
			c.wantCheck(checkWant{id: id})
		} else if hint, ok := c.leaderOf(id); ok && hint.store != c.cfg.StoreID {
			c.sayCheck(hint.store, peerpb.CheckMessage{Kind: peerpb.CheckWanted, Range: id})
		}
	}
}

// compareReplicas orders replicas by range, then id.
func compareReplicas(a metapb.RangeID, x metapb.ReplicaID, b metapb.RangeID, y metapb.ReplicaID) int {
	return cmp.Or(cmp.Compare(a, b), cmp.Compare(x, y))
}
