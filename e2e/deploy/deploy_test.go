package deploy

import (
	"flag"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"

	"github.com/flotilladb/flotilla/e2e/proc"
	"github.com/flotilladb/flotilla/internal/config"
)

var flotilla = flag.String("flotilla", "../../bin/flotilla", "the program under test")

const dir = "../../deploy"

func read(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// load parses a command line and an environment as the server does.
func load(t *testing.T, args, environ []string) *config.Config {
	t.Helper()
	fs := pflag.NewFlagSet("server", pflag.ContinueOnError)
	flags := config.AddFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	cfg, err := flags.Load(environ)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestYAML(t *testing.T) {
	for _, name := range []string{"kubernetes/flotilla.yaml", "prometheus/scrape.yaml", "prometheus/alerts.yaml"} {
		for i, doc := range strings.Split(read(t, name), "\n---\n") {
			var out map[string]any
			if err := yaml.UnmarshalStrict([]byte(doc), &out); err != nil || len(out) == 0 {
				t.Errorf("%s, part %d: %v, %v", name, i, out, err)
			}
		}
	}
}

// The StatefulSet's command line is a good one, for each of its pods.
func TestStatefulSet(t *testing.T) {
	docs := strings.Split(read(t, "kubernetes/flotilla.yaml"), "\n---\n")
	var set struct {
		Kind string
		Spec struct {
			Replicas int
			Template struct {
				Spec struct {
					Containers []struct{ Command []string }
				}
			}
		}
	}
	if err := yaml.Unmarshal([]byte(docs[len(docs)-1]), &set); err != nil || set.Kind != "StatefulSet" {
		t.Fatalf("%v, %v", set, err)
	}
	command := set.Spec.Template.Spec.Containers[0].Command
	if len(command) < 3 || command[0] != "flotilla" || command[1] != "server" {
		t.Fatalf("the command is %v", command)
	}
	for _, pod := range []string{"flotilla-0", "flotilla-1", "flotilla-2"} {
		var args []string
		for _, a := range command[2:] {
			args = append(args, strings.NewReplacer("$(POD)", pod, "$(POD_IP)", "10.1.2.3").Replace(a))
		}
		if cfg := load(t, args, nil); len(cfg.Members) != set.Spec.Replicas || cfg.Name != pod {
			t.Errorf("%s: %d members, %d pods", pod, len(cfg.Members), set.Spec.Replicas)
		}
	}
}

// The unit's command line goes with the variables that the README has.
func TestUnit(t *testing.T) {
	exec := regexp.MustCompile(`(?m)^ExecStart=\S+ server (.*)$`).FindStringSubmatch(read(t, "systemd/flotilla.service"))
	if exec == nil {
		t.Fatal("the unit starts no server")
	}
	environ := regexp.MustCompile(`(?m)^ +(FLOTILLA_\w+=.*)$`).FindAllStringSubmatch(read(t, "README.md"), -1)
	var lines []string
	for _, e := range environ {
		lines = append(lines, e[1])
	}
	cfg := load(t, strings.Fields(exec[1]), lines)
	if len(cfg.Members) != 3 || cfg.Name != "n1" || len(cfg.Warnings) > 0 {
		t.Errorf("%d members, name %q, warnings %v", len(cfg.Members), cfg.Name, cfg.Warnings)
	}
}

// All metrics that alerts look at are served.
func TestAlerts(t *testing.T) {
	tmp := t.TempDir()
	n, err := proc.New(proc.Config{Bin: *flotilla, Name: "a", Dir: filepath.Join(tmp, "data"), Log: filepath.Join(tmp, "log"),
		Members: "", Args: []string{"--listen-peer-urls", "http://127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Kill)
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get("http://" + n.Addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	served, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`flotilla_\w+`).FindAllString(read(t, "prometheus/alerts.yaml"), -1)
	for _, name := range names {
		if !strings.Contains(string(served), "\n"+name) {
			t.Errorf("no metric %s", name)
		}
	}
	if len(names) == 0 {
		t.Error("the alerts look at nothing")
	}
}
