package ranges

import (
	"errors"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/raftgroup"
)

// LoadDescriptors reads the descriptors of all replicas that an engine holds,
// in order of range id.
func LoadDescriptors(r engine.Reader) (descs []*metapb.Descriptor, err error) {
	l, err := newLoader(r)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	for {
		d, err := l.next()
		if d == nil || err != nil {
			return descs, err
		}
		descs = append(descs, d)
	}
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
