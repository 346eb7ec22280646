// Package process tests a node as its users meet it: a process with a folder,
// which is killed, restarted, started wrongly, and whose disk fills up or goes
// bad.
//
// With -etcd=PATH the tests of kills and restarts run against real etcd, to see
// that they ask for nothing that etcd does not do.
package process
