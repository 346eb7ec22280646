// Package keys draws the keyspace: where everything is in the engine.
//
// An *address* is a key of the replicated keyspace, the one that is cut into
// ranges. Its first byte says what it is:
//
//	's' name                 system row: global and small (range 1 holds them all)
//	't' lease id (8 bytes)   lease record
//	'u' user key             a key of a client
//
// An *engine key* is what the engine stores. Its first byte is the table:
//
//	table  then                                            version suffix
//	0x01   range id (8) kind (1) [index (8)]               none   local to a replica, moves with nothing
//	0x02   name                                            none   local to a store
//	0x10   address                                         none   rows without versions ('s' and 't' addresses)
//	0x11   address, 0x00 0x01, transaction id (32)         none   intents (address escaped)
//	0x12   address, 0x00 0x01, transaction id (32)         none   transaction records, by anchor (address escaped)
//	0x13   'u' user key, 0x00 0x01, (nothing)              none   leased key -> lease id (address escaped)
//	0x20   user key                                        yes    versions, newest first
//
// Everything from 0x10 on is addressed by key and so does not move on a split:
// the engine spans of a range are Tables(span), one per table.
//
// An engine key ends with 0x00 and then either nothing or the suffix and its
// length, as Pebble's cockroachkvs comparer has it: a suffix is the revision (8
// bytes, big endian), the sub-revision (4 bytes, big endian) and the length
// byte 13; without the sub-revision, if that is zero, and then the length byte
// is 9. Pebble's columnar blocks give such a suffix back in this short form
// whatever was written, and some of its checks compare bytes. Older folders
// hold long ones with a sub-revision of zero; both are the same key to the
// engine.
//
// Functions named Append write behind dst and allocate only when dst is too
// small; their namesakes without Append allocate. What a Decode function
// returns points into its argument.
package keys

// Tables, by their first byte. They are part of the disk format.
const (
	tableLocal   byte = 0x01
	tableStore   byte = 0x02
	tableRow     byte = 0x10
	tableIntent  byte = 0x11
	tableRecord  byte = 0x12
	tableLeased  byte = 0x13
	tableVersion byte = 0x20
)

// sentinel ends the part of an engine key that has no version in it.
const sentinel byte = 0x00

// Span is the half-open set of engine keys [Start, End), bare keys (no version)
// both. A nil End is the end of the engine.
type Span struct {
	Start, End []byte
}
