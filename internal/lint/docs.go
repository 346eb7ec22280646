package lint

import (
	"sort"
	"strings"
)

// Docs complains about packages without exactly one package comment, or whose
// comment does not begin with "Package name" (a command's may begin freely).
func (t *Tree) Docs() []string {
	type pkg struct{ dir, name string }
	docs := make(map[pkg][]string)
	for _, f := range t.Files {
		if f.Generated || f.Test {
			continue
		}
		p := pkg{f.Dir(), f.AST.Name.Name}
		if _, ok := docs[p]; !ok {
			docs[p] = nil
		}
		if f.AST.Doc != nil && strings.TrimSpace(f.AST.Doc.Text()) != "" {
			docs[p] = append(docs[p], f.AST.Doc.Text())
		}
	}
	var out []string
	for p, texts := range docs {
		switch {
		case len(texts) != 1:
			out = append(out, p.dir+": package "+p.name+" needs one package comment, in one file")
		case p.name != "main" && !strings.HasPrefix(texts[0], "Package "+p.name+" "):
			out = append(out, p.dir+": the package comment must begin with \"Package "+p.name+"\"")
		}
	}
	sort.Strings(out)
	return out
}
