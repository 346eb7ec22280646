package ranges

import (
	"math"
	"testing"

	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// What the keys of a revoke take is not more than it is reckoned to be.
func TestRevokeBytes(t *testing.T) {
	key := make([]byte, 1<<14)
	m := &txnpb.Mutation{Key: key, Sub: math.MaxUint32, Tombstone: true, Existed: true, PrevLease: -1}
	if n := m.SizeVT() + 4; n > len(key)+tombstoneBytes {
		t.Errorf("a tombstone takes %d bytes beside its key", n-len(key))
	}
	const most = math.MaxUint64 >> 8
	in := &cmdpb.AddressedIntent{Address: keys.User(key), Intent: &txnpb.Intent{
		Id: &txnpb.TxnID{StoreId: most, StoreStart: most, Number: most, Attempt: most}, Revision: most,
		Anchor: keys.Lease(-1), Mutations: []*txnpb.Mutation{m},
	}}
	if n := in.SizeVT() + 4; n > 2*len(key)+intentBytes {
		t.Errorf("an intent takes %d bytes beside twice its key", n-2*len(key))
	}
}
