// Package watchfeed tells clients what changed: it turns what a store applies
// into streams of events, each in order, none twice, none left out.
//
// Core decides. Every range has a feed: a ring of its recent updates, and the
// bound below which it is closed. Watchers of the same span share a place; places
// that lie over the same run of ranges share a group, which holds what was applied
// until the whole run is closed at it and then releases it, in order of revision,
// to the places that want it. DESIGN.md has the protocol.
//
//	          created with a start that is released already
//	        ┌──────────────────────────────────────────────┐
//	        │                                              v
//	created ┴─> synced <──everything released is given── catching
//	              └────────no room in its stream───────────^
//
// A synced watcher was given everything up to its group's released revision, and
// gets the rest from the group. One that is catching up gets it from the rings,
// or from the engine, until it may join.
//
// Hub is the shell: goroutine "watch-hub" owns the core, "watch-scan" (a few)
// read the engine for it, "watch-ask" (one of a stream that needs it, one for
// progress) asks what is current. Lock order: a Stream's mutex and the hub's are
// never held together.
package watchfeed
