// Package robustness runs etcd's robustness traffic on a cluster of Flotilla
// processes while nodes fail and ranges split, and has etcd's validators judge
// what its recording clients saw: linearizability against etcd's model, the
// promises of watches, reads of the past.
//
// Everything but the failures is etcd's (go.etcd.io/etcd/tests/v3/robustness).
// Two things differ because Flotilla is not etcd:
//
//   - What was persisted is not read from a log on disk. It is put together from
//     watches of the whole keyspace, one for each node: a revision's events, and
//     the request that had a put of theirs (values are unique). See history.go.
//   - etcd's model gives each write the revision after the one before. Flotilla
//     does so until a leader is lost; then revisions that were handed out and not
//     used are skipped. So a run in which no leader was lost must have no gap. In
//     the others revisions are numbered anew, without those that no write has,
//     in all that clients saw, and then the same model applies. See renumber.go.
package robustness
