package lint

import (
	"go/ast"
	"go/token"
	"path"
	"strconv"
	"strings"
)

// coreDirs are the folders whose files are cores unless shellFiles says
// otherwise.
func coreDirs() []string {
	return []string{
		"internal/keys", "internal/model", "internal/wire", "lease", "mvcc", "placement", "proto/cmdpb", "proto/metapb",
		"proto/peerpb", "proto/txnpb", "raftgroup", "range", "router", "watchfeed",
	}
}

// shellFiles are the files in those folders that may do what a core may not.
func shellFiles() map[string]string {
	return map[string]string{
		"lease/renewals.go":         "deadlines that the expirer shares with the goroutines of clients' streams",
		"raftgroup/logger.go":       "hands raft's lines to slog, which asks for a context",
		"range/ingest.go":           "what a driver does to the engine, under its context",
		"router/client.go":          "blocks its caller until the answer is there",
		"router/client_lease.go":    "blocks its caller, as client.go does",
		"router/hash.go":            "hashes on the caller's goroutine, as read.go reads",
		"router/local.go":           "what that blocking caller waits on",
		"router/read.go":            "reads on the caller's goroutine, under its context",
		"router/remote.go":          "reads on the caller's goroutine, as read.go does",
		"router/serializable.go":    "asks on the caller's goroutine, as read.go does",
		"router/stream.go":          "sends to the caller's stream, under its context",
		"watchfeed/clientstream.go": "blocks the goroutine of a client's stream until there is something to send",
		"watchfeed/later.go":        "what waits beside a client's stream, with a goroutine",
		"watchfeed/hub.go":          "the goroutine that drives the core, and its inbox",
	}
}

// coreFiles are cores in folders that hold shells otherwise.
func coreFiles() []string { return []string{"internal/node/core*.go"} }

func isCore(f *File) bool {
	if f.Test || f.Generated || path.Base(f.Path) == "metrics.go" {
		return false
	}
	if _, shell := shellFiles()[f.Path]; shell {
		return false
	}
	for _, pattern := range coreFiles() {
		if ok, _ := path.Match(pattern, f.Path); ok {
			return true
		}
	}
	for _, dir := range coreDirs() {
		if f.Dir() == dir {
			return true
		}
	}
	return false
}

// notInCore says why a core must not import a package.
func notInCore(importPath string) (why string, banned bool) {
	switch importPath {
	case "sync", "sync/atomic":
		return "a core has one owner", true
	case "context":
		return "nothing in a core waits", true
	case "os", "net", "io/fs", "syscall":
		return "a core opens nothing", true
	case "log", "log/slog":
		return "shells log", true
	case "crypto/rand":
		return "randomness is an argument", true
	}
	if strings.HasPrefix(importPath, "github.com/prometheus/") {
		return "metrics live in metrics.go", true
	}
	if strings.HasPrefix(importPath, "net/") || strings.HasPrefix(importPath, "os/") {
		return "a core opens nothing", true
	}
	return "", false
}

// clockCalls are the functions of package time that read or wait for a clock.
func clockCall(name string) bool {
	switch name {
	case "Now", "Since", "Until", "After", "AfterFunc", "Sleep", "Tick", "NewTimer", "NewTicker":
		return true
	}
	return false
}

// Purity complains about what core files must not do.
func (t *Tree) Purity() []string {
	var out []string
	for _, f := range t.Files {
		if isCore(f) {
			out = append(out, t.impureImports(f)...)
			out = append(out, t.impureNodes(f)...)
			out = append(out, t.packageVariables(f)...)
		}
	}
	return out
}

func (t *Tree) impureImports(f *File) []string {
	var out []string
	for _, imp := range f.AST.Imports {
		p, err := strconv.Unquote(imp.Path.Value)
		if err != nil {
			continue
		}
		if why, banned := notInCore(p); banned {
			out = append(out, t.at(f, imp.Pos(), "core imports %s: %s", p, why))
		}
	}
	return out
}

func (t *Tree) impureNodes(f *File) []string {
	var out []string
	complain := func(n ast.Node, what string) { out = append(out, t.at(f, n.Pos(), "core has %s", what)) }
	ast.Inspect(f.AST, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			complain(n, "a go statement")
		case *ast.ChanType:
			complain(n, "a channel")
		case *ast.SelectStmt:
			complain(n, "a select")
		case *ast.SendStmt:
			complain(n, "a send")
		case *ast.UnaryExpr:
			if n.Op == token.ARROW {
				complain(n, "a receive")
			}
		case *ast.SelectorExpr:
			if pkg, ok := n.X.(*ast.Ident); ok && pkg.Obj == nil {
				switch {
				case pkg.Name == "time" && clockCall(n.Sel.Name):
					complain(n, "time."+n.Sel.Name)
				case pkg.Name == "rand" && globalRandom(n.Sel.Name):
					complain(n, "rand."+n.Sel.Name)
				}
			}
		}
		return true
	})
	return out
}

// globalRandom names everything of math/rand but generators given by hand.
func globalRandom(name string) bool {
	switch name {
	case "Rand", "Source", "New", "NewPCG", "PCG", "NewZipf", "Zipf", "NewChaCha8", "ChaCha8":
		return false
	}
	return true
}

// packageVariables complains about variables of the package, but for error
// sentinels in errors.go and for assertions that a type fits an interface.
func (t *Tree) packageVariables(f *File) []string {
	if path.Base(f.Path) == "errors.go" {
		return nil
	}
	var out []string
	for _, d := range f.AST.Decls {
		gen, ok := d.(*ast.GenDecl)
		if !ok || gen.Tok != token.VAR {
			continue
		}
		for _, spec := range gen.Specs {
			for _, name := range spec.(*ast.ValueSpec).Names {
				if name.Name != "_" {
					out = append(out, t.at(f, name.Pos(), "core has a package variable %s", name.Name))
				}
			}
		}
	}
	return out
}
