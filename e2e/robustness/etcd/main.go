// Command etcd starts a Flotilla node where a test of etcd's wants to start etcd.
// Flags that only etcd has are left out, with a word on standard error. The
// program is named by the variable FLOTILLA, or it is ../flotilla from here.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// version is the etcd that is spoken.
const version = "3.7.3"

func main() {
	program := os.Getenv("FLOTILLA")
	if program == "" {
		program = filepath.Join(filepath.Dir(os.Args[0]), "..", "flotilla")
	}
	for _, arg := range os.Args[1:] {
		if arg == "--version" {
			fmt.Printf("etcd Version: %s\n", version)
			return
		}
	}
	help, err := exec.Command(program, "server", "--help").CombinedOutput()
	if err != nil {
		fail(err)
	}
	kept, dropped := choose(os.Args[1:], string(help))
	if len(dropped) > 0 {
		fmt.Fprintln(os.Stderr, "only etcd has:", strings.Join(dropped, " "))
	}
	// The process that the test started is the node: it is that one which is killed.
	fail(syscall.Exec(program, append([]string{program, "server"}, kept...), os.Environ()))
}

// choose keeps the flags that the help text names, with the values that stand alone
// behind them.
func choose(args []string, help string) (kept, dropped []string) {
	out := &kept
	for _, arg := range args {
		if name, _, _ := strings.Cut(arg, "="); strings.HasPrefix(name, "--") {
			out = &dropped
			if strings.Contains(help, " "+name+" ") {
				out = &kept
			}
		}
		*out = append(*out, arg)
	}
	return kept, dropped
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
