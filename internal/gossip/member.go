package gossip

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/flotilladb/flotilla/internal/fields"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// Member is a process as others see it.
type Member struct {
	ClusterID uint64
	Node      metapb.NodeID
	Store     metapb.StoreID
	// Start grows with each start of the store.
	Start uint64
	// Name is the node's, as etcd's Cluster API shows it.
	Name string
	// PeerAddr is where other stores send frames, host:port.
	PeerAddr string
	// ClientURLs are where clients may go.
	ClientURLs []string
	// Labels say where the node stands: zone=a.
	Labels map[string]string
	Load   Load
	// Leaving says that the process is about to end and means to.
	Leaving bool
}

// Load is what a store has to do and what room it has.
type Load struct {
	Ranges, Leaders                 uint64
	BytesUsed, BytesFree            uint64
	ReadsPerSecond, WritesPerSecond uint64
}

// metaBytesMax is the room that memberlist has for a member.
const metaBytesMax = 512

// ErrTooLong says that a member does not fit: shorten its labels or URLs.
var ErrTooLong = errors.New("gossip: name, addresses and labels are too long")

var errMeta = errors.New("gossip: bad member")

// Fields of a member on the wire. Unknown ones are passed over.
const (
	fieldCluster = iota + 1
	fieldNode
	fieldStore
	fieldStart
	fieldName
	fieldPeerAddr
	fieldClientURL
	fieldLabel // key, zero byte, value
	fieldRanges
	fieldLeaders
	fieldBytesUsed
	fieldBytesFree
	fieldReads
	fieldWrites
	fieldLeaving
)

// encode writes the member, or says that it is too long.
func (m *Member) encode() ([]byte, error) {
	var b []byte
	number := func(num fields.Number, v uint64) { b = fields.AppendNumber(b, num, v) }
	text := func(num fields.Number, s string) { b = fields.AppendText(b, num, s) }
	number(fieldCluster, m.ClusterID)
	number(fieldNode, uint64(m.Node))
	number(fieldStore, uint64(m.Store))
	number(fieldStart, m.Start)
	text(fieldName, m.Name)
	text(fieldPeerAddr, m.PeerAddr)
	for _, u := range m.ClientURLs {
		text(fieldClientURL, u)
	}
	for _, k := range slices.Sorted(maps.Keys(m.Labels)) {
		text(fieldLabel, k+"\x00"+m.Labels[k])
	}
	number(fieldRanges, m.Load.Ranges)
	number(fieldLeaders, m.Load.Leaders)
	number(fieldBytesUsed, m.Load.BytesUsed)
	number(fieldBytesFree, m.Load.BytesFree)
	number(fieldReads, m.Load.ReadsPerSecond)
	number(fieldWrites, m.Load.WritesPerSecond)
	if m.Leaving {
		number(fieldLeaving, 1)
	}
	if len(b) > metaBytesMax {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLong, len(b), metaBytesMax)
	}
	return b, nil
}

// decodeMember reads what encode wrote.
func decodeMember(b []byte) (Member, error) {
	var m Member
	if err := fields.Walk(b, m.setNumber, m.setText); err != nil {
		return m, fmt.Errorf("%w: %w", errMeta, err)
	}
	if m.ClusterID == 0 || m.Store == 0 {
		return m, fmt.Errorf("%w: no cluster or store id", errMeta)
	}
	return m, nil
}

func (m *Member) setNumber(num fields.Number, v uint64) {
	switch num {
	case fieldCluster:
		m.ClusterID = v
	case fieldNode:
		m.Node = metapb.NodeID(v)
	case fieldStore:
		m.Store = metapb.StoreID(v)
	case fieldStart:
		m.Start = v
	case fieldRanges:
		m.Load.Ranges = v
	case fieldLeaders:
		m.Load.Leaders = v
	case fieldBytesUsed:
		m.Load.BytesUsed = v
	case fieldBytesFree:
		m.Load.BytesFree = v
	case fieldReads:
		m.Load.ReadsPerSecond = v
	case fieldWrites:
		m.Load.WritesPerSecond = v
	case fieldLeaving:
		m.Leaving = v != 0
	}
}

func (m *Member) setText(num fields.Number, s string) {
	switch num {
	case fieldName:
		m.Name = s
	case fieldPeerAddr:
		m.PeerAddr = s
	case fieldClientURL:
		m.ClientURLs = append(m.ClientURLs, s)
	case fieldLabel:
		for i := range len(s) {
			if s[i] == 0 {
				if m.Labels == nil {
					m.Labels = make(map[string]string)
				}
				m.Labels[s[:i]] = s[i+1:]
				return
			}
		}
	}
}

// id is the member's name in memberlist: one for each start of a store.
func (m *Member) id() string {
	return fmt.Sprintf("%x/%d/%d", m.ClusterID, m.Store, m.Start)
}
