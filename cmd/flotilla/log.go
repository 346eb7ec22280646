package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/flotilladb/flotilla/internal/config"
)

// newLogger writes where and how the flags say; the function closes what it
// opened.
func newLogger(cfg *config.Config, stdout, stderr io.Writer) (*slog.Logger, func(), error) {
	var writers []io.Writer
	var files []*os.File
	closeAll := func() {
		for _, f := range files {
			_ = f.Close() // lines are written as they come; nothing is lost
		}
	}
	for _, to := range cfg.LogOutputs {
		switch to {
		case "default", "stderr":
			writers = append(writers, stderr)
		case "stdout":
			writers = append(writers, stdout)
		default:
			f, err := os.OpenFile(to, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
			if err != nil {
				closeAll()
				return nil, nil, fmt.Errorf("--log-outputs: %w", err)
			}
			files = append(files, f)
			writers = append(writers, f)
		}
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.LogLevel)); err != nil {
		closeAll()
		return nil, nil, fmt.Errorf("--log-level: %w", err)
	}
	w := writers[0]
	if len(writers) > 1 {
		w = io.MultiWriter(writers...)
	}
	opts := &slog.HandlerOptions{Level: level}
	if cfg.LogFormat == "console" {
		return slog.New(slog.NewTextHandler(w, opts)), closeAll, nil
	}
	return slog.New(slog.NewJSONHandler(w, opts)), closeAll, nil
}

// isSet reports whether the environment has a variable that is not empty.
func isSet(environ []string, name string) bool {
	for _, kv := range environ {
		if value, ok := strings.CutPrefix(kv, name+"="); ok {
			return value != ""
		}
	}
	return false
}
