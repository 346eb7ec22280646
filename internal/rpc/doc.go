// Package rpc carries frames between the stores of a cluster.
//
// A frame is bytes that mean nothing here. It is sent to a store on a lane: an
// order of its own for each purpose, so that what is large or slow on one does not
// hold up another. The lanes to a store share up to three TCP connections, made by
// the sender, that live as long as both do:
//
//	Send ──> sendQueue ──> "rpc send" ══ TCP ══> "rpc receive" ──> Deliver
//	         (bytes, turns)     <── credit, answers to pings ──
//
// What is always true:
//
//   - Send never blocks, and says no when there is no room or no connection.
//   - A frame that Send took is delivered at most once. If it is not, because the
//     connection was lost, Unreachable is called for its lane, once for the connection.
//   - Frames of one lane are delivered in the order in which Send took them, over
//     all connections of a process. Only on Requests those above ChunkBytesMax go in
//     pieces, taken in turn with all others, and so arrive later than what was sent
//     after them.
//   - For each store and lane, what waits at the sender is at most QueueBytesMax,
//     and what the receiver has not given credit for at most CreditBytesMax and one
//     frame. The receiver counts over connections, so that a sender that reconnects
//     often does not get more.
//
// DESIGN.md has the messages, and who is refused when.
//
// Goroutines, all under the Config's Stopper: "rpc link", one for each connection
// to a store: it dials, waits, dials again, and ends what is silent; "rpc send" and
// "rpc answers", one each while such a connection lives; "rpc receive" and "rpc
// credit", which sends what goes back, for each from a store; "rpc serve", for the
// listener.
//
// Lock order: Transport.mu, then remotes.mu; a link's and an inbound's mutex are
// taken with nothing else held, and nothing is called or sent under any of them.
package rpc
