package ranges

import (
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/raftgroup"
)

// Halted is a replica that met an entry of a newer version. It has applied nothing of
// that entry, nor anything behind it, and answers nothing; it goes on voting and
// acknowledging. When its node starts with the newer version it goes on where it stands.
type Halted struct {
	Range   metapb.RangeID
	Replica metapb.ReplicaID
	Index   uint64
}

// halt takes the replica out of service at an entry.
func (r *Replica) halt(e *raftgroup.Entry) {
	r.stopped = true
	if !r.condemned {
		r.halted = true
		r.condemn()
	}
	r.store.out.Halted = append(r.store.out.Halted, Halted{Range: r.desc.ID(), Replica: r.id, Index: e.Index})
}

// Stopped reports whether the replica applies nothing any more: it was halted, or an
// entry takes it out of its range.
func (r *Replica) Stopped() bool { return r.stopped }

// reads reports whether this store knows a command.
func (s *Store) reads(c *cmdpb.Command) bool {
	since := metapb.FormatFirst
	switch c.Kind.(type) {
	case nil:
		return false
	case *cmdpb.Command_Check:
		since = metapb.Checks.Since()
	}
	return since <= s.cfg.Reads
}
