package watchfeed

import (
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

// Event is one change, made once and shared by all who watch it.
type Event struct {
	plain, full []byte
}

// NewEvent returns an event whose prev_kv is set if there was one.
func NewEvent(ev *mvccpb.Event) (*Event, error) {
	full, err := proto.Marshal(ev)
	if err != nil {
		return nil, err
	}
	plain, err := proto.Marshal(&mvccpb.Event{Type: ev.Type, Kv: ev.Kv})
	if err != nil {
		return nil, err
	}
	return &Event{plain: plain, full: full}, nil
}

// Encoded returns the mvccpb.Event as bytes, with or without its prev_kv. They
// are shared: nobody changes them.
func (e *Event) Encoded(prevKV bool) []byte {
	if prevKV {
		return e.full
	}
	return e.plain
}
