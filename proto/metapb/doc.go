// Package metapb names the parts of a cluster: nodes, stores, ranges and
// replicas, and holds the descriptor, the truth about one range.
//
// The identifiers are types of their own, so that a replica id cannot be
// passed where a range id is wanted. The generated messages carry them as
// plain integers; methods beside them give the types back.
package metapb
