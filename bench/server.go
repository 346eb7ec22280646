package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// server is a system under measurement: one process, or a cluster of three.
type server struct {
	name  string
	dir   string
	addr  string // of the first node
	nodes []*process
	// ranges is how many a system has when it is loaded; 0: as it began.
	ranges int
}

// nodeNames are the nodes of a cluster.
var nodeNames = []string{"a", "b", "c"}

func newServer(bin, name, dir string) (*server, error) {
	s := &server{name: name, dir: dir}
	var names []string
	switch name {
	case "null", "etcd", "flotilla":
	case "flotilla64":
		s.ranges = 64
	case "etcd3", "flotilla3":
		names = nodeNames
	case "flotilla3x64":
		s.ranges, names = 64, nodeNames
	case "flotilla3x1000":
		s.ranges, names = 1000, nodeNames
	default:
		return nil, fmt.Errorf("no system %q", name)
	}
	var peers []string // the node's URL for others, by name
	var urls []string
	for range max(1, len(names)) {
		peer, err := freeAddr()
		if err != nil {
			return nil, err
		}
		urls = append(urls, "http://"+peer)
	}
	for i, n := range names {
		peers = append(peers, n+"="+urls[i])
	}
	for i := range urls {
		addr, err := freeAddr()
		if err != nil {
			return nil, err
		}
		p := &process{addr: addr, data: filepath.Join(dir, "data"), log: filepath.Join(dir, "log")}
		if len(names) > 0 {
			p.data, p.log = filepath.Join(dir, names[i]), filepath.Join(dir, names[i]+".log")
		}
		p.args = programOf(bin, name, p)
		switch {
		case len(names) > 0:
			p.args = append(p.args, "--name", names[i], "--initial-cluster", strings.Join(peers, ","),
				"--listen-peer-urls", urls[i], "--initial-advertise-peer-urls", urls[i])
		case name == "etcd":
			p.args = append(p.args, "--listen-peer-urls", urls[i], "--initial-advertise-peer-urls", urls[i],
				"--initial-cluster", "default="+urls[i])
		}
		s.nodes = append(s.nodes, p)
	}
	s.addr = s.nodes[0].addr
	return s, nil
}

// programOf is the command line of a node, without what it has to know of others.
func programOf(bin, name string, p *process) []string {
	url := "http://" + p.addr
	switch {
	case name == "null":
		return []string{filepath.Join(bin, "nullserver"), p.addr}
	case strings.HasPrefix(name, "etcd"):
		// Room for what the workloads write: etcd's default quota is 2 GiB.
		return []string{
			filepath.Join(bin, "etcd"), "--data-dir", p.data, "--log-level", "warn", "--quota-backend-bytes", "8589934592",
			"--listen-client-urls", url, "--advertise-client-urls", url,
		}
	}
	return []string{
		filepath.Join(bin, "flotilla"), "server", "--data-dir", p.data, "--log-level", "warn", "--enable-pprof",
		"--listen-client-urls", url, "--advertise-client-urls", url,
	}
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// start runs the processes and returns when each has answered a read.
func (s *server) start(ctx context.Context) error {
	for _, p := range s.nodes {
		if p.running() {
			continue
		}
		if err := p.start(); err != nil {
			s.kill()
			return err
		}
	}
	for _, p := range s.nodes {
		if err := p.firstRead(ctx); err != nil {
			tail := p.logTail()
			s.kill()
			return fmt.Errorf("start: %w\n%s", err, tail)
		}
	}
	return nil
}

func dial(addr string) (*grpc.ClientConn, error) {
	return grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))
}

// dial connects to the first node.
func (s *server) dial() (*grpc.ClientConn, error) { return dial(s.addr) }

// endpoints are the addresses of all nodes.
func (s *server) endpoints() []string {
	var all []string
	for _, p := range s.nodes {
		all = append(all, p.addr)
	}
	return all
}

// stop ends the processes in order, and by force if that takes too long.
func (s *server) stop() {
	for _, p := range s.nodes {
		p.stop()
	}
}

// kill ends the processes at once.
func (s *server) kill() {
	for _, p := range s.nodes {
		p.kill()
	}
}

// cpu is the user and system time used so far by all processes that run.
func (s *server) cpu() (sum time.Duration) {
	for _, p := range s.nodes {
		sum += p.cpu()
	}
	return sum
}

// rssMB is the memory that the largest of the processes holds now, in MB (10^6
// bytes).
func (s *server) rssMB() (most float64) {
	for _, p := range s.nodes {
		most = max(most, p.rssMB())
	}
	return most
}

// diskMB is the size of all files of the data folders.
func (s *server) diskMB() (sum float64) {
	for _, p := range s.nodes {
		sum += p.diskMB()
	}
	return sum
}

func (s *server) logTail() string {
	var tails []string
	for _, p := range s.nodes {
		tails = append(tails, p.logTail())
	}
	return strings.Join(tails, "\n--\n")
}

// cluster reports whether the system has several nodes.
func (s *server) cluster() bool { return len(s.nodes) > 1 }

// flotilla reports whether the system is Flotilla: etcd gives no profiles, and has one group.
func (s *server) flotilla() bool { return strings.HasPrefix(s.name, "flotilla") }

// etcdLike is etcd's system that a system is compared with.
func etcdLike(system string) string {
	if slices.Contains([]string{"etcd3", "flotilla3", "flotilla3x64", "flotilla3x1000"}, system) {
		return "etcd3"
	}
	return "etcd"
}

// until asks again, soon, for as long as the context lasts.
func until(ctx context.Context, ask func(ctx context.Context) error) error {
	for {
		one, done := context.WithTimeout(ctx, 5*time.Second)
		err := ask(one)
		done()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}
