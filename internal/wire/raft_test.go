package wire

import (
	"go.etcd.io/raft/v3/raftpb"

	"github.com/flotilladb/flotilla/raftgroup"
)

func ptr[T any](v T) *T { return &v }

// appMessage is what a leader sends with entries behind index.
func appMessage(index uint64, data ...[]byte) *raftgroup.Message {
	m := &raftgroup.Message{
		Type: ptr(raftpb.MsgApp), From: ptr(uint64(1)), To: ptr(uint64(2)), Term: ptr(uint64(3)),
		LogTerm: ptr(uint64(3)), Index: ptr(index), Commit: ptr(index),
	}
	for i, d := range data {
		m.Entries = append(m.Entries, &raftpb.Entry{Index: ptr(index + 1 + uint64(i)), Term: ptr(uint64(3)), Data: d})
	}
	return m
}

// raft makes a random message as replicas send them.
func (f *filler) raft() *raftgroup.Message {
	m := &raftgroup.Message{}
	f.message(m.ProtoReflect(), 2)
	m.Responses = nil
	if m.Snapshot != nil && m.Snapshot.Metadata != nil {
		m.Snapshot.Metadata.ConfState = nil
	}
	if len(m.Context) == 0 {
		m.Context = nil
	}
	first := f.number() >> 1
	for i, e := range m.Entries {
		e.Index = ptr(first + uint64(i))
		e.Term = ptr(e.GetTerm())
		if e.GetType() == raftpb.EntryNormal {
			e.Type = nil
		}
		if len(e.Data) == 0 {
			e.Data = nil
		}
	}
	return m
}
