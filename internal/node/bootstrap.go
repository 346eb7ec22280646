package node

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// FormatVersion is the newest format of a data folder that this version reads
// and the one it writes.
const FormatVersion = 1

// ErrOtherCluster says that a data folder belongs to another cluster.
var ErrOtherCluster = errors.New("the data folder belongs to another cluster")

// DataRange is the range that a fresh cluster has besides the system range: it
// holds the leases and all keys of clients.
const DataRange metapb.RangeID = 2

// firstVersion is the cluster version that a fresh cluster begins with.
const firstVersion = "3.7.0"

// Identify returns who the store of an engine is. An empty engine becomes the
// first store of a new cluster of one store.
func Identify(eng engine.Engine, token string) (*metapb.StoreIdent, error) {
	return IdentifyStatic(eng, &Static{Token: token}, "")
}

// IdentifyStatic returns who the store of an engine is. An empty engine becomes
// the store of the named member of a static cluster. With data in it a folder
// keeps what it is, as in etcd, whatever members are named now; but the token
// must be its own.
func IdentifyStatic(eng engine.Engine, s *Static, self string) (*metapb.StoreIdent, error) {
	ident := &metapb.StoreIdent{}
	switch found, err := readRow(eng, keys.StoreIdent(), ident.UnmarshalVT); {
	case err != nil:
		return nil, fmt.Errorf("store identity: %w", err)
	case !found:
		return s.Bootstrap(eng, self)
	}
	if err := checkFormat(ident); err != nil {
		return nil, err
	}
	begun := &Static{} // without the row: a cluster of one
	if _, err := readRow(eng, keys.StoreRow(rowBegun), begun.decode); err != nil {
		return nil, fmt.Errorf("how the cluster was begun: %w", err)
	}
	var drawn nonce
	if _, err := readRow(eng, keys.StoreRow(rowNonce), drawn.decode); err != nil {
		return nil, fmt.Errorf("how the cluster was begun: %w", err)
	}
	if want := (&Static{Token: s.Token, Members: begun.Members, Nonce: uint64(drawn)}).ClusterID(); ident.ClusterId != want {
		return nil, fmt.Errorf("%w: its id is %x, that of --initial-cluster-token %q is %x; use its own token, or another --data-dir",
			ErrOtherCluster, ident.ClusterId, s.Token, want)
	}
	if len(begun.Members) > 1 && drawn == 0 && s.Nonce != 0 { // an older version made the folder
		if err := writeRow(eng, rowNonce, binary.BigEndian.AppendUint64([]byte{joinedFormat}, s.Nonce)); err != nil {
			return nil, fmt.Errorf("how the cluster was begun: %w", err)
		}
	}
	return ident, nil
}

func checkFormat(ident *metapb.StoreIdent) error {
	if ident.FormatVersion > FormatVersion {
		return fmt.Errorf("%w: the folder has format %d, this version reads up to %d; start it with the version that wrote it",
			engine.ErrNewerFormat, ident.FormatVersion, FormatVersion)
	}
	return nil
}

// readRow reads a row of the store, if it is there.
func readRow(eng engine.Engine, key []byte, decode func([]byte) error) (found bool, err error) {
	raw, closer, err := eng.Get(key)
	switch {
	case errors.Is(err, engine.ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	}
	defer closer.Close()
	return true, decode(raw)
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
