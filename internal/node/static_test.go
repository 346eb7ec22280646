package node

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/config"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
)

func threeNodes(token string) *Static {
	return &Static{Token: token, Members: []config.Member{
		{Name: "a", PeerURLs: []string{"http://a:1"}}, {Name: "b", PeerURLs: []string{"http://b:1", "http://b:2"}},
		{Name: "c", PeerURLs: []string{"http://c:1"}},
	}}
}

// dump shows every row of an engine but who the store is.
func dump(t *testing.T, eng engine.Engine) string {
	t.Helper()
	it, err := eng.NewIter(engine.IterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	var out strings.Builder
	for ok := it.First(); ok; ok = it.Next() {
		if bytes.Equal(it.Key(), keys.StoreIdent()) {
			continue
		}
		value, err := it.Value()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%s = %x\n", keys.Format(it.Key()), value)
	}
	if err := it.Error(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// The nodes of a static cluster begin with the same state, without a word to each
// other.
func TestStaticClusterBeginsAlike(t *testing.T) {
	s := threeNodes("t")
	var first string
	for i, m := range s.Members {
		eng := engine.NewMem()
		ident, err := IdentifyStatic(eng, s, m.Name)
		if err != nil {
			t.Fatal(err)
		}
		if id := uint64(i + 1); ident.NodeId != id || ident.StoreId != id || ident.ClusterId != s.ClusterID() {
			t.Errorf("%s is %v", m.Name, ident)
		}
		if now := dump(t, eng); i == 0 {
			first = now
		} else if now != first {
			t.Errorf("%s begins with\n%sand %s with\n%s", m.Name, now, s.Members[0].Name, first)
		}
		checkFirstState(t, eng, ident)
	}
}

func checkFirstState(t *testing.T, eng engine.Engine, ident *metapb.StoreIdent) {
	t.Helper()
	sys := placement.NewSystem()
	if err := sys.Load(eng); err != nil {
		t.Fatal(err)
	}
	if sys.OneStore() || sys.ClusterID() != ident.ClusterId {
		t.Errorf("one store %v, cluster %x", sys.OneStore(), sys.ClusterID())
	}
	_, reply, err := sys.Evaluate(&placement.AllocIDsOp{Kind: placement.StoreIDs, N: 1})
	if got, ok := reply.(*placement.AllocIDsReply); err != nil || !ok || got.First != 4 {
		t.Errorf("the next store: %v, %v", reply, err)
	}
	for _, d := range threeNodes("").Descriptors() {
		if err := d.Validate(); err != nil {
			t.Error(err)
		}
		if r := d.ReplicaOn(metapb.StoreID(ident.StoreId)); r == nil || r.ReplicaId != ident.StoreId || len(d.Replicas) != 3 {
			t.Errorf("range %d: %v", d.RangeId, d.Replicas)
		}
	}
}

// What makes two clusters the same, and what does not.
func TestStaticClusterID(t *testing.T) {
	base := threeNodes("t").ClusterID()
	for name, change := range map[string]func(*Static){
		"token":  func(s *Static) { s.Token = "u" },
		"url":    func(s *Static) { s.Members[2].PeerURLs[0] = "http://c:2" },
		"name":   func(s *Static) { s.Members[2].Name = "d" },
		"member": func(s *Static) { s.Members = s.Members[:2] },
		"whose": func(s *Static) {
			s.Members[0].PeerURLs, s.Members[2].PeerURLs = s.Members[2].PeerURLs, s.Members[0].PeerURLs
		},
	} {
		s := threeNodes("t")
		if change(s); s.ClusterID() == base {
			t.Errorf("%s makes no difference", name)
		}
	}
	// Folders of clusters of one exist: their ids must stay what they are.
	one := &Static{Token: "etcd-cluster", Members: []config.Member{{Name: "x", PeerURLs: []string{"http://x:1"}}}}
	if got := ClusterID("etcd-cluster"); got != 0x7a5a3208bb06d7c9 || one.ClusterID() != got {
		t.Errorf("the id of a cluster of one is %x, %x", got, one.ClusterID())
	}
}

// A folder keeps what it is, but belongs to its own token.
func TestStaticClusterRestarts(t *testing.T) {
	eng := engine.NewMem()
	was, err := IdentifyStatic(eng, threeNodes("t"), "b")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Static{threeNodes("t"), {Token: "t"}, {Token: "t", Members: threeNodes("").Members[:2]}} {
		if ident, err := IdentifyStatic(eng, s, "a"); err != nil || ident.StoreId != was.StoreId || ident.ClusterId != was.ClusterId {
			t.Errorf("restarted with %v: %v, %v", s.Members, ident, err)
		}
	}
	if _, err := IdentifyStatic(eng, threeNodes("u"), "b"); !errors.Is(err, ErrOtherCluster) {
		t.Errorf("another token: %v", err)
	}
	if _, err := IdentifyStatic(engine.NewMem(), threeNodes("t"), "d"); !errors.Is(err, ErrNotMember) {
		t.Errorf("no member: %v", err)
	}
}

func TestBegunRow(t *testing.T) {
	s, got := threeNodes(""), &Static{}
	row := s.encode()
	if err := got.decode(row); err != nil || !bytes.Equal(got.encode(), row) {
		t.Fatalf("%v, %v", got, err)
	}
	for n := range row {
		cut := &Static{}
		if err := cut.decode(row[:n]); err == nil && len(cut.Members) == len(s.Members) {
			t.Errorf("cut at %d: %v", n, cut)
		}
	}
	if err := (&Static{}).decode([]byte{begunFormat, 0xff, 0xff, 3}); err == nil {
		t.Error("a damaged row was read")
	}
}
