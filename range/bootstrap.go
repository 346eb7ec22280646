package ranges

import (
	"fmt"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/raftgroup"
)

// LoadDescriptors reads the descriptors of all replicas that an engine holds,
// in order of range id.
func LoadDescriptors(r engine.Reader) ([]*metapb.Descriptor, error) {
	table := keys.LocalTable()
	it, err := r.NewIter(engine.IterOptions{Lower: table.Start, Upper: table.End})
	if err != nil {
		return nil, err
	}
	defer it.Close()
	var descs []*metapb.Descriptor
	for ok := it.First(); ok; {
		id, _, _, err := keys.DecodeLocal(it.Key())
		if err != nil {
			return nil, err
		}
		want := keys.Descriptor(id)
		if ok = it.SeekGE(want); ok && string(it.Key()) == string(want) {
			raw, err := it.Value()
			if err != nil {
				return nil, err
			}
			d := &metapb.Descriptor{}
			if err := d.UnmarshalVT(raw); err != nil {
				return nil, fmt.Errorf("descriptor of range %d: %w", id, err)
			}
			if err := d.Validate(); err != nil {
				return nil, err
			}
			descs = append(descs, d)
		}
		ok = it.SeekGE(keys.NextReplica(id))
	}
	return descs, it.Error()
}

// Bootstrap writes a new range with its first replicas into a batch: its
// descriptor, its empty log and its applied state, which begins at a revision.
func Bootstrap(b engine.Batch, d *metapb.Descriptor, rev Revision) error {
	if err := d.Validate(); err != nil {
		return err
	}
	if err := writeDescriptor(b, d); err != nil {
		return err
	}
	if err := raftgroup.BootstrapConf(b, d.ID(), confOf(d)); err != nil {
		return err
	}
	writeApplied(b, d.ID(), appliedState{index: raftgroup.InitialIndex, term: raftgroup.InitialTerm, revision: rev})
	return nil
}
