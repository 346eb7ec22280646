package lease

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// stage is one range with a table and, while it leads, an expirer; "split" gives
// it a right side.
type stage struct {
	table *Table
	index *Index
	exp   *Expirer
	right *stage
	now   clock.Time
	cfg   ExpirerConfig
}

func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		if strings.Contains(path, "golden") {
			return
		}
		span := metapb.Span{}
		s := &stage{table: NewTable(span), index: NewIndex(span), cfg: DefaultExpirerConfig(), now: clock.Time(time.Hour)}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			at := s
			if d.HasArg("right") {
				at = s.right
			}
			out := at.run(t, d)
			if s.right != nil {
				s.right.now = at.now
			}
			s.now = at.now
			if out == "" {
				return "ok\n"
			}
			return out
		})
	})
}

func arg(t *testing.T, d *datadriven.TestData, name string, otherwise int64) int64 {
	d.MaybeScanArgs(t, name, &otherwise)
	return otherwise
}

func (s *stage) run(t *testing.T, d *datadriven.TestData) string {
	id := ID(arg(t, d, "id", 0))
	switch d.Cmd {
	case "lead": // [per-second=n] [in-flight=n] [slow=n] [work=n]: a new term begins
		s.lead(t, d, nil)
	case "grant": // id=n ttl=s [to=id]
		for last := ID(arg(t, d, "to", int64(id))); id <= last; id++ {
			s.apply(t, &Record{ID: id, TTL: arg(t, d, "ttl", 10), Number: 1})
			if s.exp != nil {
				s.exp.Granted(id, arg(t, d, "ttl", 10), s.now)
			}
		}
	case "renew":
		ttl, err := s.exp.Renewed(id, s.now)
		if err != nil {
			return err.Error() + "\n"
		}
		return fmt.Sprintf("ttl=%d\n", ttl)
	case "revoked":
		s.apply(t, nil, DeleteRow(id))
		s.exp.Revoked(id)
	case "remaining":
		left, ok := s.exp.Remaining(id, s.now)
		return fmt.Sprintf("%v %t\n", left, ok)
	case "wait": // ms=n; ticks once, and again until there is nothing more
		s.now = s.now.Add(time.Duration(arg(t, d, "ms", 0)) * time.Millisecond)
		for s.exp.Tick(s.now) {
		}
		return s.ready()
	case "tick": // once
		return fmt.Sprintf("more=%t\n", s.exp.Tick(s.now))
	case "ready":
		return s.ready()
	case "done": // somebody else may have the lease by now
		s.exp.Done(id, nil)
	case "fail":
		s.exp.Done(id, errors.New("refused"))
	case "checkpoints":
		return s.checkpoints()
	case "checkpoint-done", "checkpoint-failed": // id=n remaining=s
		c := Checkpoint{ID: id, Remaining: arg(t, d, "remaining", 0)}
		if d.Cmd == "checkpoint-failed" {
			s.exp.CheckpointDone(c, errors.New("refused"))
			break
		}
		r, _ := s.table.Get(id)
		r.Remaining = c.Remaining
		s.apply(t, &r)
		s.exp.CheckpointDone(c, nil)
	default:
		return s.runTable(t, d, id)
	}
	return ""
}

func (s *stage) runTable(t *testing.T, d *datadriven.TestData, id ID) string {
	var key string
	d.MaybeScanArgs(t, "key", &key)
	switch d.Cmd {
	case "register": // id=n start=k end=k
		var start, end string
		d.MaybeScanArgs(t, "start", &start)
		d.MaybeScanArgs(t, "end", &end)
		r, _ := s.table.Get(id)
		changed := r.Register(keys.UserSpan([]byte(start), []byte(end)))
		s.apply(t, &r)
		return fmt.Sprintf("changed=%t\n", changed) + s.list()
	case "list":
		return s.list()
	case "attach":
		s.index.Attach([]byte(key), id)
	case "detach":
		s.index.Detach([]byte(key), id)
	case "keys":
		return fmt.Sprintf("%q\n", s.index.Keys(id))
	case "split": // id=n or key=k: where the right side begins
		right := metapb.Span{Start: keys.Lease(int64(id))}
		if key != "" {
			right.Start = keys.User([]byte(key))
		}
		s.right = &stage{table: s.table.Split(right), index: s.index.Split(right), now: s.now, cfg: s.cfg}
		if s.exp != nil {
			s.right.lead(t, d, s.exp)
		}
	case "sweep": // max=n
		n := int(arg(t, d, "max", 100))
		table, index := s.table.Sweep(n), s.index.Sweep(n)
		return fmt.Sprintf("more=%t,%t held=%d,%d\n", table, index, s.table.Len(), s.index.Len())
	default:
		d.Fatalf(t, "unknown command %s", d.Cmd)
	}
	return ""
}

func (s *stage) lead(t *testing.T, d *datadriven.TestData, from *Expirer) {
	cfg := s.cfg
	cfg.RevokesPerSecondMax = int(arg(t, d, "per-second", int64(cfg.RevokesPerSecondMax)))
	cfg.RevokesInFlightMax = int(arg(t, d, "in-flight", int64(cfg.RevokesInFlightMax)))
	cfg.RevokesSlowMax = int(arg(t, d, "slow", int64(cfg.RevokesSlowMax)))
	cfg.CheckpointsMax = int(arg(t, d, "checkpoints", int64(cfg.CheckpointsMax)))
	cfg.TickWorkMax = int(arg(t, d, "work", int64(cfg.TickWorkMax)))
	e, err := NewExpirer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.exp = e
	e.Begin(s.now, s.table, from)
}

func (s *stage) apply(t *testing.T, r *Record, rows ...*cmdpb.Row) {
	if r != nil {
		rows = append(rows, r.Row())
	}
	if err := s.table.Apply(rows); err != nil {
		t.Fatal(err)
	}
}

func (s *stage) ready() string {
	var b strings.Builder
	for _, due := range s.exp.Ready() {
		fmt.Fprintf(&b, "revoke %d, late by %v\n", due.ID, s.now.Sub(due.Deadline))
	}
	st := s.exp.Stats()
	fmt.Fprintf(&b, "leases=%d due=%d revoking=%d", st.Leases, st.Due, st.Revoking)
	if next, ok := s.exp.Next(); ok {
		fmt.Fprintf(&b, " next in %v", next.Sub(s.now).Round(time.Millisecond))
	}
	return b.String() + "\n"
}

func (s *stage) checkpoints() string {
	var b strings.Builder
	for _, c := range s.exp.Checkpoints(s.now) {
		fmt.Fprintf(&b, "checkpoint %d: %d s\n", c.ID, c.Remaining)
	}
	return b.String()
}

func (s *stage) list() string {
	var b strings.Builder
	s.table.Ascend(0, func(r Record) bool {
		fmt.Fprintf(&b, "%d: ttl=%d number=%d remaining=%d", r.ID, r.TTL, r.Number, r.Remaining)
		for _, span := range r.Spans {
			fmt.Fprintf(&b, " [%q, %q)", span.Start, span.End)
		}
		b.WriteByte('\n')
		return true
	})
	return b.String()
}
