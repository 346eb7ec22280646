package process

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// noise is a value that does not compress.
func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// A write that was torn by a power cut ends the log; what was answered before
// is there.
func TestTornWrite(t *testing.T) {
	onlyFlotilla(t)
	node := newNode(t, filepath.Join(t.TempDir(), "data"))
	start(t, node)
	client := kv(t, node)
	for i := range 100 {
		if _, err := client.Put(short(t), &pb.PutRequest{Key: fmt.Appendf(nil, "k%03d", i), Value: noise(1000)}); err != nil {
			t.Fatal(err)
		}
	}
	node.Kill()
	logs, err := node.Files("*.log")
	if err != nil || len(logs) == 0 {
		t.Fatalf("no log found: %v", err)
	}
	f, err := os.OpenFile(logs[0], os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(noise(3000)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	start(t, node)
	resp, err := kv(t, node).Range(short(t), &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l"), CountOnly: true})
	if err != nil || resp.Count != 100 {
		t.Fatalf("%v, %v, want 100 keys", resp, err)
	}
}
