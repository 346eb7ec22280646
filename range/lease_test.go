package ranges

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/lease"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// leaseScript adds leases to a txnScript. The store's questions are asked and
// answered by the script: "ask" brings them to the homes, "deliver" the answers
// back.
type leaseScript struct {
	txnScript
	asked   map[uint64]Send // by our request
	answers []peerpb.Reply  // not delivered
}

func (s *leaseScript) take(rep peerpb.Reply) bool {
	q, ok := s.asked[rep.ID]
	if !ok {
		return false
	}
	delete(s.asked, rep.ID)
	fmt.Fprintf(&s.out, "home answers: %s\n", showLease(rep))
	rep.ID = q.ID
	s.answers = append(s.answers, rep)
	return true
}

// showLease shows an answer about leases.
func showLease(rep peerpb.Reply) string {
	switch b := rep.Body.(type) {
	case *peerpb.Registered:
		return fmt.Sprintf("registered, grant %d, %s", b.Number, showSpans(b.Spans))
	case *peerpb.Prepared:
		out := fmt.Sprintf("prepared lock=%d", tokenInTerm(b.Lock))
		if b.Found == nil {
			return out
		}
		out += fmt.Sprintf(" keys %s", b.Found.Keys)
		if b.Found.Spans != nil {
			out += " spans " + showSpans(b.Found.Spans)
		}
		return out
	case *peerpb.Marks:
		return fmt.Sprintf("marks, absent %v", b.Absent)
	case *peerpb.LeaseFound:
		return fmt.Sprintf("keys %s", b.Keys)
	case *peerpb.Renewed:
		return fmt.Sprintf("renewed %v", b.TTLs)
	case *pb.PutResponse:
		return fmt.Sprintf("put at %d", b.Header.Revision)
	case *pb.DeleteRangeResponse:
		return fmt.Sprintf("revoked %d keys at %d", b.Deleted, b.Header.Revision)
	}
	if rep.Err != nil {
		return rep.Err.Error()
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", rep.Body), "*peerpb.")
}

func showSpans(spans []metapb.Span) string {
	var out []string
	for _, s := range spans {
		out = append(out, fmt.Sprintf("[%q,%q)", s.Start, s.End))
	}
	return strings.Join(out, " ")
}

// send asks the range that holds an address.
func (s *leaseScript) send(addr []byte, body peerpb.Body) {
	s.ids++
	d := s.holder(addr).Descriptor()
	fmt.Fprintf(&s.out, "request %d to range %d\n", s.ids, d.RangeId)
	s.store.Request(&peerpb.Request{ID: s.ids, Range: d.ID(), Generation: d.Generation, Body: body})
}

type leaseArgs struct {
	txnArgs
	id      int64
	ttl     int
	num     int
	home    bool
	expired bool
}

func (s *leaseScript) leaseArgs(d *datadriven.TestData) leaseArgs {
	a := leaseArgs{txnArgs: s.args(d), ttl: 10, num: 1}
	d.MaybeScanArgs(s.t, "id", &a.id)
	d.MaybeScanArgs(s.t, "ttl", &a.ttl)
	d.MaybeScanArgs(s.t, "num", &a.num)
	d.MaybeScanArgs(s.t, "home", &a.home)
	d.MaybeScanArgs(s.t, "expired", &a.expired)
	return a
}

// addr is that of the lease, or of the key if there is one.
func (a *leaseArgs) addr() []byte {
	if a.key != "" {
		return keys.User([]byte(a.key))
	}
	return keys.Lease(a.id)
}

func (s *leaseScript) run(d *datadriven.TestData) string {
	a := s.leaseArgs(d)
	s.hook = func(rep peerpb.Reply) bool {
		if s.take(rep) {
			return true
		}
		fmt.Fprintf(&s.out, "reply %d: %s\n", rep.ID, showLease(rep))
		return true
	}
	s.out.Reset()
	switch d.Cmd {
	case "ranges":
		s.asked, s.answers = make(map[uint64]Send), nil
		return s.txnScript.run(d)
	case "grant":
		s.send(a.addr(), &peerpb.GrantLease{ID: a.id, TTL: int64(a.ttl), Number: uint64(a.num)})
	case "put":
		s.send(a.addr(), &peerpb.Write{Req: &pb.PutRequest{Key: []byte(a.key), Value: []byte("v"), Lease: a.id}})
	case "delete":
		s.send(a.addr(), &peerpb.Write{Req: &pb.DeleteRangeRequest{Key: []byte(a.key)}})
	case "txn": // puts the key with the lease if it exists not
		s.send(a.addr(), &peerpb.Write{Req: &pb.TxnRequest{Success: []*pb.RequestOp{{
			Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(a.key), Lease: a.id}},
		}}}})
	case "marks":
		s.send(a.addr(), &peerpb.EnsureMarks{Uses: []peerpb.LeaseUse{{Lease: a.id, Key: []byte(a.key)}}})
	case "attach": // the prepare of a transaction that puts the key with the lease
		s.send(a.addr(), &peerpb.Prepare{
			Txn: a.txnArgs.id, Accesses: parseAccesses([]string{a.key}), Hold: 50 * time.Millisecond,
			Uses: []peerpb.LeaseUse{{Lease: a.id, Key: []byte(a.key)}},
		})
	case "attached": // its intent
		s.attached(&a)
	case "detach": // the intent of one that puts the key without a lease
		s.detach(&a)
	case "revoke":
		s.send(a.addr(), &peerpb.RevokeLease{ID: a.id, Expired: a.expired})
	case "prepare-revoke":
		s.send(a.addr(), &peerpb.Prepare{
			Txn: a.txnArgs.id, Hold: 50 * time.Millisecond, Revoke: &peerpb.LeaseRevoke{ID: a.id, Home: a.home, Expired: a.expired},
		})
	case "revoked": // the intents of a revoke in one range
		s.revoked(&a, strings.Fields(d.Input))
	case "commit":
		rec := &txnpb.Record{Id: a.txnArgs.id, Status: txnpb.RecordStatus_COMMITTED, Revision: int64(a.rev), IntentAddresses: [][]byte{keys.Lease(a.id)}}
		for _, f := range strings.Fields(d.Input) {
			rec.IntentAddresses = append(rec.IntentAddresses, keys.User([]byte(f)))
		}
		s.send(keys.Lease(a.id), &peerpb.WriteRecord{Anchor: rec.IntentAddresses[0], Record: rec})
	case "end":
		s.send(a.addr(), &peerpb.Resolve{Txn: a.txnArgs.id, Commit: a.commit})
	case "free":
		s.send(a.addr(), &peerpb.Release{Txn: a.txnArgs.id})
	case "remove":
		s.send(a.addr(), &peerpb.RemoveLease{Txn: a.txnArgs.id, Lock: s.token(&a), ID: a.id})
	case "renew":
		s.send(a.addr(), &peerpb.RenewLeases{IDs: []int64{a.id}})
	case "cut":
		s.send(a.addr(), &peerpb.Split{At: a.addr(), RightID: metapb.RangeID(a.rev)})
	case "keys":
		s.send(a.addr(), &peerpb.LeaseKeys{ID: a.id, Span: s.holder(a.addr()).Descriptor().Span()})
	case "ask":
		s.ask()
	case "deliver":
		answers := s.answers
		s.answers = nil
		for _, rep := range answers {
			s.store.Reply(rep)
		}
	case "leases":
		return s.leases()
	case "held":
		return s.held()
	case "restart":
		s.asked, s.answers = make(map[uint64]Send), nil
		return s.txnScript.run(d)
	default:
		return s.txnScript.run(d)
	}
	s.settle()
	return s.out.String()
}

func (s *leaseScript) token(a *leaseArgs) uint64 {
	term := a.term
	if term == 0 {
		term = int(s.holder(a.addr()).leading)
	}
	return firstToken(uint64(term)) + uint64(a.lock)
}

func (s *leaseScript) ask() {
	sends := s.sends
	s.sends = nil
	for _, q := range sends {
		s.ids++
		s.asked[s.ids] = q
		d := s.holder(q.Address).Descriptor()
		s.store.Request(&peerpb.Request{ID: s.ids, Range: d.ID(), Generation: d.Generation, Body: q.Body})
	}
}

func (s *leaseScript) attached(a *leaseArgs) { s.intend(a, &txnpb.Mutation{Lease: a.id}) }

func (s *leaseScript) detach(a *leaseArgs) { s.intend(a, &txnpb.Mutation{PrevLease: a.id}) }

func (s *leaseScript) intend(a *leaseArgs, m *txnpb.Mutation) {
	s.rev = max(s.rev, Revision(a.rev))
	m.Key, m.Value, m.CreateRevision, m.Version = []byte(a.key), []byte("t"), int64(a.rev), 1
	in := &txnpb.Intent{Id: a.txnArgs.id, Revision: int64(a.rev), Anchor: a.addr(), Mutations: []*txnpb.Mutation{m}}
	s.send(a.addr(), &peerpb.WriteIntents{Txn: a.txnArgs.id, Lock: s.token(a), Revision: Revision(a.rev),
		Intents: []*cmdpb.AddressedIntent{{Address: a.addr(), Intent: in}}})
}

func (s *leaseScript) revoked(a *leaseArgs, found []string) {
	s.rev = max(s.rev, Revision(a.rev))
	anchor := keys.Lease(a.id)
	var intents []*cmdpb.AddressedIntent
	add := func(addr []byte, in *txnpb.Intent) {
		in.Id, in.Revision, in.Anchor = a.txnArgs.id, int64(a.rev), anchor
		intents = append(intents, &cmdpb.AddressedIntent{Address: addr, Intent: in})
	}
	if a.key == "" {
		add(anchor, &txnpb.Intent{DeletedRows: [][]byte{anchor}})
	}
	for i, key := range found {
		m := &txnpb.Mutation{Key: []byte(key), Sub: uint32(i), Tombstone: true, Existed: true, PrevLease: a.id}
		add(keys.User([]byte(key)), &txnpb.Intent{Mutations: []*txnpb.Mutation{m}})
	}
	if len(intents) == 0 {
		add(a.addr(), &txnpb.Intent{})
	}
	intents[0].Intent.Marks = []int64{a.id}
	s.send(a.addr(), &peerpb.WriteIntents{Txn: a.txnArgs.id, Lock: s.token(a), Revision: Revision(a.rev), Intents: intents})
}

// leases shows what the store has of leases: records, rows of keys, marks and
// registrations that are under way.
func (s *leaseScript) leases() string {
	var b strings.Builder
	for _, id := range s.store.IDs() {
		r := s.store.Replica(id)
		r.table.Ascend(0, func(rec lease.Record) bool {
			fmt.Fprintf(&b, "range %d: lease %d grant %d at %s\n", id, rec.ID, rec.Number, showSpans(rec.Spans))
			if rec.Remaining > 0 {
				fmt.Fprintf(&b, "range %d: lease %d has %d s left\n", id, rec.ID, rec.Remaining)
			}
			return true
		})
		if r.queue.aside != 0 && len(r.regs)+len(r.parked)+len(r.held) == 0 {
			s.t.Fatalf("range %d: nobody waits, with %d bytes", id, r.queue.aside)
		}
		for _, id := range sortedIDs(r.marks.byID) {
			fmt.Fprintf(&b, "range %d: mark of %d on %s\n", r.desc.RangeId, id, formatSet(r.marks.byID[id].spans))
		}
		for _, id := range sortedIDs(r.regs) {
			fmt.Fprintf(&b, "range %d: asks for %d, %d wait\n", r.desc.RangeId, id, len(r.regs[id].waiting))
		}
		err := scanRows(s.eng, keys.LeasedSpan(r.desc.Span()), func(key, value []byte) error {
			user, err := keys.DecodeLeased(key)
			if err != nil {
				return err
			}
			of, err := lease.DecodeLeased(value)
			if !slices.ContainsFunc(r.index.Keys(of), func(k []byte) bool { return string(k) == string(user) }) {
				s.t.Fatalf("the index lacks %q", user)
			}
			fmt.Fprintf(&b, "range %d: %s of lease %d\n", id, user, of)
			return err
		})
		if err != nil {
			s.t.Fatal(err)
		}
	}
	return b.String()
}

// held shows how many leases and keys the replicas have in memory.
func (s *leaseScript) held() string {
	var b strings.Builder
	for _, id := range s.store.IDs() {
		r := s.store.Replica(id)
		fmt.Fprintf(&b, "range %d: %d records, %d keys\n", id, r.table.Len(), r.index.Len())
	}
	return b.String()
}

func sortedIDs[T any](m map[int64]T) []int64 {
	var out []int64
	for id := range m {
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}

func TestLeaseScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/lease", func(t *testing.T, path string) {
		s := &leaseScript{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.t = t
			return s.run(d)
		})
	})
}
