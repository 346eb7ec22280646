package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// rowBook is the store's row of the members as the node last knew them, so that a
// start finds somebody. It is a hint, in JSON.
const rowBook = "book"

// book is who the members are and where: what the system range says, as far as this
// node has heard of it, and what the stores say of their addresses, by gossip and when
// they connect. Either may be behind the other, so both are tried. It is safe for
// concurrent use.
type book struct {
	mu struct {
		sync.Mutex
		members []placement.Member // by node; never changed in place
		heard   map[metapb.StoreID]heardAddr
		tries   map[metapb.StoreID]int // how often a store was looked for
	}
	changed chan struct{} // has a value when members were set
}

// heardAddr is where a store said that it is, in its latest start that was heard of.
type heardAddr struct {
	start uint64
	addr  string
}

func newBook(eng engine.Engine) (*book, error) {
	b := &book{changed: make(chan struct{}, 1)}
	b.mu.heard, b.mu.tries = make(map[metapb.StoreID]heardAddr), make(map[metapb.StoreID]int)
	_, err := readRow(eng, keys.StoreRow(rowBook), func(raw []byte) error { return json.Unmarshal(raw, &b.mu.members) })
	return b, err
}

// set replaces the members; those that were removed stay.
func (b *book) set(members []placement.Member) {
	b.mu.Lock()
	b.mu.members = members
	b.mu.Unlock()
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

// hear notes where a start of a store says that it is. What an earlier one said is old.
func (b *book) hear(store metapb.StoreID, start uint64, addr string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if start >= b.mu.heard[store].start {
		b.mu.heard[store] = heardAddr{start, addr}
	}
}

// all returns the members, without those that were removed.
func (b *book) all() []placement.Member {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(b.mu.members), func(m placement.Member) bool { return m.Removed })
}

// removed reports whether a node was removed, as far as is known here.
func (b *book) removed(node metapb.NodeID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return removedFrom(b.mu.members, node)
}

// removedFrom reports whether a node is among those that were removed.
func removedFrom(members []placement.Member, node metapb.NodeID) bool {
	return slices.ContainsFunc(members, func(m placement.Member) bool { return m.Node == node && m.Removed })
}

// otherFolder reports whether a node is a member with another data folder than the one
// of a nonce, as far as is known here.
func (b *book) otherFolder(node metapb.NodeID, mine nonce) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return otherFolderAmong(b.mu.members, node, mine)
}

func otherFolderAmong(members []placement.Member, node metapb.NodeID, mine nonce) bool {
	return mine != 0 && slices.ContainsFunc(members, func(m placement.Member) bool {
		return m.Node == node && m.Nonce != 0 && m.Nonce != uint64(mine)
	})
}

// knowsFolder reports whether the cluster was told of a node with the folder of a nonce.
func (b *book) knowsFolder(node metapb.NodeID, mine nonce) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(b.mu.members, func(m placement.Member) bool {
		return m.Node == node && m.Nonce == uint64(mine)
	})
}

// stores returns the stores of all members.
func (b *book) stores() []metapb.StoreID {
	var ids []metapb.StoreID
	for _, m := range b.all() {
		if m.Name != "" { // else it has not started yet
			ids = append(ids, m.Store)
		}
	}
	return ids
}

// address returns where a store's node may serve others. If there are several places they
// take turns: who asks did not get through to the one of before.
func (b *book) address(store metapb.StoreID) (string, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.addressesLocked(store)
	if len(all) == 0 {
		return "", false
	}
	turn := b.mu.tries[store]
	b.mu.tries[store]++
	return all[turn%len(all)], true
}

// addresses returns all places where a store's node may serve others.
func (b *book) addresses(store metapb.StoreID) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.addressesLocked(store)
}

func (b *book) addressesLocked(store metapb.StoreID) (all []string) {
	if h := b.mu.heard[store]; h.addr != "" {
		all = append(all, h.addr)
	}
	for _, m := range b.mu.members {
		if m.Store != store {
			continue
		}
		for i := range m.PeerURLs {
			if addr := hostOf(m.PeerURLs[i:]); addr != "" && !slices.Contains(all, addr) {
				all = append(all, addr)
			}
		}
	}
	return all
}

// hostOf is the address in the first of a node's peer URLs, empty if there is none.
func hostOf(urls []string) string {
	if len(urls) == 0 {
		return ""
	}
	u, err := url.Parse(urls[0])
	if err != nil {
		return ""
	}
	return u.Host
}

// resolve says where a store is: by Config.PeerAddress if it knows, else by the book.
func (n *Node) resolve(store metapb.StoreID) (string, bool) {
	if n.cfg.PeerAddress != nil {
		if addr, ok := n.cfg.PeerAddress(store); ok {
			return addr, true
		}
	}
	return n.book.address(store)
}

// resolveAll says where a store may be.
func (n *Node) resolveAll(store metapb.StoreID) []string {
	if n.cfg.PeerAddress != nil {
		if addr, ok := n.cfg.PeerAddress(store); ok {
			return []string{addr}
		}
	}
	return n.book.addresses(store)
}

// notice takes in what this node's replica of the system range says of the alarms
// and the members, after a step.
func (n *Node) notice() {
	v := n.core.System().NoticeVersion()
	if v == n.noticed || n.core.Store().Replica(metapb.SystemRange) == nil {
		return
	}
	n.noticed = v
	n.pub.setAlarms(n.pub.alarmAsks.Add(1), n.core.System().Alarms())
	members := n.core.System().Members()
	n.book.set(members)
	n.core.Meet(n.book.stores())
	var left []metapb.StoreID
	for _, m := range members {
		if m.Removed {
			left = append(left, m.Store)
		}
	}
	n.core.Left(left)
}

// membersInterval is how often a node asks for the members and the alarms that has no
// replica of the system range.
const membersInterval = 2 * time.Second

// keepBook writes the book down when it changed, and has it up to date where this
// node does not hear of changes by itself.
func (n *Node) keepBook(ctx context.Context) {
	ticker := time.NewTicker(membersInterval)
	defer ticker.Stop()
	for n.askMembers(ctx); ; {
		select {
		case <-ctx.Done():
			return
		case <-n.book.changed:
			n.saveBook()
		case <-ticker.C:
			n.askMembers(ctx)
		}
	}
}

func (n *Node) saveBook() {
	n.book.mu.Lock()
	raw, err := json.Marshal(n.book.mu.members)
	n.book.mu.Unlock()
	if err == nil {
		err = writeRow(n.eng, rowBook, raw)
	}
	if err != nil && !errors.Is(err, engine.ErrClosed) {
		n.cfg.Logger.Warn("the addresses of the other nodes could not be written down", "error", err)
	}
}

func (n *Node) askMembers(ctx context.Context) {
	hears, left := false, []metapb.StoreID(nil)
	err := n.inLoop(ctx, func() {
		hears = n.core.Store().Replica(metapb.SystemRange) != nil
		left = n.core.Talks()
	})
	if err != nil || hears {
		return
	}
	members, err := n.members(ctx) // and the alarms
	if err == nil && n.isRemoved(ctx, members) {
		n.failSoon(fmt.Errorf("%w, and has no replica any more: its data folder is of no use to it", placement.ErrRemoved))
		return
	}
	if err != nil {
		return
	}
	if !slices.EqualFunc(members, n.book.all(), sameMember) {
		n.book.set(members)
	}
	left = slices.DeleteFunc(left, func(id metapb.StoreID) bool {
		return slices.ContainsFunc(members, func(m placement.Member) bool { return m.Store == id })
	})
	_ = n.inLoop(ctx, func() { // else the node stops
		n.core.Meet(n.book.stores())
		n.core.Left(left)
	})
}

func sameMember(a, b placement.Member) bool {
	return a.Node == b.Node && a.Store == b.Store && a.Nonce == b.Nonce && a.Name == b.Name && a.GossipAddr == b.GossipAddr &&
		slices.Equal(a.PeerURLs, b.PeerURLs) && slices.Equal(a.ClientURLs, b.ClientURLs)
}

// isRemoved reports whether this node is no member any more, of what the cluster says
// after it was told of this node, and whether its last replica has gone to another.
func (n *Node) isRemoved(ctx context.Context, members []placement.Member) bool {
	select {
	case <-n.announced:
	default:
		return false
	}
	if slices.ContainsFunc(members, func(m placement.Member) bool { return uint64(m.Node) == n.ident.NodeId }) {
		return false
	}
	left := 1
	return n.inLoop(ctx, func() { left = len(n.core.Store().IDs()) }) == nil && left == 0
}
