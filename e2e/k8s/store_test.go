package k8s

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/api/apitesting"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/apis/example"
	examplev1 "k8s.io/apiserver/pkg/apis/example/v1"
	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/etcd3"
	etcdfeature "k8s.io/apiserver/pkg/storage/feature"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
	"k8s.io/apiserver/pkg/storage/value"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	featuregatetesting "k8s.io/component-base/featuregate/testing"
	"k8s.io/utils/clock"
)

// mark goes before each stored value, so that a value that was not read by the
// transformer is seen.
const mark = "marked!"

const podsPrefix = "/pods/"

// pageMax is the most objects that the store asks for at once.
const pageMax = 10000

// newCodec reads and writes the API group that the tests use.
func newCodec(t *testing.T) runtime.Codec {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, metav1.SchemeGroupVersion)
	for _, add := range []func(*runtime.Scheme) error{example.AddToScheme, examplev1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return apitesting.TestCodec(serializer.NewCodecFactory(scheme), examplev1.SchemeGroupVersion)
}

// layer is a transformer whose inside is exchanged while a test runs.
type layer struct {
	mu struct {
		sync.RWMutex
		inside value.Transformer
		fails  bool
	}
}

func (l *layer) get() (value.Transformer, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.mu.fails {
		return nil, errors.New("planted error")
	}
	return l.mu.inside, nil
}

// set exchanges the inside and returns what undoes it.
func (l *layer) set(next value.Transformer) (undo func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.mu.inside
	l.mu.inside = next
	return func() { l.set(old) }
}

func (l *layer) setFailing(fails bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.fails = fails
}

func (l *layer) TransformFromStorage(ctx context.Context, data []byte, from value.Context) ([]byte, bool, error) {
	inside, err := l.get()
	if err != nil {
		return nil, false, err
	}
	return inside.TransformFromStorage(ctx, data, from)
}

// TransformToStorage never fails on purpose: the tests plant errors in reads.
func (l *layer) TransformToStorage(ctx context.Context, data []byte, to value.Context) ([]byte, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.mu.inside.TransformToStorage(ctx, data, to)
}

// brittleCodec decodes nothing while it fails.
type brittleCodec struct {
	runtime.Codec
	state layer // for its switch alone
}

func (c *brittleCodec) Decode(data []byte, defaults *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	if _, err := c.state.get(); err != nil {
		return nil, nil, err
	}
	return c.Codec.Decode(data, defaults, into)
}

// etcdStore is what etcd3.New returns, whose type has no name outside.
type etcdStore interface {
	storage.Interface
	CompactRevision() int64
	Close()
}

// world is a store on the servers under test.
type world struct {
	storage.Interface
	store  etcdStore
	client *kubernetes.Client
	kv     *storagetesting.KVRecorder
	lists  *storagetesting.KubernetesRecorder
	codec  *brittleCodec
	layer  *layer
}

// newWorld opens a store on an empty keyspace, with keys below a prefix. Feature
// gates are read here, so they are set before.
func newWorld(t *testing.T, endpoints []string, prefix string) *world {
	t.Helper()
	checker := etcdfeature.DefaultFeatureSupportChecker
	etcdfeature.DefaultFeatureSupportChecker = etcdfeature.NewDefaultFeatureSupportChecker()
	t.Cleanup(func() { etcdfeature.DefaultFeatureSupportChecker = checker })

	client, err := kubernetes.New(clientv3.Config{Endpoints: endpoints, DialTimeout: 10 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	wipe(t, client.Client)

	w := &world{client: client, codec: &brittleCodec{Codec: newCodec(t)}, layer: &layer{}}
	w.lists = storagetesting.NewKubernetesRecorder(client.Kubernetes)
	w.kv = storagetesting.NewKVRecorder(client.KV, w.lists)
	client.KV, client.Kubernetes = w.kv, w.lists
	w.layer.set(storagetesting.NewPrefixTransformer([]byte(mark), false))

	leases := etcd3.NewDefaultLeaseManagerConfig()
	leases.ReuseDurationSeconds = 1 // a test waits for the end of a lease
	compactor := etcd3.NewCompactor(client.Client, 0, clock.RealClock{}, nil)
	t.Cleanup(compactor.Stop)
	versioner := storage.APIObjectVersioner{}
	store, err := etcd3.New(client, compactor, w.codec,
		func() runtime.Object { return &example.Pod{} }, func() runtime.Object { return &example.PodList{} },
		prefix, podsPrefix, schema.GroupResource{Resource: "pods"}, w.layer, leases,
		etcd3.NewDefaultDecoder(w.codec, versioner), versioner)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	w.store, w.Interface = store, store
	return w
}

// wipe leaves no key. Revisions and borders of ranges stay.
func wipe(t *testing.T, client *clientv3.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := client.Delete(ctx, "\x00", clientv3.WithFromKey()); err != nil {
		t.Fatal(err)
	}
}

// UpdatePrefixTransformer and UpdateTransformer are how tests get in between.
func (w *world) UpdatePrefixTransformer(modify storagetesting.PrefixTransformerModifier) func() {
	inside, _ := w.layer.get()
	copied := *inside.(*storagetesting.PrefixTransformer)
	return w.layer.set(modify(&copied))
}

func (w *world) UpdateTransformer(modify storagetesting.TransformerModifier) func() {
	inside, _ := w.layer.get()
	return w.layer.set(modify(inside))
}

// stored looks at what a key holds in the server.
func (w *world) stored(ctx context.Context, t *testing.T, key string) {
	resp, err := w.client.KV.Get(ctx, key)
	if err != nil || len(resp.Kvs) != 1 {
		t.Fatalf("%q: %v, %v", key, resp, err)
	}
	obj, err := runtime.Decode(w.codec, resp.Kvs[0].Value[len(mark):])
	if err != nil {
		t.Fatalf("%q holds %q: %v", key, resp.Kvs[0].Value, err)
	}
	if pod := obj.(*example.Pod); pod.ResourceVersion != "" || pod.SelfLink != "" {
		t.Errorf("%q holds what only answers have: version %q, link %q", key, pod.ResourceVersion, pod.SelfLink)
	}
}

// raise takes a revision.
func (w *world) raise(ctx context.Context, t *testing.T) int64 {
	resp, err := w.client.KV.Put(ctx, "raise", "")
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header.Revision
}

// compact compacts as the API server does, and waits until the store has seen it.
func (w *world) compact(ctx context.Context, t *testing.T, resourceVersion string) {
	rev, err := w.Versioner().ParseResourceVersion(resourceVersion)
	if err != nil {
		t.Fatal(err)
	}
	// The first call may only learn what the key that servers agree by holds.
	var seen int64
	for range 2 {
		if seen, _, _, err = etcd3.Compact(ctx, w.client.Client, seen, int64(rev)); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if !utilfeature.DefaultFeatureGate.Enabled(features.ListFromCacheSnapshot) {
		return
	}
	for until := time.Now().Add(30 * time.Second); w.store.CompactRevision() != int64(rev); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("the store saw a compaction at %d, not at %d", w.store.CompactRevision(), rev)
		}
	}
}

// requests holds a list against the number of requests that it may cost: a page
// that was not enough is followed by one of double the size.
func (w *world) requests(t *testing.T, page, objects uint64) {
	inside, _ := w.layer.get()
	if got := inside.(*storagetesting.PrefixTransformer).GetReadsAndReset(); got != objects {
		t.Errorf("%d objects were read, not %d", got, objects)
	}
	want := uint64(1)
	for seen, size := uint64(1), page; page > 0 && seen < objects; seen, want = seen+size, want+1 {
		size = min(2*size, pageMax)
	}
	if got := w.kv.GetReadsAndReset() + w.kv.GetStreamReadsAndReset(); got != want {
		t.Fatalf("the list took %d requests, not %d", got, want)
	}
}

// keys lists the keys of all pods, for the estimate of their size.
func (w *world) keys(ctx context.Context) ([]string, error) {
	resp, err := w.client.KV.Get(ctx, podsPrefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return nil, err
	}
	var out []string
	for _, kv := range resp.Kvs {
		out = append(out, string(kv.Key))
	}
	return out, nil
}

// corrupt is the error by which the store knows an object that cannot be read.
func corrupt() error {
	l := &layer{}
	l.setFailing(true)
	_, _, err := etcd3.WithCorruptObjErrorHandlingTransformer(l).TransformFromStorage(context.Background(), nil, nil)
	return err
}

// deleter is the store that deletes such objects.
func (w *world) deleter() *world {
	out := *w
	out.Interface = etcd3.NewStoreWithUnsafeCorruptObjectDeletion(w.Interface, schema.GroupResource{Resource: "pods"})
	return &out
}

func setGates(t *testing.T, gates gates) {
	for gate, on := range gates {
		featuregatetesting.SetFeatureGateDuringTest(t, utilfeature.DefaultFeatureGate, gate, on)
	}
}
