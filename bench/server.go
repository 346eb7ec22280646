package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/flotilladb/flotilla/bench/load"
	"github.com/flotilladb/flotilla/proto/adminpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// server is one process under measurement.
type server struct {
	name string
	addr string
	dir  string
	args []string // program first
	cmd  *exec.Cmd
	log  string
}

func newServer(bin, name, dir string) (*server, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	s := &server{name: name, addr: addr, dir: dir, log: filepath.Join(dir, "log")}
	data, url := filepath.Join(dir, "data"), "http://"+addr
	switch name {
	case "null":
		s.args = []string{filepath.Join(bin, "nullserver"), addr}
	case "etcd":
		peer, err := freeAddr()
		if err != nil {
			return nil, err
		}
		// Room for what the workloads write: etcd's default quota is 2 GiB.
		s.args = []string{
			filepath.Join(bin, "etcd"), "--data-dir", data, "--log-level", "warn", "--quota-backend-bytes", "8589934592",
			"--listen-client-urls", url, "--advertise-client-urls", url,
			"--listen-peer-urls", "http://" + peer, "--initial-advertise-peer-urls", "http://" + peer,
			"--initial-cluster", "default=http://" + peer,
		}
	case "flotilla", "flotilla64":
		s.args = []string{
			filepath.Join(bin, "flotilla"), "server", "--data-dir", data, "--log-level", "warn",
			"--listen-client-urls", url, "--advertise-client-urls", url,
		}
	default:
		return nil, fmt.Errorf("no system %q", name)
	}
	return s, nil
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// start runs the process and returns when it has answered a read.
func (s *server) start(ctx context.Context) error {
	out, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	s.cmd = exec.Command(s.args[0], s.args[1:]...)
	s.cmd.Stdout, s.cmd.Stderr = out, out
	if err := s.cmd.Start(); err != nil {
		return err
	}
	if err := s.firstRead(ctx); err != nil {
		s.kill()
		return fmt.Errorf("start: %w\n%s", err, s.logTail())
	}
	return nil
}

// firstRead asks until the server answers. A fresh connection for each try: a
// client that found nothing listening would wait a second before the next.
func (s *server) firstRead(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		conn, err := s.dial()
		if err != nil {
			return err
		}
		one, done := context.WithTimeout(ctx, 5*time.Second)
		_, err = pb.NewKVClient(conn).Range(one, &pb.RangeRequest{Key: []byte("first")})
		done()
		conn.Close()
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

func (s *server) dial() (*grpc.ClientConn, error) {
	return grpc.NewClient(s.addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))
}

// split cuts a flotilla64 into 64 ranges. etcd's benchmark tool writes varints,
// whose first byte runs evenly through 0x80 to 0xff; so do our own loaders.
func (s *server) split(ctx context.Context) error {
	if s.name != "flotilla64" {
		return nil
	}
	conn, err := s.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	admin := adminpb.NewAdminClient(conn)
	for i := 1; i < 64; i++ {
		if _, err := admin.SplitRange(ctx, &adminpb.SplitRangeRequest{Key: []byte{byte(0x80 + 2*i)}}); err != nil {
			return fmt.Errorf("split %d: %w", i, err)
		}
	}
	return nil
}

// stop ends the process in order, and by force if that takes too long.
func (s *server) stop() {
	if s.cmd == nil {
		return
	}
	ended := make(chan struct{})
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	go func() { _ = s.cmd.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		_ = s.cmd.Process.Kill()
		<-ended
	}
	s.cmd = nil
}

// kill ends the process at once.
func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.cmd = nil
}

// cpu is the user and system time used so far, 0 if the process is not there.
func (s *server) cpu() time.Duration {
	used, _ := load.CPU(s.cmd.Process.Pid)
	return used
}

// rssMB is the memory that the process holds now, in MB (10^6 bytes).
func (s *server) rssMB() float64 {
	if s.cmd == nil {
		return 0
	}
	held, _ := load.RSS(s.cmd.Process.Pid)
	return float64(held) / 1e6
}

// diskMB is the size of all files of the data folder.
func (s *server) diskMB() float64 {
	var total int64
	_ = filepath.Walk(filepath.Join(s.dir, "data"), func(_ string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				total += st.Blocks * 512 // what is allocated: etcd's files are sparse
			}
		}
		return nil
	})
	return float64(total) / 1e6
}

func (s *server) logTail() string {
	raw, _ := os.ReadFile(s.log)
	return string(raw[max(0, len(raw)-2000):])
}
