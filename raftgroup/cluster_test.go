package raftgroup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/raft/v3"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
)

const testRange = metapb.RangeID(7)

// cluster is the replicas of one range, each on a store of its own, with every
// step of message, disk and crash in the hand of the test. It holds what must
// be true of any run, and says so by errors.
type cluster struct {
	replicas []*testReplica // replicas[i] has id i+1
	net      []*Message     // under way, oldest first
	lying    bool           // plant a bug: report writes as durable that are not

	truth   map[uint64]Entry // by index: what any replica applied
	confs   map[uint64]Conf  // by index: what any replica made of a change
	wants   []wantedSnapshot
	leaders map[uint64]metapb.ReplicaID // by term
}

type testReplica struct {
	id    metapb.ReplicaID
	eng   *engine.Mem
	g     *Group // nil while crashed
	token Token  // the newest that waits for a sync
	empty bool   // it has no group yet: it waits for a snapshot
}

// wantedSnapshot is one that a leader said is needed; once taken, what is in it.
type wantedSnapshot struct {
	leader *testReplica
	group  *Group
	to     metapb.ReplicaID
	taken  bool
	start  Start
}

// refuses says which changes of configuration the test's state machine refuses.
func refuses(index uint64) bool { return index%5 == 4 }

func newCluster(n int) (*cluster, error) {
	c := &cluster{
		truth: make(map[uint64]Entry), confs: make(map[uint64]Conf), leaders: make(map[uint64]metapb.ReplicaID),
	}
	var ids []metapb.ReplicaID
	for i := range n {
		ids = append(ids, metapb.ReplicaID(i+1))
	}
	for _, id := range ids {
		r := &testReplica{id: id, eng: engine.NewMem()}
		b := r.eng.NewBatch()
		if err := Bootstrap(b, testRange, ids); err != nil {
			return nil, err
		}
		putApplied(b, InitialIndex)
		if err := r.eng.Commit(b, true); err != nil {
			return nil, err
		}
		c.replicas = append(c.replicas, r)
		if err := c.start(r); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// add makes room for a replica that is yet to come.
func (c *cluster) add() *testReplica {
	r := &testReplica{id: metapb.ReplicaID(len(c.replicas) + 1), eng: engine.NewMem(), empty: true}
	c.replicas = append(c.replicas, r)
	return r
}

// mustCluster returns a cluster of three, and what ends the test at an error.
func mustCluster(t *testing.T) (*cluster, func(error)) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	c, err := newCluster(3)
	must(err)
	return c, must
}

// take takes the leader's state for a snapshot, as its engine has it.
func (c *cluster) take(w *wantedSnapshot) (err error) {
	index, err := getApplied(w.leader.eng)
	if err != nil {
		return err
	}
	if err := w.group.BeginSnapshot(w.to, index); err != nil {
		return err
	}
	w.taken = true
	w.start.Index = index
	if w.start.Term, err = w.group.log.Term(index); err != nil {
		return err
	}
	w.start.Conf, err = ReadConf(w.leader.eng, testRange)
	return err
}

// install brings a replica to a snapshot, unless it is there.
func (c *cluster) install(w *wantedSnapshot) error {
	r := c.at(w.to)
	switch {
	case !w.start.Conf.Has(w.to):
		return nil
	case r.g == nil && !r.empty:
		return errors.New("the receiver is down")
	case r.g != nil && (r.g.AppliedIndex() >= w.start.Index || r.g.Has(w.start.Index, w.start.Term)):
		return nil // it may have confirmed what is behind the snapshot
	case r.g != nil:
		st, err := ReadState(r.eng, testRange)
		if err != nil {
			return err
		}
		w.start.HardTerm, w.start.Vote = st.Term, st.Vote
	}
	rows, err := StartRows(testRange, w.start)
	if err != nil {
		return err
	}
	b := r.eng.NewBatch()
	span := keys.LocalSpan(testRange)
	b.DeleteRange(span.Start, span.End)
	for _, row := range rows {
		b.Set(row.Key, row.Value)
	}
	putApplied(b, w.start.Index)
	if err := r.eng.Commit(b, true); err != nil {
		return err
	}
	r.empty, r.token = false, 0
	return c.start(r)
}

// end tells a leader, if it is still there, how it went.
func (w *wantedSnapshot) end(ok bool) error {
	if w.leader.g != w.group {
		return nil
	}
	return w.group.EndSnapshot(w.to, ok)
}

// Send implements Transport: frames are taken apart, since every message may
// have its own fate.
func (c *cluster) Send(f Frame) {
	for _, m := range f.Messages {
		c.net = append(c.net, m.Message)
	}
}

func (c *cluster) at(id metapb.ReplicaID) *testReplica { return c.replicas[id-1] }

func putApplied(b engine.Batch, index uint64) {
	b.Set(keys.AppliedState(testRange), binary.BigEndian.AppendUint64(nil, index))
}

func getApplied(r engine.Reader) (uint64, error) {
	v, closer, err := r.Get(keys.AppliedState(testRange))
	if err != nil {
		return 0, err
	}
	defer closer.Close()
	return binary.BigEndian.Uint64(v), nil
}

func (c *cluster) start(r *testReplica) (err error) {
	if r.empty {
		return nil
	}
	cfg := Config{RangeID: testRange, ReplicaID: r.id, MessageBytesMax: 300, LogCacheBytesMax: 200, InflightMessagesMax: 4}
	if cfg.AppliedIndex, err = getApplied(r.eng); err != nil {
		return err
	}
	r.g, err = New(cfg, r.eng)
	return err
}

// crash takes a replica down; of its unsynced commits the oldest keep(n) stay.
func (c *cluster) crash(r *testReplica, keep func(int) int) {
	r.eng, r.g, r.token = r.eng.Crash(keep), nil, 0
}

// ready lets a replica do one Ready: write, send, apply; but not sync. It
// returns what happened, line by line.
func (c *cluster) ready(r *testReplica) (string, error) {
	var out strings.Builder
	before := r.g.log.last.index
	b := r.eng.NewBatch()
	rd, err := r.g.Ready(b)
	if err != nil {
		return "", err
	}
	if rd.Changed {
		fmt.Fprintf(&out, "term %d leader %d\n", rd.Term, rd.Leader)
	}
	if rd.Leader == r.id {
		if other, ok := c.leaders[rd.Term]; ok && other != r.id {
			return "", fmt.Errorf("replicas %d and %d lead in term %d", other, r.id, rd.Term)
		}
		c.leaders[rd.Term] = r.id
	}
	if rd.Token != 0 {
		fmt.Fprintf(&out, "write #%d: log (%d, %d] -> (%d, %d]\n", rd.Token,
			r.g.log.truncated.index, before, r.g.log.truncated.index, r.g.log.last.index)
		r.token = rd.Token
	}
	if err := r.eng.Commit(b, false); err != nil {
		return "", err
	}
	for _, to := range rd.Snapshots {
		fmt.Fprintf(&out, "snapshot wanted by %d\n", to)
		c.wants = append(c.wants, wantedSnapshot{leader: r, group: r.g, to: to})
	}
	box := NewOutbox(metapb.StoreID(r.id))
	for _, m := range rd.Messages {
		fmt.Fprintf(&out, "send %s\n", describe(m))
		box.Add(metapb.StoreID(m.GetTo()), testRange, m)
	}
	box.Flush(c)
	if c.lying && r.token != 0 {
		if err := r.g.Synced(r.token); err != nil {
			return "", err
		}
		r.token = 0
	}
	err = c.apply(r, rd.Committed, &out)
	return out.String(), err
}

func (c *cluster) apply(r *testReplica, committed []Entry, out *strings.Builder) error {
	for _, e := range committed {
		if e.Index != r.g.AppliedIndex()+1 {
			return fmt.Errorf("replica %d applies %d after %d", r.id, e.Index, r.g.AppliedIndex())
		}
		what := "apply"
		if e.Type == EntryConfChange {
			what = "apply conf"
		}
		fmt.Fprintf(out, "%s %d/%d %q\n", what, e.Term, e.Index, e.Data)
		if was, ok := c.truth[e.Index]; ok && (was.Term != e.Term || string(was.Data) != string(e.Data)) {
			return fmt.Errorf("replica %d applies %d/%d %q, another applied %d %q",
				r.id, e.Term, e.Index, e.Data, was.Term, was.Data)
		}
		c.truth[e.Index] = e
		b := r.eng.NewBatch()
		putApplied(b, e.Index)
		if e.Type == EntryConfChange && !refuses(e.Index) {
			conf, err := r.g.ApplyConf(b, e)
			if err != nil {
				return err
			}
			if was, ok := c.confs[e.Index]; ok && !was.Equal(conf) {
				return fmt.Errorf("replica %d is at %v after %d, another at %v", r.id, conf, e.Index, was)
			}
			c.confs[e.Index] = conf
			fmt.Fprintf(out, "conf %v\n", conf)
		}
		if err := r.eng.Commit(b, false); err != nil {
			return err
		}
		if err := r.g.Applied(e.Index); err != nil {
			return err
		}
	}
	return nil
}

// sync makes everything that a replica wrote durable and says so.
func (c *cluster) sync(r *testReplica) error {
	if err := r.eng.Commit(r.eng.NewBatch(), true); err != nil {
		return err
	}
	if r.token == 0 {
		return nil
	}
	token := r.token
	r.token = 0
	return r.g.Synced(token)
}

// deliver hands over the i-th message under way, or loses it with its receiver.
func (c *cluster) deliver(i int) error {
	m := c.net[i]
	c.net = append(c.net[:i:i], c.net[i+1:]...)
	to := c.at(metapb.ReplicaID(m.GetTo()))
	if to.empty {
		if answer := EmptyAnswer(m); answer != nil {
			c.net = append(c.net, answer)
		}
		return nil
	}
	if to.g == nil {
		return nil
	}
	return to.g.Step(m)
}

// settle runs everything that is up until nothing is left to do.
func (c *cluster) settle() error {
	for range 10_000 {
		busy := false
		for _, r := range c.replicas {
			for r.g != nil && (r.g.HasReady() || r.token != 0) {
				busy = true
				if _, err := c.ready(r); err != nil {
					return err
				}
				if err := c.sync(r); err != nil {
					return err
				}
			}
		}
		for len(c.net) > 0 {
			busy = true
			if err := c.deliver(0); err != nil {
				return err
			}
		}
		if !busy {
			return nil
		}
	}
	return errors.New("the replicas never settle")
}

// checkLogs compares the logs of all engines: where two hold an entry of the
// same index and term, everything before it is the same (Raft's log matching).
func (c *cluster) checkLogs() error {
	logs := make([]map[uint64]Entry, len(c.replicas))
	var top uint64
	for i, r := range c.replicas {
		logs[i] = make(map[uint64]Entry)
		next := uint64(0)
		err := ReadLog(r.eng, testRange, 0, func(row LogRow) error {
			if row.Err != nil {
				return row.Err
			}
			if next != 0 && row.Index != next {
				return fmt.Errorf("replica %d: entry %d follows %d", r.id, row.Index, next-1)
			}
			next = row.Index + 1
			top = max(top, row.Index)
			row.Data = []byte(string(row.Data))
			logs[i][row.Index] = row.Entry
			return nil
		})
		if err != nil {
			return err
		}
	}
	for i := range logs {
		for j := range i {
			same := false
			for index := top; index > 0; index-- {
				a, okA := logs[i][index]
				b, okB := logs[j][index]
				if !okA || !okB {
					continue
				}
				same = same || a.Term == b.Term
				if same && (a.Term != b.Term || string(a.Data) != string(b.Data)) {
					return fmt.Errorf("logs of %d and %d differ at %d below a match: %v, %v", i+1, j+1, index, a, b)
				}
			}
		}
	}
	return nil
}

func describe(m *Message) string {
	return raft.DescribeMessage(m, func(data []byte) string { return fmt.Sprintf("%q", data) })
}
