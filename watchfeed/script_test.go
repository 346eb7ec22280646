package watchfeed

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// script drives a core by hand. Its ranges are named by id; a put of a script is
// "key=value@revision", a delete "key@revision".
type script struct {
	t         *testing.T
	eng       *engine.Mem
	core      *Core
	step      Step // is collected until "step"
	versions  map[string]int64
	streams   map[string]StreamID
	names     map[StreamID]string
	left      map[StreamID]int // responses that are not taken
	scans     []Scan
	compacted Revision
	now       clock.Time
}

func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		var s *script
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "new" {
				s = newScript(t, d)
				return ""
			}
			if err := s.do(d); err != nil {
				return err.Error() + "\n"
			}
			return s.ready()
		})
	})
}

func newScript(t *testing.T, d *datadriven.TestData) *script {
	s := &script{
		t: t, eng: engine.NewMem(), versions: map[string]int64{}, streams: map[string]StreamID{},
		names: map[StreamID]string{}, left: map[StreamID]int{}, compacted: -1,
	}
	ring := 1 << 20
	d.MaybeScanArgs(t, "ring", &ring)
	core, err := NewCore(CoreConfig{Reader: s.eng, RingBytesMax: ring, ProgressInterval: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	s.core = core
	return s
}

func (s *script) do(d *datadriven.TestData) error {
	var stream string
	var id int64
	if len(d.CmdArgs) > 0 {
		stream = d.CmdArgs[0].Key
	}
	switch d.Cmd {
	case "step":
		return s.doStep(d)
	case "open":
		cfg := StreamConfig{}
		d.MaybeScanArgs(s.t, "responses", &cfg.QueueResponsesMax)
		cfg.RequireLeader = d.HasArg("leader")
		id, err := s.core.Open(cfg)
		s.streams[stream], s.names[id] = id, stream
		return err
	case "create":
		s.create(d, stream)
	case "cancel":
		d.ScanArgs(s.t, "id", &id)
		s.core.Cancel(s.streams[stream], id)
	case "close":
		s.core.Close(s.streams[stream])
	case "current":
		s.core.Current(Revision(number(d.CmdArgs[0].Key)))
	case "progress":
		s.core.RequestProgress(s.streams[stream], s.core.current)
	case "take":
		s.left[s.streams[stream]] = 0
		s.core.Drained(s.streams[stream], 0, 0)
	case "tick":
		after, err := time.ParseDuration(d.CmdArgs[0].Key)
		s.now = s.now.Add(after)
		s.core.Tick(s.now)
		return err
	case "scan":
		if len(s.scans) == 0 {
			return errors.New("no scan is wanted")
		}
		at := 0
		if d.HasArg("key") {
			var key string
			d.ScanArgs(s.t, "key", &key)
			if at = slices.IndexFunc(s.scans, func(sc Scan) bool { return string(sc.Start) == strings.TrimPrefix(key, "-") }); at < 0 {
				return fmt.Errorf("no scan of %q is wanted", key)
			}
		}
		sc := s.scans[at]
		s.scans = slices.Delete(s.scans, at, at+1)
		res := sc.Do(s.eng, func() Revision { return s.compacted }, nil)
		if d.HasArg("fails") {
			res = Scanned{ID: sc.ID, Removed: -1, Err: errors.New("nobody leads the range")}
		}
		s.core.Scanned(&res)
	case "state":
	case "feeds":
		return s.doFeeds(d)
	default:
		s.t.Fatalf("unknown command %s", d.Cmd)
	}
	return nil
}

func (s *script) create(d *datadriven.TestData, stream string) {
	req := CreateRequest{PrevKV: d.HasArg("prev"), NoPut: d.HasArg("noput"), NoDelete: d.HasArg("nodelete"), Progress: d.HasArg("notify")}
	var key, end string
	d.ScanArgs(s.t, "key", &key)
	d.MaybeScanArgs(s.t, "end", &end)
	d.ScanArgs(s.t, "id", &req.ID)
	d.MaybeScanArgs(s.t, "start", &req.Start)
	req.Key = []byte(key)
	if end != "" {
		req.End = []byte(strings.TrimPrefix(end, "inf"))
	}
	s.core.Create(s.streams[stream], &req, s.core.current)
}

// doStep reads lines "range 2 a z", "keyless 2", "apply 2 k=v@5", "bound 2 7", "lost 2" or "gone 2", and
// "put k=v@5" for what the hub is not told of.
func (s *script) doStep(d *datadriven.TestData) error {
	st := Step{Compacted: s.compacted, Current: s.core.current}
	d.MaybeScanArgs(s.t, "current", (*int64)(&st.Current))
	d.MaybeScanArgs(s.t, "compacted", (*int64)(&st.Compacted))
	d.MaybeScanArgs(s.t, "reached", (*int64)(&st.Reached))
	s.compacted = st.Compacted
	st.Asks = d.HasArg("asks") || s.core.asks
	b := s.eng.NewBatch()
	defer b.Close()
	for line := range strings.Lines(d.Input) {
		f := strings.Fields(line)
		if f[0] == "put" {
			s.write(b, s.update(f[1:]))
			continue
		}
		n, err := strconv.Atoi(f[1])
		if err != nil {
			return err
		}
		id := metapb.RangeID(n)
		switch f[0] {
		case "range":
			desc := &metapb.Descriptor{RangeId: uint64(id), Start: keys.User([]byte(strings.TrimPrefix(f[2], "-"))), Generation: 1}
			if f[3] != "inf" {
				desc.End = keys.User([]byte(f[3]))
			}
			st.Descriptors = append(st.Descriptors, desc)
			st.Bounds = append(st.Bounds, RangeBound{id, NoBound})
		case "keyless": // all that the range has is leases
			desc := &metapb.Descriptor{RangeId: uint64(id), Start: keys.Lease(0), End: keys.Lease(9), Generation: 2}
			st.Descriptors = append(st.Descriptors, desc)
			st.Bounds = append(st.Bounds, RangeBound{id, NoBound})
		case "apply":
			st.Applied = append(st.Applied, RangeUpdates{id, []*cmdpb.Update{s.update(f[2:])}})
			s.write(b, st.Applied[len(st.Applied)-1].Updates[0])
		case "bound":
			bound := NoBound
			if f[2] != "none" {
				v, err := strconv.ParseInt(f[2], 10, 64)
				if err != nil {
					return err
				}
				bound = Revision(v)
			}
			st.Bounds = slices.DeleteFunc(st.Bounds, func(b RangeBound) bool { return b.Range == id })
			st.Bounds = append(st.Bounds, RangeBound{id, bound})
		case "lost":
			st.Lost = append(st.Lost, id)
		case "gone":
			st.Removed = append(st.Removed, id)
		}
	}
	if err := s.eng.Commit(b, false); err != nil {
		return err
	}
	s.core.Step(&st)
	return nil
}

func (s *script) write(b engine.Batch, u *cmdpb.Update) {
	for _, m := range u.Mutations {
		mvcc.AppendMutation(b, Revision(u.Revision), m)
	}
}

// update reads "key=value@revision" or "key@revision", with "/sub" behind.
func (s *script) update(words []string) *cmdpb.Update {
	u := &cmdpb.Update{}
	for i, word := range words {
		change, at, _ := strings.Cut(word, "@")
		at, sub, _ := strings.Cut(at, "/")
		key, value, put := strings.Cut(change, "=")
		u.Revision, _ = strconv.ParseInt(at, 10, 64)
		m := &txnpb.Mutation{Key: []byte(key), Sub: uint32(i), Tombstone: !put}
		if n, err := strconv.Atoi(sub); err == nil {
			m.Sub = uint32(n)
		}
		if put {
			s.versions[key]++
			m.Value, m.Version, m.CreateRevision = []byte(value), s.versions[key], 1
		} else {
			s.versions[key] = 0
		}
		u.Mutations = append(u.Mutations, m)
	}
	return u
}

// ready shows what the core says and where it is.
func (s *script) ready() string {
	var out strings.Builder
	for again := true; again; again = s.core.HasWork() {
		rd := s.core.Ready()
		for i := range rd.Scans {
			sc := &rd.Scans[i]
			s.scans = append(s.scans, *sc)
			fmt.Fprintf(&out, "scan [%s, %s) (%d, %d]%s\n", sc.Start, sc.End, sc.From, sc.To, describeParts(sc.Parts))
		}
		if rd.Asks {
			out.WriteString("asks what is current\n")
		}
		for i := range rd.Feeds {
			out.WriteString(describeFeed(&rd.Feeds[i]))
		}
		for i := range rd.Outputs {
			o := &rd.Outputs[i]
			for j := range o.Responses {
				fmt.Fprintf(&out, "%s %s\n", s.names[o.Stream], describe(&o.Responses[j]))
			}
			s.left[o.Stream] += len(o.Responses)
			s.core.Drained(o.Stream, s.left[o.Stream], 0)
		}
	}
	groups := slices.Clone(s.core.groups)
	slices.SortFunc(groups, func(a, b *group) int { return cmp.Or(a.lo.pos-b.lo.pos, a.hi.pos-b.hi.pos) })
	for _, g := range groups {
		fmt.Fprintf(&out, "  group %d-%d released %d", g.lo.id, g.hi.id, g.released)
		for i, u := range g.held {
			out.WriteString([]string{" held ", ","}[min(i, 1)] + strconv.Itoa(int(u.rev)))
		}
		if g.unsure {
			out.WriteString(" unsure")
		}
		fmt.Fprintf(&out, " places %d\n", g.places.n)
	}
	if st := s.core.Stats(); st.Catching > 0 {
		fmt.Fprintf(&out, "  catching %d\n", st.Catching)
	}
	return out.String()
}

func describe(r *Response) string {
	name := []string{"created", "canceled", "compacted", "no leader", "events", "progress", "progress", "left"}[r.Kind]
	out := fmt.Sprintf("%d %s at %d", r.ID, name, r.Revision)
	if r.Kind == Compacted {
		out = fmt.Sprintf("%d compacted: %d", r.ID, r.CompactRevision)
	}
	for _, ev := range r.Events {
		out += " " + string(ev.Key)
		if !ev.Tombstone {
			out += "=" + string(ev.Value)
		}
		out += "@" + strconv.FormatInt(ev.Revision, 10)
		if r.PrevKV && ev.PrevKV != nil {
			out += "(was " + string(ev.PrevKV.Value) + ")"
		}
	}
	return out
}
