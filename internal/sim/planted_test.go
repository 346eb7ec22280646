package sim

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var (
	flagPlanted = flag.String("planted", "", "plant the bugs whose name matches, one after the other")
	flagFirst   = flag.Bool("first", false, "stop at the first seed that fails")
)

// plantSeedsMax bounds how many seeds a planted bug may take to be found.
const plantSeedsMax = 1000

// plant is a bug: an edit of the sources that the simulator is then built from.
// Nothing in the sources themselves knows of it.
type plant struct {
	name, file string
	edits      []edit
	// nodes is how many there are; 0: one. moves: their replicas move.
	nodes int
	moves bool
	// unproved: no seeds found it yet, of the few hundred that were tried. It has to be
	// named to be run.
	unproved bool
}

// edit replaces a text that is in the file once.
type edit struct{ old, new string }

// TestPlantedBugsFit holds the edits against the sources: each must still fit.
func TestPlantedBugsFit(t *testing.T) {
	for _, p := range plants() {
		if _, err := os.Stat(filepath.Join("..", "..", p.file)); err != nil {
			t.Fatal(err)
		}
		p.apply(t)
	}
}

// TestPlantedBugs builds the simulator with each bug in turn. If the seeds do
// not find it, they would not find the like of it.
func TestPlantedBugs(t *testing.T) {
	if *flagPlanted == "" {
		t.Skip("each bug is a build of its own: see make planted")
	}
	match, err := regexp.Compile(*flagPlanted)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range plants() {
		if match.MatchString(p.name) && (!p.unproved || *flagPlanted != ".") {
			t.Run(p.name, p.find)
		}
	}
}

// apply returns the source with the bug in it.
func (p *plant) apply(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", p.file))
	if err != nil {
		t.Fatal(err)
	}
	src := string(raw)
	for _, e := range p.edits {
		if n := strings.Count(src, e.old); n != 1 {
			t.Fatalf("%s: %s has this %d times, the edit wants it once:\n%s", p.name, p.file, n, e.old)
		}
		src = strings.Replace(src, e.old, e.new, 1)
	}
	return src
}

// find builds the simulator with the bug and runs seeds until one fails.
func (p *plant) find(t *testing.T) {
	dir := t.TempDir()
	source, overlay, binary := filepath.Join(dir, "planted.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "sim.test")
	original, err := filepath.Abs(filepath.Join("..", "..", p.file))
	if err != nil {
		t.Fatal(err)
	}
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{original: source}})
	if err != nil {
		t.Fatal(err)
	}
	for path, content := range map[string]string{source: p.apply(t), overlay: string(replace)} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", "test", "-c", "-tags", "invariants", "-overlay", overlay, "-o", binary, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	run := exec.Command(binary, "-test.run", "^TestSeeds$", "-first", "-seeds", strconv.Itoa(plantSeedsMax),
		"-nodes", strconv.Itoa(max(1, p.nodes)), "-moves="+strconv.FormatBool(p.moves))
	run.Dir, err = os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	out, err := run.CombinedOutput()
	found := regexp.MustCompile(`seed (\d+), [^\n]*`).FindString(string(out))
	if err == nil || found == "" {
		t.Fatalf("%d seeds did not find it (error %v):\n%s", plantSeedsMax, err, out)
	}
	t.Logf("found: %.300s", found)
}
