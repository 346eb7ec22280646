package raftgroup

import (
	"context"
	"fmt"
	"log/slog"
)

// NewLogger lets Raft speak through a slog.Logger. Raft tells of every step of
// an election; those are debug lines here, since the owner reports changes of
// leadership once.
func NewLogger(l *slog.Logger) Logger { return slogLogger{l} }

type slogLogger struct{ l *slog.Logger }

func (s slogLogger) log(level slog.Level, args []any) {
	if ctx := context.Background(); s.l.Enabled(ctx, level) {
		s.l.Log(ctx, level, fmt.Sprint(args...))
	}
}

func (s slogLogger) logf(level slog.Level, format string, args []any) {
	if ctx := context.Background(); s.l.Enabled(ctx, level) {
		s.l.Log(ctx, level, fmt.Sprintf(format, args...))
	}
}

func (s slogLogger) Debug(v ...any)              { s.log(slog.LevelDebug, v) }
func (s slogLogger) Debugf(f string, v ...any)   { s.logf(slog.LevelDebug, f, v) }
func (s slogLogger) Info(v ...any)               { s.log(slog.LevelDebug, v) }
func (s slogLogger) Infof(f string, v ...any)    { s.logf(slog.LevelDebug, f, v) }
func (s slogLogger) Warning(v ...any)            { s.log(slog.LevelWarn, v) }
func (s slogLogger) Warningf(f string, v ...any) { s.logf(slog.LevelWarn, f, v) }
func (s slogLogger) Error(v ...any)              { s.log(slog.LevelError, v) }
func (s slogLogger) Errorf(f string, v ...any)   { s.logf(slog.LevelError, f, v) }
func (s slogLogger) Fatal(v ...any)              { s.Panic(v...) }
func (s slogLogger) Fatalf(f string, v ...any)   { s.Panicf(f, v...) }

// Panic is called where raft finds that its promises are broken: going on could
// make replicas differ.
func (s slogLogger) Panic(v ...any) {
	s.log(slog.LevelError, v)
	panic(fmt.Sprint(v...))
}

func (s slogLogger) Panicf(f string, v ...any) {
	s.logf(slog.LevelError, f, v)
	panic(fmt.Sprintf(f, v...))
}

type discardLogger struct{}

func (discardLogger) Debug(...any)              {}
func (discardLogger) Debugf(string, ...any)     {}
func (discardLogger) Info(...any)               {}
func (discardLogger) Infof(string, ...any)      {}
func (discardLogger) Warning(...any)            {}
func (discardLogger) Warningf(string, ...any)   {}
func (discardLogger) Error(...any)              {}
func (discardLogger) Errorf(string, ...any)     {}
func (discardLogger) Fatal(v ...any)            { panic(fmt.Sprint(v...)) }
func (discardLogger) Fatalf(f string, v ...any) { panic(fmt.Sprintf(f, v...)) }
func (discardLogger) Panic(v ...any)            { panic(fmt.Sprint(v...)) }
func (discardLogger) Panicf(f string, v ...any) { panic(fmt.Sprintf(f, v...)) }
