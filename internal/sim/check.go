package sim

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/internal/model"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// checker holds a history against the model. Revisions give the order of the
// writes, so nothing has to be searched for, but who made those whose client got
// no answer, and what was compacted at the moment of an answer.
type checker struct {
	h *history
	// revs are the revisions with effects, states what the model holds after each,
	// nothing compacted.
	revs   []int64
	states []*model.State
	first  *model.State

	owners   map[int64]*op // by the revision in its answer
	unknown  []*op         // may own one of the rest
	guesses  []*guess      // that it owns one
	compacts []*op         // answered or unknown
	proofs   leaseProofs
	limits   model.Limits
	drift    float64
	several  bool // nodes
}

// check checks everything about a run that is quiet.
func (s *Sim) check() error {
	first, err := model.New(s.cfg.Traffic.Limits)
	if err != nil {
		return err
	}
	c := &checker{h: s.hist, first: first, owners: make(map[int64]*op), limits: s.cfg.Traffic.Limits, drift: s.cfg.Swarm.Drift, several: len(s.nodes) > 1 || s.grown}
	for _, step := range []func() error{c.sort, c.collectProofs, c.replay, c.answers, c.checkLeases} {
		if err := step(); err != nil {
			return err
		}
	}
	s.stats.Writes = len(c.revs)
	for _, o := range s.hist.ops {
		switch o.fate {
		case fateUnknown:
			s.stats.Unknown++
		case fateRefused:
			s.stats.Refused++
		}
	}
	if err := s.checkOrder(c); err != nil {
		return err
	}
	for _, n := range s.nodes {
		if n.away() {
			continue
		}
		if err := s.checkStore(c, n); err != nil {
			return err
		}
	}
	return s.checkWatches(c)
}

// checkWatches holds what watchers were given against what happened. Watches that
// are open have everything.
func (s *Sim) checkWatches(c *checker) error {
	current := s.current
	last := c.at(current)
	for _, w := range s.watchers {
		for _, x := range w.all {
			x.rec.Complete = current
		}
	}
	for _, x := range s.watched {
		if x.rec.Watch.Start == 0 {
			continue // it was never created
		}
		if err := model.CheckWatch(last, x.rec); err != nil {
			return err
		}
	}
	return nil
}

// sort finds whose the answered revisions are.
func (c *checker) sort() error {
	for rev := range c.h.effects {
		c.revs = append(c.revs, rev)
	}
	slices.Sort(c.revs)
	for _, o := range c.h.ops {
		if _, ok := o.req.(*pb.CompactionRequest); ok && o.fate != fateRefused && o.err == nil {
			c.compacts = append(c.compacts, o)
		}
		switch {
		case o.fate == fateUnknown && writes(o.req):
			c.unknown = append(c.unknown, o)
		case o.fate == fateAnswered && o.err == nil && changed(o.resp):
			rev := headerOf(o.resp)
			if other := c.owners[rev]; other != nil {
				return fmt.Errorf("revision %d was given to #%d and to #%d", rev, other.number, o.number)
			}
			if c.h.effects[rev] == nil {
				return fmt.Errorf("#%d was acknowledged at revision %d, which was never applied: %s", o.number, rev, describe(o.req))
			}
			c.owners[rev] = o
		}
	}
	return nil
}

func writes(req any) bool {
	switch req.(type) {
	case *pb.PutRequest, *pb.DeleteRangeRequest, *pb.TxnRequest:
		return true
	}
	return false
}

// replay steps the model through all writes.
func (c *checker) replay() error {
	state := c.first
	for _, rev := range c.revs {
		next, err := c.write(state.Skip(rev-1), rev)
		if err != nil {
			return err
		}
		c.states = append(c.states, next)
		state = next
	}
	return nil
}

// write is the write at one revision.
func (c *checker) write(before *model.State, rev int64) (*model.State, error) {
	effects := c.h.effects[rev]
	if o := c.owners[rev]; o != nil {
		if rev <= o.low {
			return nil, fmt.Errorf("#%d got revision %d, but %d was acknowledged before it began", o.number, rev, o.low)
		}
		next, why := c.tryWrite(before, o, effects)
		if next == nil {
			return nil, fmt.Errorf("#%d at revision %d, %s: %s", o.number, rev, describe(o.req), why)
		}
		return next, nil
	}
	next, why := c.tryEnd(before, rev, effects)
	if next != nil {
		return next, nil
	}
	if next := c.give(ownerless{rev, before, effects}, make(map[*op]bool)); next != nil {
		return next, nil
	}
	if why != nil {
		return nil, why
	}
	return nil, fmt.Errorf("revision %d has effects that nobody asked for: %v", rev, effects)
}

// tryWrite is the model's state after a write, or why it cannot have been that
// one.
func (c *checker) tryWrite(before *model.State, o *op, effects []*txnpb.Mutation) (*model.State, string) {
	var all []string
	for _, compacted := range c.compactions(o) {
		next, why := tryWriteAt(before.WithCompacted(compacted), o, effects)
		if next != nil {
			return next.WithCompacted(-1), ""
		}
		all = append(all, fmt.Sprintf("compacted at %d, %s", compacted, why))
	}
	return nil, strings.Join(all, "; ")
}

func tryWriteAt(before *model.State, o *op, effects []*txnpb.Mutation) (next *model.State, why string) {
	next, resp, err := model.Step(before.WithLeases(leasesIn(o.req)...), o.req)
	switch {
	case err != nil:
		return nil, "the model refuses it: " + err.Error()
	case next.Revision() == before.Revision():
		return nil, "it changes nothing in the model"
	case o.fate == fateAnswered:
		if why = model.Equal(o.req, o.resp, resp, nil, nil); why != "" {
			return nil, why
		}
	}
	if why = sameEffects(next, next.Revision(), effects); why != "" {
		return nil, why
	}
	return next, ""
}

// sameEffects compares what was applied with what the model changed.
func sameEffects(s *model.State, rev int64, effects []*txnpb.Mutation) string {
	events := s.Events(rev-1, rev)
	if len(events) != len(effects) {
		return fmt.Sprintf("%d changes were applied, the model has %d", len(effects), len(events))
	}
	for i, e := range events {
		m := effects[i]
		same := e.Sub == int64(m.Sub) && bytes.Equal(e.Key, m.Key) && (e.KV == nil) == m.Tombstone
		if same && e.KV != nil {
			same = e.KV.CreateRevision == m.CreateRevision && e.KV.Version == m.Version && bytes.Equal(e.KV.Value, m.Value) &&
				e.KV.Lease == m.Lease
		}
		if !same {
			return fmt.Sprintf("applied %v, the model has %v of %q", m, e.KV, e.Key)
		}
	}
	return ""
}

// compactions are the compacted revisions that may have held during a request.
func (c *checker) compactions(o *op) []int64 {
	low := int64(-1)
	for _, k := range c.compacts {
		if k.fate == fateAnswered && k.ended < o.begun {
			low = max(low, k.req.(*pb.CompactionRequest).Revision)
		}
	}
	of := []int64{low}
	for _, k := range c.compacts {
		rev := k.req.(*pb.CompactionRequest).Revision
		if k != o && rev > low && (o.ended == 0 || k.begun < o.ended) {
			of = append(of, rev)
		}
	}
	slices.Sort(of)
	return slices.Compact(of)
}

// at is the model's state at a revision.
func (c *checker) at(rev int64) *model.State {
	i := sort.Search(len(c.revs), func(i int) bool { return c.revs[i] > rev })
	if i == 0 {
		return c.first.Skip(rev)
	}
	return c.states[i-1].Skip(rev)
}

// answers checks everything that changed nothing.
func (c *checker) answers() error {
	for _, o := range c.h.ops {
		if o.fate != fateAnswered || (o.err == nil && changed(o.resp)) {
			continue
		}
		if err := c.answer(o); err != nil {
			return fmt.Errorf("#%d %s: %w", o.number, describe(o.req), err)
		}
	}
	return nil
}

func (c *checker) answer(o *op) error {
	if aboutLeases(o.req) {
		return c.leaseAnswer(o)
	}
	low := o.low
	if c.several && mayBeOld(o.req) {
		low = 1
	}
	if o.err == nil {
		rev := headerOf(o.resp)
		if rev < low || rev > o.high {
			return fmt.Errorf("it shows revision %d, outside of [%d, %d]", rev, low, o.high)
		}
		if why := c.tryRead(o, rev); why != "" {
			return fmt.Errorf("at revision %d %s", rev, why)
		}
		return nil
	}
	if _, ok := o.req.(model.Stream); ok && errors.Is(o.err, rpctypes.ErrGRPCCompacted) {
		// A stream of the newest is cut off when what it began to read is compacted.
		if of := c.compactions(o); of[len(of)-1] > o.low {
			return nil
		}
	}
	why := ""
	for _, rev := range revisionsIn(low, o.high) {
		if why = c.tryRead(o, rev); why == "" {
			return nil
		}
	}
	return fmt.Errorf("error %w fits no state from %d to %d: %s", o.err, low, o.high, why)
}

// mayBeOld reports whether a request may be answered from what its node has, which
// with several nodes may be long behind: when nobody can be asked, or nobody answers.
func mayBeOld(req any) bool {
	switch r := req.(type) {
	case *pb.RangeRequest:
		return r.Serializable
	case model.Stream:
		return r.Range.Serializable
	case *pb.TxnRequest:
		return mvcc.IsSerializable(r)
	}
	return false
}

// revisionsIn are all revisions from low to high, also those that nothing took: each of them may
// have been current. An error is mostly of the newest, which comes first.
func revisionsIn(low, high int64) (revs []int64) {
	for rev := high; rev >= low; rev-- {
		revs = append(revs, rev)
	}
	return revs
}

// tryRead says why the model does not give a request's answer at a revision.
func (c *checker) tryRead(o *op, rev int64) (why string) {
	state := c.at(rev)
	for _, compacted := range c.compactions(o) {
		if o.err == rpctypes.ErrGRPCLeaseNotFound && c.refusedFor(state.WithCompacted(compacted), o) {
			return ""
		}
		next, resp, err := model.Step(state.WithCompacted(compacted).WithLeases(leasesIn(o.req)...), o.req)
		if err == nil && next.Revision() != state.Revision() {
			why = "it would change something"
			continue
		}
		if why = model.Equal(o.req, o.resp, nilIfError(resp, err), o.err, err); why == "" {
			return ""
		}
	}
	return why
}

func nilIfError(m proto.Message, err error) proto.Message {
	if err != nil {
		return nil
	}
	return m
}

// checkOrder looks for what only a fault may cost where there was none: a revision that
// nobody has, and a request that was not answered.
func (s *Sim) checkOrder(c *checker) error {
	if !s.inOrder() {
		return nil
	}
	s.stats.Orderly++
	answered := s.stats.Stops == s.stats.Drained // who stops without a drain sends some away
	for _, o := range c.h.ops {
		if answered && o.cause != nil && o.err == nil {
			return fmt.Errorf("#%d %s: %w, and nothing crashed", o.number, describe(o.req), o.cause)
		}
	}
	last := int64(1)
	for _, rev := range c.revs {
		if rev != last+1 {
			return fmt.Errorf("revisions %d to %d are missing, and nothing crashed", last+1, rev-1)
		}
		last = rev
	}
	return nil
}

// inOrder reports whether there was no fault: nothing crashed, and no transaction may have
// waited for longer than its hold.
func (s *Sim) inOrder() bool {
	slow := s.cfg.SyncMax+s.cfg.SyncStall > orderly
	if len(s.nodes) > 1 {
		slow = slow || s.cfg.Network.DelayMax > orderly || s.cfg.Network.LossPerMille > 0 || s.stats.Cuts+s.stats.Freezes > 0 ||
			s.cfg.Swarm.SlowEvery > 0 || s.stats.Transfers > 0 || s.stats.Stops > s.stats.Drained ||
			s.cfg.Planner.First > 0 && s.cfg.Operator == (OperatorConfig{}) || // which transfers leaders too
			// A transaction takes a trip to each range, one after the other, with what it
			// has locked of those before.
			time.Duration(len(s.hist.generations))*(2*s.cfg.Network.DelayMax+s.cfg.SyncMax) > s.holdMin()
	}
	return !(slow || s.grown || s.stats.Crashes > 0 || s.cfg.StallEvery > 0 || s.cfg.FullEvery > 0 ||
		s.cfg.Ranges.LockAgeMax < orderly*10 || s.cfg.Ranges.IntentAgeMax < orderly*10)
}

func compareKeys(a, b []byte) int { return cmp.Compare(string(a), string(b)) }
