package placement

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// sysScript has a leader, which evaluates and applies, and a follower, which
// only applies. Both must know the same.
type sysScript struct {
	leader, follower *System
	log              [][]*cmdpb.Row // evaluated, not applied
}

func TestSystemScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/system", func(t *testing.T, path string) {
		sc := &sysScript{leader: NewSystem(), follower: NewSystem()}
		rows, err := InitialRows(InitialFacts{ClusterID: 77, NextRange: 3, NextNode: 2, NextStore: 2, Version: "3.7.0"})
		if err != nil {
			t.Fatal(err)
		}
		sc.leader.Apply(rows)
		sc.follower.Apply(rows)
		datadriven.RunTest(t, path, sc.run)
	})
}

func (sc *sysScript) run(t *testing.T, d *datadriven.TestData) string {
	switch d.Cmd {
	case "compact":
		return sc.evaluate(&CompactOp{Revision: metapb.Revision(num(t, d, "rev")), Current: metapb.Revision(num(t, d, "current"))})
	case "ids":
		return sc.evaluate(&AllocIDsOp{Kind: IDKind(num(t, d, "kind")), N: num(t, d, "n")})
	case "alarm":
		return sc.evaluate(&AlarmOp{Activate: d.HasArg("on"), Alarm: Alarm{
			Type: pb.AlarmType(num(t, d, "type")), Member: metapb.NodeID(num(t, d, "member"))}})
	case "corrupt":
		return sc.evaluate(&CorruptOp{Range: metapb.RangeID(num(t, d, "range")), Replica: metapb.ReplicaID(num(t, d, "replica")),
			Member: metapb.NodeID(num(t, d, "member")), Undecided: d.HasArg("undecided")})
	case "ceiling":
		return sc.evaluate(&CeilingOp{
			Epoch: uint64(num(t, d, "epoch")), Number: uint64(num(t, d, "number")),
			Ceiling: metapb.Revision(num(t, d, "to")), Exact: d.HasArg("exact"), EndOneStore: d.HasArg("end-one-store")})
	case "version":
		return sc.evaluate(&ClusterVersionOp{Version: "3.8.0"})
	case "format":
		return sc.evaluate(&FormatOp{Format: metapb.Format(num(t, d, "to"))})
	case "report":
		return sc.evaluate(&DirectoryOp{Descriptors: parseDescs(d.Input)})
	case "join":
		return sc.evaluate(&JoinOp{Name: text(d, "name"), Nonce: uint64(num(t, d, "nonce")),
			PeerURLs: strings.Fields(text(d, "peer")), ClientURLs: strings.Fields(text(d, "client"))})
	case "announce":
		return sc.evaluate(&AnnounceOp{Member: Member{Node: metapb.NodeID(num(t, d, "node")), Store: metapb.StoreID(num(t, d, "store")), Nonce: uint64(num(t, d, "nonce")),
			Name: text(d, "name"), PeerURLs: strings.Fields(text(d, "peer")), ClientURLs: strings.Fields(text(d, "client")), GossipAddr: text(d, "gossip")}})
	case "member":
		return sc.evaluate(&MemberOp{Node: node(d), Remove: d.HasArg("remove"), PeerURLs: strings.Fields(text(d, "peer"))})
	case "live":
		stores := strings.Fields(text(d, "stores"))
		sc.leader.SetLives(func(id metapb.StoreID) bool { return slices.Contains(stores, fmt.Sprint(id)) }, d.HasArg("planned"))
		return ""
	case "reads":
		format := metapb.Format(num(t, d, "format"))
		stores := strings.Fields(text(d, "stores"))
		sc.leader.SetReads(func(id metapb.StoreID) metapb.Format {
			if slices.Contains(stores, fmt.Sprint(id)) {
				return format
			}
			return 0
		})
		return ""
	case "members":
		return sc.evaluate(&MembersOp{})
	case "unknown":
		return sc.evaluate(struct{}{})
	case "apply":
		for _, rows := range sc.log {
			sc.leader.Apply(rows)
			sc.follower.Apply(rows)
		}
		sc.log = nil
		return sc.show(t)
	case "lose-leadership":
		sc.log = nil
		sc.leader.Reset()
		return sc.show(t)
	}
	d.Fatalf(t, "unknown command %s", d.Cmd)
	return ""
}

func (sc *sysScript) evaluate(op any) string {
	rows, reply, err := sc.leader.Evaluate(op)
	if err != nil {
		return err.Error() + "\n"
	}
	sc.log = append(sc.log, rows)
	var b strings.Builder
	for _, row := range rows {
		fmt.Fprintf(&b, "row %s deleted=%v %d bytes\n", keys.FormatAddress(row.Address), row.Deleted, len(row.Value))
	}
	fmt.Fprintf(&b, "%T%+v\n", reply, reply)
	return b.String()
}

func (sc *sysScript) show(t *testing.T) string {
	s := showSystem(sc.leader)
	if f := showSystem(sc.follower); f != s {
		t.Errorf("the follower knows\n%s\nthe leader\n%s", f, s)
	}
	return s
}

func showSystem(s *System) string {
	var b strings.Builder
	fmt.Fprintf(&b, "cluster=%d compacted=%d ceiling=%d one-store=%v version=%s alarms=%v\n",
		s.ClusterID(), s.Compacted(), s.Ceiling(), s.OneStore(), s.ClusterVersion(), s.Alarms())
	if s.Format() > metapb.FormatFirst {
		fmt.Fprintf(&b, "format=%d\n", s.Format())
	}
	for _, c := range s.Corrupt() {
		fmt.Fprintf(&b, "corrupt %+v\n", c)
	}
	for _, m := range s.Members() {
		fmt.Fprintf(&b, "%+v\n", m)
	}
	for _, d := range s.Directory().Lookup(nil, metapb.Span{}) {
		fmt.Fprintf(&b, "range %d gen %d [%s,%s)\n", d.RangeId, d.Generation, d.Start, d.End)
	}
	return b.String()
}

// parseDescs reads lines "id generation start end replica...", "-" for an empty end.
func parseDescs(input string) (descs []*metapb.Descriptor) {
	for _, line := range strings.Split(strings.TrimSpace(input), "\n") {
		var id, generation uint64
		var start, end string
		if n, _ := fmt.Sscan(line, &id, &generation, &start, &end); n == 4 {
			d := testDesc(id, generation, strings.Trim(start, "-"), strings.Trim(end, "-"))
			for i, field := range strings.Fields(line)[4:] {
				replica, _ := strconv.ParseUint(field, 10, 64)
				d.Replicas = append(d.Replicas, &metapb.Replica{ReplicaId: replica, StoreId: uint64(i + 1), NodeId: uint64(i + 1)})
				d.NextReplicaId = max(d.NextReplicaId, replica+1)
			}
			descs = append(descs, d)
		}
	}
	return descs
}

func testDesc(id, generation uint64, start, end string) *metapb.Descriptor {
	return &metapb.Descriptor{RangeId: id, Generation: generation, Start: []byte(start), End: []byte(end)}
}

// What Apply learned row by row, Load finds in the engine.
func TestLoadIsApply(t *testing.T) {
	rng := rand.New(rand.NewSource(1))
	s := NewSystem()
	e := engine.NewMem()
	defer e.Close()
	initial, err := InitialRows(InitialFacts{ClusterID: 9, NextRange: 3, Version: "3.7.0",
		Descriptors: []*metapb.Descriptor{testDesc(1, 1, "", "l"), testDesc(2, 1, "l", "")}})
	if err != nil {
		t.Fatal(err)
	}
	log := [][]*cmdpb.Row{initial}
	s.Apply(initial)
	for i := range 60 {
		start, end := randomSpan(rng)
		for _, op := range []any{
			&CompactOp{Revision: metapb.Revision(rng.Intn(50)), Current: 100},
			&AllocIDsOp{Kind: IDKind(rng.Intn(3) + 1), N: 2},
			&AlarmOp{Activate: rng.Intn(2) == 0, Alarm: Alarm{Type: pb.AlarmType(rng.Intn(2) + 1), Member: metapb.NodeID(rng.Intn(2))}},
			&DirectoryOp{Descriptors: []*metapb.Descriptor{testDesc(uint64(i+3), uint64(i), start, end)}},
			&CeilingOp{Epoch: 1, Number: uint64(i + 1), Ceiling: metapb.Revision(i + 1), EndOneStore: i == 40},
		} {
			if rows, _, err := s.Evaluate(op); err == nil {
				log = append(log, rows)
				s.Apply(rows)
			}
		}
	}
	b := e.NewBatch()
	for _, rows := range log {
		for _, row := range rows {
			if row.Deleted {
				b.Delete(keys.Row(row.Address))
			} else {
				b.Set(keys.Row(row.Address), row.Value)
			}
		}
	}
	b.Set(keys.Row(keys.Lease(5)), []byte("not ours"))
	if err := e.Commit(b, true); err != nil {
		t.Fatal(err)
	}
	loaded := NewSystem()
	if err := loaded.Load(e); err != nil {
		t.Fatal(err)
	}
	if got, want := showSystem(loaded), showSystem(s); got != want || s.OneStore() {
		t.Fatalf("loaded\n%s\napplied\n%s", got, want)
	}
}

// The disk format: these names and bytes are in people's folders.
func TestOldRows(t *testing.T) {
	for _, tc := range []struct {
		row  *cmdpb.Row
		want string
	}{
		{numberRow(rowCompacted, 258), "scompacted=\x00\x00\x00\x00\x00\x00\x01\x02"},
		{ceilingRow(ceiling{rev: 1, epoch: 2, number: 3}), "sceiling=" +
			"\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x03"},
		{setRow(alarmName(Alarm{Type: 1, Member: 2}), nil), "salarm/\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02="},
		{setRow(dirName([]byte("um")), nil), "sdir/\x01um="},
		{setRow(dirName(nil), nil), "sdir/\x02="},
		{numberRow(rowRangeID, 3), "sid/range=\x00\x00\x00\x00\x00\x00\x00\x03"},
		{setRow(rowOneStore, nil), "sone-store="},
		{memberRow(&Member{Node: 2, Store: 3, Name: "n", Nonce: 4, PeerURLs: []string{"p"}, ClientURLs: []string{"c"}, GossipAddr: "g", Removed: true}),
			"snode/\x00\x00\x00\x00\x00\x00\x00\x02=\x08\x03\x12\x01n\x18\x04\x22\x01p\x2a\x01c\x32\x01g\x38\x01"},
		{memberRow(&Member{Node: 2, Store: 3, Leaving: true}), "snode/\x00\x00\x00\x00\x00\x00\x00\x02=\x08\x03\x12\x002\x00\x40\x01"},
	} {
		if got := string(tc.row.Address) + "=" + string(tc.row.Value); got != tc.want {
			t.Errorf("%q, want %q", got, tc.want)
		}
	}
}

func TestBadRowsAreErrors(t *testing.T) {
	for name, value := range map[string]string{
		rowCompacted:                 "short",
		rowCeiling:                   "12345678",
		prefixAlarm + "x":            "",
		prefixMember + "12345678":    "\x08",
		prefixMember + "1":           "\x08\x01",
		prefixDir:                    "",
		prefixDir + "\x01um":         "\xff\xff",
		prefixDir + "\x03um":         "",
		prefixDir + dirEnd + "other": string(mustMarshal(t, testDesc(2, 1, "a", "b"))),
	} {
		if err := newFacts().set(name, []byte(value), false); !errors.Is(err, ErrBadRow) {
			t.Errorf("%q = %q: %v", name, value, err)
		}
	}
	f := newFacts()
	if err := f.set("of a newer version", []byte("?"), false); err != nil {
		t.Errorf("an unknown row: %v", err)
	}
}

func mustMarshal(t *testing.T, d *metapb.Descriptor) []byte {
	b, err := d.MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func FuzzRow(f *testing.F) {
	f.Add("alarm/\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02", []byte{}, false)
	f.Add("dir/\x01um", []byte{8, 2}, false)
	f.Add("ceiling", bytes.Repeat([]byte{1}, 24), true)
	f.Fuzz(func(t *testing.T, name string, value []byte, deleted bool) {
		fa := newFacts()
		if err := fa.set(name, value, deleted); err != nil {
			return
		}
		if got := fa.clone(); got.compacted != fa.compacted || len(got.alarms) != len(fa.alarms) || got.dir.Len() != fa.dir.Len() {
			t.Fatal("a clone differs")
		}
	})
}

// text returns an argument, or nothing.
func text(d *datadriven.TestData, name string) string {
	for _, arg := range d.CmdArgs {
		if arg.Key == name && len(arg.Vals) == 1 {
			return arg.Vals[0]
		}
	}
	return ""
}

// node is an argument that may be missing.
func node(d *datadriven.TestData) metapb.NodeID {
	n, _ := strconv.ParseUint(text(d, "node"), 10, 64)
	return metapb.NodeID(n)
}

// Who joins is the node that was announced at its URLs, whichever of them it names first.
func TestJoinNamesURLsInAnyOrder(t *testing.T) {
	s := NewSystem()
	_, got, err := s.Evaluate(&MemberOp{PeerURLs: []string{"http://b:1", "http://a:1"}})
	if err != nil {
		t.Fatal(err)
	}
	_, joined, err := s.Evaluate(&JoinOp{Name: "a", Nonce: 7, PeerURLs: []string{"http://a:1", "http://b:1"}})
	if err != nil || joined.(*JoinReply).Node != got.(*MembersReply).Changed {
		t.Fatalf("announced as %v, joined as %v, %v", got, joined, err)
	}
	if _, _, err := s.Evaluate(&MemberOp{PeerURLs: []string{"http://c:1", "http://d:1"}}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Evaluate(&JoinOp{Name: "c", Nonce: 8, PeerURLs: []string{"http://c:1"}}); !errors.Is(err, ErrURLTaken) {
		t.Fatalf("one of the two URLs: %v", err)
	}
}
