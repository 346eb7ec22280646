// Package difftest sends the same random requests to two servers and compares
// the complete answers.
//
// One of the two is always real etcd, started in this process from its own
// module. The other is Flotilla, the model, or a second etcd: two etcds show
// no difference, or the comparison is wrong; etcd behind a proxy that spoils
// one answer shows one, or the comparison is blind.
//
// Requests go one at a time, so that both servers have only one order to choose
// from. What may differ is in model.Equal: ids, the raft term, and rows that a
// sort leaves in any order. What is not asked is in model.Generator: requests
// that crash etcd, and streams that etcd sorts chunk by chunk.
//
// Watches run beside them, created and canceled at random. All that comes is held
// against the model, on both servers, event by event and reply by reply. Where
// etcd's answer hangs on how far a watch has come, that is waited for first.
package difftest
