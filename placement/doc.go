// Package placement owns what there is one of in a cluster: the order of
// revisions, the small facts of the system range, and the directory.
//
// Sequencer hands out revisions. It lives in the memory of the leader of the
// system range and is not replicated; only a ceiling is, which it never passes.
//
// System is the replicated part: rows at system addresses of range 1. The
// leader evaluates an operation to rows, which go through the range's log, and
// every replica applies the same rows.
//
// Directory is an index of all ranges, built from what ranges report. It may be
// late: the truth about a range is in the range itself.
package placement
