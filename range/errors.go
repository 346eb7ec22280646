package ranges

import "errors"

// errUnknownCommand stops a replica: the entry was written by a newer version,
// and to go on without it would make replicas differ.
var errUnknownCommand = errors.New("the log has a command of a newer version")

// errParts stops a replica at the entry that takes it out of its range.
var errParts = errors.New("the replica leaves its range")

// errBadRecord says that a transaction's record is not one that we write.
var errBadRecord = errors.New("ranges: the log has a damaged transaction record")

// errBadChange says that an entry's type does not fit what it says.
var errBadChange = errors.New("ranges: the log has a damaged change of replicas")

// errBadChunk says that a piece of a snapshot is not what was sent.
var errBadChunk = errors.New("damaged chunk of a snapshot")

var errBadApplied = errors.New("applied state is damaged or of a newer version")
