// Package load runs the load generators of bench/load, small, against real etcd
// and against Flotilla: what they count as wrong must be wrong with neither.
package load
