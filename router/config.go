package router

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// Config sets a Router up.
type Config struct {
	// Store and StoreStart name this router as a coordinator: its transactions'
	// ids and its asks to the sequencer carry them. StoreStart is different in
	// each start of the store.
	Store      metapb.StoreID
	StoreStart uint64
	// OpsMax bounds the requests under way. 0: 65,536.
	OpsMax int
	// RequestTimeout is when a client is told that its request's outcome is not
	// known. 0: 7 s, as etcd with its default election timeout.
	RequestTimeout time.Duration
	// RetryDelayMin and RetryDelayMax bound the wait before a request is sent
	// again; it doubles in between. 0: 2 ms and 200 ms.
	RetryDelayMin, RetryDelayMax time.Duration
	// LeaderDelayMax bounds it where a range has no leader: when it has one again,
	// who waits is not to wait for long. 0: 40 ms.
	LeaderDelayMax time.Duration
	// HoldMin and HoldMax bound how long a cross-range transaction without a
	// revision may hold back closing; it doubles at each new attempt. 0: 50 ms
	// and 1 s.
	HoldMin, HoldMax time.Duration
	// LeaseTTLMin is what a smaller TTL of a lease is raised to, in seconds. 0: 2,
	// as etcd with its default election timeout.
	LeaseTTLMin int64
	// Random chooses ids of leases and names their grants. Nil: made of Store and
	// StoreStart.
	Random *rand.Rand
	// TouchEvery is how often the ranges that hold a transaction's locks hear of
	// it while it reads elsewhere; it is well below the age at which such locks
	// die. 0: 500 ms.
	TouchEvery time.Duration
	// TxnRowsBytesMax bounds the rows that a transaction keeps until it is
	// evaluated: what it compares, reads or shows, and what it deletes of a span
	// in which it also writes. One that needs more is refused. 0: 256 MiB.
	TxnRowsBytesMax int
	// TxnDeletesMax bounds the keys that such a transaction deletes one by one; of
	// other deletes of spans there may be any number. 0: 16,384.
	TxnDeletesMax int
	// TxnIntentBytesMax bounds what a transaction writes, with the keys that it deletes
	// one by one: what the transport does not take at once would be sent again and again,
	// and hold up what else is on its way. 0: 28 MiB.
	TxnIntentBytesMax int
}

// Validate fills in the defaults and reports what cannot work.
func (c *Config) Validate() error {
	setDefault(&c.OpsMax, 1<<16)
	setDefault(&c.RequestTimeout, 7*time.Second)
	setDefault(&c.RetryDelayMin, 2*time.Millisecond)
	setDefault(&c.RetryDelayMax, 200*time.Millisecond)
	setDefault(&c.LeaderDelayMax, 40*time.Millisecond)
	setDefault(&c.HoldMin, 50*time.Millisecond)
	setDefault(&c.HoldMax, time.Second)
	setDefault(&c.LeaseTTLMin, 2)
	if c.Random == nil {
		c.Random = rand.New(rand.NewPCG(uint64(c.Store), c.StoreStart))
	}
	setDefault(&c.TouchEvery, 500*time.Millisecond)
	setDefault(&c.TxnRowsBytesMax, 256<<20)
	setDefault(&c.TxnDeletesMax, 1<<14)
	setDefault(&c.TxnIntentBytesMax, 28<<20)
	switch {
	case c.Store == 0:
		return errors.New("router config: no store")
	case c.OpsMax < 0 || c.RequestTimeout < 0 || c.TxnRowsBytesMax < 0 || c.TxnDeletesMax < 0 || c.TxnIntentBytesMax < 0:
		return errors.New("router config: negative bound")
	case c.RetryDelayMin > c.RetryDelayMax || c.HoldMin > c.HoldMax:
		return errors.New("router config: a minimum above its maximum")
	}
	return nil
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}
