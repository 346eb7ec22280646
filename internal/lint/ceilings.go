package lint

import (
	"go/ast"
)

// Ceilings, in lines. Tests get more room: a table is long and still plain.
const (
	fileLinesMax     = 600
	funcLinesMax     = 70
	testFileLinesMax = 1000
	testFuncLinesMax = 150
)

// Ceilings complains about files and functions that are too long.
func (t *Tree) Ceilings() []string {
	var out []string
	for _, f := range t.Files {
		if f.Generated {
			continue
		}
		fileMax, funcMax := fileLinesMax, funcLinesMax
		if f.Test {
			fileMax, funcMax = testFileLinesMax, testFuncLinesMax
		}
		if f.Lines > fileMax {
			out = append(out, t.at(f, f.AST.Package, "file of %d lines, at most %d", f.Lines, fileMax))
		}
		for _, d := range f.AST.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			lines := t.fset.Position(fn.End()).Line - t.fset.Position(fn.Pos()).Line + 1
			if lines > funcMax {
				out = append(out, t.at(f, fn.Pos(), "%s has %d lines, at most %d", fn.Name.Name, lines, funcMax))
			}
		}
	}
	return out
}
