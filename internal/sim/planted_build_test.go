package sim

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A build of the simulator takes longer than most bugs take to be found. So all are
// built at once: each function that a bug changes is there twice, and begins with a
// look at which bug there is to be.

// plantedVariable names the bug by its place in the list, from 1 on; 0 is none.
const plantedVariable = "FLOTILLA_PLANTED"

// chooser is the file that reads it. Nothing in the sources themselves knows of it.
const chooser = `package invariant

import (
	"os"
	"strconv"
)

var Planted, _ = strconv.Atoi(os.Getenv("` + plantedVariable + `"))
`

const chooserImport = `"github.com/flotilladb/flotilla/internal/invariant"`

// simulator is a build of it.
type simulator struct{ binary string }

// buildPlanted builds the simulator with all bugs in it.
func buildPlanted(t *testing.T, all []plant) *simulator {
	t.Helper()
	dir := t.TempDir()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{filepath.Join("internal", "invariant", "planted.go"): chooser}
	for i := range all {
		if p := &all[i]; files[p.file] == "" {
			files[p.file] = withAll(t, all, p.file)
		}
	}
	replace := make(map[string]string)
	write := func(path, content string) {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(dir, fmt.Sprintf("%d.go", i))
		write(path, files[name])
		replace[filepath.Join(root, name)] = path
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "overlay.json")
	write(path, string(overlay))
	s := &simulator{binary: filepath.Join(dir, "sim.test")}
	if *flagBuilt != "" {
		s.binary = *flagBuilt
		if _, err := os.Stat(s.binary); err == nil {
			return s
		}
	}
	build := exec.Command("go", "test", "-c", "-tags", "invariants", "-vet", "off", "-overlay", path, "-o", s.binary, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return s
}

// withAll returns a source with all bugs of it.
func withAll(t *testing.T, all []plant, file string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", file))
	if err != nil {
		t.Fatal(err)
	}
	source := parseFuncs(t, file, string(raw))
	before := make(map[string]string) // what a function begins with
	var behind strings.Builder
	for i := range all {
		p := &all[i]
		if p.file != file {
			continue
		}
		planted := parseFuncs(t, p.name, p.apply(t))
		if planted.rest != source.rest {
			t.Fatalf("%s: an edit is of more than functions", p.name)
		}
		for name, f := range planted.funcs {
			was := source.funcs[name]
			if was.text == f.text {
				continue
			}
			twin := fmt.Sprintf("%sPlanted%d", f.name, i+1)
			before[name] += fmt.Sprintf(" if invariant.Planted == %d { %s };", i+1, was.call(t, twin))
			behind.WriteString("\n" + f.text[:f.nameAt] + twin + f.text[f.nameAt+len(f.name):] + "\n")
		}
	}
	out := string(raw)
	order := slices.SortedFunc(maps.Keys(before), func(a, b string) int { return source.funcs[b].bodyAt - source.funcs[a].bodyAt })
	for _, name := range order { // from the end on
		at := source.funcs[name].bodyAt
		out = out[:at] + before[name] + out[at:]
	}
	if !strings.Contains(out, chooserImport) {
		out = out[:source.importAt] + "\nimport " + chooserImport + "\n" + out[source.importAt:]
	}
	return out + behind.String()
}

// parsedSource is a source by its functions.
type parsedSource struct {
	funcs    map[string]parsedFunc // by receiver and name
	rest     string                // without them
	importAt int
}

type parsedFunc struct {
	text, name     string
	nameAt, bodyAt int // in text; in the source, behind the brace
	decl           *ast.FuncDecl
}

func parseFuncs(t *testing.T, name, src string) parsedSource {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, src, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	at := func(p token.Pos) int { return fset.Position(p).Offset }
	out := parsedSource{funcs: make(map[string]parsedFunc), importAt: at(file.Name.End())}
	last := 0
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		begin, end := at(f.Pos()), at(f.End())
		key := f.Name.Name
		if f.Recv != nil {
			key = src[at(f.Recv.List[0].Type.Pos()):at(f.Recv.List[0].Type.End())] + "." + key
		}
		out.funcs[key] = parsedFunc{
			text: src[begin:end], name: f.Name.Name, nameAt: at(f.Name.Pos()) - begin, bodyAt: at(f.Body.Lbrace) + 1, decl: f,
		}
		out.rest += src[last:begin]
		last = end
	}
	out.rest += src[last:]
	return out
}

// call is a call of a function's twin in its place.
func (f *parsedFunc) call(t *testing.T, twin string) string {
	var args []string
	for _, p := range f.decl.Type.Params.List {
		if len(p.Names) == 0 {
			t.Fatalf("%s: a parameter has no name", f.name)
		}
		for _, n := range p.Names {
			arg := n.Name
			if _, more := p.Type.(*ast.Ellipsis); more {
				arg += "..."
			}
			args = append(args, arg)
		}
	}
	call := twin + "(" + strings.Join(args, ", ") + ")"
	if f.decl.Recv != nil {
		call = f.decl.Recv.List[0].Names[0].Name + "." + call
	}
	if f.decl.Type.Results != nil {
		return "return " + call
	}
	return call + "; return"
}
