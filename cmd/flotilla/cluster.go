package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/flotilladb/flotilla/internal/stop"
)

// clusterStopTimeout is how long the nodes of a cluster get to stop in order.
const clusterStopTimeout = 20 * time.Second

// localCluster is a cluster of nodes on this machine, for trying things out. Each
// is a process of its own, so that one can be killed.
type localCluster struct {
	dir     string
	nodes   int
	port    int // clients of node i: port + 100*i; its peers: one above
	binary  string
	environ []string
	extra   []string // flags of every node
}

func newCluster(a *app) *cobra.Command {
	c := &localCluster{environ: a.environ}
	cmd := &cobra.Command{
		Use:   "cluster [-- flags of the server]",
		Short: "Run a cluster of nodes on this machine, until Ctrl-C",
		Long: "Start nodes m0, m1, ... on 127.0.0.1, each a process with its data and its log\n" +
			"below --data-dir, print their endpoints and process ids, and stop them on Ctrl-C.\n" +
			"Begun again with the same folder the cluster goes on.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if c.nodes < 1 || c.nodes > 9 {
				return &usageError{cmd, fmt.Errorf("--nodes: %d: want 1 to 9", c.nodes)}
			}
			if c.port < 1 || c.port+100*(c.nodes-1)+1 > 65535 {
				return &usageError{cmd, fmt.Errorf("--port: %d: want a port from which %d nodes have room", c.port, c.nodes)}
			}
			binary, err := os.Executable()
			if err != nil {
				return err
			}
			c.binary, c.extra = binary, args
			ctx, cancel := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer cancel()
			return c.run(ctx, a)
		},
	}
	cmd.Flags().StringVar(&c.dir, "data-dir", "cluster", "folder of all nodes")
	cmd.Flags().IntVar(&c.nodes, "nodes", 3, "how many nodes")
	cmd.Flags().IntVar(&c.port, "port", 2379, "port of the first node's clients; its peers have the next, other nodes 100 more each")
	return cmd
}

func (c *localCluster) addr(i, offset int) string {
	return net.JoinHostPort("127.0.0.1", fmt.Sprint(c.port+100*i+offset))
}

// args are the command line of a node.
func (c *localCluster) args(i int) []string {
	members := make([]string, c.nodes)
	for j := range members {
		members[j] = fmt.Sprintf("m%d=http://%s", j, c.addr(j, 1))
	}
	name, client, peer := fmt.Sprintf("m%d", i), "http://"+c.addr(i, 0), "http://"+c.addr(i, 1)
	return append([]string{
		"server", "--name=" + name, "--data-dir=" + filepath.Join(c.dir, name),
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=" + strings.Join(members, ","), "--initial-cluster-token=local-cluster",
	}, c.extra...)
}

// exit says how a node's process ended.
type exit struct {
	node int
	err  error
}

// run starts the nodes and waits until all have ended. They are asked to when ctx
// ends, or when one of them cannot be started.
func (c *localCluster) run(ctx context.Context, a *app) error {
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return err
	}
	exits := make(chan exit, c.nodes)
	stopper := stop.New(context.WithoutCancel(ctx))
	running, err := c.startAll(a, stopper, exits)
	if err != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		cancel()
	}
	err = errors.Join(err, c.wait(ctx, a, running, exits))
	stopper.Quiesce()
	return errors.Join(err, stopper.Wait(context.WithoutCancel(ctx)))
}

// startAll starts the nodes one after the other; on an error the first of them run.
func (c *localCluster) startAll(a *app, stopper *stop.Stopper, exits chan<- exit) (running []*exec.Cmd, err error) {
	endpoints := make([]string, c.nodes)
	for i := range c.nodes {
		cmd, err := c.start(i)
		if err != nil {
			return running, err
		}
		running = append(running, cmd)
		endpoints[i] = c.addr(i, 0)
		if err := stopper.Go("node", func(context.Context) { exits <- exit{i, cmd.Wait()} }); err != nil {
			return running, err
		}
		fmt.Fprintf(a.out, "m%d  %s  pid %d  log %s\n", i, endpoints[i], cmd.Process.Pid, c.logFile(i))
	}
	fmt.Fprintf(a.out, "endpoints %s\nCtrl-C stops all nodes\n", strings.Join(endpoints, ","))
	return running, nil
}

// wait waits for all nodes to end.
func (c *localCluster) wait(ctx context.Context, a *app, running []*exec.Cmd, exits <-chan exit) error {
	stopping := ctx.Done()
	var deadline <-chan time.Time
	for left := len(running); left > 0; {
		select {
		case e := <-exits:
			left--
			if e.err != nil {
				fmt.Fprintf(a.err, "m%d has ended: %v; the end of %s says why\n", e.node, e.err, c.logFile(e.node))
			}
		case <-stopping:
			terminate(running)
			stopping, deadline = nil, time.After(clusterStopTimeout)
		case <-deadline:
			for _, cmd := range running {
				_ = cmd.Process.Kill() // those that have ended do not mind
			}
		}
	}
	if ctx.Err() == nil {
		return errors.New("no node is left")
	}
	return nil
}

func terminate(running []*exec.Cmd) {
	for _, cmd := range running {
		_ = cmd.Process.Signal(syscall.SIGTERM) // those that have ended do not mind
	}
}

func (c *localCluster) logFile(i int) string { return filepath.Join(c.dir, fmt.Sprintf("m%d.log", i)) }

// start starts a node in a process group of its own: Ctrl-C of the terminal is
// for us, who then stop the nodes.
func (c *localCluster) start(i int) (*exec.Cmd, error) {
	log, err := os.OpenFile(c.logFile(i), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the process has its own
	cmd := exec.Command(c.binary, c.args(i)...)
	cmd.Env, cmd.Stdout, cmd.Stderr = c.environ, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start m%d: %w", i, err)
	}
	return cmd, nil
}
