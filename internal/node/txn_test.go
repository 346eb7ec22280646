package node

import (
	"errors"
	"fmt"
	"math/rand"
	"strconv"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

const bankTotal = 1000

// accounts reads all accounts at one revision; their sum never changes.
func accounts(t *testing.T, kv *KV) ([]*mvccpb.KeyValue, error) {
	resp, err := kv.Range(t.Context(), &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")})
	if err != nil {
		return nil, err
	}
	sum := 0
	for _, row := range resp.Kvs {
		v, err := strconv.Atoi(string(row.Value))
		if err != nil {
			return nil, err
		}
		sum += v
	}
	if sum != bankTotal {
		return nil, fmt.Errorf("the accounts hold %d at revision %d, want %d", sum, resp.Header.Revision, bankTotal)
	}
	return resp.Kvs, nil
}

// transfer moves one from an account to another if neither changed since it was
// read.
func transfer(t *testing.T, kv *KV, from, to *mvccpb.KeyValue) error {
	req := &pb.TxnRequest{}
	for _, move := range []struct {
		row *mvccpb.KeyValue
		by  int
	}{{from, -1}, {to, 1}} {
		v, err := strconv.Atoi(string(move.row.Value))
		if err != nil {
			return err
		}
		req.Compare = append(req.Compare, &pb.Compare{Key: move.row.Key, Target: pb.Compare_MOD,
			TargetUnion: &pb.Compare_ModRevision{ModRevision: move.row.ModRevision}})
		req.Success = append(req.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{
			RequestPut: &pb.PutRequest{Key: move.row.Key, Value: strconv.AppendInt(nil, int64(v+move.by), 10)}}})
	}
	_, err := kv.Txn(t.Context(), req)
	return err
}

// Transfers between accounts on five to ten ranges, with splits among them, keep
// the sum at every revision that is read, and over a restart.
func TestTransfersOverRanges(t *testing.T) {
	dir := t.TempDir()
	n := open(t, dir)
	kv := n.KV()
	for i := range 10 {
		put(t, kv, fmt.Sprintf("k%d", i), strconv.Itoa(bankTotal/10), int64(i+2))
	}
	split := func(at string) error {
		_, err := n.client.Split(t.Context(), []byte(at))
		return err
	}
	for _, at := range []string{"k2", "k4", "k6", "k8"} {
		if err := split(at); err != nil {
			t.Fatal(err)
		}
	}
	errs := make([]error, 13)
	var wg sync.WaitGroup
	for w := range 12 {
		wg.Go(func() {
			rng := rand.New(rand.NewSource(int64(w)))
			for range 15 {
				rows, err := accounts(t, kv)
				if err == nil {
					from := rng.Intn(10)
					err = transfer(t, kv, rows[from], rows[(from+1+rng.Intn(9))%10])
				}
				errs[w] = errors.Join(errs[w], err)
			}
		})
	}
	wg.Go(func() {
		for _, at := range []string{"k1", "k3", "k5", "k7", "k9"} {
			errs[12] = errors.Join(errs[12], split(at))
		}
	})
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	closeNode(t, n)
	n = open(t, dir)
	if _, err := accounts(t, n.KV()); err != nil {
		t.Fatal(err)
	}
	closeNode(t, n)
}
