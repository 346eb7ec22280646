package node

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/config"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/range"
)

// Static is a cluster whose nodes are all known when it begins. Each of them
// works out the same first state from it, without a word to the others:
//
//	cluster id   a hash of the token and of all members, names and URLs
//	node, store  the member's place among the names, from 1
//	ranges       the system range and one for all else, with a replica on each
//	             store; the replica's id is the store's
//
// So nodes that were told different things have different cluster ids, and refuse
// each other. The id of a cluster of one is made of the token and of a nonce: its
// name and its URLs may change.
type Static struct {
	// Token tells clusters apart that were begun alike.
	Token string
	// Members are in the order of their names. None are as good as one.
	Members []config.Member
	// Nonce tells clusters of one node apart, of which many have one token, and of several
	// the folder that a member had from an empty one in its place. It is drawn when the
	// folder is made, and is in it; 0: none was.
	Nonce uint64
}

// ErrNotMember says that a static cluster does not name the node.
var ErrNotMember = errors.New("the node is not in --initial-cluster")

// ClusterID makes the id of a cluster of one node from its token.
func ClusterID(token string) uint64 { return (&Static{Token: token}).ClusterID() }

// ClusterID is the cluster's id.
func (s *Static) ClusterID() uint64 {
	h := fnv.New64a()
	h.Write([]byte("flotilla cluster\x00" + s.Token))
	switch {
	case len(s.Members) > 1:
		h.Write(s.encode())
	case s.Nonce != 0:
		h.Write(binary.BigEndian.AppendUint64([]byte{0}, s.Nonce))
	}
	return h.Sum64()
}

// ID is the place of a member: the id of its node and of its store.
func (s *Static) ID(name string) (uint64, error) {
	if len(s.Members) <= 1 {
		return 1, nil
	}
	for i := range s.Members {
		if s.Members[i].Name == name {
			return uint64(i + 1), nil
		}
	}
	return 0, fmt.Errorf("%w: %q", ErrNotMember, name)
}

// Descriptors are the first ranges.
func (s *Static) Descriptors() []*metapb.Descriptor {
	n := uint64(max(1, len(s.Members)))
	border := []byte{byte(keys.KindLease)}
	descs := []*metapb.Descriptor{
		{RangeId: uint64(metapb.SystemRange), End: border},
		{RangeId: uint64(DataRange), Start: border},
	}
	for _, d := range descs {
		d.Generation, d.NextReplicaId = 1, n+1
		for id := uint64(1); id <= n; id++ {
			d.Replicas = append(d.Replicas, &metapb.Replica{ReplicaId: id, StoreId: id, NodeId: id})
		}
	}
	return descs
}

// firstFormat is what all members read for certain: who is alone knows.
func (s *Static) firstFormat() metapb.Format {
	if len(s.Members) > 1 {
		return metapb.FormatFirst
	}
	return metapb.FormatNewest
}

// Write puts the first state of a member's store into a batch. But for who the
// store is, it is the same for all members.
func (s *Static) Write(b engine.Batch, self string) (*metapb.StoreIdent, error) {
	id, err := s.ID(self)
	if err != nil {
		return nil, err
	}
	descs := s.Descriptors()
	for _, d := range descs {
		if err := ranges.Bootstrap(b, d, 1); err != nil {
			return nil, err
		}
	}
	next := descs[0].NextReplicaId
	rows, err := placement.InitialRows(placement.InitialFacts{
		ClusterID: s.ClusterID(),
		NextRange: DataRange + 1, NextNode: metapb.NodeID(next), NextStore: metapb.StoreID(next),
		ManyStores: len(s.Members) > 1, Version: firstVersion, Format: s.firstFormat(), Descriptors: descs, Members: s.rows(),
	})
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		b.Set(keys.Row(row.Address), row.Value)
	}
	if len(s.Members) > 1 {
		b.Set(keys.StoreRow(rowBegun), s.encode())
	}
	if s.Nonce != 0 {
		b.Set(keys.StoreRow(rowNonce), binary.BigEndian.AppendUint64([]byte{joinedFormat}, s.Nonce))
	}
	ident := &metapb.StoreIdent{ClusterId: s.ClusterID(), NodeId: id, StoreId: id, FormatVersion: FormatVersion}
	raw, err := ident.MarshalVT()
	if err != nil {
		return nil, err
	}
	b.Set(keys.StoreIdent(), raw)
	return ident, nil
}

// rows are the members as the system range has them. Those of a cluster of one are
// told when its node starts: its name may change.
func (s *Static) rows() (rows []placement.Member) {
	if len(s.Members) <= 1 {
		return nil
	}
	for i, m := range s.Members {
		rows = append(rows, placement.Member{
			Node: metapb.NodeID(i + 1), Store: metapb.StoreID(i + 1), Name: m.Name, PeerURLs: m.PeerURLs,
		})
	}
	return rows
}

// Bootstrap makes an empty engine the store of a member, in one synced batch.
func (s *Static) Bootstrap(eng engine.Engine, self string) (*metapb.StoreIdent, error) {
	b := eng.NewBatch()
	defer b.Close()
	ident, err := s.Write(b, self)
	if err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	if err := eng.Commit(b, true); err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	return ident, nil
}

// rowNonce is the store's row of a node that began a cluster: a format (1), then its
// nonce.
const rowNonce = "cluster-nonce"

// rowBegun is the store's row of how a cluster of several nodes was begun: a
// format (1), then for each member its name and its URLs, behind their number.
// The token is only in the cluster's id.
const (
	rowBegun    = "initial-cluster"
	begunFormat = 1
)

func (s *Static) encode() []byte {
	b := []byte{begunFormat}
	for _, m := range s.Members {
		b = binary.AppendUvarint(b, uint64(1+len(m.PeerURLs)))
		for _, text := range append([]string{m.Name}, m.PeerURLs...) {
			b = append(binary.AppendUvarint(b, uint64(len(text))), text...)
		}
	}
	return b
}

func (s *Static) decode(b []byte) error {
	errBad := errors.New("the row is damaged or of a newer version")
	if len(b) == 0 || b[0] != begunFormat {
		return errBad
	}
	ok := true
	number := func() uint64 {
		n, k := binary.Uvarint(b)
		if k <= 0 || n > uint64(len(b)-k) { // each number counts what takes bytes
			b, ok = nil, false
			return 0
		}
		b = b[k:]
		return n
	}
	for b = b[1:]; len(b) > 0; {
		var texts []string
		for n := number(); n > 0 && ok; n-- {
			k := number()
			texts, b = append(texts, string(b[:k])), b[k:]
		}
		if !ok || len(texts) < 2 {
			return errBad
		}
		s.Members = append(s.Members, config.Member{Name: texts[0], PeerURLs: texts[1:]})
	}
	if !slices.IsSortedFunc(s.Members, func(a, b config.Member) int { return strings.Compare(a.Name, b.Name) }) {
		return errBad
	}
	return nil
}
