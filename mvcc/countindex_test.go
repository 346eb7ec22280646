package mvcc

import (
	"fmt"
	"math/rand"
	"testing"
	"unsafe"

	"github.com/flotilladb/flotilla/proto/txnpb"
)

// counted is a world whose writes a CountIndex is told of.
type counted struct {
	*world
	x    *CountIndex
	live map[string]bool
	rng  *rand.Rand
	log  []countedChange // all changes of the number of keys
}

type countedChange struct {
	rev   Revision
	key   string
	delta int64
}

func (c *counted) key() string { return fmt.Sprintf("k%05d", c.rng.Intn(6000)) }

// write makes a change of some keys at a revision.
func (c *counted) write(rev Revision, keys int) {
	var muts []*txnpb.Mutation
	seen := make(map[string]bool)
	for range keys {
		key := c.key()
		if seen[key] {
			continue
		}
		seen[key] = true
		m := &txnpb.Mutation{Key: []byte(key), Sub: uint32(len(muts)), Existed: c.live[key]}
		if m.Existed && c.rng.Intn(3) > 0 {
			m.Tombstone = true
			c.log = append(c.log, countedChange{rev, key, -1})
		} else {
			m.CreateRevision, m.Version = int64(rev), 1
			if !m.Existed {
				c.log = append(c.log, countedChange{rev, key, 1})
			}
		}
		c.live[key] = !m.Tombstone
		muts = append(muts, m)
	}
	b := c.eng.NewBatch()
	for _, m := range muts {
		AppendMutation(b, rev, m)
	}
	must(c.t, c.eng.Commit(b, false))
	c.x.Apply(rev, muts)
	c.rev = max(c.rev, rev)
}

func (c *counted) want(start, end string, at Revision) (n int64) {
	for _, ch := range c.log {
		if ch.rev <= at && ch.key >= start && (end == "" || ch.key < end) {
			n += ch.delta
		}
	}
	return n
}

func (c *counted) check(x *CountIndex, start, end string, at Revision) {
	c.t.Helper()
	got, err := x.Count(c.eng, []byte(start), []byte(end), at)
	must(c.t, err)
	lo, hi := max(start, string(x.start)), end
	if len(x.end) != 0 && (hi == "" || hi > string(x.end)) {
		hi = string(x.end)
	}
	if want := c.want(lo, hi, at); got != want {
		c.t.Fatalf("count of [%q, %q) at %d of %d: %d, want %d", start, end, at, c.rev, got, want)
	}
}

// tile checks the index's own invariant.
func (c *counted) tile(x *CountIndex) {
	c.t.Helper()
	for i, b := range x.buckets {
		if i == 0 && string(b.start) != string(x.start) || i > 0 && string(b.start) <= string(x.buckets[i-1].start) {
			c.t.Fatalf("bucket %d begins at %q", i, b.start)
		}
		if b.known && b.live != c.want(string(b.start), string(x.endOf(i)), Latest) {
			c.t.Fatalf("bucket %d at %q has %d live keys", i, b.start, b.live)
		}
	}
}

func TestCountIndex(t *testing.T) {
	for seed := range int64(6) {
		rng := rand.New(rand.NewSource(seed))
		c := &counted{world: newWorld(t), x: NewCountIndex(nil, nil), live: map[string]bool{}, rng: rng}
		var tasks []*CountTask
		for step := range 600 {
			switch k := rng.Intn(10); {
			case k < 5:
				rev := c.rev + 1
				if rng.Intn(20) == 0 && c.rev > 5 {
					c.rev++ // leave a revision out, as a slow transaction does
				}
				c.write(rev, 1+rng.Intn(1+rng.Intn(200)))
			case k < 6: // begin a task
				task, err := c.x.Begin(c.eng, 1+rng.Intn(3000))
				must(t, err)
				if task != nil {
					tasks = append(tasks, task)
				}
			case k < 7: // writes come between the steps of a task
				for _, task := range tasks {
					if rng.Intn(8) > 0 {
						must(t, task.Run())
					}
					must(t, c.x.Finish(task))
				}
				tasks = nil
				c.tile(c.x)
			default:
				at := c.rev - Revision(rng.Intn(1+rng.Intn(40)))
				start, end := c.key(), c.key()
				if rng.Intn(3) == 0 {
					start = ""
				}
				if rng.Intn(3) == 0 {
					end = ""
				}
				c.check(c.x, start, end, max(at, 1))
			}
			if step == 400 {
				right := c.x.SplitAt([]byte("k03000"))
				c.tile(right)
				c.check(right, "", "", c.rev)
				c.check(c.x, "", "", c.rev)
				c.tile(c.x)
				// What comes back must take up where the halves are.
				c.x = NewCountIndex(nil, nil)
			}
		}
		for _, task := range tasks {
			must(t, c.x.Finish(task))
		}
		c.build()
		if n, ok := c.x.Live(); !ok || n != c.want("", "", Latest) {
			t.Fatalf("seed %d: live %d, %v, want %d", seed, n, ok, c.want("", "", Latest))
		}
	}
}

func (c *counted) build() {
	for {
		task, err := c.x.Begin(c.eng, 5000)
		must(c.t, err)
		if task == nil {
			return
		}
		must(c.t, task.Run())
		must(c.t, c.x.Finish(task))
	}
}

// A revision may be applied after a later one: a transaction's intents become
// versions when other requests have passed them.
func TestCountLateRevision(t *testing.T) {
	c := &counted{world: newWorld(t), x: NewCountIndex(nil, nil), live: map[string]bool{}, rng: rand.New(rand.NewSource(1))}
	c.build()
	for _, rev := range []Revision{2, 3, 7, 5, 9, 8, 4} {
		c.write(rev, 20)
	}
	for at := Revision(1); at < 12; at++ {
		c.check(c.x, "", "", at)
		if p := c.x.Plan(nil, nil, at); len(p.Scans) != 0 {
			t.Fatalf("at %d: %d scans though all changes are remembered", at, len(p.Scans))
		}
	}
}

// Deleting nearly everything joins buckets; a task in flight when the range is
// split is forgotten.
func TestCountJoinAndVoid(t *testing.T) {
	c := &counted{world: newWorld(t), x: NewCountIndex(nil, nil), live: map[string]bool{}, rng: rand.New(rand.NewSource(1))}
	var muts []*txnpb.Mutation
	put := func(rev Revision, tombstone bool) {
		muts = nil
		for i := range 5000 {
			if i%100 == 0 && tombstone {
				continue
			}
			key := fmt.Sprintf("k%05d", i)
			m := &txnpb.Mutation{Key: []byte(key), Sub: uint32(i), Tombstone: tombstone, Existed: tombstone}
			delta := int64(-1)
			if !tombstone {
				m.CreateRevision, m.Version, delta = int64(rev), 1, 1
			}
			c.log = append(c.log, countedChange{rev, key, delta})
			muts = append(muts, m)
		}
		c.apply(rev, muts)
		c.x.Apply(rev, muts)
	}
	put(2, false)
	if len(c.x.buckets) != 1 {
		t.Fatalf("%d buckets before a task", len(c.x.buckets))
	}
	c.build()
	if n := len(c.x.buckets); n < 3 {
		t.Fatalf("%d buckets for 5000 keys", n)
	}
	put(3, true)
	if n := len(c.x.buckets); n != 1 {
		t.Fatalf("%d buckets for 50 keys", n)
	}
	c.check(c.x, "", "", 3)
	c.check(c.x, "", "", 2)

	c.x = NewCountIndex(nil, nil)
	task, err := c.x.Begin(c.eng, 100)
	must(t, err)
	if again, err := c.x.Begin(c.eng, 100); again != nil || err != nil {
		t.Fatalf("two tasks at once: %v, %v", again, err)
	}
	right := c.x.SplitAt([]byte("k02000"))
	must(t, task.Run())
	must(t, c.x.Finish(task))
	c.tile(c.x)
	c.check(c.x, "", "", 3)
	c.check(right, "", "", 3)
}

// Two million keys must cost less than 2 MB.
func TestCountIndexSize(t *testing.T) {
	perBucket := int(unsafe.Sizeof(bucket{})) + changesMax*int(unsafe.Sizeof(countChange{})) + 100 // and its key
	if buckets := 2_000_000 / bucketKeysNew; buckets*perBucket > 2_000_000 {
		t.Fatalf("%d bytes", buckets*perBucket)
	}
}
