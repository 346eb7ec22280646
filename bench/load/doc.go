// Package load makes watch and lease load against any server that speaks etcd's
// API, and counts what must not happen.
//
// Writers are open-loop: what is due when is fixed before the first request is
// sent, and a latency counts from when its request was due. A server that
// stalls delays what comes after, and all of it is seen.
//
// A put carries its number and when it was due in its value, so that a delivery
// says by itself how late it is. Each watcher keeps the last revision that it
// saw, how many events, and the sum of their revisions; at the end these are
// compared with the puts that were acknowledged. Every Report has such counts,
// and Wrong adds up those that must be 0.
//
// CPU and memory are those of the server's process, which must be on this
// machine and is named by its id.
package load
