package peerpb

import "github.com/flotilladb/flotilla/proto/metapb"

// Transfer asks a range's leader to hand the leadership to a store, 0: to the one that
// it thinks best. Answered by
// *Transferred when that has happened; by ErrBadTransfer if the store cannot take
// it, or did not in time.
type Transfer struct {
	To metapb.StoreID
}

// Transferred answers Transfer.
type Transferred struct {
	// Leader is the store that leads now; mostly the one that was to.
	Leader metapb.StoreID
}

func (*Transfer) body() {}
