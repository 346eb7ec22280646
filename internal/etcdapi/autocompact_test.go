package etcdapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/datadriven"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/internal/clock"
	"github.com/flotilladb/flotilla/internal/stop"
	"github.com/flotilladb/flotilla/mvcc"
)

// The policies as scripts: each step of `run` is one interval, in which the
// revision grows by rate.
func TestCompactPolicy(t *testing.T) {
	datadriven.RunTest(t, "testdata/autocompact", func(t *testing.T, d *datadriven.TestData) string {
		var p *compactPolicy
		var now clock.Time
		var rate, steps int64
		fails := -1
		d.ScanArgs(t, "rate", &rate)
		d.ScanArgs(t, "steps", &steps)
		d.MaybeScanArgs(t, "fails", &fails)
		switch d.Cmd {
		case "revision":
			var keep int64
			d.ScanArgs(t, "keep", &keep)
			p = newRevisionPolicy(keep)
		case "periodic":
			var keep string
			d.ScanArgs(t, "keep", &keep)
			period, err := time.ParseDuration(keep)
			if err != nil {
				t.Fatal(err)
			}
			p = newPeriodicPolicy(period, now)
		default:
			t.Fatalf("unknown command %s", d.Cmd)
		}
		var out strings.Builder
		fmt.Fprintf(&out, "every %v\n", p.Interval())
		rev, tries := int64(1), 0
		for range steps {
			p.Sample(rev)
			now, rev = now.Add(p.Interval()), rev+rate
			compact, ok := p.Due(now, rev)
			if !ok {
				continue
			}
			tries++
			fmt.Fprintf(&out, "%v: at %d compact %d", time.Duration(now), rev, compact)
			if tries == fails {
				fmt.Fprint(&out, " (fails)")
			} else {
				p.Done(now, compact)
			}
			fmt.Fprintln(&out)
		}
		return out.String()
	})
}

// recordingKV notes compactions.
type recordingKV struct {
	*fakeNode
	err   error
	calls []int64
}

func (r *recordingKV) Compact(_ context.Context, req *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	r.calls = append(r.calls, req.Revision)
	return &pb.CompactionResponse{}, r.err
}

func TestCompactorRuns(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  error
		want []int64
	}{
		{"fine", nil, []int64{90}},
		{"already compacted is fine", mvcc.ErrCompacted, []int64{90}},
		{"a failure is tried again", errors.New("no"), []int64{90, 90}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				kv := &recordingKV{fakeNode: newFakeNode(), err: tc.err}
				kv.rev = 100
				s := stop.New(t.Context())
				err := StartCompactor(CompactorConfig{
					KV: kv, Identity: kv.fakeNode, Stopper: s, KeepRevisions: 10,
					Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
				})
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(2*compactEvery + time.Second) // the bubble's time
				s.Stop()
				if fmt.Sprint(kv.calls) != fmt.Sprint(tc.want) {
					t.Fatalf("compacted %v, want %v", kv.calls, tc.want)
				}
			})
		})
	}
}

func TestCompactorConfig(t *testing.T) {
	f := newFakeNode()
	good := CompactorConfig{
		KV: f, Identity: f, Stopper: stop.New(t.Context()), KeepPeriod: time.Hour,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, spoil := range []func(*CompactorConfig){
		func(c *CompactorConfig) { c.KeepRevisions = 1 },
		func(c *CompactorConfig) { c.KeepPeriod = 0 },
		func(c *CompactorConfig) { c.KeepPeriod = 5 },
		func(c *CompactorConfig) { c.KeepPeriod = -time.Hour },
		func(c *CompactorConfig) { c.KV = nil },
	} {
		bad := good
		spoil(&bad)
		if bad.Validate() == nil {
			t.Errorf("accepted %+v", bad)
		}
	}
}
