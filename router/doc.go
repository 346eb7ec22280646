// Package router takes clients' requests to the ranges that hold their keys.
//
// Router is a core. It finds the range of a request in its Cache and sends it
// there; a request over several ranges becomes a transaction (TxnOp). Each
// request is an operation, a small state machine that lives until its work is
// done:
//
//	Request ─> start ─> send ─> reply ─┬─> Result
//	                     ^             │
//	                     └─ retry <────┘ (refused, moved: certainly not done)
//
// A request whose outcome is not known is never sent again: its client is told.
//
// Client is the shell for the goroutines of a node's API: blocking calls. It
// reads for itself, on the caller's goroutine, at a revision that the node
// published; only if a range is not closed there yet does it ask the core, with
// a CloseTicket. It starts no goroutine and holds no lock.
package router
