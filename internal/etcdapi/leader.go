package etcdapi

import (
	"context"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"
)

// leaderlessMax is how many times in a row, an election timeout apart, there may be no
// leader before the streams end whose clients want one.
const leaderlessMax = 3

// leaderWatch ends the streams of clients that want a leader when there has been
// none for long: they go to another node.
type leaderWatch struct {
	id       Identity
	interval time.Duration

	mu  sync.Mutex
	ctx context.Context // done when the leader was lost; then there is another
	end context.CancelFunc
}

func newLeaderWatch(id Identity, interval time.Duration) *leaderWatch {
	w := &leaderWatch{id: id, interval: interval}
	w.ctx, w.end = context.WithCancel(context.Background())
	return w
}

// lost returns what is done when there was no leader for long, from now on.
func (w *leaderWatch) lost() context.Context {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ctx
}

// run looks for a leader until ctx is done. It is the goroutine "leader watch".
func (w *leaderWatch) run(ctx context.Context) {
	t := time.NewTicker(w.interval)
	defer t.Stop()
	for l := (leaderless{interval: w.interval}); ; {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if l.look(time.Now(), w.id.Leader() != 0) {
			w.mu.Lock()
			w.end()
			w.ctx, w.end = context.WithCancel(context.Background())
			w.mu.Unlock()
		}
	}
}

// leaderless counts for how long there was no leader.
type leaderless struct {
	interval time.Duration
	n        int
	at       time.Time // of the last look
}

// look reports whether there was no leader for too long. A look that comes much too late
// says nothing: the process was stopped or starved, and has yet to hear of its leader,
// which etcd, whose elections count ticks, takes for there in the meantime.
func (l *leaderless) look(now time.Time, leader bool) bool {
	late := !l.at.IsZero() && now.Sub(l.at) >= 2*l.interval
	l.at = now
	if leader || late {
		l.n = 0
		return false
	}
	if l.n++; l.n < leaderlessMax {
		return false
	}
	l.n = 0
	return true
}

// wantsLeader reports whether a client wants an answer only while there is a
// leader.
func wantsLeader(ctx context.Context) bool {
	v := metadata.ValueFromIncomingContext(ctx, rpctypes.MetadataRequireLeaderKey)
	return len(v) > 0 && v[0] == rpctypes.MetadataHasLeader
}
