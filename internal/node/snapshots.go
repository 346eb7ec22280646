package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/adminpb"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/router"
)

// Run does the job's reads and writes.
func (j *SnapshotJob) Run(ctx context.Context, eng engine.Engine) {
	switch {
	case j.ingest != nil:
		j.err = j.ingest.Run(ctx, eng, j.path)
	case j.receiver != nil:
		j.taken, j.err = j.receiver.Step(j.chunk)
	case j.dropped != nil:
		j.dropped.Close()
	case j.hash != nil:
		j.RunPaced(func(int) error { return nil })
	default:
		if j.answer != nil {
			if j.over, j.ok, j.err = j.sender.Answer(j.answer); j.over || j.err != nil {
				return
			}
		}
		j.read, j.err = j.sender.Chunk()
	}
}

// RunPaced hashes, and calls pause after each step with the number of bytes that were
// read. REQUIRES: Hashes.
func (j *SnapshotJob) RunPaced(pause func(bytes int) error) {
	for done := false; !done && j.err == nil; {
		var n int
		if n, done, j.err = j.hash.Step(hashStepBytes); j.err == nil && !done {
			j.err = pause(n)
		}
	}
	if j.err == nil {
		j.sum = j.hash.Sum()
	}
	j.err = errors.Join(j.err, j.hash.Close())
}

// hashStepBytes is how much is hashed without a pause.
const hashStepBytes = 256 << 10

// Span is that of a snapshot's range.
// REQUIRES: Ingests.
func (j *SnapshotJob) Span() metapb.Span { return j.ingest.Header().Descriptor.Span() }

// snapshotDir is what the paths of snapshots' files begin with. They lie on the
// engine's disk, so that it can take them over.
func snapshotDir(dir string) string {
	return filepath.Join(dir, "snapshots") + string(filepath.Separator)
}

// clearSnapshots removes what an earlier start of the store left.
func clearSnapshots(dir string) error {
	if err := os.RemoveAll(snapshotDir(dir)); err != nil {
		return fmt.Errorf("remove old snapshots: %w", err)
	}
	if err := os.MkdirAll(snapshotDir(dir), 0o700); err != nil {
		return fmt.Errorf("make room for snapshots: %w", err)
	}
	return nil
}

// removeTables removes tables that nobody needs any more.
func (n *Node) removeTables(paths []string) {
	for _, path := range paths {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			n.cfg.Logger.Warn("a table of a snapshot is left", "path", path, "err", err)
		}
	}
}

// giveRoom removes what is here of the snapshot of a job, which is given up with it. The
// loop would do that, too, but may be waiting for the room.
func (n *Node) giveRoom(j *SnapshotJob) {
	j.receiver.Close()
	n.removeTables(j.receiver.Files())
}

// dropSnapshots gives the room of snapshots back that are not whole. REQUIRES: turn is held.
func (n *Node) dropSnapshots() {
	n.removeTables(n.core.DropSnapshots())
	isReceiver := func(j *SnapshotJob) bool { return j.receiver != nil }
	w := n.snapshots
	w.mu.Lock()
	queued, rest := divide(w.mu.jobs, isReceiver)
	w.mu.jobs = rest
	w.mu.Unlock()
	n.inbox.Lock() // what is there the loop, which is here, has not looked at
	written, _ := divide(n.inbox.jobs, func(j *SnapshotJob) bool { return isReceiver(j) && j.err == nil })
	n.inbox.Unlock()
	for _, j := range append(queued, written...) {
		j.err = engine.ErrDiskFull
		n.giveRoom(j)
	}
	for _, j := range queued {
		w.done(j)
	}
}

// divide returns the jobs of which something is so, and the others.
func divide(jobs []*SnapshotJob, is func(*SnapshotJob) bool) (of, others []*SnapshotJob) {
	for _, j := range jobs {
		if is(j) {
			of = append(of, j)
		} else {
			others = append(others, j)
		}
	}
	return of, others
}

// snapshotWorkers run the jobs of snapshots beside the loop. The core has only so
// many under way.
type snapshotWorkers struct {
	n      *Node
	signal chan struct{}
	hash   chan struct{} // has room for one: there may be something to hash
	mu     struct {
		sync.Mutex
		jobs, hashes []*SnapshotJob
	}
}

// snapshotWorkersMax is how many jobs run at once.
const snapshotWorkersMax = 2

func newSnapshotWorkers(n *Node) *snapshotWorkers {
	return &snapshotWorkers{n: n, signal: make(chan struct{}, snapshotWorkersMax), hash: make(chan struct{}, 1)}
}

func (w *snapshotWorkers) run() error {
	for range snapshotWorkersMax {
		if err := w.n.stop.Go("snapshots", w.work); err != nil {
			return err
		}
	}
	return w.n.stop.Go("hash", w.hashAll)
}

// start has jobs run.
func (w *snapshotWorkers) start(jobs []*SnapshotJob) {
	if len(jobs) == 0 {
		return
	}
	hashes := 0
	w.mu.Lock()
	for _, j := range jobs {
		if j.Hashes() {
			w.mu.hashes = append(w.mu.hashes, j)
			hashes++
		} else {
			w.mu.jobs = append(w.mu.jobs, j)
		}
	}
	w.mu.Unlock()
	if hashes > 0 {
		select {
		case w.hash <- struct{}{}:
		default:
		}
	}
	for range len(jobs) - hashes {
		select {
		case w.signal <- struct{}{}:
		default: // all of them look anyway
			return
		}
	}
}

func (w *snapshotWorkers) next() *SnapshotJob {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.mu.jobs) == 0 {
		return nil
	}
	j := w.mu.jobs[0]
	w.mu.jobs = w.mu.jobs[1:]
	return j
}

func (w *snapshotWorkers) work(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.signal:
		}
		for j := w.next(); j != nil && ctx.Err() == nil; j = w.next() {
			w.do(ctx, j)
		}
	}
}

// do runs a job and has the loop take it back. An ingest must be done: it waits for
// room on the disk.
func (w *snapshotWorkers) do(ctx context.Context, j *SnapshotJob) {
	n := w.n
	j.Run(ctx, n.eng)
	for j.Ingests() && errors.Is(j.err, engine.ErrDiskFull) && sleep(ctx, fullRetry) == nil {
		j.Run(ctx, n.eng)
	}
	if ctx.Err() != nil {
		return // the node stops, and its next start begins anew
	}
	if j.receiver != nil && errors.Is(j.err, engine.ErrDiskFull) {
		n.giveRoom(j)
	}
	if j.Ingests() && j.err == nil {
		n.counts.Forget(j.Span())
		h := j.ingest.Header()
		n.cfg.Logger.Info("a range came by a snapshot", "range", h.Descriptor.RangeId, "replica", h.Replica, "index", h.Index)
	}
	w.done(j)
}

// done has the loop take a job back.
func (w *snapshotWorkers) done(j *SnapshotJob) {
	n := w.n
	n.inbox.Lock()
	n.inbox.jobs = append(n.inbox.jobs, j)
	n.inbox.Unlock()
	n.wake()
}

// hashAll hashes what replicas have, one after the other, at so many bytes a second
// as the configuration allows: nobody waits for it.
func (w *snapshotWorkers) hashAll(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.hash:
		}
		for {
			w.mu.Lock()
			hashes := w.mu.hashes
			w.mu.hashes = nil
			w.mu.Unlock()
			if len(hashes) == 0 {
				break
			}
			for _, j := range hashes {
				j.RunPaced(func(n int) error {
					return sleep(ctx, time.Duration(float64(n)/float64(w.n.cfg.CheckBytesMax)*float64(time.Second)))
				})
				if ctx.Err() != nil {
					return
				}
				if j.err != nil {
					w.n.cfg.Logger.Error("a replica cannot be checked", "range", j.check.Range, "err", j.err)
				}
				w.done(j)
			}
		}
	}
}

// takeJobs hands jobs that were run to the core.
func (n *Node) takeJobs(jobs []*SnapshotJob) error {
	for _, j := range jobs {
		if err := n.core.SnapshotDone(j); err != nil {
			return err
		}
	}
	return nil
}

// MoveReplica implements etcdapi.Admin.
func (n *Node) MoveReplica(ctx context.Context, req *adminpb.MoveReplicaRequest) (*adminpb.MoveReplicaResponse, error) {
	to := metapb.StoreID(req.ToStoreId)
	if to != 0 && uint64(to) != n.ident.StoreId {
		if _, known := n.resolve(to); !known {
			return nil, peerpb.ErrUnknownStore
		}
	}
	if _, err := n.descriptor(ctx, metapb.RangeID(req.RangeId)); err != nil {
		return nil, err
	}
	call := &router.Call{
		Req: &MoveRequest{Move: placement.Move{
			Range: metapb.RangeID(req.RangeId), From: metapb.StoreID(req.FromStoreId), To: to, ToNode: metapb.NodeID(to),
		}},
		Done: make(chan struct{}, 1),
	}
	if err := n.Submit(call); err != nil {
		return nil, err
	}
	select {
	case <-call.Done:
	case <-ctx.Done():
		return nil, ctx.Err() // it goes on
	}
	if call.Err != nil {
		return nil, call.Err
	}
	return &adminpb.MoveReplicaResponse{Descriptor_: call.Resp.(*metapb.Descriptor)}, nil
}
