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
	for leaderless := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if w.id.Leader() != 0 {
			leaderless = 0
			continue
		}
		if leaderless++; leaderless >= leaderlessMax {
			leaderless = 0
			w.mu.Lock()
			w.end()
			w.ctx, w.end = context.WithCancel(context.Background())
			w.mu.Unlock()
		}
	}
}

// wantsLeader reports whether a client wants an answer only while there is a
// leader.
func wantsLeader(ctx context.Context) bool {
	v := metadata.ValueFromIncomingContext(ctx, rpctypes.MetadataRequireLeaderKey)
	return len(v) > 0 && v[0] == rpctypes.MetadataHasLeader
}
