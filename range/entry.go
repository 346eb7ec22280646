package ranges

import (
	"bytes"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// entryShareMax is the length of an entry's bytes up to which what is decoded from
// it shares one copy of them: whoever keeps a value keeps that copy.
const entryShareMax = 64 << 10

// Fields of cmdpb.Entry and cmdpb.Update.
const (
	entryTerm       = 1
	entryGeneration = 2
	entryUpdates    = 3
	updateRevision  = 1
	updateMutations = 2
)

// decodeEntry decodes an entry of the log. Followers do little else with a put than
// to decode and to write it: an entry that has only updates, as most have, takes a
// handful of allocations for all of them, not four for each.
func decodeEntry(data []byte) (*cmdpb.Entry, error) {
	updates, mutations, plain := countEntry(data)
	if !plain || len(data) > entryShareMax {
		ent := &cmdpb.Entry{}
		return ent, ent.UnmarshalVT(data)
	}
	data = bytes.Clone(data)
	if updates == 1 && mutations == 1 {
		at := &struct {
			entry     cmdpb.Entry
			updates   [1]cmdpb.Update
			mutations [1]txnpb.Mutation
			slots     [1]*cmdpb.Update
			inner     [1]*txnpb.Mutation
		}{}
		in := entryRoom{at.updates[:], at.mutations[:], at.slots[:0], at.inner[:0]}
		return &at.entry, in.entry(&at.entry, data)
	}
	ent := &cmdpb.Entry{}
	in := entryRoom{
		make([]cmdpb.Update, updates), make([]txnpb.Mutation, mutations),
		make([]*cmdpb.Update, 0, updates), make([]*txnpb.Mutation, 0, mutations),
	}
	return ent, in.entry(ent, data)
}

// field takes a field off the front of b: a number, or what has a length. It
// reports false for any other, and at what is not one.
func field(b []byte) (num protowire.Number, value uint64, body, rest []byte, ok bool) {
	num, typ, n := protowire.ConsumeTag(b)
	if n < 0 {
		return 0, 0, nil, nil, false
	}
	switch b = b[n:]; typ {
	case protowire.VarintType:
		value, n = protowire.ConsumeVarint(b)
	case protowire.BytesType:
		body, n = protowire.ConsumeBytes(b)
	default:
		return 0, 0, nil, nil, false
	}
	if n < 0 {
		return 0, 0, nil, nil, false
	}
	return num, value, body, b[n:], true
}

// countEntry counts the updates of an entry and their mutations. plain says that it
// has nothing else, and nothing that this version does not know.
func countEntry(b []byte) (updates, mutations int, plain bool) {
	for len(b) > 0 {
		num, _, body, rest, ok := field(b)
		switch {
		case !ok:
			return 0, 0, false
		case body == nil && (num == entryTerm || num == entryGeneration):
		case body != nil && num == entryUpdates:
			updates++
			n, ok := countUpdate(body)
			if !ok {
				return 0, 0, false
			}
			mutations += n
		default:
			return 0, 0, false
		}
		b = rest
	}
	return updates, mutations, true
}

func countUpdate(b []byte) (mutations int, plain bool) {
	for len(b) > 0 {
		num, _, body, rest, ok := field(b)
		switch {
		case ok && body == nil && num == updateRevision:
		case ok && body != nil && num == updateMutations:
			mutations++
		default:
			return 0, false
		}
		b = rest
	}
	return mutations, true
}

// entryRoom has room for what countEntry counted.
type entryRoom struct {
	updates   []cmdpb.Update
	mutations []txnpb.Mutation
	slots     []*cmdpb.Update
	inner     []*txnpb.Mutation
}

// entry decodes what countEntry went over. The messages share b.
func (r *entryRoom) entry(ent *cmdpb.Entry, b []byte) error {
	for len(b) > 0 {
		num, value, body, rest, _ := field(b)
		switch num {
		case entryTerm:
			ent.Term = value
		case entryGeneration:
			ent.Generation = value
		case entryUpdates:
			u := &r.updates[len(r.slots)]
			if err := r.update(u, body); err != nil {
				return err
			}
			r.slots = append(r.slots, u)
		}
		b = rest
	}
	if len(r.slots) > 0 {
		ent.Updates = r.slots
	}
	return nil
}

func (r *entryRoom) update(u *cmdpb.Update, b []byte) error {
	first := len(r.inner)
	for len(b) > 0 {
		num, value, body, rest, _ := field(b)
		switch num {
		case updateRevision:
			u.Revision = int64(value)
		case updateMutations:
			m := &r.mutations[len(r.inner)]
			if err := m.UnmarshalVTUnsafe(body); err != nil {
				return err
			}
			r.inner = append(r.inner, m)
		}
		b = rest
	}
	if n := len(r.inner); n > first {
		u.Mutations = r.inner[first:n:n]
	}
	return nil
}
