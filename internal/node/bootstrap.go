package node

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/range"
)

// FormatVersion is the newest format of a data folder that this version reads
// and the one it writes.
const FormatVersion = 1

// ErrOtherCluster says that a data folder belongs to another cluster.
var ErrOtherCluster = errors.New("the data folder belongs to another cluster")

// DataRange is the range that a fresh cluster has besides the system range: it
// holds the leases and all keys of clients.
const DataRange metapb.RangeID = 2

// ClusterID makes a cluster's id from its token.
func ClusterID(token string) uint64 {
	h := fnv.New64a()
	h.Write([]byte("flotilla cluster\x00" + token))
	return h.Sum64()
}

// Identify returns who the store of an engine is. An empty engine becomes the
// first store of a new cluster of one store.
func Identify(eng engine.Engine, token string) (*metapb.StoreIdent, error) {
	return IdentifyAs(eng, token, 1, 1)
}

// IdentifyAs is Identify of one of several stores that begin a cluster together:
// an empty engine becomes the given one. Its node has the same id.
func IdentifyAs(eng engine.Engine, token string, self metapb.StoreID, stores int) (*metapb.StoreIdent, error) {
	raw, closer, err := eng.Get(keys.StoreIdent())
	switch {
	case errors.Is(err, engine.ErrNotFound):
		return BootstrapAs(eng, token, self, stores)
	case err != nil:
		return nil, fmt.Errorf("store identity: %w", err)
	}
	defer closer.Close()
	ident := &metapb.StoreIdent{}
	if err := ident.UnmarshalVT(raw); err != nil {
		return nil, fmt.Errorf("store identity: %w", err)
	}
	if ident.FormatVersion > FormatVersion {
		return nil, fmt.Errorf("%w: the folder has format %d, this version reads up to %d; start it with the version that wrote it",
			engine.ErrNewerFormat, ident.FormatVersion, FormatVersion)
	}
	if want := ClusterID(token); ident.ClusterId != want {
		return nil, fmt.Errorf("%w: its id is %x, that of --initial-cluster-token %q is %x; use its own token, or another --data-dir",
			ErrOtherCluster, ident.ClusterId, token, want)
	}
	return ident, nil
}

// Bootstrap makes an empty engine the first store of a cluster, with the system
// range and one range for everything else, in one synced batch.
func Bootstrap(eng engine.Engine, token string) (*metapb.StoreIdent, error) {
	return BootstrapAs(eng, token, 1, 1)
}

// BootstrapAs makes an empty engine one of the stores, numbered from 1, with which
// a cluster begins: all write the same, and so begin with the same replicas.
func BootstrapAs(eng engine.Engine, token string, self metapb.StoreID, stores int) (*metapb.StoreIdent, error) {
	ident := &metapb.StoreIdent{
		ClusterId: ClusterID(token), NodeId: uint64(self), StoreId: uint64(self), FormatVersion: FormatVersion,
	}
	border := []byte{byte(keys.KindLease)}
	descs := []*metapb.Descriptor{
		{RangeId: uint64(metapb.SystemRange), End: border},
		{RangeId: uint64(DataRange), Start: border},
	}
	b := eng.NewBatch()
	defer b.Close()
	for _, d := range descs {
		d.Generation, d.NextReplicaId = 1, uint64(stores)+1
		for id := uint64(1); id <= uint64(stores); id++ {
			d.Replicas = append(d.Replicas, &metapb.Replica{ReplicaId: id, StoreId: id, NodeId: id})
		}
		if err := ranges.Bootstrap(b, d, 1); err != nil {
			return nil, err
		}
	}
	rows, err := placement.InitialRows(placement.InitialFacts{
		ClusterID:   ident.ClusterId,
		NextRange:   DataRange + 1,
		NextNode:    metapb.NodeID(stores + 1),
		NextStore:   metapb.StoreID(stores + 1),
		ManyStores:  stores > 1,
		Version:     "3.7.0",
		Descriptors: descs,
	})
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		b.Set(keys.Row(row.Address), row.Value)
	}
	raw, err := ident.MarshalVT()
	if err != nil {
		return nil, err
	}
	b.Set(keys.StoreIdent(), raw)
	if err := eng.Commit(b, true); err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	return ident, nil
}

// NextStart counts a start of the store, durably, and returns its number.
func NextStart(eng engine.Engine) (uint64, error) {
	start := uint64(1)
	raw, closer, err := eng.Get(keys.StoreStart())
	switch {
	case err == nil:
		if len(raw) != 8 {
			closer.Close()
			return 0, errors.New("the store's count of starts is damaged")
		}
		start = binary.BigEndian.Uint64(raw) + 1
		closer.Close()
	case !errors.Is(err, engine.ErrNotFound):
		return 0, err
	}
	b := eng.NewBatch()
	defer b.Close()
	b.Set(keys.StoreStart(), binary.BigEndian.AppendUint64(nil, start))
	return start, eng.Commit(b, true)
}
