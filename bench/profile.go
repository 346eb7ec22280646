package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// A profile begins when the load has settled, and ends before the shortest load does.
const (
	profileAfter   = 2 * time.Second
	profileSeconds = 8
)

// profiling writes what the processors of each node do beside a load into files of the
// folder -profiles: what the compiler is told is merged from those. wait returns when
// they are there; a node that gives none has failed.
func (b *bench) profiling(ctx context.Context, endpoints []string) (wait func() error) {
	if b.profiles == "" {
		return func() error { return nil }
	}
	done := make(chan error, len(endpoints))
	for _, addr := range endpoints {
		go func() {
			select {
			case <-time.After(profileAfter):
				done <- profileOne(ctx, b.profiles, addr)
			case <-ctx.Done():
				done <- ctx.Err()
			}
		}()
	}
	return func() (failed error) {
		for range endpoints {
			failed = errors.Join(failed, <-done)
		}
		return failed
	}
}

func profileOne(ctx context.Context, dir, addr string) error {
	url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", addr, profileSeconds)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("profile of %s: %s", addr, resp.Status)
	}
	name := fmt.Sprintf("%d-%s.prof", time.Now().UnixNano(), filepath.Base(addr))
	return os.WriteFile(filepath.Join(dir, name), data, 0o644)
}
