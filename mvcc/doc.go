// Package mvcc is etcd's data model on an engine: keys with versions, requests
// that are evaluated against them, reads at a revision, and the removal of what
// a compaction no longer needs.
//
// A request goes through this package in three steps, each a plain function:
//
//	Validate*  what is wrong with the request's shape, before anything is read
//	Evaluate   the request against a State: mutations and a finished response
//	AppendMutation  a mutation as a row of the engine, once its entry is applied
//
// A State is what a request sees: the engine (EngineState), what is proposed
// but not applied on top of it (Overlay), or rows that other ranges sent
// (RowsState). Evaluate gives the same answer over each of them.
//
// A batch is evaluated before its revisions are known. Its i-th change is
// evaluated at OpenRevision+i, and everything that holds such a number is
// filled in later (FillMutations, FillResponse, Overlay.Fill). An open revision
// is above every known one; a request that needs to know more gets ErrWait and
// is evaluated again in the next batch.
//
// Everything here is single-threaded, starts nothing and blocks on nothing but
// the engine. Revisions are etcd's: the compacted revision of a keyspace that
// was never compacted is -1.
package mvcc
