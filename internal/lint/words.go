package lint

import (
	"go/ast"
	"go/token"
	"strings"
	"unicode"
)

// notOurWord returns the glossary's word for one that we do not use.
func notOurWord(word string) (ours string, banned bool) {
	switch strings.ToLower(word) {
	case "shard", "shards", "region", "regions", "tablet", "tablets", "partition", "partitions":
		return "range", true
	case "timestamp", "timestamps":
		return "revision, or a name with a unit", true
	default:
		return "", false
	}
}

// Words complains about declared names that use another system's words.
// Comments may: a network is partitioned.
func (t *Tree) Words() []string {
	var out []string
	for _, f := range t.Files {
		if f.Generated {
			continue
		}
		for _, id := range declared(f.AST) {
			for _, w := range split(id.Name) {
				if ours, banned := notOurWord(w); banned {
					out = append(out, t.at(f, id.Pos(), "%s: say %s", id.Name, ours))
				}
			}
		}
	}
	return out
}

// declared lists the names that a file introduces.
func declared(file *ast.File) []*ast.Ident {
	var ids []*ast.Ident
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			ids = append(ids, n.Name)
		case *ast.TypeSpec:
			ids = append(ids, n.Name)
		case *ast.ValueSpec:
			ids = append(ids, n.Names...)
		case *ast.Field:
			ids = append(ids, n.Names...)
		case *ast.AssignStmt:
			if n.Tok != token.DEFINE {
				break
			}
			for _, e := range n.Lhs {
				if id, ok := e.(*ast.Ident); ok {
					ids = append(ids, id)
				}
			}
		}
		return true
	})
	return ids
}

// split cuts a name into words at capitals and underscores.
func split(name string) []string {
	var words []string
	start := 0
	for i, r := range name {
		if r == '_' || unicode.IsUpper(r) && i > 0 && !unicode.IsUpper(rune(name[i-1])) {
			words = append(words, strings.Trim(name[start:i], "_"))
			start = i
		}
	}
	return append(words, strings.Trim(name[start:], "_"))
}
