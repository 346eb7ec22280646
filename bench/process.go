package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/bench/load"
)

// process is one node of a system.
type process struct {
	addr string   // for clients
	args []string // program first
	data string   // its folder
	log  string   // the file with what it says
	cmd  *exec.Cmd
}

func (p *process) running() bool { return p.cmd != nil }

func (p *process) start() error {
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	p.cmd = exec.Command(p.args[0], p.args[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if err := p.cmd.Start(); err != nil {
		p.cmd = nil
		return err
	}
	return nil
}

// firstRead asks until the process answers. A fresh connection for each try: a
// client that found nothing listening would wait a second before the next.
func (p *process) firstRead(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return until(ctx, func(ctx context.Context) error {
		conn, err := dial(p.addr)
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = pb.NewKVClient(conn).Range(ctx, &pb.RangeRequest{Key: []byte("first")})
		return err
	})
}

// stop ends the process in order, and by force if that takes too long.
func (p *process) stop() {
	if p.cmd == nil {
		return
	}
	ended := make(chan struct{})
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	go func() { _ = p.cmd.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		_ = p.cmd.Process.Kill()
		<-ended
	}
	p.cmd = nil
}

// kill ends the process at once.
func (p *process) kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	p.cmd = nil
}

// cpu is the user and system time used so far, 0 if the process is not there.
func (p *process) cpu() time.Duration {
	if p.cmd == nil {
		return 0
	}
	used, _ := load.CPU(p.cmd.Process.Pid)
	return used
}

// rssMB is the memory that the process holds now, in MB (10^6 bytes).
func (p *process) rssMB() float64 {
	if p.cmd == nil {
		return 0
	}
	held, _ := load.RSS(p.cmd.Process.Pid)
	return float64(held) / 1e6
}

// diskMB is the size of all files of the data folder.
func (p *process) diskMB() float64 {
	var total int64
	_ = filepath.Walk(p.data, func(_ string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				total += st.Blocks * 512 // what is allocated: etcd's files are sparse
			}
		}
		return nil
	})
	return float64(total) / 1e6
}

func (p *process) logTail() string {
	raw, _ := os.ReadFile(p.log)
	return string(raw[max(0, len(raw)-2000):])
}
