// Package rpc carries frames between the stores of a cluster.
//
// A frame is bytes that mean nothing here. It is sent to a store on a lane: a
// stream of its own for each purpose, so that what is large or slow on one does
// not hold up another. For each store and lane there is one gRPC stream, from the
// sender to the receiver, that lives as long as both do:
//
//	Send ──> sendQueue ──> "rpc send" ══ stream ══> "rpc receive" ──> Deliver
//	         (bytes, turns)     <── credit, answers to pings ──
//
// What is always true:
//
//   - Send never blocks, and says no when there is no room or no connection.
//   - A frame that Send took is delivered at most once. If it is not, because the
//     stream was lost, Unreachable is called for its lane, once for the stream.
//   - Frames of one lane are delivered in the order in which Send took them, over
//     all streams of a process. Only on Requests those above ChunkBytesMax go in
//     pieces, taken in turn with all others, and so arrive later than what was sent
//     after them.
//   - For each store and lane, what waits at the sender is at most QueueBytesMax,
//     and what the receiver has not given credit for at most CreditBytesMax and one
//     frame. The receiver counts over streams, so that a sender that reconnects
//     often does not get more.
//
// DESIGN.md has the messages, and who is refused when.
//
// Goroutines, all under the Config's Stopper: "rpc link", one for each connection
// to a store: it dials, waits, dials again, and ends what is silent; "rpc send" and
// "rpc answers", one each for each stream to a store; "rpc receive", one for each
// stream from a store; "rpc serve", for a listener of its own. Beside them are
// those of gRPC; a stream's handler sends what goes back to its sender.
//
// Lock order: Transport.mu, then remotes.mu; a lane's and an inbound's mutex are
// taken with nothing else held, and nothing is called or sent under any of them.
package rpc
