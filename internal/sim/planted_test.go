package sim

import (
	"flag"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	flagPlanted = flag.String("planted", "", "plant the bugs whose name matches, one after the other")
	flagPlantTo = flag.Int("planted-seeds", 1000, "how many seeds a planted bug may take to be found")
	flagPlantAt = flag.Int("planted-from", 1, "the first of them")
	flagBuilt   = flag.String("planted-build", "", "where the simulator with all bugs is kept; if it is there it is not built")
	flagFirst   = flag.Bool("first", false, "stop at the first seed that fails")
)

// plant is a bug: an edit of the sources that the simulator is then built from.
// Nothing in the sources themselves knows of it.
type plant struct {
	name, file string
	edits      []edit
	// nodes is how many there are; 0: one. moves: their replicas move. checks: they
	// are compared too, and at the end one is made corrupt.
	nodes         int
	moves, checks bool
	// readers: some clients only read, and leaders are deposed.
	readers bool
	// planner: stores come and go, and a planner moves replicas.
	planner bool
	// operator: leaders are handed over and nodes stopped in order, and nothing fails.
	operator bool
	// seed is one that found it, and is tried first. As the sources change it may no
	// longer: then it is found by another.
	seed int
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

// TestPlantedBugs builds the simulator with all bugs in it, and has it run with each
// in turn. If the seeds do not find it, they would not find the like of it.
func TestPlantedBugs(t *testing.T) {
	if *flagPlanted == "" {
		t.Skip("it takes minutes: see make planted")
	}
	match, err := regexp.Compile(*flagPlanted)
	if err != nil {
		t.Fatal(err)
	}
	all := plants()
	s := buildPlanted(t, all)
	proved := 0
	for i := range all {
		p := &all[i]
		if match.MatchString(p.name) && (!p.unproved || *flagPlanted != ".") {
			t.Run(p.name, func(t *testing.T) { p.find(t, s, i+1) })
		}
		if p.nodes >= 3 && !p.unproved {
			proved++
		}
	}
	t.Logf("%d bugs, %d of them proved ones of three nodes and more", len(all), proved)
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

// find runs seeds until one fails that does not without the bug.
func (p *plant) find(t *testing.T, s *simulator, number int) {
	began := time.Now()
	try := func(from, n int) (last int, found bool) {
		failed := s.run(t, p, number, from, n)
		for _, seed := range slices.Sorted(maps.Keys(failed)) {
			last = seed
			if why := s.run(t, p, 0, seed, 1)[seed]; why != "" {
				t.Logf("not found: without it as well: %.300s", why)
				continue
			}
			t.Logf("found by seed %d after %v: %.300s", seed, time.Since(began).Round(time.Second/10), failed[seed])
			return seed, true
		}
		return last, false
	}
	if p.seed != 0 {
		if _, found := try(p.seed, 1); found {
			return
		}
	}
	for from, end := *flagPlantAt, *flagPlantAt+*flagPlantTo; from < end; from++ {
		last, found := try(from, end-from)
		if found {
			return
		}
		if last == 0 {
			break
		}
		from = last
	}
	t.Fatalf("%d seeds did not find it in %v", *flagPlantTo, time.Since(began).Round(time.Second/10))
}

// run runs n seeds with the bug of a number, or with none, until one fails, and returns
// why, by seed: where several run side by side it may be a few.
func (s *simulator) run(t *testing.T, p *plant, number, from, n int) map[int]string {
	t.Helper()
	cmd := exec.Command(s.binary, "-test.run", "^TestSeeds$", "-test.timeout", "0", "-test.v", "-first", "-from", strconv.Itoa(from), "-seeds", strconv.Itoa(n),
		"-nodes", strconv.Itoa(max(1, p.nodes)), "-moves="+strconv.FormatBool(p.moves), "-checks="+strconv.FormatBool(p.checks),
		"-readers="+strconv.FormatBool(p.readers), "-planner="+strconv.FormatBool(p.planner), "-operator="+strconv.FormatBool(p.operator))
	cmd.Env = append(os.Environ(), plantedVariable+"="+strconv.Itoa(number))
	var err error
	if cmd.Dir, err = os.Getwd(); err != nil {
		t.Fatal(err)
	}
	out, _ := cmd.CombinedOutput() // few seeds do not meet everything, and fail for that
	failed := make(map[int]string)
	for _, line := range regexp.MustCompile(`, seed (\d+), replay with: [^\n]*`).FindAllStringSubmatch(string(out), -1) {
		seed, err := strconv.Atoi(line[1])
		if err != nil {
			t.Fatal(err)
		}
		failed[seed] = line[0]
	}
	if len(failed) == 0 && !strings.Contains(string(out), " seeds: ") {
		t.Fatalf("seeds from %d: neither end nor failure:\n%s", from, out)
	}
	return failed
}
