// Package model is etcd's KV API as a pure function: Step takes a state and a
// request and returns the next state and the answer.
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
// Two parts of etcd are left out: leases (every lease is unknown, so only
// lease 0 may be written) and auth (always off).
//
// Generator draws random requests, valid and invalid, over a small keyspace.
// Equal compares two answers as far as etcd defines them.
package model
