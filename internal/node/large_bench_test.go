package node

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/router"
)

var flagKeys = flag.Int("keys", 100_000, "how many keys BenchmarkLargeDelete deletes")

// BenchmarkLargeDelete deletes many keys. stop-ms is the longest that the loop
// did not look up, first-ms when the answer came, ms when all was over.
func BenchmarkLargeDelete(b *testing.B) {
	keys := *flagKeys
	for _, splits := range []bool{false, true} {
		b.Run(fmt.Sprintf("split=%v", splits), func(b *testing.B) {
			var stop, first, total time.Duration
			for range b.N {
				b.StopTimer()
				s, f, d := largeDelete(b, keys, splits)
				stop, first, total = max(stop, s), first+f, total+d
			}
			b.ReportMetric(stop.Seconds()*1e3, "stop-ms")
			b.ReportMetric(first.Seconds()*1e3/float64(b.N), "first-ms")
			b.ReportMetric(total.Seconds()*1e3/float64(b.N), "ms")
		})
	}
}

func largeDelete(b *testing.B, keys int, splits bool) (stop, first, total time.Duration) {
	n := open(b, b.TempDir())
	kv := n.KV()
	for i := 0; i < keys; {
		req := &pb.TxnRequest{}
		for ; len(req.Success) < 1000 && i < keys; i++ {
			req.Success = append(req.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{
				RequestPut: &pb.PutRequest{Key: fmt.Appendf(nil, "k%07d", i), Value: make([]byte, 64)}}})
		}
		if _, err := kv.Txn(b.Context(), req); err != nil {
			b.Fatal(err)
		}
	}
	if splits {
		if _, err := n.client.Split(b.Context(), fmt.Appendf(nil, "k%07d", keys/2)); err != nil {
			b.Fatal(err)
		}
	}
	done := make(chan struct{})
	looked := make(chan time.Duration)
	go func() {
		longest := time.Duration(0)
		ticker := time.NewTicker(200 * time.Microsecond)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				looked <- longest
				return
			case <-ticker.C:
			}
			at := time.Now()
			if n.inLoop(context.Background(), func() {}) != nil {
				b.Error("the node is gone")
			}
			longest = max(longest, time.Since(at))
		}
	}()
	begin := time.Now()
	resp, err := kv.DeleteRange(b.Context(), &pb.DeleteRangeRequest{Key: []byte("k"), RangeEnd: []byte("l")})
	first = time.Since(begin)
	if err != nil || resp.Deleted != int64(keys) {
		b.Fatalf("%v %v", resp.GetDeleted(), err)
	}
	// A read waits for the end, or until its time is up.
	var got *pb.RangeResponse
	for err = router.ErrTimeout; errors.Is(err, router.ErrTimeout); {
		got, err = kv.Range(b.Context(), &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l"), Limit: 1})
	}
	total = time.Since(begin)
	if err != nil || len(got.Kvs) != 0 {
		b.Fatalf("%d keys are left, %v", len(got.GetKvs()), err)
	}
	close(done)
	stop = <-looked
	if err := n.Stop(context.Background()); err != nil {
		b.Fatal(err)
	}
	return stop, first, total
}
