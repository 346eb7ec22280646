// Package raftgroup keeps many Raft groups on one engine: a Group is the core
// of one replica, and one loop of its owner drives as many as there are.
//
// It wraps go.etcd.io/raft and is the only package that knows it. A Group
// starts no goroutine, reads no clock and opens nothing: messages, ticks and
// proposals go in, and Ready hands out what must be written, what may be sent
// and what is committed. The owner's loop for a group that HasReady is
//
//	rd, err := g.Ready(batch)       writes its rows into the owner's batch
//	send rd.Messages                what they promise is durable already
//	apply rd.Committed, in order    then g.Applied(index of the last)
//	commit batch, one sync for all groups, then for every rd.Token != 0
//	g.Synced(rd.Token)              releases answers and own votes
//
// until it has no more. A crash loses a suffix of what was not synced; New
// picks up from what is left. What must be durable before what is sent is
// written in DESIGN.md, and held by Group alone: an answer that depends on a
// write does not leave it before Synced.
//
// What is always true:
//
//   - truncated <= applied <= committed <= last index of the log;
//   - a proposal is appended by the leader that took it, or refused at once:
//     it is never forwarded to another replica;
//   - no clock starts an election. Campaign does, and Tick is for leaders;
//   - a row of the log that does not match its checksum is never used: the
//     group stops, with an error that names range and index.
//
// Bootstrap writes the first state of a group; several groups may share one
// batch, and a split writes its right side so. ReadState and ReadLog decode
// what a stopped store holds.
package raftgroup
