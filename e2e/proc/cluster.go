package proc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// ClusterConfig says what cluster to run.
type ClusterConfig struct {
	// Bin is the program: Flotilla's, or etcd's if Etcd is set.
	Bin  string
	Etcd bool
	// Dir holds the nodes' data folders and logs. Dirs, if set, hold the folders of
	// the nodes instead, one each.
	Dir  string
	Dirs []string
	// Nodes is how many there are; 3 if 0.
	Nodes int
	// Args are added to the command line of each node.
	Args []string
	// Net gives each node a namespace and an address of its own, so that they can
	// be cut off. On nil all are on 127.0.0.1.
	Net *Net
}

// Cluster is a static cluster of processes: each is told of all the others when
// it starts. Nodes are named by their index; their methods may be called by
// several goroutines as long as each node has only one.
type Cluster struct {
	Nodes []*Node
	Net   *Net // as configured
}

// NewCluster prepares the nodes; none is started.
func NewCluster(cfg ClusterConfig) (*Cluster, error) {
	if cfg.Nodes == 0 {
		cfg.Nodes = 3
	}
	bin, err := filepath.Abs(cfg.Bin)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return nil, err
	}
	configs := make([]Config, cfg.Nodes)
	members := make([]string, cfg.Nodes)
	for i := range configs {
		name := fmt.Sprintf("m%d", i)
		c := Config{Bin: bin, Etcd: cfg.Etcd, Name: name, Dir: filepath.Join(cfg.Dir, name),
			Log: filepath.Join(cfg.Dir, name+".log"), Args: cfg.Args}
		if cfg.Dirs != nil {
			c.Dir = filepath.Join(cfg.Dirs[i], name)
		}
		if cfg.Net != nil {
			c.Client, c.Peer, c.Within = cfg.Net.Addr(i)+":2379", cfg.Net.Addr(i)+":2380", cfg.Net.within(i)
		} else if c.Peer, err = freeAddr(); err != nil {
			return nil, err
		}
		configs[i], members[i] = c, name+"=http://"+c.Peer
	}
	c := &Cluster{Net: cfg.Net}
	for i := range configs {
		configs[i].Members = strings.Join(members, ",")
		node, err := New(configs[i])
		if err != nil {
			return nil, err
		}
		c.Nodes = append(c.Nodes, node)
	}
	return c, nil
}

// StartCluster runs a cluster until the test ends. If the test fails, the end of
// each node's log is printed.
func StartCluster(t testing.TB, cfg ClusterConfig) *Cluster {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	c, err := NewCluster(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.Tails())
		}
		c.Close()
	})
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c
}

// Start starts all nodes and returns when each has answered a read.
func (c *Cluster) Start() error {
	for _, n := range c.Nodes {
		if err := n.Launch(); err != nil {
			return err
		}
	}
	return c.Serving(startTimeout)
}

// Serving returns when each node that runs has answered a read.
func (c *Cluster) Serving(limit time.Duration) error {
	for i, n := range c.Nodes {
		if !n.Running() {
			continue
		}
		if err := n.Serving(limit); err != nil {
			return fmt.Errorf("node %d: %w", i, err)
		}
	}
	return nil
}

// Endpoints are the client addresses of all nodes.
func (c *Cluster) Endpoints() []string {
	var out []string
	for _, n := range c.Nodes {
		out = append(out, n.Addr)
	}
	return out
}

// Kill ends a node's process at once.
func (c *Cluster) Kill(i int) { c.Nodes[i].Kill() }

// Pause and Resume stop a node's process where it is, and let it go on.
func (c *Cluster) Pause(i int) error  { return c.Nodes[i].Pause() }
func (c *Cluster) Resume(i int) error { return c.Nodes[i].Resume() }

// Stop ends a node in order.
func (c *Cluster) Stop(i int) error { return c.Nodes[i].Stop() }

// Restart starts a node that does not run and returns when it serves.
func (c *Cluster) Restart(i int) error {
	if c.Nodes[i].Running() {
		return errors.New("the node runs")
	}
	return c.Nodes[i].Start()
}

// Tails are the ends of all logs.
func (c *Cluster) Tails() string {
	var out strings.Builder
	for i, n := range c.Nodes {
		fmt.Fprintf(&out, "--- node %d, %s\n%s\n", i, n.Addr, n.Tail())
	}
	return out.String()
}

// Close ends every process that is left.
func (c *Cluster) Close() {
	for _, n := range c.Nodes {
		n.Kill()
	}
}
