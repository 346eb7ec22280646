package keys

import (
	"bytes"
	"math/rand"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// awkward returns addresses made of the bytes that break an encoding.
func awkward(rng *rand.Rand) []byte {
	alphabet := []byte{0x00, 0x00, 0x01, 0xff, 0xfe, 'a'}
	b := []byte{"stu"[rng.Intn(3)]}
	for range rng.Intn(6) {
		b = append(b, alphabet[rng.Intn(len(alphabet))])
	}
	return b
}

func TestOldBytes(t *testing.T) {
	// The disk format: these bytes are in people's folders.
	id := &txnpb.TxnID{StoreId: 1, StoreStart: 2, Number: 3, Attempt: 4}
	txn := "\x00\x00\x00\x00\x00\x00\x00\x01" + "\x00\x00\x00\x00\x00\x00\x00\x02" +
		"\x00\x00\x00\x00\x00\x00\x00\x03" + "\x00\x00\x00\x00\x00\x00\x00\x04"
	for _, tc := range []struct {
		got  []byte
		want string
	}{
		{RaftHardState(7), "\x01\x00\x00\x00\x00\x00\x00\x00\x07\x01\x00"},
		{RaftTruncated(7), "\x01\x00\x00\x00\x00\x00\x00\x00\x07\x02\x00"},
		{AppliedState(7), "\x01\x00\x00\x00\x00\x00\x00\x00\x07\x03\x00"},
		{Descriptor(7), "\x01\x00\x00\x00\x00\x00\x00\x00\x07\x04\x00"},
		{Tombstone(7), "\x01\x00\x00\x00\x00\x00\x00\x00\x07\x05\x00"},
		{RemovalMark(7), "\x01\x00\x00\x00\x00\x00\x00\x00\x07\x06\x00"},
		{RaftConfState(7), "\x01\x00\x00\x00\x00\x00\x00\x00\x07\x07\x00"},
		{Condemned(7), "\x01\x00\x00\x00\x00\x00\x00\x00\x07\x08\x00"},
		{RaftLog(7, 9), "\x01\x00\x00\x00\x00\x00\x00\x00\x07\x10\x00\x00\x00\x00\x00\x00\x00\x09\x00"},
		{StoreIdent(), "\x02ident\x00"},
		{StoreStart(), "\x02start\x00"},
		{StoreRow("x"), "\x02row/x\x00"},
		{AppliedStep(3), "\x02step/\x03\x00"},
		{Row(System("dir")), "\x10sdir\x00"},
		{Row(Lease(5)), "\x10t\x00\x00\x00\x00\x00\x00\x00\x05\x00"},
		{Intent(User([]byte("a\x00b")), id), "\x11ua\x00\xffb\x00\x01" + txn + "\x00"},
		{Record(User([]byte("a")), id), "\x12ua\x00\x01" + txn + "\x00"},
		{Leased([]byte("a")), "\x13ua\x00\x01\x00"},
		{Version([]byte("a"), 258, 0), "\x20a\x00\x00\x00\x00\x00\x00\x00\x01\x02\x09"},
		{Version([]byte("a"), 258, 3), "\x20a\x00\x00\x00\x00\x00\x00\x00\x01\x02\x00\x00\x00\x03\x0d"},
		{UserPrefix([]byte("a")), "\x20a\x00"},
	} {
		if string(tc.got) != tc.want {
			t.Errorf("%s: got %q, want %q", Format(tc.got), tc.got, tc.want)
		}
	}
}

func TestFormat(t *testing.T) {
	id := &txnpb.TxnID{StoreId: 1, StoreStart: 2, Number: 3, Attempt: 4}
	for _, tc := range []struct {
		key  []byte
		want string
	}{
		{RaftLog(7, 9), "range/7/log/9"},
		{AppliedState(7), "range/7/applied"},
		{StoreIdent(), "store/ident"},
		{Row(Lease(255)), "row/lease:00000000000000ff"},
		{Row(System("x")), `row/system:"x"`},
		{Intent(User([]byte("a\x00")), id), `intent/user:"a\x00"/txn:1.2.3.4`},
		{Record(User([]byte("a")), id), `record/user:"a"/txn:1.2.3.4`},
		{Leased([]byte("a")), `leased/"a"`},
		{Version([]byte("a"), 5, 2), `"a"@5.2`},
		{UserPrefix([]byte("a")), `"a"`},
		{[]byte{0x55, 1}, "?5501"},
		{nil, "?"},
	} {
		if got := Format(tc.key); got != tc.want {
			t.Errorf("Format(%x) = %s, want %s", tc.key, got, tc.want)
		}
	}
}

func TestRoundTrips(t *testing.T) {
	rng := rand.New(rand.NewSource(1))
	for range 2000 {
		addr := awkward(rng)
		id := &txnpb.TxnID{StoreId: rng.Uint64(), StoreStart: rng.Uint64(), Number: rng.Uint64(), Attempt: uint64(rng.Intn(2))}
		if got, gotID, err := DecodeIntent(Intent(addr, id)); err != nil || !bytes.Equal(got, addr) || !proto.Equal(gotID, id) {
			t.Fatalf("intent %x: %x %v %v", addr, got, gotID, err)
		}
		if got, gotID, err := DecodeRecord(Record(addr, id)); err != nil || !bytes.Equal(got, addr) || !proto.Equal(gotID, id) {
			t.Fatalf("record %x: %x %v %v", addr, got, gotID, err)
		}
		if got, err := DecodeRow(Row(addr)); err != nil || !bytes.Equal(got, addr) {
			t.Fatalf("row %x: %x %v", addr, got, err)
		}
		key := addr[1:]
		if got, err := DecodeLeased(Leased(key)); err != nil || !bytes.Equal(got, key) {
			t.Fatalf("leased %x: %x %v", key, got, err)
		}
		rev, sub := metapb.Revision(rng.Int63()+1), uint32(rng.Intn(3))
		v := Version(key, rev, sub)
		got, gotRev, gotSub, err := DecodeVersion(v)
		if err != nil || !bytes.Equal(got, key) || gotRev != rev || gotSub != sub {
			t.Fatalf("version %x: %x %d %d %v", key, got, gotRev, gotSub, err)
		}
		if len(v) != VersionLen(key, sub) {
			t.Fatalf("VersionLen(%x, %d) = %d, want %d", key, sub, VersionLen(key, sub), len(v))
		}
	}
}

// Older folders hold suffixes with a sub-revision of zero.
func TestLongSuffix(t *testing.T) {
	long := append(UserPrefix([]byte("k")), 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 13)
	key, rev, sub, err := DecodeVersion(long)
	if err != nil || string(key) != "k" || rev != 5 || sub != 0 {
		t.Fatalf("got %q %d %d %v", key, rev, sub, err)
	}
}

// Encoded keys are in the order of their addresses, bounds included.
func TestOrder(t *testing.T) {
	rng := rand.New(rand.NewSource(2))
	id := &txnpb.TxnID{}
	high := &txnpb.TxnID{StoreId: ^uint64(0), StoreStart: ^uint64(0), Number: ^uint64(0), Attempt: ^uint64(0)}
	for range 5000 {
		a, b := awkward(rng), awkward(rng)
		want := bytes.Compare(a, b)
		if got := bytes.Compare(Row(a), Row(b)); got != want {
			t.Fatalf("rows %x %x: %d, want %d", a, b, got, want)
		}
		if got := bytes.Compare(UserPrefix(a), UserPrefix(b)); got != want {
			t.Fatalf("versions %x %x: %d, want %d", a, b, got, want)
		}
		if got := bytes.Compare(Leased(a), Leased(b)); got != want {
			t.Fatalf("leased %x %x: %d, want %d", a, b, got, want)
		}
		if want != 0 {
			if got := bytes.Compare(Intent(a, high), Intent(b, id)); want < 0 && got != want {
				t.Fatalf("intents %x %x: %d, want %d", a, b, got, want)
			}
		}
	}
}

// compare is the engine's order: by what precedes the suffix, then no suffix
// before any, then higher suffixes first.
func compare(a, b []byte) int {
	cutA, cutB := len(a)-int(a[len(a)-1]), len(b)-int(b[len(b)-1])
	if c := bytes.Compare(a[:cutA], b[:cutB]); c != 0 {
		return c
	}
	if cutA == len(a) || cutB == len(b) {
		return len(a) - cutA - (len(b) - cutB)
	}
	return bytes.Compare(b[cutB:], a[cutA:])
}

func contains(spans []Span, key []byte) int {
	n := 0
	for _, s := range spans {
		if compare(key, s.Start) >= 0 && compare(key, s.End) < 0 {
			n++
		}
	}
	return n
}

// Every key of an address is in the tables of exactly the ranges that hold the
// address, and ranges that tile the addresses tile the tables.
func TestTablesTile(t *testing.T) {
	rng := rand.New(rand.NewSource(3))
	for range 200 {
		var cuts [][]byte
		for range rng.Intn(6) {
			cuts = append(cuts, awkward(rng))
		}
		slices.SortFunc(cuts, bytes.Compare)
		cuts = slices.CompactFunc(cuts, bytes.Equal)
		spans := spansOf(cuts)
		for range 50 {
			addr := awkward(rng)
			id := &txnpb.TxnID{StoreId: rng.Uint64() >> uint(rng.Intn(64))}
			ks := [][]byte{Row(addr), Intent(addr, id), Record(addr, id)}
			if addr[0] == 'u' {
				ks = append(ks, Leased(addr[1:]), Version(addr[1:], 1, SubMax), UserPrefix(addr[1:]))
			}
			for _, span := range spans {
				want := 0
				if span.Contains(addr) {
					want = 1
				}
				for _, k := range ks {
					if got := contains(Tables(span), k); got != want {
						t.Fatalf("%s in %q: %d times, want %d", Format(k), span, got, want)
					}
				}
			}
		}
		checkTiles(t, spans)
	}
}

func spansOf(cuts [][]byte) []metapb.Span {
	var spans []metapb.Span
	var start []byte
	for _, c := range cuts {
		spans = append(spans, metapb.Span{Start: start, End: c})
		start = c
	}
	return append(spans, metapb.Span{Start: start})
}

func checkTiles(t *testing.T, spans []metapb.Span) {
	t.Helper()
	byTable := map[byte][]Span{}
	for _, span := range spans {
		for _, s := range Tables(span) {
			byTable[s.Start[0]] = append(byTable[s.Start[0]], s)
		}
	}
	for table := tableRow; table <= tableLeased; table++ {
		checkChain(t, table, byTable[table])
	}
	checkChain(t, tableVersion, byTable[tableVersion])
}

func checkChain(t *testing.T, table byte, chain []Span) {
	t.Helper()
	at := []byte{table, sentinel}
	for _, s := range chain {
		if !bytes.Equal(s.Start, at) || bytes.Compare(s.Start, s.End) >= 0 {
			t.Fatalf("table %#x: [%x, %x) after %x", table, s.Start, s.End, at)
		}
		at = s.End
	}
	if !bytes.Equal(at, []byte{table + 1, sentinel}) {
		t.Fatalf("table %#x ends at %x", table, at)
	}
}

// A range that ends where the leases begin holds every system row and nothing
// of a client.
func TestSystemRowsComeFirst(t *testing.T) {
	system := metapb.Span{End: LeaseSpan().Start}
	if !system.ContainsSpan(SystemSpan("")) || system.Overlaps(LeaseSpan()) || system.Overlaps(UserSpan(nil, nil)) {
		t.Fatalf("[%q, %q) is not the system rows alone", system.Start, system.End)
	}
}

func TestUserBounds(t *testing.T) {
	for _, tc := range []struct {
		start, end string
		want       string
	}{
		{"", "", "[,nil) true"},
		{"", "s", "[,nil) false"},
		{"t", "u", "[,nil) false"},
		{"s", "ub", "[,b) true"},
		{"ua", "ub", "[a,b) true"},
		{"ua", "", "[a,nil) true"},
		{"ua", "v", "[a,nil) true"},
		{"v", "", "[,nil) false"},
	} {
		start, end, ok := UserBounds(metapb.Span{Start: []byte(tc.start), End: []byte(tc.end)})
		e := "nil"
		if end != nil {
			e = string(end)
		}
		got := "[" + string(start) + "," + e + ") " + map[bool]string{true: "true", false: "false"}[ok]
		if got != tc.want {
			t.Errorf("[%s,%s): got %s, want %s", tc.start, tc.end, got, tc.want)
		}
	}
}

func TestSpans(t *testing.T) {
	in := func(s Span, k []byte) bool { return contains([]Span{s}, k) == 1 }
	log := RaftLogSpan(7, 3, 5)
	for index, want := range map[uint64]bool{2: false, 3: true, 4: true, 5: false} {
		if in(log, RaftLog(7, index)) != want {
			t.Errorf("entry %d: want %t", index, want)
		}
	}
	rest := RaftLogSpan(7, 3, 0)
	if !in(rest, RaftLog(7, ^uint64(0))) || in(rest, RaftLog(8, 3)) || in(rest, RaftHardState(7)) {
		t.Error("the rest of the log is not the rest of the log")
	}
	for _, k := range [][]byte{RaftHardState(7), RaftLog(7, 0), RaftLog(7, ^uint64(0)), RemovalMark(7)} {
		if !in(LocalSpan(7), k) || in(LocalSpan(6), k) || in(LocalSpan(8), k) || !in(LocalTable(), k) {
			t.Errorf("%s is in the wrong span", Format(k))
		}
		if bytes.Compare(NextReplica(7), k) <= 0 || bytes.Compare(NextReplica(6), k) > 0 {
			t.Errorf("%s is on the wrong side of the next replica", Format(k))
		}
	}
	one := UserKeySpan([]byte("k"))
	if !one.Contains(User([]byte("k"))) || one.Contains(User([]byte("k\x00"))) || one.Contains(User([]byte("j\xff"))) {
		t.Error("the span of one key does not hold one key")
	}
	if !SystemSpan("dir/").Contains(System("dir/\xff")) || SystemSpan("dir/").Contains(System("dir0")) {
		t.Error("a span of system rows is wrong")
	}
}

func TestDecodeAddress(t *testing.T) {
	for _, tc := range []struct {
		addr []byte
		want string
	}{
		{System("x"), `system:"x"`},
		{Lease(-1), "lease:ffffffffffffffff"},
		{User([]byte("k")), `user:"k"`},
		{User(nil), `user:""`},
		{[]byte("l1234567"), "?6c31323334353637"},
		{[]byte("x"), "?78"},
		{nil, "?"},
	} {
		if got := FormatAddress(tc.addr); got != tc.want {
			t.Errorf("%q: got %s, want %s", tc.addr, got, tc.want)
		}
	}
}

func TestAppendDoesNotAllocate(t *testing.T) {
	buf, key := make([]byte, 0, 64), []byte("some/key")
	n := testing.AllocsPerRun(100, func() {
		buf = AppendVersion(buf[:0], key, 7, 0)
		if _, _, _, err := DecodeVersion(buf); err != nil {
			t.Fatal(err)
		}
		buf = AppendRaftLog(buf[:0], 1, 2)
	})
	if n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

// FuzzDecode feeds bytes to every decoder: none may panic, and what one accepts
// must encode to the same bytes.
func FuzzDecode(f *testing.F) {
	id := &txnpb.TxnID{StoreId: 1}
	for _, k := range [][]byte{
		nil, {0x20}, {0x11, 0, 1, 0}, RaftLog(1, 2), StoreIdent(), Row(Lease(1)), Intent(User([]byte("a\x00")), id),
		Record(System("x"), id), Leased([]byte("b")), Version([]byte("c"), 1, 2), UserPrefix([]byte("d")),
	} {
		f.Add(k)
	}
	f.Fuzz(func(t *testing.T, key []byte) {
		same := func(again []byte) {
			if !bytes.Equal(again, key) {
				t.Fatalf("%x was read as %x", key, again)
			}
		}
		if addr, id, err := DecodeIntent(key); err == nil {
			same(Intent(addr, id))
		}
		if addr, id, err := DecodeRecord(key); err == nil {
			same(Record(addr, id))
		}
		if userKey, err := DecodeLeased(key); err == nil {
			same(Leased(userKey))
		}
		if addr, err := DecodeRow(key); err == nil {
			same(Row(addr))
		}
		if k, rev, sub, err := DecodeVersion(key); err == nil && (sub != 0 || key[len(key)-1] == shortSuffixLen) {
			same(Version(k, rev, sub))
		}
		if id, kind, index, err := DecodeLocal(key); err == nil {
			if kind == LocalLog {
				same(RaftLog(id, index))
			} else {
				same(local(id, kind))
			}
		}
		if name, err := DecodeStore(key); err == nil {
			same(storeKey(name))
		}
		if strings.TrimSpace(Format(key)) == "" || FormatAddress(key) == "" {
			t.Fatalf("%x is shown as nothing", key)
		}
	})
}
