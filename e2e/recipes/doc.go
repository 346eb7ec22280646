// Package recipes runs what others have built on etcd's client against a server
// whose ranges are being split all the time: sessions, mutexes, elections and
// software transactions, naming, mirroring, leasing, ordering and namespaces of
// clientv3, and etcdctl's commands about watches and leases.
//
// None of it knows of ranges, and none of it may notice them. With -etcd the same
// tests run against real etcd, to see that they ask for nothing that etcd does
// not do.
package recipes
