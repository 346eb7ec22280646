// Package frame is what stores say to each other in one go, as plain values: a
// node's core makes frames and takes them, and package wire makes bytes of them.
//
// Each lane between two stores has frames of its own. Those of Raft and Liveness
// may be lost, doubled, late or out of order. Those of Requests may too, but they
// are numbered, and what arrives is taken once and in order: the sender repeats
// what is not acknowledged, and the receiver passes over what it has and what does
// not follow. When the sender gives up it begins a new session, and both know that
// what was under way is lost.
package frame

import (
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/raftgroup"
)

// Lane is a way between two stores.
type Lane uint8

const (
	// Raft carries the messages of all ranges.
	Raft Lane = iota
	// Requests carries what Frame has besides.
	Requests
	// Liveness carries what leaderLeases rest on, before all else.
	Liveness
	// Snapshots carries what is bulky and may take its time. Its frames may be lost.
	Snapshots
)

// Frame is what one store says to another on a lane. Nothing in it is changed
// after it was sent; the receiver copies what it changes.
type Frame struct {
	Lane     Lane
	From, To metapb.StoreID
	// FromStart counts the starts of From. ToStart is the start of To for which
	// this is meant; 0: it is not known yet, and the frame only says who is there.
	FromStart, ToStart uint64

	// Liveness is of that lane, Raft are messages between replicas, of lane Raft. The
	// rest is of lane Requests.
	Liveness *raftgroup.LivenessMessage
	Raft     []raftgroup.RangeMessage

	// Session counts the sessions from From to To; a newer one ends the one before.
	// Number counts the frames of a session; 0: the frame only has an Ack.
	Session, Number uint64
	// AckSession and Ack say which of the other direction's frames were taken: all
	// of the session up to a number.
	AckSession, Ack uint64

	Requests []*peerpb.Request
	// Replies are to requests of ToStart. The IDs are those of its requests.
	Replies []peerpb.Reply

	// Asks are the next of From's way to the sequencer, in order of Seq. AskedUpTo
	// is the highest Seq up to which From has all answers.
	Asks      []placement.Ask
	AskedUpTo uint64
	// Answers are to asks of ToStart. Refused says that To's asks cannot be
	// answered here now; it looks for the sequencer where Hint says, if that is set.
	Answers []placement.Answer
	Refused *NotSequencer

	// Closings are questions whether ranges are closed, Closed what is said to
	// those of ToStart.
	Closings []Closing
	Closed   []Closed

	// Gone are replicas of To, Present ask whether From's replicas are; of lane Raft.
	Gone, Present []peerpb.Gone
	// Chunks are pieces of snapshots, Taken what is said to those; of lane Snapshots.
	Chunks []*peerpb.SnapshotChunk
	Taken  []peerpb.SnapshotAnswer
	// Checks are said about the comparison of replicas; of lane Raft.
	Checks []peerpb.CheckMessage
	// Forwards are asks and answers of stores that do not reach each other; of lane Raft.
	Forwards []Forward
	// FeedAsks are of From's hub to that of To, FeedNews what it says to those of ToStart.
	FeedAsks []*peerpb.FeedAsk
	FeedNews []*peerpb.FeedNews
	// Formats are those of From; in frames that only say who is there.
	Formats Formats
	// Parting says whether From is about to stop.
	Parting Parting
}

// Formats are what a store reads and writes. Zero: nothing is said.
type Formats struct {
	// Reads is the highest that it reads. Cluster is the highest that all members read, as
	// far as it knows: it writes nothing newer.
	Reads, Cluster metapb.Format
}

// Parting is how far a store is on its way out, or why it should not lead.
type Parting uint8

const (
	Stays Parting = iota
	// Leaves: it gives its leaders away, and should be given none.
	Leaves
	// Ends is said once, by the last numbered frame of a session: what that does not
	// acknowledge was not taken, and will not be.
	Ends
	// Full: its disk takes little more. It gives its leaders away, and should be given
	// none, but stays.
	Full
)

// Forward is what a store that does not reach the sequencer asks through another one,
// or what it is answered: two frames there, two back. Any of them may be lost; who waits
// for an answer asks again.
type Forward struct {
	// Store asks, in its start Start.
	Store metapb.StoreID
	Start uint64
	// Passed: this is on its second way.
	Passed bool
	// Asks and AskedUpTo are as in Frame, and so are Answers: one of the lists is empty.
	Asks      []placement.Ask
	AskedUpTo uint64
	Answers   []placement.Answer
}

// NotSequencer says that a store does not run the sequencer, or may not answer
// from memory.
type NotSequencer struct {
	// Leader is the store that leads the system range in Term, as far as is known;
	// 0: it is not known.
	Leader metapb.StoreID
	Term   uint64
}

// Closing asks the leader of a range to close at S, which was given out in the
// sequencer's Epoch.
type Closing struct {
	Range metapb.RangeID
	S     metapb.Revision
	Epoch uint64
}

// Closed answers a Closing: every write of the range at or below S is in its log
// up to Index, or will never be. Err is set instead of Index if it is not so.
type Closed struct {
	Range metapb.RangeID
	S     metapb.Revision
	Index uint64
	Err   error
}

// Empty reports whether the frame says nothing but who is there.
func (f *Frame) Empty() bool {
	return len(f.Raft)+len(f.Requests)+len(f.Replies)+len(f.Asks)+len(f.Answers)+len(f.Forwards)+len(f.Closings)+len(f.Closed)+
		len(f.Gone)+len(f.Present)+len(f.Chunks)+len(f.Taken)+len(f.Checks)+len(f.FeedAsks)+len(f.FeedNews) == 0 && f.Refused == nil && f.Parting != Ends
}
