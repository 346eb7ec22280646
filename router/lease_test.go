package router

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/lease"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// leaseRanges are a lease's home and three ranges of keys.
func leaseRanges() []*metapb.Descriptor {
	return []*metapb.Descriptor{desc(2, 1, "t", "u"), desc(3, 1, "u", "u3"), desc(4, 1, "u3", "u6"), desc(5, 1, "u6", "")}
}

// fakeLease answers as well-behaved ranges would in which lease 7 has the keys 1,
// 4 and 7, or, if it is said to be empty, none.
type fakeLease struct {
	empty  bool
	absent bool // the lease does not exist when marks are asked for
	rev    metapb.Revision
}

func (f *fakeLease) answer(req *peerpb.Request) peerpb.Reply {
	rep := peerpb.Reply{ID: req.ID, Body: &peerpb.Done{}}
	switch b := req.Body.(type) {
	case *peerpb.RevokeLease:
		rep.Body, rep.Err = nil, peerpb.ErrNeedsTxn
	case *peerpb.Prepare:
		p := &peerpb.Prepared{Rows: make([][]peerpb.Row, len(b.Accesses)), Lock: 1, Compacted: -1, Known: f.rev}
		if b.Revoke != nil {
			p.Found = &peerpb.LeaseFound{}
			if b.Revoke.Home {
				p.Found.Spans = []metapb.Span{keys.UserSpan(nil, nil)}
			} else if !f.empty {
				p.Found.Keys = [][]byte{[]byte([]string{"1", "4", "7"}[req.Range-3])}
			}
		}
		rep.Body = p
	case *peerpb.EnsureMarks:
		m := &peerpb.Marks{}
		if f.absent {
			m.Absent = []int64{b.Uses[0].Lease}
		}
		rep.Body = m
	case *peerpb.LookupLease:
		rep.Body, rep.Err = nil, peerpb.ErrLeaseNotFound
	case *peerpb.Push:
		rep.Body = &peerpb.Pushed{Status: txnpb.RecordStatus_ABORTED}
	}
	return rep
}

func leasedTxn() *pb.TxnRequest {
	req := &pb.TxnRequest{}
	for _, key := range []string{"1", "4", "7"} {
		req.Success = append(req.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{
			RequestPut: &pb.PutRequest{Key: []byte(key), Lease: 7}}})
	}
	return req
}

// Whatever single answer goes wrong, the client gets exactly one result, the
// operation ends, and no attempt is committed after another was.
func TestLeaseAnyAnswerFails(t *testing.T) {
	failures := []error{
		nil, peerpb.ErrNotLeader, peerpb.ErrRefused, peerpb.ErrUnknown, peerpb.ErrLockLost, peerpb.ErrTxnAborted,
		peerpb.ErrMarkMissing, peerpb.ErrLeaseNotDue, peerpb.ErrLeaseNotFound, &peerpb.MovedError{},
		&peerpb.MovedError{Newer: leaseRanges()}, &peerpb.RefusedRevisionError{Closed: 30}, errors.New("engine"),
	}
	for _, f := range []fakeLease{{}, {empty: true}, {absent: true}} {
		for _, req := range []any{&RevokeRequest{ID: 7}, leasedTxn()} {
			for at := range 20 {
				for _, failure := range failures {
					checkOneLeaseFailure(t, f, req, at, failure)
				}
			}
		}
	}
}

func checkOneLeaseFailure(t *testing.T, f fakeLease, req any, at int, failure error) {
	r, err := New(Config{Store: 1})
	if err != nil {
		t.Fatal(err)
	}
	r.Descriptors(leaseRanges())
	f.rev = 9
	now, n := clock.Time(1), 0
	name := fmt.Sprintf("%+v %T: answer %d is %v", f, req, at, failure)
	r.Request(1, req, now)
	results, recorded := 0, map[uint64]bool{}
	for round := 0; r.Len() > 0; round++ {
		if round > 1000 {
			t.Fatalf("%s: it does not end", name)
		}
		rd := r.Ready()
		results += len(rd.Results)
		for _, req := range rd.Sends {
			rep := f.answer(req)
			if n == at && failure != nil {
				rep.Body, rep.Err = nil, failure
			} else if b, ok := req.Body.(*peerpb.WriteRecord); ok {
				recorded[b.Record.Id.Attempt] = true
			}
			n++
			r.Reply(rep, now)
		}
		for _, ask := range rd.Asks {
			f.rev += metapb.Revision(ask.N)
			r.Granted(placement.Answer{Name: ask.Name, First: f.rev, N: ask.N, Compacted: -1}, now)
		}
		if rd.Empty() {
			now = now.Add(10 * time.Millisecond)
			r.Tick(now)
		}
	}
	results += len(r.Ready().Results)
	if results != 1 || len(recorded) > 1 {
		t.Fatalf("%s: %d results, attempts with a record: %v", name, results, recorded)
	}
}

// Renewals that come together are one request to each home, and each client gets
// its own answer.
func TestRenewTogether(t *testing.T) {
	r, err := New(Config{Store: 1})
	if err != nil {
		t.Fatal(err)
	}
	border := string(keys.Lease(100))
	r.Descriptors([]*metapb.Descriptor{desc(2, 1, "t", border), desc(3, 1, border, "")})
	for id := range uint64(6) {
		r.Request(id+1, &RenewRequest{ID: int64(id)*50 + 1}, 1)
	}
	rd := r.Ready()
	if len(rd.Sends) != 2 {
		t.Fatalf("%d requests, want 2", len(rd.Sends))
	}
	for _, req := range rd.Sends {
		out := &peerpb.Renewed{}
		for _, id := range req.Body.(*peerpb.RenewLeases).IDs {
			ttl := id
			switch id {
			case 51:
				ttl = peerpb.RenewUnknown
			case 151:
				ttl = peerpb.RenewExpired
			}
			out.TTLs = append(out.TTLs, ttl)
		}
		r.Reply(peerpb.Reply{ID: req.ID, Body: out}, 1)
	}
	got := make(map[uint64]Result)
	for now := clock.Time(1); r.Len() > 0; now = now.Add(20 * time.Millisecond) {
		r.Tick(now)
		rd := r.Ready()
		for _, req := range rd.Sends {
			r.Reply(peerpb.Reply{ID: req.ID, Body: &peerpb.Renewed{TTLs: []int64{peerpb.RenewExpired}}}, now)
		}
		for _, res := range rd.Results {
			got[res.ID] = res
		}
	}
	for _, res := range r.Ready().Results {
		got[res.ID] = res
	}
	for id := range uint64(6) {
		res, want := got[id+1], int64(id)*50+1
		switch {
		case want == 51 || want == 151:
			if !errors.Is(res.Err, lease.ErrNotFound) {
				t.Errorf("lease %d: %v", want, res)
			}
		case res.Resp != want:
			t.Errorf("lease %d: %v", want, res)
		}
	}
}

// leaseScript adds to a script what only leases get.
func (s *script) runLease(t *testing.T, d *datadriven.TestData) {
	var n, lock int
	var id, ttl int64
	d.MaybeScanArgs(t, "send", &n)
	d.MaybeScanArgs(t, "id", &id)
	d.MaybeScanArgs(t, "ttl", &ttl)
	d.MaybeScanArgs(t, "lock", &lock)
	fields := strings.Fields(d.Input)
	switch d.Cmd {
	case "lease-grant":
		s.next++
		s.r.Request(s.next, &pb.LeaseGrantRequest{ID: id, TTL: ttl}, s.now)
	case "revoke":
		s.next++
		s.r.Request(s.next, &RevokeRequest{ID: id}, s.now)
	case "attach":
		s.next++
		req := &pb.TxnRequest{}
		for _, key := range fields {
			req.Success = append(req.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{
				RequestPut: &pb.PutRequest{Key: []byte(key), Lease: id}}})
		}
		s.r.Request(s.next, req, s.now)
	case "found": // keys of a range, or spans of the home as start-end; count=n: so many keys from the first to the last
		out := &peerpb.LeaseFound{}
		p := &peerpb.Prepared{Lock: uint64(lock), Compacted: -1, Known: 40, Found: out}
		if d.HasArg("count") {
			p.Counts = make([]int64, 1)
			d.ScanArgs(t, "count", &p.Counts[0])
		}
		for _, f := range fields {
			if start, end, ok := strings.Cut(f, "-"); ok {
				out.Spans = append(out.Spans, keys.UserSpan([]byte(start), []byte(end)))
			} else {
				out.Keys = append(out.Keys, []byte(f))
			}
		}
		s.r.Reply(peerpb.Reply{ID: s.sends[n-1].ID, Body: p}, s.now)
	case "marked":
		m := &peerpb.Marks{}
		if id != 0 {
			m.Absent = []int64{id}
		}
		s.r.Reply(peerpb.Reply{ID: s.sends[n-1].ID, Body: m}, s.now)
	default:
		s.runTxn(t, d)
	}
}

func showLeaseBody(body peerpb.Body) string {
	switch b := body.(type) {
	case *peerpb.GrantLease:
		return fmt.Sprintf("grant %d ttl=%d", b.ID, b.TTL)
	case *peerpb.RevokeLease:
		return fmt.Sprintf("revoke %d", b.ID)
	case *peerpb.RemoveLease:
		return fmt.Sprintf("remove %d lock=%d", b.ID, b.Lock)
	case *peerpb.EnsureMarks:
		return fmt.Sprintf("marks %s", showUses(b.Uses))
	case *peerpb.LookupLease:
		return fmt.Sprintf("lookup %d", b.ID)
	}
	return fmt.Sprintf("%T", body)
}

func showUses(uses []peerpb.LeaseUse) string {
	var out []string
	for _, u := range uses {
		out = append(out, fmt.Sprintf("%s:%d", u.Key, u.Lease))
	}
	return strings.Join(out, ",")
}

func TestLeaseScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/lease", func(t *testing.T, path string) {
		r, err := New(Config{Store: 1, StoreStart: 7, RequestTimeout: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		s := &script{r: r}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.runLease(t, d)
			return s.ready()
		})
	})
}

// A list goes on behind the last lease of a page. The order is that of addresses:
// negative ids come last.
func TestLeasePages(t *testing.T) {
	r, err := New(Config{Store: 1})
	if err != nil {
		t.Fatal(err)
	}
	r.Descriptors([]*metapb.Descriptor{desc(2, 1, "t", "")})
	r.Request(1, &pb.LeaseLeasesRequest{}, 1)
	left := []int64{1, 5, math.MaxInt64, math.MinInt64, -1}
	for page := 0; ; page++ {
		rd := r.Ready()
		if len(rd.Results) == 1 {
			if got := rd.Results[0].Resp.(*pb.LeaseLeasesResponse).Leases; len(got) != 5 || page != 5 {
				t.Fatalf("%v after %d pages", got, page)
			}
			return
		}
		from := rd.Sends[0].Body.(*peerpb.ListLeases).From
		if want := keys.Lease(left[0]); page > 0 && bytes.Compare(from, want) > 0 {
			t.Fatalf("page %d begins at %x, and misses %x", page, from, want)
		}
		if a, err := keys.DecodeAddress(from); page > 0 && (err != nil || a.Kind != keys.KindLease) {
			t.Fatalf("page %d begins at %x, no lease's address: %v", page, from, err)
		}
		list := &peerpb.LeaseList{Leases: []peerpb.LeaseEntry{{ID: left[0]}}, More: true}
		left = left[1:]
		r.Reply(peerpb.Reply{ID: rd.Sends[0].ID, Body: list}, 1)
	}
}

// A grant of which an earlier attempt may be on its way to the log is not said to
// be refused because the disk is full by now, or another lease has the id.
func TestGrantTwice(t *testing.T) {
	for _, x := range []struct{ first, second, want error }{
		{peerpb.ErrUnknown, peerpb.ErrDiskFull, peerpb.ErrUnknown},
		{peerpb.ErrRefused, peerpb.ErrDiskFull, peerpb.ErrDiskFull},
		{peerpb.ErrUnknown, lease.ErrExists, peerpb.ErrUnknown},
		{peerpb.ErrRefused, lease.ErrExists, lease.ErrExists},
		{peerpb.ErrUnknown, nil, nil},
	} {
		r, err := New(Config{Store: 1})
		if err != nil {
			t.Fatal(err)
		}
		r.Descriptors(leaseRanges())
		now := clock.Time(1)
		r.Request(1, &pb.LeaseGrantRequest{ID: 7, TTL: 5}, now)
		answers := []error{x.first, x.second}
		for r.Len() > 0 {
			rd := r.Ready()
			for _, req := range rd.Sends {
				rep := peerpb.Reply{ID: req.ID, Err: answers[0]}
				if rep.Err == nil {
					rep.Body = &peerpb.Done{}
				}
				answers = answers[1:]
				r.Reply(rep, now)
			}
			for i := range rd.Asks { // for the header
				r.Granted(placement.Answer{Name: rd.Asks[i].Name, First: 3, Compacted: -1}, now)
			}
			for _, res := range rd.Results {
				if res.Err != x.want {
					t.Errorf("%v, then %v: the client is told %v", x.first, x.second, res.Err)
				}
			}
			now = now.Add(time.Second)
			r.Tick(now)
		}
	}
}
