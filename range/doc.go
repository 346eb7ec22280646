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
//	SetNow, Step, StepLiveness     the time, and what came from other stores
//	Evaluate                       batches; Asks go to the sequencer
//	Granted                        for every ask, in order
//	Collect                        batches of rows to commit, apply rows first
//	Advance                        after the apply rows are committed: replies
//
// With replicas on other stores the driver also sends what Collect hands out:
// Liveness before all else, and Messages, each to its store; neither waits for the
// disk, and both may be lost. Append may be empty and is synced all the same. Tick
// comes several times in a heartbeat interval. Campaign is called once, after
// NewStore. StoreStart must have grown, durably, before NewStore: promises rest on
// it. SetNow comes after a turn's input was received, and with a clock read then:
// leaderLeases are checked against it. Who answers from what it knows of a range (the
// sequencer for range 1) asks Replica.HoldsLease after it has read. Unreachable tells
// of messages that were lost. Transfer hands a leadership over; Leads, Leader and
// Transferring show how far it is.
//
// What is always true: a reply to a change is given after its entry is applied,
// and its entry is applied after it is durable on a quorum; revisions of a
// range's entries grow; nothing is evaluated by a leader that has not applied
// an entry of its own term; of the leaders of a range at most one holds its lease.
package ranges
