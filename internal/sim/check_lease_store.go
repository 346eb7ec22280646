package sim

import (
	"fmt"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/internal/model"
	"github.com/flotilladb/flotilla/lease"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// records loads the records of all leases.
func records(r engine.Reader) (*lease.Table, error) {
	t := lease.NewTable(metapb.Span{})
	return t, t.Load(r, metapb.Span{})
}

// leasesLeft says which lease is still to run out.
func leasesLeft(r engine.Reader) string {
	t, err := records(r)
	if err != nil {
		return err.Error()
	}
	why := ""
	t.Ascend(0, func(rec lease.Record) bool {
		if rec.TTL < leaseTTLLong {
			why = fmt.Sprintf("lease %d of %d s has not run out", rec.ID, rec.TTL)
		}
		return why == ""
	})
	return why
}

// checkLeaseRows holds the rows about leases against the keys: each key's lease
// exists, and the row that says which it is does too, and no other.
func checkLeaseRows(r engine.Reader, want *model.State) error {
	t, err := records(r)
	if err != nil {
		return err
	}
	attached := make(map[string]lease.ID)
	for _, kv := range want.Live([]byte{0}, []byte{0}, want.Revision()) {
		if kv.Lease == 0 {
			continue
		}
		attached[string(kv.Key)] = lease.ID(kv.Lease)
		if !t.Has(lease.ID(kv.Lease)) {
			return fmt.Errorf("%q lives with lease %d, which is gone", kv.Key, kv.Lease)
		}
	}
	span := keys.LeasedSpan(metapb.Span{})
	it, err := r.NewIter(engine.IterOptions{Lower: span.Start, Upper: span.End})
	if err != nil {
		return err
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		key, err := keys.DecodeLeased(it.Key())
		if err != nil {
			return err
		}
		value, err := it.Value()
		if err != nil {
			return err
		}
		id, err := lease.DecodeLeased(value)
		if err != nil {
			return err
		}
		if attached[string(key)] != id {
			return fmt.Errorf("a row attaches %q to lease %d, its lease is %d", key, id, attached[string(key)])
		}
		delete(attached, string(key))
	}
	for key, id := range attached {
		return fmt.Errorf("no row attaches %q to lease %d", key, id)
	}
	return it.Error()
}
