package recipes

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// A session's keys live while it is kept alive, go at once when it is closed, and
// go after its TTL when nobody keeps it alive.
func TestSession(t *testing.T) {
	s := start(t)
	closed, err := concurrency.NewSession(s.client(t), concurrency.WithTTL(5))
	must(t, err)
	orphan, err := concurrency.NewSession(s.client(t), concurrency.WithTTL(5))
	must(t, err)
	kept, err := concurrency.NewSession(s.client(t), concurrency.WithTTL(5))
	must(t, err)
	var puts []clientv3.Op
	for i := range 30 {
		for name, session := range map[string]*concurrency.Session{"closed": closed, "orphan": orphan, "kept": kept} {
			puts = append(puts, clientv3.OpPut(fmt.Sprintf("%c/session/%s%d", 'a'+i%26, name, i), "x", clientv3.WithLease(session.Lease())))
		}
	}
	_, err = s.Txn(soon(t)).Then(puts...).Commit()
	must(t, err)
	orphan.Orphan() // the last keepalive was up to a third of its TTL before
	orphaned := time.Now()
	first := s.gone(t, "a/session/orphan0")
	if early := time.Since(orphaned); early < 3*time.Second {
		t.Errorf("a lease of five seconds ran out %v after it was last kept alive", early)
	}
	select {
	case <-kept.Done():
		t.Error("a session that is kept alive ended")
	default:
	}
	must(t, closed.Close())
	revoked := s.gone(t, "a/session/closed0")
	for i := range 30 {
		for name, want := range map[string]int64{"closed": revoked, "orphan": first} {
			key := fmt.Sprintf("%c/session/%s%d", 'a'+i%26, name, i)
			if _, present := s.get(t, key); present {
				t.Errorf("%s outlived its lease, which ended at %d", key, want)
			}
		}
		key := fmt.Sprintf("%c/session/kept%d", 'a'+i%26, i)
		if _, present := s.get(t, key); !present {
			t.Errorf("%s went before its lease", key)
		}
	}
	s.oneRevision(t, "orphan", first)
}

// oneRevision holds all deletions of a lease's keys against each other.
func (s *server) oneRevision(t *testing.T, name string, rev int64) {
	t.Helper()
	ctx, cancel := context.WithCancel(soon(t))
	defer cancel()
	left := 30
	for wr := range s.Watch(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithRev(rev), clientv3.WithFilterPut(), clientv3.WithPrevKV()) {
		must(t, wr.Err())
		for _, e := range wr.Events {
			if e.Kv.ModRevision != rev {
				t.Fatalf("%d keys of %s were not deleted at %d, the next event is of %q at %d", left, name, rev, e.Kv.Key, e.Kv.ModRevision)
			}
			if left--; e.PrevKv == nil || string(e.PrevKv.Value) != "x" {
				t.Errorf("deletion of %q came with %v before it", e.Kv.Key, e.PrevKv)
			}
			if left == 0 {
				return
			}
		}
	}
	t.Fatalf("%d keys of %s were not deleted", left, name)
}

// Under the lock a read and a write need no transaction.
func TestMutex(t *testing.T) {
	s := start(t)
	const workers, rounds = 8, 25
	ctx := soon(t)
	var wg sync.WaitGroup
	for range workers {
		c := s.client(t)
		wg.Go(func() {
			if err := addUnderLock(ctx, c, rounds); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got, _ := s.get(t, "n/counter"); got != strconv.Itoa(workers*rounds) {
		t.Fatalf("the counter is at %s, want %d", got, workers*rounds)
	}
}

func addUnderLock(ctx context.Context, c *clientv3.Client, rounds int) error {
	session, err := concurrency.NewSession(c, concurrency.WithTTL(20))
	if err != nil {
		return err
	}
	defer session.Close()
	for range rounds {
		m := concurrency.NewMutex(session, "m/lock")
		if err := m.Lock(ctx); err != nil {
			return err
		}
		resp, err := c.Get(ctx, "n/counter")
		if err != nil {
			return err
		}
		n := 0
		if len(resp.Kvs) > 0 {
			if n, err = strconv.Atoi(string(resp.Kvs[0].Value)); err != nil {
				return err
			}
		}
		put := clientv3.OpPut("n/counter", strconv.Itoa(n+1))
		if owned, err := c.Txn(ctx).If(m.IsOwner()).Then(put).Commit(); err != nil || !owned.Succeeded {
			return fmt.Errorf("the lock was lost: %w", err)
		}
		if err := m.Unlock(ctx); err != nil {
			return err
		}
	}
	return nil
}

// A lock is not taken twice, a waiter may give up, and a session that ends lets
// the next one in.
func TestMutexHandsOver(t *testing.T) {
	s := start(t)
	ctx := soon(t)
	var sessions []*concurrency.Session
	for range 3 {
		session, err := concurrency.NewSession(s.client(t), concurrency.WithTTL(5))
		must(t, err)
		sessions = append(sessions, session)
	}
	holder := concurrency.NewMutex(sessions[0], "m/handover")
	must(t, holder.Lock(ctx))
	if err := concurrency.NewMutex(sessions[1], "m/handover").TryLock(ctx); !errors.Is(err, concurrency.ErrLocked) {
		t.Fatalf("TryLock of a taken lock: %v", err)
	}
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if err := concurrency.NewMutex(sessions[1], "m/handover").Lock(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a waiter that gives up: %v", err)
	}
	next := make(chan error, 1)
	waiter := concurrency.NewMutex(sessions[2], "m/handover")
	go func() { next <- waiter.Lock(ctx) }()
	must(t, sessions[0].Close())
	must(t, <-next)
	must(t, waiter.Unlock(ctx))
}

// One leader at a time; who observes sees the leaders in order, and what each
// proclaims.
func TestElection(t *testing.T) {
	s := start(t)
	ctx := soon(t)
	const candidates = 5
	watcher, err := concurrency.NewSession(s.client(t))
	must(t, err)
	observed := concurrency.NewElection(watcher, "e/leader").Observe(ctx)
	var mu sync.Mutex
	var terms []string // values in the order in which they held
	var wg sync.WaitGroup
	for i := range candidates {
		c := s.client(t)
		wg.Go(func() {
			if err := lead(ctx, c, i, func(v string) { mu.Lock(); terms = append(terms, v); mu.Unlock() }); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	// The last leader stays: one that the next followed at once may be passed over.
	const last = "the last"
	final, err := concurrency.NewSession(s.client(t))
	must(t, err)
	must(t, concurrency.NewElection(final, "e/leader").Campaign(ctx, last))
	terms = append(terms, last)
	at := 0
	for resp := range observed {
		v := string(resp.Kvs[0].Value)
		for at < len(terms) && terms[at] != v {
			at++
		}
		if at == len(terms) {
			t.Fatalf("%q was observed out of order; the leaders were %q", v, terms)
		}
		if v == last {
			return
		}
	}
	t.Fatalf("the last leader %q was never observed", last)
}

// lead becomes leader twice and proclaims once each time.
func lead(ctx context.Context, c *clientv3.Client, id int, note func(string)) error {
	session, err := concurrency.NewSession(c, concurrency.WithTTL(20))
	if err != nil {
		return err
	}
	defer session.Close()
	for round := range 2 {
		e := concurrency.NewElection(session, "e/leader")
		v := fmt.Sprintf("%d.%d", id, round)
		if err := e.Campaign(ctx, v); err != nil {
			return err
		}
		note(v)
		if err := e.Proclaim(ctx, v+"!"); err != nil {
			return err
		}
		note(v + "!")
		resp, err := e.Leader(ctx)
		if err != nil {
			return err
		}
		if got := string(resp.Kvs[0].Value); got != v+"!" {
			return fmt.Errorf("%s leads, and %q is said to", v, got)
		}
		if id == 0 && round == 1 {
			return nil // its session's end is its resignation
		}
		if err := e.Resign(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Money moves between accounts on many ranges, and the sum stays.
func TestSTM(t *testing.T) {
	for name, level := range map[string]concurrency.Isolation{
		"snapshot": concurrency.SerializableSnapshot, "serializable": concurrency.Serializable,
	} {
		t.Run(name, func(t *testing.T) { testBank(t, level) })
	}
}

func testBank(t *testing.T, level concurrency.Isolation) {
	const accounts, each, workers, rounds = 13, 100, 5, 20
	s := start(t)
	ctx := soon(t)
	account := func(i int) string { return fmt.Sprintf("%c/account", 'a'+2*i) }
	for i := range accounts {
		s.put(t, account(i), strconv.Itoa(each))
	}
	var wg sync.WaitGroup
	for w := range workers {
		c := s.client(t)
		wg.Go(func() {
			for i := range rounds {
				from, to := account((w*7+i)%accounts), account((w+i*5+1)%accounts)
				if from == to {
					continue
				}
				_, err := concurrency.NewSTM(c, func(stm concurrency.STM) error {
					a, errA := strconv.Atoi(stm.Get(from))
					b, errB := strconv.Atoi(stm.Get(to))
					if errA != nil || errB != nil {
						return errors.Join(errA, errB)
					}
					move := min(a, 1+i)
					stm.Put(from, strconv.Itoa(a-move))
					stm.Put(to, strconv.Itoa(b+move))
					return nil
				}, concurrency.WithIsolation(level), concurrency.WithAbortContext(ctx), concurrency.WithPrefetch(from, to))
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	sum := 0
	for i := range accounts {
		v, _ := s.get(t, account(i))
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 {
			t.Fatalf("account %d holds %q", i, v)
		}
		sum += n
	}
	if sum != accounts*each {
		t.Fatalf("the accounts hold %d, want %d", sum, accounts*each)
	}
}
