// Package ranges is a store's replicas: what a range's leader does with a
// request, what every replica does with an entry of the log, and how a range is
// cut in two. (The folder is range/; the package's name is a Go keyword too
// many.)
//
// A Replica is one pipeline, and the only writer of its range:
//
//	request → queue → batch → grant → entry → committed → applied → reply
//	           │        │       │                             │
//	           locks    overlay open revisions filled in      events, next batch
//
// The leader evaluates what waits in its queue against the applied state plus
// the overlay (effects of earlier batches that are not applied yet), asks the
// sequencer for as many revisions as the batch has changes, fills them in and
// proposes one entry. Every replica applies the entry's bytes; none evaluates
// anything again.
//
// The Store is a core that holds all replicas and folds their work: the log
// rows of all of them leave in one batch that wants one sync, the applied rows
// in one that wants none. Its driver repeats
//
//	Request, Synced, Tick          what came in
//	Evaluate                       batches; Asks go to the sequencer
//	Granted                        for every ask, in order
//	Collect                        batches of rows to commit, apply rows first
//	Advance                        after the apply rows are committed: replies
//
// What is always true: a reply to a change is given after its entry is applied,
// and its entry is applied after it is durable on a quorum; revisions of a
// range's entries grow; nothing is evaluated by a leader that has not applied
// an entry of its own term.
package ranges
