package peerpb

import "github.com/flotilladb/flotilla/proto/metapb"

// CheckRange has the replicas of a range compare what they have. Answered by
// *RangeChecked when that is done. With a Number, which only a leader's own store
// gives, it begins a check, and is answered by *Done when all that is applied.
type CheckRange struct {
	Store  metapb.StoreID
	Number uint64
}

// RangeChecked answers CheckRange.
type RangeChecked struct {
	// Index is the index of the log at which replicas were compared.
	Index uint64
	// Equal are those that have the same, Corrupt those that do not, Missing those of
	// which nothing could be learned.
	Equal, Corrupt, Missing []metapb.ReplicaID
}

// CheckKind is what a CheckMessage says.
type CheckKind uint32

const (
	// CheckAsks asks for a replica's hash of a check.
	CheckAsks CheckKind = iota + 1
	// CheckAnswers is what is said to that.
	CheckAnswers
	// CheckCondemns says that a replica's data is corrupt: its store takes it out of
	// service, and answers.
	CheckCondemns
	// CheckCondemned says that a replica is out of service.
	CheckCondemned
	// CheckWanted says that a store has reason to doubt its replica of a range: the
	// range's leader is to check it.
	CheckWanted
	// CheckTrusts asks a store to have its replica of a range in service again, since an
	// operator says that it is the right one.
	CheckTrusts
	// CheckTrusted says how far that is: State, and where that is CheckSkipped, why it
	// will not be. It is said too to who condemns such a replica for what was before.
	CheckTrusted
	// CheckGivesUp asks a replica to give itself up for the one with the id Number.
	CheckGivesUp
	// CheckGaveUp says for which one it has: Number, 0: for none.
	CheckGaveUp
)

// Why a replica is not trusted: the Number of CheckTrusted.
const (
	TrustNoReplica    = iota + 1 // the store has none
	TrustNotUndecided            // the range is not undecided
	TrustGivenUp                 // it was given up for another one
	TrustOtherGivenUp            // too many others were
	TrustNoVoter                 // it does not vote
)

// CheckState is how far a replica is with a check.
type CheckState uint32

const (
	// CheckUnknown: it has not come to the check, or has forgotten it.
	CheckUnknown CheckState = iota
	// CheckUnderWay: it is to come to the check, or is reading.
	CheckUnderWay
	// CheckDone: Sum is the hash.
	CheckDone
	// CheckUnreadable: a part of what it has cannot be read.
	CheckUnreadable
	// CheckSkipped: it cannot say, and will not.
	CheckSkipped
)

// CheckMessage is what stores say to each other about checks. It may be lost.
type CheckMessage struct {
	Kind    CheckKind
	Range   metapb.RangeID
	Replica metapb.ReplicaID
	// Store began the check of this Number. In CheckCondemns the Number is the next id
	// of a replica when that was found.
	Store  metapb.StoreID
	Number uint64
	// Index is that of the log at which replicas are compared, 0: it is not known.
	Index uint64
	// Of an answer:
	State CheckState
	Sum   []byte
	// Undecided: replicas differ, and nobody can say which of them are right.
	Undecided bool
}

func (*CheckRange) body() {}
