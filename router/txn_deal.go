package router

import (
	"bytes"
	"slices"

	"github.com/flotilladb/flotilla/internal/invariant"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/proto/cmdpb"
	"github.com/flotilladb/flotilla/proto/txnpb"
)

// deal cuts what the transaction changes into intents: one for each key, one for
// each delete of a span, and one with neither for a range of which nothing
// changes, so that every prepared range says that its locks held.
func (o *txnOp) deal() {
	muts, deletes := slices.Clone(o.result.Mutations), slices.Clone(o.result.Deletes)
	slices.SortStableFunc(muts, func(a, b *txnpb.Mutation) int { return bytes.Compare(a.Key, b.Key) })
	slices.SortFunc(deletes, compareStarts)
	anchor := o.anchorOf(muts, deletes)
	o.record = &txnpb.Record{
		Id: o.id, Status: txnpb.RecordStatus_COMMITTED, Revision: int64(o.rev),
		IntentAddresses: append(make([][]byte, 0, len(o.parts)), anchor),
	}
	for i := range o.parts {
		p := &o.parts[i]
		p.done, p.intents = false, make([]*cmdpb.AddressedIntent, 0, len(p.accesses))
		for len(muts) > 0 && keys.HoldsUser(p.desc.Span(), muts[0].Key) {
			n := 1
			for n < len(muts) && bytes.Equal(muts[n].Key, muts[0].Key) {
				n++
			}
			o.intent(p, anchor, muts[0].Key).Mutations = muts[:n:n]
			muts = muts[n:]
		}
		for len(deletes) > 0 && keys.HoldsUser(p.desc.Span(), deletes[0].Start) {
			o.intent(p, anchor, deletes[0].Start).Deletes = deletes[:1:1]
			deletes = deletes[1:]
		}
		slices.SortFunc(p.intents, func(a, b *cmdpb.AddressedIntent) int { return bytes.Compare(a.Address, b.Address) })
		o.dealRevoke(p, anchor)
		if len(p.intents) == 0 {
			o.intent(p, anchor, p.accesses[0].Start)
		}
		if !p.desc.Contains(anchor) {
			o.record.IntentAddresses = append(o.record.IntentAddresses, p.intents[0].Address)
		}
	}
	invariant.Must(len(muts)+len(deletes) == 0, "%d of a transaction's changes lie in no prepared range", len(muts)+len(deletes))
}

// compareStarts has deletes of spans in key order.
func compareStarts(a, b *txnpb.SpanDelete) int { return bytes.Compare(a.Start, b.Start) }

// shortestChanged returns the shortest key of what changes, and of those the first.
func shortestChanged(muts []*txnpb.Mutation, deletes []*txnpb.SpanDelete) (key []byte) {
	shorter := func(other []byte) {
		if key == nil || len(other) < len(key) {
			key = other
		}
	}
	for _, m := range muts {
		shorter(m.Key)
	}
	for _, d := range deletes {
		shorter(d.Start)
	}
	return key
}

// intent adds an intent to a part. No two have the same key: a delete of a span
// lies apart from all else that the transaction writes.
func (o *txnOp) intent(p *txnPart, anchor, key []byte) *txnpb.Intent {
	both := &struct {
		addressed cmdpb.AddressedIntent
		intent    txnpb.Intent
	}{}
	in := &both.intent
	in.Id, in.Revision, in.Anchor = o.id, int64(o.rev), anchor
	both.addressed.Address, both.addressed.Intent = keys.User(key), in
	p.intents = append(p.intents, &both.addressed)
	return in
}
