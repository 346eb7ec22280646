package node

import (
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/sys/unix"

	"github.com/flotilladb/flotilla/proto/adminpb"
	"github.com/flotilladb/flotilla/proto/metapb"
)

var flagCallers = flag.Int("callers", 500, "how many callers BenchmarkClusterPut has")

// BenchmarkClusterPut puts 256 bytes through three nodes over sockets, without the public
// API, into one and into many ranges whose leaders are spread. cpu-us is processor time of
// all three and of the callers, for a put: of two builds it is compared run by run. entries
// is how many entries a put takes.
func BenchmarkClusterPut(b *testing.B) {
	for _, ranges := range []int{1, 64, 1000} {
		b.Run(fmt.Sprintf("ranges=%d", ranges), func(b *testing.B) {
			c := newNetCluster(b, 3)
			c.start(0, 1, 2)
			c.splitEvenly(b, ranges)
			b.Run("put", func(b *testing.B) { // more than once, for one cluster
				began, entries := processorTime(b), c.entries(b)
				c.putMany(b, *flagCallers, b.N)
				b.ReportMetric(float64(processorTime(b)-began)/float64(b.N), "cpu-us")
				b.ReportMetric(float64(c.entries(b)-entries)/float64(b.N), "entries")
			})
		})
	}
}

// splitEvenly cuts the keys of putMany into n ranges and gives each node a third of them.
func (c *netCluster) splitEvenly(b *testing.B, n int) {
	var ids []metapb.RangeID
	for i := 1; i < n; i++ {
		done, err := c.nodes[0].client.Split(b.Context(), benchKey(uint64(i)<<32/uint64(n)))
		if err != nil {
			b.Fatal(err)
		}
		ids = append(ids, done.Right.ID())
	}
	for i, id := range ids {
		to := uint64(i%3 + 1)
		for {
			_, err := c.nodes[0].TransferLeader(b.Context(), &adminpb.TransferLeaderRequest{RangeId: uint64(id), ToStoreId: to})
			if err == nil {
				break
			}
		}
	}
}

func benchKey(at uint64) []byte {
	return binary.BigEndian.AppendUint32([]byte("k"), uint32(at))
}

func (c *netCluster) putMany(b *testing.B, callers, n int) {
	var left atomic.Int64
	left.Store(int64(n))
	value := make([]byte, 256)
	var wg sync.WaitGroup
	for i := range callers {
		kv, random := c.nodes[i%len(c.nodes)].KV(), rand.New(rand.NewPCG(1, uint64(i)))
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if _, err := kv.Put(b.Context(), &pb.PutRequest{Key: benchKey(uint64(random.Uint32())), Value: value}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// entries counts what a node has applied of all logs.
func (c *netCluster) entries(b *testing.B) (n uint64) {
	err := c.nodes[0].inLoop(b.Context(), func() {
		s := c.nodes[0].core.Store()
		for _, id := range s.IDs() {
			n += s.Replica(id).Applied()
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// processorTime is what the process took so far, in microseconds.
func processorTime(b *testing.B) int64 {
	var use unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &use); err != nil {
		b.Fatal(err)
	}
	return (use.Utime.Sec+use.Stime.Sec)*1e6 + int64(use.Utime.Usec+use.Stime.Usec)
}
