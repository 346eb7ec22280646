// Package cluster tests three processes that are one cluster: nodes that stop in
// order, are killed, or stand still, one after the other and all at once, while
// clients of all three work. Run `make e2e`, or `go test ./cluster` in folder e2e
// with -flotilla=PROGRAM and -rounds=N.
package cluster
