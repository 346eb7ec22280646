// Package sim runs a cluster in one thread from one seed: nodes, disks and
// clients are actors on one heap of events in virtual time, and everything that
// is random comes from the seed. So a run that fails can be had again.
//
//	seed → Config (its own mix, limits, delays and faults)
//	     → Run: traffic, splits, crashes that lose unsynced writes, stops, stalls
//	     → quiet: no client, no fault, until nothing is under way
//	     → checks
//
// A node is a node.Core, driven step by step as the node's own loop does it
// (node.go), on engine.Mem, the engine's twin that forgets at a crash. A client
// is a coroutine (client.go) that runs router.Client, the code that the API
// runs: where that waits for the loop or looks at what the loop published, the
// coroutine may stand still while the world goes on, even in the middle of the
// loop's step (Sim.point). That is how readers race with the loop in one thread.
//
// The check (check.go) is exact. Revisions are one total order, so the writes are
// replayed on the reference model in that order, each answer must be what the
// model says, byte for byte, and the order must not contradict time. A write with
// an unknown outcome is found by its effects.
package sim
