package sim

import (
	"fmt"

	"github.com/flotilladb/flotilla/internal/node"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// old reports whether the node runs a version that reads only the first format.
func (n *simNode) old() bool {
	return n.s.now.Sub(start) < n.s.cfg.OldUntil && int(n.id) == len(n.s.nodes)
}

func (n *simNode) reads() metapb.Format {
	if n.old() {
		return metapb.FormatFirst
	}
	return metapb.FormatNewest
}

// planUpgrade starts the old node anew, when it is time, with the newest version.
func (s *Sim) planUpgrade() {
	if s.cfg.OldUntil == 0 {
		return
	}
	s.after(s.cfg.OldUntil, func() {
		if n := s.nodes[len(s.nodes)-1]; n.up {
			n.tracef("is upgraded")
			n.crash()
		}
	})
}

// checkFormat sees that nobody takes the cluster for newer than its oldest member, and
// that no replica meets what its version does not know.
func (n *simNode) checkFormat(rd *node.Ready) {
	for _, h := range rd.Halted {
		n.s.fail(fmt.Errorf("node %d: range %d stops at entry %d, which is of a newer version", n.id, h.Range, h.Index))
	}
	if last := n.s.nodes[len(n.s.nodes)-1]; last.old() && n.core.Format() > metapb.FormatFirst {
		n.s.fail(fmt.Errorf("node %d takes format %d for what all read", n.id, n.core.Format()))
	}
}
