// Package gossip tells a node who else there is.
//
// It wraps memberlist: each process of a cluster is a member, with what others
// need to find it and to place ranges on it, in at most 512 bytes. Members find
// out about each other's end within seconds. What comes from here is advice: an
// address to try, a load to weigh. Who may vote or lead is decided between stores
// and never here.
//
// A member is a start of a store: a store that restarts is a new member, and the
// old one is forgotten when its end is noticed. Members of another cluster are
// refused, by the cluster id that each carries.
//
// What happened is put into a queue that holds at most one event for each store,
// the last: memberlist tells under its own lock, so nothing may wait there. A slow
// consumer misses steps on the way, never the state.
//
// Goroutines, under the Config's Stopper: "gossip events" hands events over;
// "gossip join" tries the join addresses, for ever, until there is somebody, and
// again while known members are missing; "gossip end" shuts memberlist down.
// memberlist has goroutines of its own.
package gossip
