package node

import (
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// errNoSequencer refuses an ask of a node that does not lead the system range.
var errNoSequencer = errors.New("node: no sequencer")

// errNotAllHere refuses what needs all ranges on one node.
var errNotAllHere = status.Error(codes.Unimplemented, "etcdserver: this node does not have all ranges: ask one that does")
