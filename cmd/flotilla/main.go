// Command flotilla is a node and the tool of its operators.
//
//	flotilla server                  run a node, with etcd's flags
//	flotilla cluster                 run some nodes on this machine
//	flotilla range list|show|split   look at ranges and cut them
//	flotilla store list              look at stores, and what they wait for
//	flotilla bench watch|lease       make load for a server, and check what it does
//	flotilla debug log               read a range's Raft log from a stopped node
//	flotilla version
//
// What is wrong with a command line is said with the command's usage and exit
// code 2; what fails later has exit code 1. Called by the name etcd (a link), it
// is the server without saying so, for harnesses that start etcd.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/version"
	"google.golang.org/grpc/grpclog"
)

const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	// gRPC and the JSON gateway write lines of their own to stderr, such as that a
	// client went away in the middle of a stream.
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
	args := os.Args[1:]
	if filepath.Base(os.Args[0]) == "etcd" && !(len(args) == 1 && args[0] == "--version") {
		args = append([]string{"server"}, args...)
	}
	if len(args) > 0 && args[0] == "server" {
		beginAgain()
	}
	os.Exit(run(context.Background(), args, os.Environ(), os.Stdout, os.Stderr))
}

// usageError is a mistake on the command line.
type usageError struct {
	cmd *cobra.Command
	err error
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// app is what every command may use.
type app struct {
	environ []string
	out     io.Writer
	err     io.Writer
}

// run is main without the process: it returns the exit code.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	root := newRoot(&app{environ: environ, out: stdout, err: stderr})
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "flotilla: %v\n", err)
	var usage *usageError
	if !errors.As(err, &usage) {
		return exitFailed
	}
	if usage.cmd != nil {
		cmd = usage.cmd
	}
	fmt.Fprintf(stderr, "See '%s --help'.\n", cmd.CommandPath())
	return exitUsage
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:           "flotilla",
		Short:         "A distributed key-value store that speaks etcd's API",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE:          needCommand,
	}
	var showVersion bool
	root.Flags().BoolVar(&showVersion, "version", false, "print the version")
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if showVersion && len(args) == 0 {
			printVersion(a.out)
			return nil
		}
		return needCommand(cmd, args)
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return &usageError{cmd, err} })
	root.AddCommand(newServer(a), newCluster(a), newRange(a), newStore(a), newBench(a), newDebug(a), newVersion(a))
	root.CompletionOptions.HiddenDefaultCmd = true
	return root
}

// needCommand is what a command does that only groups others.
func needCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return &usageError{cmd, errors.New("which command?")}
	}
	return &usageError{cmd, fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath())}
}

// exactly wants n arguments, which it names when they are missing.
func exactly(n int, names string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == n:
			return nil
		case n == 0:
			return &usageError{cmd, fmt.Errorf("unexpected argument %q", args[0])}
		}
		return &usageError{cmd, fmt.Errorf("want %s, got %d arguments", names, len(args))}
	}
}

func newVersion(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  exactly(0, ""),
		Run:   func(*cobra.Command, []string) { printVersion(a.out) },
	}
}

// printVersion answers in the lines of `etcd --version`, which harnesses read;
// the first is our own.
func printVersion(w io.Writer) {
	ours, commit := "devel", "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		if v := strings.TrimPrefix(info.Main.Version, "v"); v != "" && v != "(devel)" {
			ours = v
		}
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				commit = s.Value
			}
		}
	}
	fmt.Fprintf(w, "flotilla Version: %s\n", ours)
	fmt.Fprintf(w, "etcd Version: %s\n", version.Version)
	fmt.Fprintf(w, "Git SHA: %s\n", commit)
	fmt.Fprintf(w, "Go Version: %s\n", runtime.Version())
	fmt.Fprintf(w, "Go OS/Arch: %s/%s\n", runtime.GOOS, runtime.GOARCH)
}
