package lint

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

const root = "../.."

// TestProject holds the whole project against the rules that look at files.
func TestProject(t *testing.T) {
	tree, err := Load(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(tree.Files) < 50 {
		t.Fatalf("found %d files; the root must be wrong", len(tree.Files))
	}
	for name, complaints := range map[string][]string{
		"ceilings": tree.Ceilings(), "docs": tree.Docs(), "purity": tree.Purity(), "words": tree.Words(),
	} {
		t.Run(name, func(t *testing.T) {
			for _, c := range complaints {
				t.Error(c)
			}
		})
	}
}

// TestProjectFloors asks the go command what imports what.
func TestProjectFloors(t *testing.T) {
	// Without a profile: with one the packages of a program are listed under names of their own.
	cmd := exec.Command("go", "list", "-pgo=off", "-e", "-json=ImportPath,Imports", "./...")
	cmd.Dir = root
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var pkgs []Package
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p Package
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
	if len(pkgs) < 15 {
		t.Fatalf("found %d packages", len(pkgs))
	}
	for _, c := range Floors(pkgs) {
		t.Error(c)
	}
}

// A shell that no longer exists must not keep its exemption.
func TestShellFilesExist(t *testing.T) {
	for name := range shellFiles() {
		if _, err := os.Stat(filepath.Join(root, name)); err != nil {
			t.Error(err)
		}
	}
}
