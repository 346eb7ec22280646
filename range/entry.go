package ranges

import (
	"bytes"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/flotilladb/flotilla/internal/fields"
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

// countEntry counts the updates of an entry and their mutations. plain says that it
// has nothing else, and nothing that this version does not know.
func countEntry(b []byte) (updates, mutations int, plain bool) {
	for len(b) > 0 {
		f, rest, err := fields.Next(b)
		switch {
		case err != nil:
			return 0, 0, false
		case f.Type == protowire.VarintType && (f.Number == entryTerm || f.Number == entryGeneration):
		case f.Type == protowire.BytesType && f.Number == entryUpdates:
			updates++
			n, ok := countUpdate(f.Body)
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
		f, rest, err := fields.Next(b)
		switch {
		case err != nil:
			return 0, false
		case f.Type == protowire.VarintType && f.Number == updateRevision:
		case f.Type == protowire.BytesType && f.Number == updateMutations:
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
		f, rest, _ := fields.Next(b)
		switch f.Number {
		case entryTerm:
			ent.Term = f.Value
		case entryGeneration:
			ent.Generation = f.Value
		case entryUpdates:
			u := &r.updates[len(r.slots)]
			if err := r.update(u, f.Body); err != nil {
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
		f, rest, _ := fields.Next(b)
		switch f.Number {
		case updateRevision:
			u.Revision = int64(f.Value)
		case updateMutations:
			m := &r.mutations[len(r.inner)]
			if err := m.UnmarshalVTUnsafe(f.Body); err != nil {
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
