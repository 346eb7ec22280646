package raftgroup

import (
	"go.etcd.io/raft/v3/raftpb"

	"github.com/flotilladb/flotilla/internal/invariant"
)

// entryCache holds the newest entries of a log, without gaps up to its last
// one, so that what was just written is never read back.
type entryCache struct {
	// items[head:] are the entries from first on; items[:head] were dropped.
	items []cachedEntry
	head  int
	first uint64 // index of items[head]; meaningless when empty
	bytes uint64 // of the rows held
}

type cachedEntry struct {
	entry *raftpb.Entry
	end   uint64 // position.end of the entry
	size  uint64 // of its row
}

// keepCapacity is the number of slots that an empty cache keeps: enough for a
// busy group, little for ten thousand idle ones.
const keepCapacity = 64

func (c *entryCache) len() int { return len(c.items) - c.head }

// get returns the entry at index, if it is held.
func (c *entryCache) get(index uint64) (cachedEntry, bool) {
	if index < c.first || index-c.first >= uint64(c.len()) {
		return cachedEntry{}, false
	}
	return c.items[c.head+int(index-c.first)], true
}

// add appends an entry.
// REQUIRES: it follows the last one held, or none is held.
func (c *entryCache) add(e cachedEntry) {
	index := e.entry.GetIndex()
	if c.len() == 0 {
		c.first = index
	}
	invariant.Check(index == c.first+uint64(c.len()), "cache holds [%d, +%d), added %d", c.first, c.len(), index)
	if len(c.items) == cap(c.items) && c.head > len(c.items)/2 {
		n := copy(c.items, c.items[c.head:])
		clear(c.items[n:])
		c.items, c.head = c.items[:n], 0
	}
	c.items = append(c.items, e)
	c.bytes += e.size
}

// dropFrom forgets the entries at index and above.
func (c *entryCache) dropFrom(index uint64) {
	for c.len() > 0 && c.first+uint64(c.len()) > index {
		last := len(c.items) - 1
		c.bytes -= c.items[last].size
		c.items[last] = cachedEntry{}
		c.items = c.items[:last]
	}
	c.shrink()
}

// dropTo forgets the entries up to and including index.
func (c *entryCache) dropTo(index uint64) {
	for c.len() > 0 && c.first <= index {
		c.dropFirst()
	}
	c.shrink()
}

// limit forgets the oldest entries, but none above index, until the cache holds
// at most bytesMax.
func (c *entryCache) limit(bytesMax, index uint64) {
	for c.len() > 0 && c.bytes > bytesMax && c.first <= index {
		c.dropFirst()
	}
	c.shrink()
}

func (c *entryCache) dropFirst() {
	c.bytes -= c.items[c.head].size
	c.items[c.head] = cachedEntry{}
	c.head++
	c.first++
}

func (c *entryCache) shrink() {
	if c.len() > 0 {
		return
	}
	c.items, c.head = c.items[:0], 0
	if cap(c.items) > keepCapacity {
		c.items = nil
	}
}
