// Command bench measures Flotilla and real etcd side by side on one machine.
//
//	make bench                                     everything, five runs, medians
//	make bench BENCH="-quick"                      a tenth of it, once
//	make bench BENCH="-workloads put,range -runs 3"
//	make bench-watch                               watches and leases, against their bars
//	make bench3                                    three nodes beside three etcds, against their bars
//
// Every figure is taken from a server that was just started on an empty folder
// of its own, with syncs on. The systems take turns within a run, so that a
// slow minute of the machine hits all of them. The load comes from etcd's own
// benchmark tool where that can make it, else from the small loaders here; both
// run on the same machine as the server, so the null server, which answers at
// once, shows how much of a figure is the client's and gRPC's.
//
// CPU is user and system time of the server's process alone, per operation.
//
// Systems with a 3 are clusters of three nodes on this machine: etcd3, flotilla3 as
// it begins (one range holds all data), flotilla3x64 and flotilla3x1000 with so many
// ranges, each node leading a third of them. The load goes to all nodes alike, over
// connections that take turns; a load of one client is made to each node in turn,
// and the figures are means. CPU is the sum of the three, memory that of the largest.
//
// Three workloads make their own ranges: idle10k watches 10,000 of them rest, and
// writes to some for the first time (an operation is one such write); kill3k kills the
// node that leads a third of 3,000 under 1,000 puts a second, and puts a key to each
// range until it is taken (a latency is the time from the kill until then), and to
// etcd's one group for comparison; restart10k kills a node with 10,000 ranges and 5 GB
// (-megabytes: less) three times, when all are at rest: restart_s is the longest time
// from its start until it answers a linearizable read, restart_all_s until it has for
// each range. rolling stops and starts each node in order, saturated keeps all cores
// busy with others for ten minutes and counts elections, both under 1,000 puts a second.
//
//	bin/bench -workloads put -systems flotilla3,flotilla3x1000 -where
//	                                               what the processor time of a put goes to
//	make pgo                                       profiles of the servers, for the compiler
//	bench -prepare A:1,B:2,C:3 -ranges 1000        cuts a cluster that runs
package main
