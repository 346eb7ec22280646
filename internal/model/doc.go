// Package model is etcd's API of keys, leases and watches as pure functions:
// Step takes a state and a request and returns the next state and the answer.
//
// It is the oracle of the tests. The simulator asks it what a node should have
// answered, the differential test checks it against real etcd, so that a bug
// in the oracle is found as well. It is therefore written to be read, not to
// be fast: a sorted list of keys, each with all its versions, oldest first.
//
// What is always true:
//   - A State never changes once it was returned. Step shares what it can
//     between two states, so that a checker may keep thousands of them.
//   - Revision grows by exactly one per request that changes something.
//   - Within a key, versions are in strictly rising order of (main, sub).
//   - Every error is one of etcd's own gRPC errors, so that code and message
//     can be compared with what came over the wire.
//
// Time is left to the caller: a lease that ran out is a step of its own. Auth is
// left out (always off).
//
// A watch is not a step: it shows what happened. State.WatchEvents says what a
// watch must be given, and CheckWatch holds what a client was given against the
// nine promises of etcd's watches (filter, ordered, unique, atomic,
// bookmarkable, resumable, reliable, is-create, prev-kv), one function for each.
//
// Generator draws random requests, valid and invalid, over a small keyspace.
// Equal compares two answers as far as etcd defines them.
package model
