package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/e2e/proc"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Each worker has a client and a pair of keys at both ends of the keyspace, and
// counts in them: one request puts the next number in the first key, the next one in
// both. It takes no number twice, so that each key's version is at most how often it
// was sent, and at least how often it was answered.
const workers = 8

// ledger is what the clients know.
type ledger struct {
	mu      sync.Mutex
	counts  [workers]counts
	byRev   map[int64]int64 // of revisions that answers carried, worker and number
	errs    []error         // of requests
	took    []time.Duration // of answered puts since the last call of times
	broken  error           // the first broken promise
	workers sync.WaitGroup
	stop    context.CancelFunc
}

// counts are one worker's. Left and right are how often each key was put.
type counts struct {
	number, acked           int64 // sent, and the last that was answered
	ackedRev                int64
	leftSent, leftAcked     int64
	rightSent, rightAcked   int64
	answered, sinceLastLook int64
}

// startLoad begins to write through clients of all nodes.
func startLoad(t *testing.T, c *proc.Cluster) *ledger {
	l := &ledger{byRev: make(map[int64]int64)}
	var ctx context.Context
	ctx, l.stop = context.WithCancel(context.Background())
	for w := range workers {
		cl := client(t, c)
		l.workers.Go(func() {
			for ctx.Err() == nil {
				l.write(cl, w)
				l.read(cl, w)
			}
		})
	}
	t.Cleanup(l.end)
	return l
}

func (l *ledger) end() {
	l.stop()
	l.workers.Wait()
}

// write sends a worker's next request.
func (l *ledger) write(cl *clientv3.Client, w int) {
	l.mu.Lock()
	c := &l.counts[w]
	c.number++
	c.leftSent++
	n, both := c.number, c.number%4 == 0
	if both {
		c.rightSent++
	}
	l.mu.Unlock()
	value := strconv.FormatInt(n, 10)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var rev int64
	begun := time.Now()
	var err error
	if both {
		var resp *clientv3.TxnResponse
		resp, err = cl.Txn(ctx).Then(clientv3.OpPut(key("a", w), value), clientv3.OpPut(key("z", w), value)).Commit()
		if err == nil {
			rev = resp.Header.Revision
		}
	} else {
		var resp *clientv3.PutResponse
		resp, err = cl.Put(ctx, key("a", w), value)
		if err == nil {
			rev = resp.Header.Revision
		}
	}
	l.note(w, n, rev, both, time.Since(begun), err)
}

func (l *ledger) note(w int, n, rev int64, both bool, took time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.errs = append(l.errs, fmt.Errorf("write %d of worker %d after %v: %w", n, w, took, err))
		return
	}
	name := n*workers + int64(w)
	if old, ok := l.byRev[rev]; ok {
		l.failLocked("revision %d was given to number %d of worker %d and to %d of %d", rev, old/workers, old%workers, n, w)
	}
	l.byRev[rev] = name
	c := &l.counts[w]
	if rev <= c.ackedRev {
		l.failLocked("worker %d: revision %d follows %d", w, rev, c.ackedRev)
	}
	c.acked, c.ackedRev = n, rev
	c.leftAcked++
	c.answered++
	if both {
		c.rightAcked++
	} else {
		l.took = append(l.took, took)
	}
}

// read looks at what the worker last wrote.
func (l *ledger) read(cl *clientv3.Client, w int) {
	l.mu.Lock()
	want := l.counts[w]
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	resp, err := cl.Get(ctx, key("a", w))
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.errs = append(l.errs, fmt.Errorf("read of worker %d: %w", w, err))
		return
	}
	l.checkLocked("a", w, resp, want.acked, want.ackedRev, want.leftAcked, want.leftSent)
}

func (l *ledger) failLocked(format string, args ...any) {
	if l.broken == nil {
		l.broken = fmt.Errorf(format, args...)
	}
}

// checkLocked compares a key with what its worker knows.
func (l *ledger) checkLocked(side string, w int, resp *clientv3.GetResponse, acked, ackedRev, putMin, putMax int64) {
	var number, rev, version int64
	if len(resp.Kvs) > 0 {
		number, _ = strconv.ParseInt(string(resp.Kvs[0].Value), 10, 64)
		rev, version = resp.Kvs[0].ModRevision, resp.Kvs[0].Version
	}
	switch {
	case number < acked:
		l.failLocked("%s: %d was answered, %d is there", key(side, w), acked, number)
	case rev < ackedRev:
		l.failLocked("%s: revision %d was answered, %d is there", key(side, w), ackedRev, rev)
	case resp.Header.Revision < ackedRev:
		l.failLocked("%s: revision %d was answered, the header has %d", key(side, w), ackedRev, resp.Header.Revision)
	case version < putMin || version > putMax:
		l.failLocked("%s: put %d to %d times, its version is %d", key(side, w), putMin, putMax, version)
	}
}

// more waits until every worker had some answers more.
func (l *ledger) more(t *testing.T, answers int64) {
	t.Helper()
	l.mu.Lock()
	for w := range l.counts {
		l.counts[w].sinceLastLook = l.counts[w].answered
	}
	l.mu.Unlock()
	deadline := time.After(time.Minute)
	for {
		l.mu.Lock()
		behind := slices.IndexFunc(l.counts[:], func(c counts) bool { return c.answered < c.sinceLastLook+answers })
		broken := l.broken
		l.mu.Unlock()
		switch {
		case broken != nil:
			t.Fatal(broken)
		case behind < 0:
			return
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-deadline:
			t.Fatalf("worker %d gets no answers: %v", behind, l.lastErrs(3))
		}
	}
}

func (l *ledger) lastErrs(n int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.errs[max(0, len(l.errs)-n):]...)
}

// times returns the 50th and the 99th percentile of the puts since the last call.
func (l *ledger) times() (p50, p99 time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.took
	l.took = nil
	if len(all) == 0 {
		return 0, 0
	}
	slices.Sort(all)
	return all[len(all)/2], all[len(all)*99/100]
}

// check ends the load and compares every key, as each node has it, with what the
// workers know. It returns how many requests failed.
func (l *ledger) check(t *testing.T, c *proc.Cluster) (failed int) {
	t.Helper()
	l.end()
	for i, addr := range c.Endpoints() {
		cl, err := clientv3.New(clientv3.Config{Endpoints: []string{addr}})
		if err != nil {
			t.Fatal(err)
		}
		for w := range workers {
			k := &l.counts[w]
			for _, side := range []string{"a", "z"} {
				resp, err := cl.Get(t.Context(), key(side, w))
				if err != nil {
					t.Fatalf("get through node %d: %v", i, err)
				}
				l.mu.Lock()
				if side == "a" {
					l.checkLocked(side, w, resp, k.acked, k.ackedRev, k.leftAcked, k.leftSent)
				} else {
					l.checkLocked(side, w, resp, 0, 0, k.rightAcked, k.rightSent)
				}
				l.mu.Unlock()
			}
		}
		if err := cl.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if l.broken != nil {
		t.Fatal(l.broken)
	}
	answered := int64(0)
	for w := range l.counts {
		answered += l.counts[w].answered
	}
	t.Logf("%d writes answered, %d requests failed", answered, len(l.errs))
	return len(l.errs)
}
