package gossip

import (
	"bytes"
	"context"
	"log/slog"
)

// lines turns what memberlist logs into lines of ours, and finds in them what it
// tells nowhere else: that a member did not answer a probe.
type lines struct {
	logger *slog.Logger
	book   *book
}

// Write implements io.Writer for one line: "[LEVEL] memberlist: text".
func (l *lines) Write(line []byte) (int, error) {
	level, text := slog.LevelDebug, bytes.TrimSpace(line)
	for _, p := range []struct {
		prefix string
		level  slog.Level
	}{
		// Its news is about single messages; the changes of state are logged by us.
		{"[ERR] ", slog.LevelWarn}, {"[WARN] ", slog.LevelInfo}, {"[INFO] ", slog.LevelDebug}, {"[DEBUG] ", slog.LevelDebug},
	} {
		if rest, ok := bytes.CutPrefix(text, []byte(p.prefix)); ok {
			level, text = p.level, rest
			break
		}
	}
	text = bytes.TrimPrefix(text, []byte("memberlist: "))
	if id, ok := suspicion(text); ok {
		l.book.suspect(id)
	}
	l.logger.Log(context.Background(), level, "memberlist", "line", string(text))
	return len(line), nil
}

// suspicion reads the line of a failed probe. If a version of memberlist says it
// in other words, TestSuspicionLine fails.
func suspicion(text []byte) (id string, ok bool) {
	rest, ok := bytes.CutPrefix(text, []byte("Suspect "))
	if !ok {
		return "", false
	}
	name, _, ok := bytes.Cut(rest, []byte(" has failed"))
	return string(name), ok
}
