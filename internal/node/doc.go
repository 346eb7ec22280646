// Package node is one process of the cluster: its parts, joined.
//
// Core joins everything that decides (router, store, sequencer, the system
// range's facts) into one deterministic value. Node is the shell around it: one
// goroutine, the loop, drives the Core; handlers of requests hand calls to the
// loop and wait, and read the engine on their own when the loop has published
// that they may.
package node
