package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
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
	if b.profiles == "" || !b.server.flotilla() {
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

// The field of a profile that lists all strings in it.
const profileStrings = 6

// trim takes out of a merged profile where its programs and their sources lay: the
// compiler goes by names of functions, and the file is to be the same on any machine.
func trim(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(zip)
	if err != nil {
		return err
	}
	if data, err = trimStrings(data); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	var out bytes.Buffer
	pack := gzip.NewWriter(&out)
	if _, err := pack.Write(data); err != nil {
		return err
	}
	if err := pack.Close(); err != nil {
		return err
	}
	return os.WriteFile(file, out.Bytes(), 0o644)
}

func trimStrings(in []byte) (out []byte, err error) {
	for len(in) > 0 {
		num, typ, n := protowire.ConsumeTag(in)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		m := protowire.ConsumeFieldValue(num, typ, in[n:])
		if m < 0 {
			return nil, protowire.ParseError(m)
		}
		field := in[:n+m]
		if num == profileStrings && typ == protowire.BytesType {
			s, _ := protowire.ConsumeBytes(in[n:])
			if len(s) > 0 && s[0] == '/' {
				s = s[bytes.LastIndexByte(s, '/')+1:]
			}
			out = protowire.AppendBytes(append(out, in[:n]...), s)
		} else {
			out = append(out, field...)
		}
		in = in[len(field):]
	}
	return out, nil
}
