// Package wire turns what stores say to each other into bytes and back: frames,
// and in them Raft messages, requests, replies, and the way to the sequencer.
//
//	version (1) | from, to, their starts | sections | CRC-32C of all before (4, LE)
//	section:    kind (1) | count | items
//
// Numbers are uvarints, negative ones as their 64 bits. Bytes have their length
// in front. An item has no frame of its own: its kind says what follows.
//
// One function per type walks over its fields, for both directions, so that the
// two cannot differ. What is decoded points into the frame, which is not to be
// used again, but for the data of log entries that are a small part of it.
//
// A decoder trusts nothing: it returns an error for any bytes that are not what
// Append would write, and allocates in proportion to what is there, not to what
// is claimed. A kind that it does not know is an *UnknownError: a newer node sent
// it, too early, since new formats are written only once all nodes know them.
// A new field goes to the end of its type's function, for frames from the next
// version on.
package wire
