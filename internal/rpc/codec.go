package rpc

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
)

// codecName is the content-subtype of our messages. Any gRPC server finds the
// codec by it, whatever else it serves, unless it forces another on all.
const codecName = "flotilla-raw"

func init() { encoding.RegisterCodecV2(codec{}) }

// message is what goes through gRPC: bytes as they are.
type message struct {
	out mem.BufferSlice // to be sent; gRPC's from then on
	in  mem.BufferSlice // received; ours until free
}

// codec hands bytes through, without a copy in either direction.
type codec struct{}

// Name implements encoding.CodecV2.
func (codec) Name() string { return codecName }

// Marshal implements encoding.CodecV2.
func (codec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(*message)
	if !ok {
		return nil, fmt.Errorf("rpc: %T is no message", v)
	}
	return m.out, nil
}

// Unmarshal implements encoding.CodecV2.
func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*message)
	if !ok {
		return fmt.Errorf("rpc: %T is no message", v)
	}
	data.Ref()
	m.in = data
	return nil
}

// kind is the first byte; 0 if there is none.
func (m *message) kind() byte {
	for _, b := range m.in {
		if data := b.ReadOnlyData(); len(data) > 0 {
			return data[0]
		}
	}
	return 0
}

// take copies the bytes behind the first into a block of their own.
// REQUIRES: kind() != 0.
func (m *message) take() []byte {
	b := m.in.Materialize()[1:]
	m.free()
	return b
}

// flat is the bytes behind the first, in one buffer that the caller frees.
// REQUIRES: kind() != 0.
func (m *message) flat() (mem.Buffer, []byte) {
	buf := m.in.MaterializeToBuffer(mem.DefaultBufferPool())
	m.free()
	return buf, buf.ReadOnlyData()[1:]
}

func (m *message) free() {
	m.in.Free()
	m.in = nil
}

// small makes a message of bytes that nobody else has.
func small(b []byte) mem.BufferSlice { return mem.BufferSlice{mem.SliceBuffer(b)} }
