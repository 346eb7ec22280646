package lint

import (
	"fmt"
	"sort"
	"strings"
)

const module = "github.com/flotilladb/flotilla/"

// Package is a package as `go list` shows it.
type Package struct {
	ImportPath string
	Imports    []string
}

// side marks what stands beside the floors: it may import everything, and
// nothing but another side package may import it.
const side = -1

// floorOf is the map of the project, from ARCHITECTURE.md.
func floorOf(rel string) (floor int, known bool) {
	switch rel {
	case "cmd/flotilla":
		return 8, true
	case "internal/node", "internal/config", "bench/load":
		return 7, true
	case "internal/etcdapi", "internal/rpc", "internal/gossip":
		return 6, true
	case "router", "internal/wire":
		return 5, true
	case "range":
		return 4, true
	case "watchfeed", "internal/frame":
		return 3, true
	case "mvcc", "lease", "raftgroup", "placement":
		return 2, true
	case "engine":
		return 1, true
	case "internal/keys", "internal/clock", "internal/fields", "internal/invariant", "internal/stop":
		return 0, true
	case "internal/sim", "internal/model", "internal/lint", "internal/effort", "engine/enginetest":
		return side, true
	}
	for prefix, floor := range map[string]int{"proto/": 0, "bench": side, "deploy": side} {
		if strings.HasPrefix(rel, prefix) {
			return floor, true
		}
	}
	return 0, false
}

// sameFloor lists the pairs on one floor that may see each other. Within floor
// 0 everything may: the compiler keeps it free of cycles.
func sameFloor(from, to string) bool {
	return from == "internal/node" && to == "internal/config"
}

// homes says where a heavy dependency may be imported. A trailing slash means
// everything below.
func homes(importPath string) (allowed []string, restricted bool) {
	for prefix, dirs := range map[string][]string{
		"go.etcd.io/raft/":                  {"raftgroup"},
		"github.com/cockroachdb/pebble/":    {"engine"},
		"github.com/hashicorp/memberlist":   {"internal/gossip"},
		"github.com/spf13/cobra":            {"cmd/flotilla"},
		"google.golang.org/grpc":            {"cmd/flotilla", "internal/node", "internal/etcdapi", "internal/sim", "internal/model", "proto/", "bench", "bench/"},
		"github.com/grpc-ecosystem/":        {"internal/etcdapi", "internal/node"},
		"github.com/anishathalye/":          {"internal/sim"},
		"go.etcd.io/etcd/server/":           {"internal/etcdapi"}, // wire types of Lock and Election
		"github.com/cockroachdb/datadriven": {},
	} {
		if strings.HasPrefix(importPath, prefix) {
			return dirs, true
		}
	}
	return nil, false
}

// Floors complains about imports that point up, or that leave their home.
func Floors(pkgs []Package) []string {
	var out []string
	for _, p := range pkgs {
		from := strings.TrimPrefix(p.ImportPath, module)
		floor, known := floorOf(from)
		if !known {
			out = append(out, from+": on no floor of the map")
			continue
		}
		for _, imp := range p.Imports {
			if to, ours := strings.CutPrefix(imp, module); ours {
				if why := pointsUp(from, floor, to); why != "" {
					out = append(out, why)
				}
			} else if dirs, restricted := homes(imp); restricted && !lives(from, dirs) {
				out = append(out, fmt.Sprintf("%s imports %s, which lives in %v", from, imp, dirs))
			}
		}
	}
	sort.Strings(out)
	return out
}

func pointsUp(from string, floor int, to string) string {
	target, known := floorOf(to)
	switch {
	case !known, floor == side, sameFloor(from, to):
		return ""
	case target == side:
		return fmt.Sprintf("%s imports %s, which is beside the floors", from, to)
	case from == "router" && to == "range":
		return "router imports range: they meet in proto/"
	case target > floor || target == floor && floor > 0:
		return fmt.Sprintf("%s (floor %d) imports %s (floor %d)", from, floor, to, target)
	}
	return ""
}

func lives(from string, dirs []string) bool {
	for _, d := range dirs {
		if from == d || strings.HasSuffix(d, "/") && strings.HasPrefix(from, d) {
			return true
		}
	}
	return false
}
