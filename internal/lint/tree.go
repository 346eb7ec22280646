package lint

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strings"
)

// File is one parsed Go file.
type File struct {
	Path      string // from the project's root, with slashes
	Lines     int
	Generated bool
	Test      bool
	AST       *ast.File
}

// Dir is the file's folder, from the project's root.
func (f *File) Dir() string { return path.Dir(f.Path) }

// Tree is a set of files that were parsed together.
type Tree struct {
	fset  *token.FileSet
	Files []*File
}

// Load parses every Go file under root, nested modules included.
func Load(root string) (*Tree, error) {
	t := &Tree{fset: token.NewFileSet()}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "bin") {
				return fs.SkipDir
			}
			return nil
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		return t.add(filepath.ToSlash(rel), name, nil)
	})
	return t, err
}

// add parses a file from disk, or from src if that is not nil.
func (t *Tree) add(rel, name string, src any) error {
	f, err := parser.ParseFile(t.fset, name, src, parser.ParseComments)
	if err != nil {
		return fmt.Errorf("lint: %w", err)
	}
	t.Files = append(t.Files, &File{
		Path:      rel,
		Lines:     t.fset.File(f.FileStart).LineCount(),
		Generated: ast.IsGenerated(f),
		Test:      strings.HasSuffix(rel, "_test.go"),
		AST:       f,
	})
	return nil
}

// at is a complaint about a place.
func (t *Tree) at(f *File, pos token.Pos, format string, args ...any) string {
	return fmt.Sprintf("%s:%d: %s", f.Path, t.fset.Position(pos).Line, fmt.Sprintf(format, args...))
}
