package wire

import (
	"bytes"
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/flotilladb/flotilla/internal/frame"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/raftgroup"
)

// Frames as a busy cluster sends them. What is shown is per item, so per put
// request or per message.
func BenchmarkFrame(b *testing.B) {
	key, value := bytes.Repeat([]byte("k"), 32), bytes.Repeat([]byte("v"), 256)
	puts, replies, closes := &frame.Frame{}, &frame.Frame{}, &frame.Frame{}
	one, many := &frame.Frame{}, &frame.Frame{}
	var data [][]byte
	for i := range 40 {
		id := uint64(1<<20 + i)
		puts.Requests = append(puts.Requests, &peerpb.Request{
			ID: id, Range: 300, Generation: 7, Body: &peerpb.Write{Req: &pb.PutRequest{Key: key, Value: value}},
		})
		replies.Replies = append(replies.Replies, peerpb.Reply{ID: id, Body: &pb.PutResponse{Header: &pb.ResponseHeader{Revision: 1 << 30}}})
		closes.Requests = append(closes.Requests, &peerpb.Request{ID: id, Range: 300, Generation: 7, Body: &peerpb.Close{S: 1 << 30}})
		one.Raft = append(one.Raft, raftgroup.RangeMessage{RangeID: metapb.RangeID(300 + i), Message: appMessage(1<<20, append(bytes.Clone(key), value...))})
		data = append(data, append(bytes.Clone(key), value...))
	}
	many.Raft = append(many.Raft, raftgroup.RangeMessage{RangeID: 300, Message: appMessage(1<<20, data...)})
	for _, bc := range []struct {
		name  string
		f     *frame.Frame
		items int
	}{
		{"put", puts, 40}, {"putreply", replies, 40}, {"close", closes, 40}, {"app1", one, 40}, {"app40", many, 1},
	} {
		encoded, err := Append(nil, bc.f)
		if err != nil {
			b.Fatal(err)
		}
		run := func(what string, fn func() error) {
			b.Run(fmt.Sprintf("%s/%s", bc.name, what), func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; i < b.N; i += bc.items {
					if err := fn(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		var buf []byte
		run("append", func() error {
			var err error
			buf, err = Append(buf[:0], bc.f)
			return err
		})
		run("decode", func() error {
			_, err := Decode(encoded)
			return err
		})
	}
}
