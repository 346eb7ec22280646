package rpc

import (
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// BenchmarkFrames sends frames of 100 bytes with so many under way: each is
// answered in the same process when it was delivered, which frees its place.
func BenchmarkFrames(b *testing.B) {
	for _, flight := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("flight=%d", flight), func(b *testing.B) { benchFrames(b, flight, 100) })
	}
	b.Run("flight=16/size=65536", func(b *testing.B) { benchFrames(b, 16, 64<<10) })
	b.Run("flight=4/size=1048576", func(b *testing.B) { benchFrames(b, 4, 1<<20) })
}

func benchFrames(b *testing.B, flight, size int) {
	places := make(chan struct{}, flight)
	_, s, r := pair(b, func(c *Config) {
		c.Deliver = func(metapb.StoreID, Lane, []byte) bool {
			places <- struct{}{}
			return false
		}
	})
	_ = r
	frame := make([]byte, size)
	s.sendUntil(b, 2, Raft, frame)
	<-places
	for range flight {
		places <- struct{}{}
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	before := s.counts.sentMessages[Raft].Load()
	b.ResetTimer()
	for range b.N {
		<-places
		if !s.Send(2, Raft, frame) {
			b.Fatal("no room")
		}
	}
	for range flight {
		<-places
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "frames/s")
	b.ReportMetric(float64(b.N)/float64(s.counts.sentMessages[Raft].Load()-before), "frames/message")
}

// BenchmarkSocket is what the least costs that could be done: one frame at a time
// written to a TCP connection and read from it, without any of the above.
func BenchmarkSocket(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	out, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	in, err := l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	arrived := make(chan struct{}, 1)
	var reader sync.WaitGroup
	reader.Go(func() {
		frame := make([]byte, 100)
		for {
			if _, err := io.ReadFull(in, frame); err != nil {
				return
			}
			arrived <- struct{}{}
		}
	})
	frame := make([]byte, 100)
	b.ReportAllocs()
	for range b.N {
		if _, err := out.Write(frame); err != nil {
			b.Fatal(err)
		}
		<-arrived
	}
	out.Close()
	in.Close()
	reader.Wait()
}
