package router

import (
	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/placement"
)

// newTxnOp makes the operation of a request whose keys lie in several ranges.
func newTxnOp(_ *Router, _ proto.Message) op { return &refuseOp{} }

// refuseOp answers that the request cannot be carried out.
type refuseOp struct{ opBase }

func (o *refuseOp) start(r *Router)                 { r.finish(o, nil, ErrBadRequest) }
func (*refuseOp) reply(*Router, int, any, error)    {}
func (*refuseOp) granted(*Router, placement.Answer) {}
func (o *refuseOp) tick(r *Router)                  { r.end(o) }
