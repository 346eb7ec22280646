package ranges

import (
	"bytes"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/mvcc"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// work is a request that waits for its turn.
type work struct {
	req    *peerpb.Request
	bytes  int
	ticket uint64 // in the lock table, if it had to wait there
	split  bool   // counted in Replica.splits
	// admitted says that the lock table let it on; a prepare has its locks.
	admitted bool
	// registers counts the registrations it waits for. absent are leases that,
	// as their homes said since it came, do not exist; failed: one did not answer.
	registers int
	absent    []int64
	failed    bool
}

// workQueue is what waits at a range, first come, first served.
type workQueue struct {
	items []*work
	bytes int // of items
	// aside is the bytes of those that wait elsewhere, for locks or a split, and
	// come back.
	aside int
	// hurried counts those that need no disk.
	hurried int
}

func (q *workQueue) push(w *work) {
	q.items = append(q.items, w)
	q.count(w, 1)
}

// count enters a work into the sums, or takes it out.
func (q *workQueue) count(w *work, sign int) {
	q.bytes += sign * w.bytes
	switch w.req.Body.(type) {
	case *peerpb.Prepare, *peerpb.Release, *peerpb.Close, *peerpb.EnsureMarks:
		q.hurried += sign
	}
}

// pushFront puts works that the lock table let on before all others but those
// that it let on earlier: a prepare among these reads what the works before it
// wrote, and they do not wait for its locks.
func (q *workQueue) pushFront(ws []*work) {
	n := 0
	for n < len(q.items) && q.items[n].admitted {
		n++
	}
	q.items = slices.Insert(q.items, n, ws...)
	for _, w := range ws {
		q.count(w, 1)
	}
}

// pushUrgent puts a work before all that the lock table did not let on. Revokes
// are: under overload they would otherwise come ever later, while more leases
// expire.
func (q *workQueue) pushUrgent(w *work) {
	n := 0
	for n < len(q.items) && (q.items[n].admitted || urgent(q.items[n].req.Body)) {
		n++
	}
	q.items = slices.Insert(q.items, n, w)
	q.count(w, 1)
}

// urgent reports whether a request goes before others.
func urgent(body peerpb.Body) bool {
	switch b := body.(type) {
	case *peerpb.RevokeLease, *peerpb.RemoveLease:
		return true
	case *peerpb.Prepare:
		return b.Revoke != nil
	}
	return false
}

// drop removes the first n.
func (q *workQueue) drop(n int) {
	for _, w := range q.items[:n] {
		q.count(w, -1)
	}
	rest := copy(q.items, q.items[n:])
	clear(q.items[rest:])
	q.items = q.items[:rest]
}

// putsMin is how many puts make it worth while to sort them.
const putsMin = 8

// sortPuts brings the puts at the front, as many as go into a batch, into the order of
// their keys: all were there before any was answered, so none has to come first.
// Reading what they replace then goes forward through the engine, as does writing them
// on every replica.
func (q *workQueue) sortPuts(bytesMax int) {
	first := 0
	for first < len(q.items) && q.items[first].admitted {
		first++
	}
	n, size := first, 0
	for n < len(q.items) && size < bytesMax && q.items[n].putKey() != nil {
		size += q.items[n].bytes
		n++
	}
	if puts := q.items[first:n]; len(puts) >= putsMin {
		slices.SortStableFunc(puts, func(a, b *work) int { return bytes.Compare(a.putKey(), b.putKey()) })
	}
}

// putKey returns the key of a client's put, nil of any other request.
func (w *work) putKey() []byte {
	if b, ok := w.req.Body.(*peerpb.Write); ok {
		if put, ok := b.Req.(*pb.PutRequest); ok {
			return put.Key
		}
	}
	return nil
}

// fits reports whether a request may wait here as well; an empty queue takes any.
// What goes on with a transaction always may, and ends what others wait for. It
// is bounded by the locks that were taken; and intents that were sent away for
// want of room would leave their revision, which is given out, without anybody
// here who knows that it is still to come.
func (q *workQueue) fits(w *work, bytesMax int) bool {
	switch body := w.req.Body.(type) {
	case *peerpb.RevokeLease, *peerpb.RemoveLease, *peerpb.CheckpointLeases:
		return true
	case *peerpb.RegisterLease: // a put waits for it, which may be what there is no room beside
		return true
	case *peerpb.WriteIntents, *peerpb.WriteRecord, *peerpb.Resolve, *peerpb.Release, *peerpb.Forget, *peerpb.Push:
		return true
	case *peerpb.Prepare:
		if body.Lock != 0 || body.Revoke != nil {
			return true
		}
	}
	held := q.bytes + q.aside
	return held == 0 || held+w.bytes <= bytesMax
}

// fitsAside reports whether a request may wait elsewhere as well; one may always.
func (q *workQueue) fitsAside(w *work, bytesMax int) bool {
	return q.aside == 0 || q.aside+w.bytes <= bytesMax
}

// answer is what one request of a batch will be told.
type answer struct {
	id      uint64
	body    any
	err     error
	changed bool
	// place is how many changes are before it in its batch.
	place int
	// touched is the highest batch of which the request saw effects; a request
	// that changes nothing is answered when that batch can be read.
	touched uint64
}

// batch is what one ask and one entry of the log carry.
type batch struct {
	number  uint64 // of the ask and of the overlay's layer
	entry   cmdpb.Entry
	answers []answer       // once proposed: of the requests that it changes something for
	changes int            // updates; each takes a revision
	updates []cmdpb.Update // room for the next
	bytes   int
	// exact is the batch's last request, and its one change, if it could only be
	// evaluated at an assumed revision.
	exact proto.Message
	// goOn are asked to be evaluated again when the batch is advanced: it has a
	// piece of the end of their transaction.
	goOn   []*work
	splits int  // commands that cut the range: at most one, and then alone
	asks   bool // wants a revision, or the last one issued

	// replicas is the descriptor that a change of replicas leads to; nil: there is
	// none.
	replicas *metapb.Descriptor

	// check is what the batch has of a check; nil: nothing.
	check *cmdpb.CheckCommand

	// once proposed
	index, term uint64
	size        int        // of the entry, in bytes
	proposed    clock.Time // when
	// system has rows of the system range to be told of when applied.
	system []*cmdpb.Row
	// rows is the command for rows of leases; nil: there are none. checkpoints are
	// those among them.
	rows        *cmdpb.RowsCommand
	checkpoints []peerpb.LeaseCheckpoint
}

// reserveMax bounds what reserve takes for requests that may not fit.
const reserveMax = 256

// reserve makes room for what about n requests leave in the batch.
func (b *batch) reserve(n int) {
	n = min(n, reserveMax)
	b.answers = make([]answer, 0, n)
	b.entry.Updates = make([]*cmdpb.Update, 0, n)
	b.updates = make([]cmdpb.Update, n)
}

// update adds a change to the batch's entry.
func (b *batch) update(rev Revision, muts []*txnpb.Mutation) {
	if len(b.updates) == 0 {
		b.updates = make([]cmdpb.Update, reserveMax)
	}
	u := &b.updates[0]
	b.updates = b.updates[1:]
	u.Revision, u.Mutations = int64(rev), muts
	b.entry.Updates = append(b.entry.Updates, u)
	b.changes++
}

func (b *batch) empty() bool {
	return len(b.answers) == 0 && len(b.entry.Updates) == 0 && len(b.entry.Commands) == 0
}

// logs reports whether the batch has something for the log.
func (b *batch) logs() bool { return len(b.entry.Updates) > 0 || len(b.entry.Commands) > 0 }

// open is the revision of the batch's next change.
func (b *batch) open() Revision { return mvcc.OpenRevision + Revision(b.changes) }

// command adds a command to the batch's entry.
func (b *batch) command(c *cmdpb.Command) { b.entry.Commands = append(b.entry.Commands, c) }

// done adds the answer of a request that will be given when the batch is
// applied.
func (b *batch) done(id uint64, body any) {
	b.answers = append(b.answers, answer{id: id, body: body, changed: true})
}

func inflightBytes(bs []*batch) (n int) {
	for _, b := range bs {
		n += b.size
	}
	return n
}

func sortedTickets(m map[uint64]*work) []uint64 {
	ts := make([]uint64, 0, len(m))
	for t := range m {
		ts = append(ts, t)
	}
	slices.Sort(ts)
	return ts
}
