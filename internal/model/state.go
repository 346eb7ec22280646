package model

import (
	"bytes"
	"errors"
	"slices"
	"sort"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Limits are the limits that a server enforces on requests.
type Limits struct {
	// TxnOpsMax is the largest number of compares or of operations in a branch,
	// nested transactions included along each path.
	TxnOpsMax int
	// RequestBytesMax is the largest encoded request that changes something.
	RequestBytesMax int
	// LeaseTTLMin is the TTL that shorter ones are raised to, in seconds.
	LeaseTTLMin int64
}

// DefaultLimits are etcd's.
func DefaultLimits() Limits {
	return Limits{TxnOpsMax: 128, RequestBytesMax: 1536 * 1024, LeaseTTLMin: 2}
}

// Validate reports a limit that no server can have.
func (l Limits) Validate() error {
	if l.TxnOpsMax <= 0 || l.RequestBytesMax <= 0 || l.LeaseTTLMin <= 0 {
		return errors.New("model: limits must be positive")
	}
	return nil
}

// State is everything that the KV, Lease and Watch APIs can show, but for how
// long leases still have.
type State struct {
	limits    Limits
	revision  int64
	compacted int64
	keys      []*history // by key, each key once
	leases    []lease    // by id
}

// history is one key's versions. Immutable.
type history struct {
	key      []byte
	versions []version // oldest first
}

// version is a key as it was from a revision on.
type version struct {
	main, sub int64
	kv        *mvccpb.KeyValue // nil: deleted
}

// New returns the state of a fresh server: revision 1, nothing compacted.
func New(l Limits) (*State, error) {
	if err := l.Validate(); err != nil {
		return nil, err
	}
	return &State{limits: l, revision: 1, compacted: -1}, nil
}

// Revision is the revision of the last request that changed something.
func (s *State) Revision() int64 { return s.revision }

// Compacted is the revision below which nothing can be read, -1 if nothing was
// compacted yet.
func (s *State) Compacted() int64 { return s.compacted }

// Live returns the keys alive at rev in [key, end), in key order; end is read
// as in a RangeRequest. The pairs are shared, and must not be changed.
func (s *State) Live(key, end []byte, rev int64) []*mvccpb.KeyValue {
	var kvs []*mvccpb.KeyValue
	for _, h := range s.spanned(key, end) {
		if kv := h.at(rev); kv != nil {
			kvs = append(kvs, kv)
		}
	}
	return kvs
}

// Event is one change of a key, as a watch would show it.
type Event struct {
	Main, Sub int64
	Key       []byte
	KV        *mvccpb.KeyValue // nil: deleted
}

// Events returns the changes with a revision in (after, upTo], ordered by
// revision and place in it.
// REQUIRES: after >= Compacted; what was compacted is forgotten.
func (s *State) Events(after, upTo int64) []Event {
	var events []Event
	for _, h := range s.keys {
		for _, v := range h.versions {
			if v.main > after && v.main <= upTo {
				events = append(events, Event{Main: v.main, Sub: v.sub, Key: h.key, KV: v.kv})
			}
		}
	}
	slices.SortFunc(events, func(a, b Event) int {
		if a.Main != b.Main {
			return int(a.Main - b.Main)
		}
		return int(a.Sub - b.Sub)
	})
	return events
}

// at returns the pair at a revision, nil if the key was not alive.
func (h *history) at(rev int64) *mvccpb.KeyValue {
	for i := len(h.versions) - 1; i >= 0; i-- {
		if h.versions[i].main <= rev {
			return h.versions[i].kv
		}
	}
	return nil
}

// spanned returns the histories of the keys in [key, end). An empty end means
// the one key, a single zero byte means no upper bound.
func (s *State) spanned(key, end []byte) []*history {
	from := s.search(key)
	to := len(s.keys)
	switch {
	case len(end) == 0:
		to = from
		if from < len(s.keys) && bytes.Equal(s.keys[from].key, key) {
			to = from + 1
		}
	case len(end) == 1 && end[0] == 0:
	default:
		to = max(from, s.search(end))
	}
	return s.keys[from:to]
}

// search returns the place of the first key that is not below key.
func (s *State) search(key []byte) int {
	return sort.Search(len(s.keys), func(i int) bool { return bytes.Compare(s.keys[i].key, key) >= 0 })
}

// draft is a state in the making: one request being executed.
type draft struct {
	State
	changes int64 // versions written so far; the next one's sub-revision
	owned   bool  // keys is our own copy
}

func (s *State) begin() *draft { return &draft{State: *s} }

// now is the revision at which the request reads: its own once it has written.
func (d *draft) now() int64 {
	if d.changes > 0 {
		return d.revision + 1
	}
	return d.revision
}

// write appends a version to a key; a nil pair deletes it.
func (d *draft) write(key []byte, kv *mvccpb.KeyValue) {
	if !d.owned {
		d.keys, d.owned = slices.Clone(d.keys), true
	}
	v := version{main: d.revision + 1, sub: d.changes, kv: kv}
	d.changes++
	i := d.search(key)
	if i < len(d.keys) && bytes.Equal(d.keys[i].key, key) {
		old := d.keys[i]
		d.keys[i] = &history{key: old.key, versions: append(slices.Clip(old.versions), v)}
		return
	}
	d.keys = slices.Insert(d.keys, i, &history{key: bytes.Clone(key), versions: []version{v}})
}

// end returns the state after the request.
func (d *draft) end() *State {
	next := d.State
	next.revision = d.now()
	return &next
}

// Skip returns the state after the revisions up to rev were given to nobody, as
// a server that crashed may do. Nothing happens if it is there already.
func (s *State) Skip(rev int64) *State {
	if rev <= s.revision {
		return s
	}
	next := *s
	next.revision = rev
	return &next
}

// WithCompacted returns the state in which rev is compacted and nothing was
// forgotten, for a checker that does not know when a compaction took place. It
// may be above the state's revision.
func (s *State) WithCompacted(rev int64) *State {
	if rev == s.compacted {
		return s
	}
	next := *s
	next.compacted = rev
	return &next
}
