//go:build tools

package robustness

// What etcd's tests/common needs beyond this package, which `make common` runs from
// this module.
import _ "go.etcd.io/gofail/runtime"
