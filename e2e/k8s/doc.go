// Package k8s runs the storage tests that k8s.io/apiserver exports
// (pkg/storage/testing) against Flotilla: what a Kubernetes API server asks of
// etcd. They run on one node, and on three while ranges are split and leaders
// move.
//
// All exported tests of the store on etcd run. Left out are: the benchmarks
// (RunBenchmark...), and RunTestOptionalWatchBookmarksWithCorrectResourceVersion,
// which is for stores with a cache of their own in front.
package k8s
