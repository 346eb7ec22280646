// Command bench measures Flotilla and real etcd side by side on one machine.
//
//	make bench                                     everything, five runs, medians
//	make bench BENCH="-quick"                      a tenth of it, once
//	make bench BENCH="-workloads put,range -runs 3"
//	make bench-watch                               watches and leases, against their bars
//
// Every figure is taken from a server that was just started on an empty folder
// of its own, with syncs on. The systems take turns within a run, so that a
// slow minute of the machine hits all of them. The load comes from etcd's own
// benchmark tool where that can make it, else from the small loaders here; both
// run on the same machine as the server, so the null server, which answers at
// once, shows how much of a figure is the client's and gRPC's.
//
// CPU is user and system time of the server's process alone, per operation.
package main
