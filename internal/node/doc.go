// Package node is one process of the cluster: its parts, joined.
//
// Core joins everything that decides (router, store, sequencer, the system
// range's facts) into one deterministic value. Node is the shell around it: one
// goroutine, the loop, drives the Core, and while it rests, whoever brings work
// does so in its place. Handlers of requests hand calls over and wait, and read
// the engine on their own when it was published that they may.
package node
