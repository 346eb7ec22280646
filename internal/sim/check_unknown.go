package sim

import (
	"slices"

	"github.com/flotilladb/flotilla/internal/model"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// ownerless is a revision whose client got no answer.
type ownerless struct {
	rev     int64
	before  *model.State
	effects []*txnpb.Mutation
}

// guess is who may have made a revision.
type guess struct {
	o    *op
	made ownerless
}

// give finds a request without an answer that may have made a revision, and returns the
// state after it; nil: there is none. It may be one that was thought to have made another
// revision, if that has somebody else who may have: two may fit a revision of which only one
// fits a later one. What a revision holds does not depend on who made it, so the states in
// between stay. Tried are those that are not to be asked again.
func (c *checker) give(x ownerless, tried map[*op]bool) *model.State {
	for i, o := range c.unknown {
		if next := c.fits(x, o); next != nil {
			c.unknown = slices.Delete(c.unknown, i, i+1)
			c.guesses = append(c.guesses, &guess{o, x})
			return next
		}
	}
	for _, g := range c.guesses {
		if tried[g.o] {
			continue
		}
		next := c.fits(x, g.o)
		if next == nil {
			continue
		}
		tried[g.o] = true
		if c.give(g.made, tried) != nil {
			g.made = x
			return next
		}
	}
	return nil
}

// fits returns the state after a revision, nil if a request cannot have made it.
func (c *checker) fits(x ownerless, o *op) *model.State {
	if x.rev <= o.low {
		return nil
	}
	next, _ := c.tryWrite(x.before, o, x.effects)
	return next
}
