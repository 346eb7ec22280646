package etcdapi

import (
	"context"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/internal/stop"
)

// localConn calls services of this process as if over a connection: for the JSON
// gateway, which cannot speak to a stream's handler directly. It is a registrar
// of services and a connection to them. What is registered is fixed before the
// first call.
type localConn struct {
	stopper *stop.Stopper
	unary   map[string]localUnary
	streams map[string]localMethod
}

type localUnary struct {
	srv    any
	method grpc.MethodDesc
}

type localMethod struct {
	srv  any
	desc grpc.StreamDesc
}

func newLocalConn(st *stop.Stopper) *localConn {
	return &localConn{stopper: st, unary: make(map[string]localUnary), streams: make(map[string]localMethod)}
}

// RegisterService makes a service callable.
func (c *localConn) RegisterService(desc *grpc.ServiceDesc, srv any) {
	for _, m := range desc.Methods {
		c.unary["/"+desc.ServiceName+"/"+m.MethodName] = localUnary{srv, m}
	}
	for _, s := range desc.Streams {
		c.streams["/"+desc.ServiceName+"/"+s.StreamName] = localMethod{srv, s}
	}
}

// incoming is the context of a handler: what the client sent along has arrived.
func incoming(ctx context.Context) context.Context {
	md, _ := metadata.FromOutgoingContext(ctx)
	return metadata.NewIncomingContext(ctx, md)
}

// Invoke calls a method that is not a stream.
func (c *localConn) Invoke(ctx context.Context, method string, args, reply any, _ ...grpc.CallOption) error {
	m, ok := c.unary[method]
	if !ok {
		return status.Errorf(codes.Unimplemented, "unknown method %s", method)
	}
	out, err := m.method.Handler(m.srv, incoming(ctx), func(in any) error { return move(in, args) }, nil)
	if err != nil {
		return asStatus(err)
	}
	return move(reply, out)
}

// move makes a message of ours the receiver's own.
func move(to, from any) error {
	dst := to.(proto.Message)
	if m, ok := from.(*watchMessage); ok {
		return m.decode(dst)
	}
	proto.Reset(dst)
	proto.Merge(dst, from.(proto.Message))
	return nil
}

// asStatus is what a client of gRPC would see of a handler's error.
func asStatus(err error) error {
	if err == nil {
		return nil
	}
	if st, ok := status.FromError(err); ok {
		return st.Err()
	}
	return status.FromContextError(err).Err()
}

// NewStream calls a method that is a stream. Its handler runs on a goroutine
// "local stream", until the handler returns or ctx is done.
func (c *localConn) NewStream(
	ctx context.Context, _ *grpc.StreamDesc, method string, _ ...grpc.CallOption,
) (grpc.ClientStream, error) {
	m, ok := c.streams[method]
	if !ok {
		return nil, status.Errorf(codes.Unimplemented, "unknown method %s", method)
	}
	p := &localPipe{
		requests: make(chan proto.Message), responses: make(chan any),
		closed: make(chan struct{}), done: make(chan struct{}),
	}
	p.ctx, p.cancel = context.WithCancel(ctx)
	err := c.stopper.Go("local stream", func(context.Context) {
		p.err = asStatus(m.desc.Handler(m.srv, localServer{p, incoming(p.ctx)}))
		close(p.done)
		p.cancel()
	})
	if err != nil {
		p.cancel()
		return nil, toGRPC(err)
	}
	return localClient{p}, nil
}

// localPipe joins the two ends of a stream. Nothing is buffered: each message
// waits until the other end takes it.
type localPipe struct {
	ctx       context.Context
	cancel    context.CancelFunc
	requests  chan proto.Message
	responses chan any
	closed    chan struct{} // closed by CloseSend
	done      chan struct{} // closed when the handler has returned
	err       error         // what it returned; readable after done
}

// localClient is the caller's end.
type localClient struct{ *localPipe }

func (c localClient) Context() context.Context     { return c.ctx }
func (c localClient) Header() (metadata.MD, error) { return nil, nil }
func (c localClient) Trailer() metadata.MD         { return nil }
func (c localClient) CloseSend() error             { close(c.closed); return nil }
func (s localServer) Context() context.Context     { return s.incoming }
func (s localServer) SetHeader(metadata.MD) error  { return nil }
func (s localServer) SendHeader(metadata.MD) error { return nil }
func (s localServer) SetTrailer(metadata.MD)       {}

func (c localClient) SendMsg(m any) error {
	select {
	case c.requests <- proto.Clone(m.(proto.Message)):
		return nil
	case <-c.ctx.Done():
	}
	select {
	case <-c.done:
		return io.EOF // RecvMsg has the handler's error
	default:
		return asStatus(c.ctx.Err())
	}
}

func (c localClient) RecvMsg(m any) error {
	select {
	case r := <-c.responses:
		return move(m, r)
	case <-c.done:
		if c.err == nil {
			return io.EOF
		}
		return c.err
	}
}

// localServer is the handler's end.
type localServer struct {
	*localPipe
	incoming context.Context
}

func (s localServer) SendMsg(m any) error {
	var own any
	switch m := m.(type) {
	case *watchMessage:
		own = &watchMessage{bytes: m.bytes}
	case proto.Message:
		own = proto.Clone(m)
	default:
		return fmt.Errorf("etcdapi: %T is no message", m)
	}
	select {
	case s.responses <- own:
		return nil
	case <-s.ctx.Done():
		return asStatus(s.ctx.Err())
	}
}

func (s localServer) RecvMsg(m any) error {
	select {
	case r := <-s.requests:
		return move(m, r)
	case <-s.closed:
		return io.EOF
	case <-s.ctx.Done():
		return asStatus(s.ctx.Err())
	}
}
