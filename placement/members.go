package placement

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/flotilladb/flotilla/internal/fields"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// Member is what the cluster knows of a node: a member in etcd's words. It is not
// changed once it is in the facts.
type Member struct {
	Node  metapb.NodeID
	Store metapb.StoreID
	// Name is empty of a node that was announced, by its URLs, and has not started.
	Name string
	// Nonce was drawn by the node's folder when it joined, or began the cluster; 0: an
	// older version began it. It lets a join that was interrupted go on, and keeps others
	// from taking its name, an empty folder of its own among them.
	Nonce uint64
	// PeerURLs are where other nodes reach it, ClientURLs where clients do.
	PeerURLs, ClientURLs []string
	// GossipAddr is where it listens for gossip, in its present start.
	GossipAddr string
	// Removed: it is no member any more, and its ids are never used again.
	Removed bool
	// Leaving: it is to be removed, and is once no range needs it. Until then it may go
	// away and come back, and the planner takes its replicas away.
	Leaving bool
}

// Joined reports whether it is a member that has joined, and was not only announced.
func (m *Member) Joined() bool { return !m.Removed && m.Name != "" }

// Fields of a member's row. Unknown ones are passed over.
const (
	memberStore = iota + 1
	memberName
	memberNonce
	memberPeerURL
	memberClientURL
	memberGossipAddr
	memberRemoved
	memberLeaving
)

// prefixMember is the prefix of the rows of members; the node's id follows.
const prefixMember = "node/"

func memberRow(m *Member) *cmdpb.Row {
	name := string(binary.BigEndian.AppendUint64([]byte(prefixMember), uint64(m.Node)))
	var b []byte
	number := func(num fields.Number, v uint64) { b = fields.AppendNumber(b, num, v) }
	text := func(num fields.Number, s string) { b = fields.AppendText(b, num, s) }
	number(memberStore, uint64(m.Store))
	text(memberName, m.Name)
	number(memberNonce, m.Nonce)
	for _, u := range m.PeerURLs {
		text(memberPeerURL, u)
	}
	for _, u := range m.ClientURLs {
		text(memberClientURL, u)
	}
	text(memberGossipAddr, m.GossipAddr)
	if m.Removed {
		number(memberRemoved, 1)
	}
	if m.Leaving {
		number(memberLeaving, 1)
	}
	return setRow(name, b)
}

func decodeMember(name string, b []byte) (*Member, error) {
	id := strings.TrimPrefix(name, prefixMember)
	if len(id) != 8 {
		return nil, badRow(name)
	}
	m := &Member{Node: metapb.NodeID(binary.BigEndian.Uint64([]byte(id)))}
	if fields.Walk(b, m.setNumber, m.setText) != nil {
		return nil, badRow(name)
	}
	if m.Node == 0 || m.Store == 0 {
		return nil, badRow(name)
	}
	return m, nil
}

func (m *Member) setNumber(num fields.Number, v uint64) {
	switch num {
	case memberStore:
		m.Store = metapb.StoreID(v)
	case memberNonce:
		m.Nonce = v
	case memberRemoved:
		m.Removed = v != 0
	case memberLeaving:
		m.Leaving = v != 0
	}
}

func (m *Member) setText(num fields.Number, s string) {
	switch num {
	case memberName:
		m.Name = s
	case memberPeerURL:
		m.PeerURLs = append(m.PeerURLs, s)
	case memberClientURL:
		m.ClientURLs = append(m.ClientURLs, s)
	case memberGossipAddr:
		m.GossipAddr = s
	}
}

func compareMembers(a, b *Member) int { return cmp.Compare(a.Node, b.Node) }

func (f *facts) setMember(name string, value []byte, deleted bool) error {
	if deleted {
		return badRow(name)
	}
	m, err := decodeMember(name, value)
	if err != nil {
		return err
	}
	f.noticeVersion++
	if i, ok := slices.BinarySearchFunc(f.members, m, compareMembers); ok {
		f.members[i] = m
	} else {
		f.members = slices.Insert(f.members, i, m)
	}
	return nil
}

func (f *facts) member(id metapb.NodeID) *Member {
	if i, ok := slices.BinarySearchFunc(f.members, &Member{Node: id}, compareMembers); ok {
		return f.members[i]
	}
	return nil
}

// join gives a node that has no data its ids, or those that it got before.
func (f *facts) join(o *JoinOp) ([]*cmdpb.Row, any, error) {
	switch {
	case f.oneStore:
		return nil, nil, ErrOneStore
	case o.Name == "" || o.Nonce == 0 || len(o.PeerURLs) == 0:
		return nil, nil, ErrBadOp
	}
	m := &Member{Name: o.Name, Nonce: o.Nonce, PeerURLs: o.PeerURLs, ClientURLs: o.ClientURLs}
	for _, known := range f.members {
		switch {
		case known.Nonce == o.Nonce:
			if known.Removed {
				return nil, nil, ErrRemoved
			}
			return nil, &JoinReply{Node: known.Node, Store: known.Store}, nil
		case known.Removed:
		case known.Name == o.Name:
			return nil, nil, fmt.Errorf("%w: %q is node %d at %s", ErrNameTaken, o.Name, known.Node, strings.Join(known.PeerURLs, ","))
		case known.Name == "" && sameURLs(known.PeerURLs, o.PeerURLs):
			m.Node, m.Store = known.Node, known.Store // it was announced
		case shares(known.PeerURLs, o.PeerURLs):
			return nil, nil, fmt.Errorf("%w: node %d, %q, is at %s", ErrURLTaken, known.Node, known.Name, strings.Join(known.PeerURLs, ","))
		}
	}
	rows := f.newMember(m)
	return rows, &JoinReply{Node: m.Node, Store: m.Store}, nil
}

// newMember gives a member ids, if it has none, and returns its rows.
func (f *facts) newMember(m *Member) (rows []*cmdpb.Row) {
	if m.Node == 0 {
		node, store := max(f.next[rowNodeID], 1), max(f.next[rowStoreID], 1)
		m.Node, m.Store = metapb.NodeID(node), metapb.StoreID(store)
		rows = []*cmdpb.Row{numberRow(rowNodeID, node+1), numberRow(rowStoreID, store+1)}
	}
	return append(rows, memberRow(m))
}

// sameURLs reports whether two members name the same URLs, in any order.
func sameURLs(a, b []string) bool {
	set := func(urls []string) []string { return slices.Compact(slices.Sorted(slices.Values(urls))) }
	return slices.Equal(set(a), set(b))
}

func shares(a, b []string) bool {
	return slices.ContainsFunc(a, func(u string) bool { return slices.Contains(b, u) })
}

// announce takes in what a node says of itself when it starts.
func (f *facts) announce(o *AnnounceOp) ([]*cmdpb.Row, any, error) {
	m := o.Member
	if m.Node == 0 || m.Store == 0 || m.Name == "" || m.Removed {
		return nil, nil, ErrBadOp
	}
	old := f.member(m.Node)
	switch {
	case old != nil && old.Removed:
		return nil, nil, ErrRemoved
	case old == nil && uint64(m.Node) >= f.next[rowNodeID], old != nil && old.Store != m.Store:
		return nil, nil, ErrBadOp
	case old != nil && old.Nonce != 0 && m.Nonce != 0 && old.Nonce != m.Nonce:
		return nil, nil, ErrOtherFolder
	case old != nil:
		m.Nonce, m.Leaving = cmp.Or(old.Nonce, m.Nonce), old.Leaving
	}
	moves := old == nil || !sameURLs(old.PeerURLs, m.PeerURLs)
	for _, other := range f.members {
		switch {
		case other.Node == m.Node || other.Removed:
		case other.Name == m.Name:
			return nil, nil, fmt.Errorf("%w: %q is node %d at %s", ErrNameTaken, m.Name, other.Node, strings.Join(other.PeerURLs, ","))
		case moves && shares(other.PeerURLs, m.PeerURLs):
			return nil, nil, fmt.Errorf("%w: node %d, %q, is at %s", ErrURLTaken, other.Node, other.Name, strings.Join(other.PeerURLs, ","))
		}
	}
	row := memberRow(&m)
	if old != nil && string(memberRow(old).Value) == string(row.Value) {
		return nil, &peerpb.Done{}, nil
	}
	return []*cmdpb.Row{row}, &peerpb.Done{}, nil
}

// changeMember adds, removes or updates a member, as etcd's Cluster API does. A member to
// be removed that a range needs is only marked, if a planner can take its replicas away.
func (f *facts) changeMember(o *MemberOp, lives func(metapb.StoreID) bool, planned bool) ([]*cmdpb.Row, any, error) {
	if !o.Remove && len(o.PeerURLs) == 0 {
		return nil, nil, ErrBadOp
	}
	if f.oneStore && o.Node == 0 {
		return nil, nil, ErrOneStore
	}
	for _, m := range f.members {
		if !o.Remove && m.Node != o.Node && !m.Removed && shares(m.PeerURLs, o.PeerURLs) {
			return nil, nil, ErrURLTaken
		}
	}
	if o.Node == 0 {
		m := &Member{PeerURLs: o.PeerURLs}
		rows := f.newMember(m)
		return rows, &MembersReply{Members: append(f.live(m.Node), *m), Changed: m.Node, Alarms: slices.Clone(f.alarms)}, nil
	}
	old := f.member(o.Node)
	if old == nil || old.Removed {
		return nil, nil, ErrNoMember
	}
	m := *old
	reply := &MembersReply{Members: f.live(o.Node), Changed: o.Node, Alarms: slices.Clone(f.alarms)}
	if o.Remove {
		err := f.spares(old, lives)
		if err != nil && !old.Leaving && !(planned && f.format.Has(metapb.LeavingMembers) && f.canLeave(old, lives)) {
			return nil, nil, err
		}
		m.Removed, m.Leaving = err == nil, err != nil
	} else {
		m.PeerURLs = o.PeerURLs
	}
	if !m.Removed {
		reply.Members = append(reply.Members, m)
		slices.SortFunc(reply.Members, func(a, b Member) int { return compareMembers(&a, &b) })
	}
	if o.Remove && m.Leaving && old.Leaving {
		return nil, reply, nil
	}
	return []*cmdpb.Row{memberRow(&m)}, reply, nil
}

// spares says that the cluster can do without a member: each range could elect a leader
// among its replicas on those of the others that live. One that could not would have lost
// what it holds as soon as the member's process ends. The directory may be behind by what
// was moved a moment ago.
func (f *facts) spares(m *Member, lives func(metapb.StoreID) bool) (err error) {
	removed := f.storesGone(m, false)
	f.dir.Visit(metapb.Span{}, func(d *metapb.Descriptor) bool {
		if v := countVoters(d, m.Store, removed, lives); v.here && 2*v.stay <= v.all {
			err = fmt.Errorf("%w: of the %d replicas of range %d others that can be reached have %d; wait until it has more of them, or take this one away with flotilla range move or remove",
				ErrNeeded, v.all, d.RangeId, v.stay)
		}
		return err == nil
	})
	return err
}

// canLeave reports whether a member would be spared once the replicas on all that leave
// were taken away, and whether that can be: each range has a majority now, and has one
// among those that stay, or it can move to one of them.
func (f *facts) canLeave(m *Member, lives func(metapb.StoreID) bool) bool {
	gone := f.storesGone(m, true)
	takes := slices.ContainsFunc(f.members, func(o *Member) bool {
		return o.Name != "" && !gone[o.Store] && (lives == nil || lives(o.Store))
	})
	can := true
	f.dir.Visit(metapb.Span{}, func(d *metapb.Descriptor) bool {
		v := countVoters(d, m.Store, gone, lives)
		can = !v.here || 2*v.live > v.all && (2*v.stay > v.all-v.gone || v.gone == v.all && takes)
		return can
	})
	return can
}

// storesGone are the stores of a member and of those that were removed; leaving: also of
// those that leave.
func (f *facts) storesGone(m *Member, leaving bool) map[metapb.StoreID]bool {
	gone := map[metapb.StoreID]bool{m.Store: true}
	for _, o := range f.members {
		if o.Removed || leaving && o.Leaving {
			gone[o.Store] = true
		}
	}
	return gone
}

// voterCount counts a range's voters: those on stores that live, those on stores that are
// gone from the cluster or go, and those that live and stay.
type voterCount struct {
	all, live, gone, stay int
	here                  bool // one is on the store that is asked for
}

func countVoters(d *metapb.Descriptor, on metapb.StoreID, gone map[metapb.StoreID]bool, lives func(metapb.StoreID) bool) (v voterCount) {
	for _, r := range d.Replicas {
		if r.Kind == metapb.ReplicaKind_LEARNER {
			continue
		}
		v.all++
		store := metapb.StoreID(r.StoreId)
		v.here = v.here || store == on
		live := lives == nil || lives(store)
		if live {
			v.live++
		}
		switch {
		case gone[store]:
			v.gone++
		case live:
			v.stay++
		}
	}
	return v
}

// live returns the members but one, in order of id.
func (f *facts) live(but metapb.NodeID) (out []Member) {
	for _, m := range f.members {
		if !m.Removed && m.Node != but {
			out = append(out, *m)
		}
	}
	return out
}

// lookup returns ranges from an address on.
func (f *facts) lookup(o *LookupOp) (*LookupReply, error) {
	if o.Max <= 0 || o.Max > lookupMax {
		return nil, ErrBadOp
	}
	reply, bytes := &LookupReply{}, 0
	f.dir.Visit(metapb.Span{Start: o.Start}, func(d *metapb.Descriptor) bool {
		bytes += d.SizeVT()
		n := int64(len(reply.Descriptors))
		if reply.More = n == o.Max || n > 0 && bytes > lookupBytesMax; reply.More {
			return false
		}
		reply.Descriptors = append(reply.Descriptors, d)
		return true
	})
	return reply, nil
}

// lookupMax and lookupBytesMax bound one LookupOp, the latter beside the first range.
const (
	lookupMax      = 4096
	lookupBytesMax = 1 << 20
)

// Members returns what is known of all nodes, as applied, in order of id: also of
// those that were removed.
func (s *System) Members() []Member {
	var out []Member
	for _, m := range s.applied.members {
		out = append(out, *m)
	}
	return out
}

// NoticeVersion grows when what Members or Alarms returns may have changed.
func (s *System) NoticeVersion() uint64 { return s.applied.noticeVersion }
