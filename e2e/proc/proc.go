// Package proc runs servers as processes of their own, as users do: started by
// their command line, asked over the wire, killed at any moment.
//
// A Node belongs to one test; its methods are called by one goroutine, but for
// Kill. A Cluster is several of them, a Net the wires between them.
package proc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// startTimeout bounds a start, recovery included.
const startTimeout = time.Minute

// askTimeout bounds a read that asks whether a node serves.
const askTimeout = 5 * time.Second

// Config says what to run.
type Config struct {
	// Bin is the program: Flotilla's, or etcd's if Etcd is set.
	Bin string
	// Etcd runs real etcd, to see that a test asks for nothing that etcd does
	// not do.
	Etcd bool
	// Dir is the data folder.
	Dir string
	// Log is the file that the node's output is appended to.
	Log string
	// Args are added to the command line.
	Args []string
	// Client and Peer are the addresses to serve clients and other nodes at; a
	// port of 127.0.0.1 that is free if empty.
	Client, Peer string
	// Name and Members are the node's name and the value of --initial-cluster,
	// for a node of several.
	Name, Members string
	// Join are the peer addresses of a cluster that the node joins, in place of
	// Members.
	Join string
	// Within goes before the command line: what puts the process in a namespace.
	Within []string
	// Clock, if not 0, is how far the process's clocks are ahead of this machine's,
	// in a namespace of their own; that needs root. Of clocks that show the time of
	// day there is one for all processes.
	Clock time.Duration
}

// Node is a server's process, and the address and folder that it keeps from one
// start to the next.
type Node struct {
	cfg  Config
	Addr string
	cmd  *exec.Cmd
	done chan error // holds the result of Wait, once
}

// New prepares a node; it is not started.
func New(cfg Config) (*Node, error) {
	for _, addr := range []*string{&cfg.Client, &cfg.Peer} {
		if *addr != "" {
			continue
		}
		free, err := freeAddr()
		if err != nil {
			return nil, err
		}
		*addr = free
	}
	return &Node{cfg: cfg, Addr: cfg.Client}, nil
}

// given are the addresses that freeAddr has returned: the kernel gives a port again that
// nobody listens at yet.
var given sync.Map

func freeAddr() (string, error) {
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		addr := l.Addr().String()
		l.Close()
		if _, again := given.LoadOrStore(addr, true); !again {
			return addr, nil
		}
	}
}

func (n *Node) args() []string {
	client, peer := "http://"+n.Addr, "http://"+n.cfg.Peer
	args := []string{"--data-dir", n.cfg.Dir, "--listen-client-urls", client, "--advertise-client-urls", client}
	name, members := n.cfg.Name, n.cfg.Members
	if n.cfg.Etcd && members == "" {
		name, members = "default", "default="+peer
	}
	if members != "" {
		args = append(args, "--name", name, "--initial-cluster", members,
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer)
	}
	if n.cfg.Join != "" {
		args = append(args, "--name", name, "--join", n.cfg.Join,
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer)
	}
	if !n.cfg.Etcd {
		args = append([]string{"server"}, args...)
	}
	return append(args, n.cfg.Args...)
}

// Launch starts the process and does not wait for it to serve.
func (n *Node) Launch() error {
	out, err := os.OpenFile(n.cfg.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	line := slices.Clone(n.cfg.Within)
	if n.cfg.Clock != 0 {
		ahead := fmt.Sprint(int64(n.cfg.Clock / time.Second))
		line = append(line, "unshare", "--time", "--boottime", ahead, "--monotonic", ahead)
	}
	line = append(append(line, n.cfg.Bin), n.args()...)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	n.cmd, n.done = cmd, done
	return nil
}

// Start starts the process and returns when it has answered a read.
func (n *Node) Start() error {
	if err := n.Launch(); err != nil {
		return err
	}
	return n.Serving(startTimeout)
}

// Serving returns when the node that was launched has answered a linearizable
// read; one of several needs a quorum for that. Time in which nothing ran, this
// process and the node together, does not count.
func (n *Node) Serving(limit time.Duration) error {
	var err error
	for left := limit; left > 0; {
		begin := time.Now()
		if err = n.ask(); err == nil {
			return nil
		}
		select {
		case exit := <-n.done:
			n.cmd = nil
			return fmt.Errorf("the node ended while starting: %w\n%s", exit, n.Tail())
		case <-time.After(10 * time.Millisecond):
		}
		left -= min(time.Since(begin), 2*askTimeout)
	}
	return fmt.Errorf("not serving after %v: %w\n%s", limit, err, n.Tail())
}

func (n *Node) ask() error {
	conn, err := n.Dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	_, err = pb.NewKVClient(conn).Range(ctx, &pb.RangeRequest{Key: []byte("first")})
	return err
}

// Dial opens a connection.
func (n *Node) Dial() (*grpc.ClientConn, error) {
	return grpc.NewClient(n.Addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30), grpc.MaxCallSendMsgSize(1<<30)))
}

// With is the node, which does not run, with more arguments.
func (n *Node) With(args ...string) *Node {
	cfg := n.cfg
	cfg.Args = append(slices.Clone(cfg.Args), args...)
	return &Node{cfg: cfg, Addr: n.Addr}
}

// SetClock says how far the node's clocks are ahead from its next start on.
func (n *Node) SetClock(ahead time.Duration) { n.cfg.Clock = ahead }

// Dir is the node's data folder.
func (n *Node) Dir() string { return n.cfg.Dir }

// PeerAddr is where the node serves other nodes.
func (n *Node) PeerAddr() string { return n.cfg.Peer }

// Ended returns when the process has ended by itself.
func (n *Node) Ended(limit time.Duration) error {
	select {
	case <-n.done:
		n.cmd = nil
		return nil
	case <-time.After(limit):
		return errors.New("the node runs still")
	}
}

// Pause stops the process where it is: it neither works nor ends, and its
// connections stay open.
func (n *Node) Pause() error { return n.signal(syscall.SIGSTOP) }

// Resume lets a paused process go on.
func (n *Node) Resume() error { return n.signal(syscall.SIGCONT) }

func (n *Node) signal(s syscall.Signal) error {
	if n.cmd == nil {
		return errors.New("the node does not run")
	}
	return n.cmd.Process.Signal(s)
}

// Running says whether the process was started and not ended by us.
func (n *Node) Running() bool { return n.cmd != nil }

// Kill ends the process as a power cut would, as far as a process can be cut.
func (n *Node) Kill() {
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Kill()
	<-n.done
	n.cmd = nil
}

// Stop ends the process in order.
func (n *Node) Stop() error {
	if n.cmd == nil {
		return nil
	}
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	err := n.Wait(startTimeout)
	var exit *exec.ExitError
	if n.cfg.Etcd && errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGTERM {
		return nil // etcd ends by the signal that it was sent, after it has cleaned up
	}
	return err
}

// Wait returns the result of a process that ends by itself.
func (n *Node) Wait(limit time.Duration) error {
	select {
	case err := <-n.done:
		n.cmd = nil
		return err
	case <-time.After(limit):
		n.Kill()
		return errors.New("the node did not end")
	}
}

// Tail is the last of what the node printed.
func (n *Node) Tail() string {
	raw, _ := os.ReadFile(n.cfg.Log)
	return string(raw[max(0, len(raw)-4000):])
}

// Files lists the files below the data folder whose names match, the newest
// first.
func (n *Node) Files(pattern string) ([]string, error) {
	type file struct {
		name string
		mod  time.Time
	}
	var found []file
	err := filepath.Walk(n.cfg.Dir, func(name string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		if ok, _ := filepath.Match(pattern, filepath.Base(name)); ok {
			found = append(found, file{name, info.ModTime()})
		}
		return nil
	})
	names := make([]string, 0, len(found))
	for len(found) > 0 {
		newest := 0
		for i := range found {
			if found[i].mod.After(found[newest].mod) {
				newest = i
			}
		}
		names = append(names, found[newest].name)
		found = append(found[:newest], found[newest+1:]...)
	}
	return names, err
}
