package node

import "errors"

// ErrOldVersion says that the data folder belongs to a cluster all of whose members, this
// node among them, have run a newer version.
var ErrOldVersion = errors.New("node: this version is too old for the cluster")

// errNoSequencer refuses an ask of a node that does not lead the system range.
var errNoSequencer = errors.New("node: no sequencer")

// errMoreToRemove ends a removal: some ranges wait, perhaps for ever, and there is more for others.
var errMoreToRemove = errors.New("node: more to remove")
