package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// Call asks the process at an address one thing, for what comes before the lanes:
// a node that joins. It takes a connection of its own.
func (t *Transport) Call(ctx context.Context, addr string, request []byte) ([]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // closes the connection
	reply, err := t.call(ctx, addr, request)
	if err != nil {
		if why := context.Cause(ctx); why != nil {
			err = why
		}
		return nil, fmt.Errorf("call %s: %w", addr, err)
	}
	return reply, nil
}

func (t *Transport) call(ctx context.Context, addr string, request []byte) ([]byte, error) {
	if len(request) >= callBytesMax {
		return nil, fmt.Errorf("%d bytes are too many", len(request))
	}
	conn, err := t.dialer.dial(ctx, addr, classMain)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(message([]byte(magic), msgCall, request)); err != nil {
		return nil, err
	}
	d := newReader(conn, helloBytesMax)
	kind, n, err := d.next(callBytesMax)
	if err != nil {
		return nil, closed(err)
	}
	reply, err := d.grow(n)
	switch {
	case err != nil:
		return nil, err
	case kind == msgReply:
		return reply, nil
	case kind != msgRefused:
		return nil, fmt.Errorf("%w: kind %d in place of an answer", ErrProtocol, kind)
	}
	return nil, refusedBy(reply)
}

// message appends a message.
func message(b []byte, kind byte, body []byte) []byte {
	at := len(b)
	return end(append(begin(b, kind), body...), at)
}

// answerCall answers a question of n bytes.
func (t *Transport) answerCall(ctx context.Context, conn net.Conn, d *reader, n int) error {
	request, err := d.grow(n)
	if err != nil {
		return err
	}
	conn.SetDeadline(time.Time{}) // Answer has a limit of its own
	reply, err := []byte(nil), errors.New("this node answers no calls of peers")
	if t.cfg.Answer != nil {
		reply, err = t.cfg.Answer(ctx, request)
	}
	if err == nil && len(reply) >= callBytesMax {
		err = fmt.Errorf("an answer of %d bytes is too long", len(reply))
	}
	conn.SetDeadline(time.Now().Add(t.cfg.DialTimeout))
	if err != nil {
		t.who().tell(conn, refuse(refusedOther, "%v", err))
		return nil
	}
	_, err = conn.Write(message(nil, msgReply, reply))
	return err
}
