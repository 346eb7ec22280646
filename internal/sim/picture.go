package sim

import (
	"fmt"

	"github.com/flotilladb/flotilla/range"
)

// picture traces what every node thinks of every range: what one wants to know
// first of a run that does not become quiet.
func (s *Sim) picture() {
	if s.trace == nil {
		return
	}
	for _, n := range s.nodes {
		if !n.up {
			n.tracef("is down")
			continue
		}
		n.tracef("serving %v, stopping %v, current %d, %d calls", n.serving, n.stopping, n.core.Current(), len(n.calls))
		for _, id := range n.core.Store().IDs() {
			n.tracef("range %d: %s", id, pictureOf(n.core.Store().Replica(id)))
		}
	}
}

func pictureOf(r *ranges.Replica) string {
	in := r.Info()
	line := fmt.Sprintf("term %d, leader %d, applied %d of %d, %d wait, generation %d", in.Term, in.Leader, in.Applied, in.Last, in.Waiting, r.Descriptor().Generation)
	if r.Leads() {
		line += fmt.Sprintf("; leads, lease %v, bound %d, transfer %v", r.HoldsLease(), r.Bound(), r.Transferring())
	}
	return line
}
