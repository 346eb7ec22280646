package raftgroup

import (
	"slices"

	"github.com/flotilladb/flotilla/proto/metapb"
)

// RangeMessage is a message and the range whose replicas it goes between.
type RangeMessage struct {
	RangeID metapb.RangeID
	Message *Message
}

// Frame is what one store has to say to another in one go, for all their
// ranges together: ten thousand groups share one stream.
type Frame struct {
	From, To metapb.StoreID
	Messages []RangeMessage
}

// Transport carries frames between stores. Send does not block: a frame that
// finds no room is lost, as frames may be, doubled or late. Who drops one that
// it knows to be lost tells the sender, which calls Group.ReportUnreachable.
type Transport interface {
	Send(Frame)
}

// Outbox collects the messages of many groups into frames.
type Outbox struct {
	from    metapb.StoreID
	byStore map[metapb.StoreID][]RangeMessage
	stores  []metapb.StoreID // keys of byStore with messages, in order of the first
}

// NewOutbox returns the outbox of a store.
func NewOutbox(from metapb.StoreID) *Outbox {
	return &Outbox{from: from, byStore: make(map[metapb.StoreID][]RangeMessage)}
}

// Add puts a message into the frame for a store.
func (o *Outbox) Add(to metapb.StoreID, rangeID metapb.RangeID, m *Message) {
	if len(o.byStore[to]) == 0 {
		o.stores = append(o.stores, to)
	}
	o.byStore[to] = append(o.byStore[to], RangeMessage{RangeID: rangeID, Message: m})
}

// Flush hands one frame per store to t, by store id, and is empty again.
func (o *Outbox) Flush(t Transport) {
	slices.Sort(o.stores)
	for _, to := range o.stores {
		t.Send(Frame{From: o.from, To: to, Messages: o.byStore[to]})
		delete(o.byStore, to)
	}
	o.stores = o.stores[:0]
}
