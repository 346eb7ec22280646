package rpc

import (
	"context"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// dialer makes connections. Each is dialled by gRPC when its first stream is asked
// for, and not again: link makes another one, to the address that is right then.
type dialer struct {
	creds   credentials.TransportCredentials
	timeout time.Duration
}

func (d *dialer) dial(addr string, c class) (*grpc.ClientConn, error) {
	nd := &net.Dialer{Timeout: d.timeout}
	if c == classLiveness {
		nd.Control = prioritize
	}
	return grpc.NewClient("passthrough:///"+addr,
		grpc.WithTransportCredentials(d.creds),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return nd.DialContext(ctx, "tcp", addr)
		}),
		grpc.WithStaticStreamWindowSize(streamWindowBytes),
		grpc.WithStaticConnWindowSize(connWindowBytes),
		grpc.WithWriteBufferSize(writeBufferBytes),
		grpc.WithReadBufferSize(readBufferBytes),
		grpc.WithSharedWriteBuffer(true),
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
		grpc.WithIdleTimeout(0),
		grpc.WithNoProxy(),
	)
}

func callOptions() []grpc.CallOption {
	return []grpc.CallOption{
		grpc.CallContentSubtype(codecName), grpc.ForceCodecV2(codec{}), grpc.MaxCallRecvMsgSize(messageBytesMax),
	}
}

// interactivePriority is the highest that needs no privilege.
const interactivePriority = 6

// prioritize puts a connection before others on the way out of this machine. It is
// a wish: where it cannot be had, the connection works as well.
func prioritize(_, _ string, raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PRIORITY, interactivePriority)
	})
}
