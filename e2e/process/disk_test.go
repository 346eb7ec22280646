package process

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/flotilladb/flotilla/e2e/proc"
)

// A full disk refuses puts as etcd does; reads and deletes go on, also after a
// kill, and once there is room and the alarm is off, puts do too.
func TestFullDisk(t *testing.T) {
	for _, megabytes := range []int{160, 512} {
		t.Run(fmt.Sprint(megabytes), func(t *testing.T) { fullDisk(t, megabytes) })
	}
}

func fullDisk(t *testing.T, megabytes int) {
	onlyFlotilla(t)
	node := newNode(t, filepath.Join(smallDisk(t, megabytes), "data"))
	start(t, node)
	client := kv(t, node)
	written := fillUp(t, client)
	if written < megabytes/4 {
		t.Fatalf("full after %d MiB of %d", written, megabytes)
	}
	t.Logf("%d MiB were put", written)
	awaitAlarm(t, pb.NewMaintenanceClient(connect(t, node)))
	node.Kill()
	start(t, node)
	client = kv(t, node)
	_, err := client.Put(short(t), &pb.PutRequest{Key: []byte("more")})
	noSpace(t, err)
	resp, err := client.Range(short(t), &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l"), CountOnly: true})
	if err != nil || resp.Count != int64(written) {
		t.Fatalf("read: %v, %v, want %d keys", resp, err, written)
	}
	if _, err := client.DeleteRange(short(t), &pb.DeleteRangeRequest{Key: []byte("k"), RangeEnd: []byte("l")}); err != nil {
		t.Fatalf("delete: %v", err)
	}
	if _, err := client.Compact(short(t), &pb.CompactionRequest{Revision: resp.Header.Revision + 1, Physical: true}); err != nil {
		t.Fatalf("compact: %v", err)
	}
	began := time.Now()
	putsAgain(t, client, pb.NewMaintenanceClient(connect(t, node)))
	t.Logf("puts again %v after the compaction", time.Since(began))
	if n := fillUp(t, client); n < written/2 {
		t.Fatalf("full again after %d MiB, at first it was %d", n, written)
	}
	if err := node.Stop(); err != nil {
		t.Fatalf("stop: %v", err)
	}
	start(t, node)
}

// Somebody else fills the disk to the last byte. Reads go on, a start works, and
// puts are refused, until there is room.
func TestNoRoomAtAll(t *testing.T) {
	onlyFlotilla(t)
	dir := smallDisk(t, 256)
	node := newNode(t, filepath.Join(dir, "data"))
	start(t, node)
	client := kv(t, node)
	const count = 20
	for i := range count {
		if _, err := client.Put(short(t), &pb.PutRequest{Key: fmt.Appendf(nil, "k%04d", i), Value: noise(1 << 20)}); err != nil {
			t.Fatal(err)
		}
	}
	filler := filepath.Join(dir, "filler")
	file, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	for block := noise(1 << 20); len(block) > 0; {
		n, err := file.Write(block)
		if err != nil && n == 0 {
			block = block[:len(block)/2]
		}
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		read, err := client.Range(short(t), &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")})
		if err != nil || read.Count < count {
			t.Fatalf("read: %v, %v", read, err)
		}
		node.Kill()
		start(t, node)
		client = kv(t, node)
		_, err = client.Put(short(t), &pb.PutRequest{Key: []byte("more"), Value: noise(1 << 20)})
		noSpace(t, err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	putsAgain(t, client, pb.NewMaintenanceClient(connect(t, node)))
	if err := node.Stop(); err != nil {
		t.Fatalf("stop: %v", err)
	}
}

// smallDisk mounts a file system of its own that ends with the test.
func smallDisk(t *testing.T, megabytes int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", megabytes)); err != nil {
		t.Skipf("cannot mount a small disk: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, 0) })
	return dir
}

// fillUp puts keys of 1 MiB until there is no space for them, and returns how
// many were taken.
func fillUp(t *testing.T, client pb.KVClient) (written int) {
	t.Helper()
	for ; written < 1000; written++ {
		if _, err := client.Put(short(t), &pb.PutRequest{Key: fmt.Appendf(nil, "k%04d", written), Value: noise(1 << 20)}); err != nil {
			noSpace(t, err)
			break
		}
	}
	return written
}

// The quota bounds what is stored, as in etcd: it refuses puts, and no deletes,
// and what a compaction gives back can be used again.
func TestQuota(t *testing.T) {
	onlyFlotilla(t)
	const quotaMB = 64
	node := newNode(t, filepath.Join(t.TempDir(), "data"), "--quota-backend-bytes", fmt.Sprint(quotaMB<<20))
	start(t, node)
	client := kv(t, node)
	written := fillUp(t, client)
	if written < quotaMB/3 || written > quotaMB {
		t.Fatalf("%d MiB went into %d", written, quotaMB)
	}
	t.Logf("%d MiB went into %d", written, quotaMB)
	resp, err := client.DeleteRange(short(t), &pb.DeleteRangeRequest{Key: []byte("k"), RangeEnd: []byte("l")})
	if err != nil || resp.Deleted != int64(written) {
		t.Fatalf("delete: %v, %v", resp, err)
	}
	if _, err := client.Compact(short(t), &pb.CompactionRequest{Revision: resp.Header.Revision}); err != nil {
		t.Fatalf("compact: %v", err)
	}
	putsAgain(t, client, pb.NewMaintenanceClient(connect(t, node)))
}

// putsAgain waits for space to come back by itself, and disarms the alarm as
// etcdctl does until puts are taken.
func putsAgain(t *testing.T, client pb.KVClient, maintenance pb.MaintenanceClient) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		disarm(t, maintenance)
		_, err := client.Put(short(t), &pb.PutRequest{Key: []byte("again"), Value: noise(1 << 20)})
		if err == nil {
			return
		}
		noSpace(t, err)
		select {
		case <-deadline:
			t.Fatalf("no space came back: %v", err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// disarm turns the alarms off, which there must be.
func disarm(t *testing.T, maintenance pb.MaintenanceClient) {
	t.Helper()
	active, err := maintenance.Alarm(short(t), &pb.AlarmRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range active.Alarms {
		if a.Alarm != pb.AlarmType_NOSPACE {
			t.Fatalf("alarm %v", a)
		}
		if _, err := maintenance.Alarm(short(t), &pb.AlarmRequest{
			Action: pb.AlarmRequest_DEACTIVATE, Alarm: a.Alarm, MemberID: a.MemberID,
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// awaitAlarm waits for the alarm, which is raised beside the refusal.
func awaitAlarm(t *testing.T, maintenance pb.MaintenanceClient) {
	t.Helper()
	ctx := short(t)
	for {
		active, err := maintenance.Alarm(ctx, &pb.AlarmRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if len(active.Alarms) > 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func noSpace(t *testing.T, err error) {
	t.Helper()
	if status.Code(err) != codes.ResourceExhausted || status.Convert(err).Message() != "etcdserver: mvcc: database space exceeded" {
		t.Fatalf("%v, want NOSPACE", err)
	}
}

// A block that is not what was written is never served. Who asks for it learns
// at once which file is bad; the log says so too; all else goes on.
func TestCorruptBlock(t *testing.T) {
	onlyFlotilla(t)
	node := newNode(t, filepath.Join(t.TempDir(), "data"))
	start(t, node)
	client := kv(t, node)
	values := make(map[string][]byte)
	for i := range 20 {
		key := fmt.Sprintf("k%04d", i)
		values[key] = noise(1 << 20)
		if _, err := client.Put(short(t), &pb.PutRequest{Key: []byte(key), Value: values[key]}); err != nil {
			t.Fatal(err)
		}
	}
	// A start writes what it finds in the log into tables.
	node.Kill()
	start(t, node)
	if err := node.Stop(); err != nil {
		t.Fatal(err)
	}
	bad := damageTable(t, node)
	start(t, node)
	client = kv(t, node)
	served, refused := 0, ""
	began := time.Now()
	for key, want := range values {
		resp, err := client.Range(short(t), &pb.RangeRequest{Key: []byte(key)})
		switch {
		case err != nil:
			dataLoss(t, err, bad)
			refused = key
		case len(resp.Kvs) != 1 || !bytes.Equal(resp.Kvs[0].Value, want):
			t.Fatalf("%s: a damaged value was served", key)
		default:
			served++
		}
	}
	if served == 0 || refused == "" {
		t.Fatalf("%d of %d keys were served", served, len(values))
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Fatalf("the reads took %v", took)
	}
	_, err := client.DeleteRange(short(t), &pb.DeleteRangeRequest{Key: []byte(refused), PrevKv: true})
	dataLoss(t, err, bad)
	if _, err := client.Put(short(t), &pb.PutRequest{Key: []byte("another")}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(node.Tail(), bad) {
		t.Fatalf("the log does not name %s:\n%s", bad, node.Tail())
	}
}

// damageTable damages what the newest big table holds of keys, which lie behind
// the rest, and returns the table's name.
func damageTable(t *testing.T, node *proc.Node) string {
	t.Helper()
	tables, err := node.Files("*.sst")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range tables {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(raw) < 2<<20 {
			continue
		}
		for i := len(raw) / 2; i < len(raw)*3/4; i += 4096 {
			raw[i] ^= 0xff
		}
		if err := os.WriteFile(name, raw, 0o644); err != nil {
			t.Fatal(err)
		}
		return filepath.Base(name)
	}
	t.Fatal("no table with data in it")
	return ""
}

func dataLoss(t *testing.T, err error, file string) {
	t.Helper()
	if status.Code(err) != codes.DataLoss || !strings.Contains(err.Error(), file) {
		t.Fatalf("%v, want DataLoss that names %s", err, file)
	}
}
