package ranges

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/proto/peerpb"
)

// TestSortPuts sorts the puts that go into the next batch, and nothing else: not what
// the lock table let on, not what is behind another request, and puts of one key stay
// in the order in which they came.
func TestSortPuts(t *testing.T) {
	put := func(key string) *work {
		return &work{bytes: 10, req: &peerpb.Request{Body: &peerpb.Write{Req: &pb.PutRequest{Key: []byte(key)}}}}
	}
	admitted := func(key string) *work { w := put(key); w.admitted = true; return w }
	del := &work{bytes: 10, req: &peerpb.Request{Body: &peerpb.Write{Req: &pb.DeleteRangeRequest{Key: []byte("d")}}}}
	puts := func(keys string) (ws []*work) {
		for _, k := range keys {
			ws = append(ws, put(string(k)))
		}
		return ws
	}
	for _, c := range []struct {
		name     string
		items    []*work
		bytesMax int
		want     string
	}{
		{"all", puts("hgfedcba"), 1000, "a b c d e f g h"},
		{"few are left alone", puts("gfedcba"), 1000, "g f e d c b a"},
		{"only those of the batch", puts("zyxwvutsbac"), 80, "s t u v w x y z b a c"},
		{"not what was let on", append([]*work{admitted("y"), admitted("x")}, puts("hgfedcba")...), 1000, "y x a b c d e f g h"},
		{"not beyond another request", append(append(puts("hgfedcba"), del), puts("ba")...), 1000, "a b c d e f g h - b a"},
	} {
		q := &workQueue{items: c.items}
		q.sortPuts(c.bytesMax)
		var got []string
		for _, w := range q.items {
			key := w.putKey()
			if key == nil {
				key = []byte("-")
			}
			got = append(got, string(key))
		}
		if g := strings.Join(got, " "); g != c.want {
			t.Errorf("%s: %s, want %s", c.name, g, c.want)
		}
	}

	var same []*work
	for i := range 40 {
		same = append(same, put(fmt.Sprint(i%3)))
	}
	q := &workQueue{items: slices.Clone(same)}
	q.sortPuts(1000)
	at := func(w *work) int { return slices.Index(same, w) }
	for i, w := range q.items[1:] {
		if before := q.items[i]; string(before.putKey()) == string(w.putKey()) && at(before) > at(w) {
			t.Errorf("put %d of key %s is before put %d", at(before), w.putKey(), at(w))
		}
	}
}
