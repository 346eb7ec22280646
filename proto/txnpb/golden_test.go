package txnpb

import (
	"encoding/hex"
	"testing"

	"google.golang.org/protobuf/proto"
)

// What was written before a field was added is still read, and reads as it did.
func TestOldBytes(t *testing.T) {
	id := &TxnID{StoreId: 1, StoreStart: 2, Number: 3, Attempt: 4}
	put := &Mutation{Key: []byte("k"), Sub: 1, CreateRevision: 5, Version: 2, Lease: 7, Value: []byte("v"), Existed: true}
	for _, tc := range []struct {
		name string
		hex  string
		got  interface {
			proto.Message
			UnmarshalVT([]byte) error
			MarshalVT() ([]byte, error)
		}
		want proto.Message
	}{
		{"mutation without the lease before", "0a016b10012005280230073a01764001", &Mutation{}, put},
		{"mutation", "0a016b100120052802300" + "73a017640014809", &Mutation{},
			&Mutation{Key: []byte("k"), Sub: 1, CreateRevision: 5, Version: 2, Lease: 7, Value: []byte("v"), Existed: true, PrevLease: 9}},
		{"intent without rows and marks", "0a08080110021803200410051a027561", &Intent{},
			&Intent{Id: id, Revision: 5, Anchor: []byte("ua")}},
		{"intent", "0a08080110021803200410051a02756132027461" + "3a020708", &Intent{},
			&Intent{Id: id, Revision: 5, Anchor: []byte("ua"), DeletedRows: [][]byte{[]byte("ta")}, Marks: []int64{7, 8}}},
	} {
		raw, err := hex.DecodeString(tc.hex)
		if err != nil {
			t.Fatal(err)
		}
		if err := tc.got.UnmarshalVT(raw); err != nil || !proto.Equal(tc.got, tc.want) {
			t.Errorf("%s: %v %v, want %v", tc.name, tc.got, err, tc.want)
			continue
		}
		if out, err := tc.got.MarshalVT(); err != nil || hex.EncodeToString(out) != tc.hex {
			t.Errorf("%s: written as %x %v, want %s", tc.name, out, err, tc.hex)
		}
	}
}
