package rpc

import "fmt"

// Lane is a stream of frames by purpose.
type Lane uint8

// The lanes. Their numbers are on the wire.
const (
	// Liveness has what must not wait for anything: its connection is its own.
	Liveness Lane = iota
	// Raft has the messages of the groups, in order.
	Raft
	// Requests has questions and answers; large ones are taken in turn.
	Requests
	// Snapshots has what is bulky and may take its time; its bytes a second are
	// bounded and its connection is its own.
	Snapshots
	laneCount
)

// String is the lane's name in logs and metrics.
func (l Lane) String() string {
	switch l {
	case Liveness:
		return "liveness"
	case Raft:
		return "raft"
	case Requests:
		return "requests"
	case Snapshots:
		return "snapshots"
	}
	return fmt.Sprintf("lane(%d)", uint8(l))
}

// class is a connection by the lanes that share it. Raft and Requests do: under
// load what both have to say leaves in one write.
type class uint8

const (
	classLiveness class = iota
	classMain
	classSnapshots
	classCount
)

func (c class) lanes() []Lane {
	switch c {
	case classLiveness:
		return []Lane{Liveness}
	case classSnapshots:
		return []Lane{Snapshots}
	}
	return []Lane{Raft, Requests}
}

func (c class) String() string {
	switch c {
	case classLiveness:
		return "liveness"
	case classSnapshots:
		return "snapshots"
	}
	return "main"
}

// laneSet is lanes as bits.
type laneSet uint64

func setOf(lanes ...Lane) (s laneSet) {
	for _, l := range lanes {
		s |= 1 << l
	}
	return s
}

// known reports whether the set has lanes, and none that this version does not know.
func (s laneSet) known() bool { return s != 0 && s < 1<<laneCount }

// list returns the lanes of a known set, in order.
func (s laneSet) list() (lanes []Lane) {
	for l := range laneCount {
		if s&(1<<l) != 0 {
			lanes = append(lanes, l)
		}
	}
	return lanes
}
