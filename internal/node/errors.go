package node

import "errors"

// errNoSequencer refuses an ask of a node that does not lead the system range.
var errNoSequencer = errors.New("node: no sequencer")
