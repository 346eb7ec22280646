package sim

import "slices"

// plants is the list of bugs that the simulator must find. Each is one that a
// change could bring, or has brought.
//
// Some checks of the design cannot be missed while a cluster is one store: that a
// range refuses a grant of an older epoch, and an entry of another term (nobody
// else ever was the sequencer, or appended); and that closing waits for the
// batches under way, and current for bounds (what one store has under way becomes
// durable in the order of revisions, so nothing current is ever above it).
func plants() []plant {
	return slices.Concat(plantsOfOneRange(), plantsOfTransactions(), plantsOfLargeDeletes(), plantsOfWatches(), plantsOfLeases())
}

func plantsOfOneRange() []plant {
	return []plant{
		{"reply-before-sync", "internal/sim/node.go", []edit{
			{"	n.syncing++\n", "	n.syncing++\n	n.synced = append(n.synced, rd.Token)\n	n.wake()\n	token := uint64(0)\n"},
			{"	token := rd.Token\n", ""},
			{"		n.synced = append(n.synced, token)\n		n.wake()\n", "		_ = token\n"},
		}},
		{"overlay-loses-an-entry", "range/evaluate.go", []edit{
			{"		r.overlay.Add(b.number, rev, res.Mutations)\n", "		if b.number%4 != 0 {\n			r.overlay.Add(b.number, rev, res.Mutations)\n		}\n"},
		}},
		{"split-forgets-a-write", "range/split.go", []edit{
			{"	r.rights = append(r.rights, bornRange{c.Right, r.splitLeases(c.Right)})\n", "	r.rights = append(r.rights, bornRange{c.Right, r.splitLeases(c.Right)})\n	if start, _, ok := keys.UserBounds(c.Right.Span()); ok {\n		gone := keys.VersionSpan(start, append(bytes.Clone(start), 0))\n		b.DeleteRange(gone.Start, gone.End)\n	}\n"},
		}},
		{"split-does-not-stop-writes", "range/apply.go", []edit{
			{"ent.Term != e.Term || ent.Generation != r.desc.Generation", "ent.Term != e.Term || ent.Generation > r.desc.Generation"},
			{"func (r *Replica) advanceLater() {\n", "func (r *Replica) advanceLater() {\n	r.frozen = false\n"},
		}},
		{"applied-ahead-of-effects", "range/replica.go", []edit{
			{"		if rd.Token != 0 {\n", "		if ahead := r.state; rd.Token != 0 {\n			ahead.index = r.group.LastIndex()\n			writeApplied(s.append, r.desc.ID(), ahead)\n"},
		}},
		{"sequencer-restarts-low", "internal/node/core_seq.go", []edit{
			{"last = max(1, c.store.Revision())", "last = max(1, c.store.Revision()-1)"},
		}},
		{"removal-without-mark", "internal/node/core_gc.go", []edit{
			{"	pub.removal.Store(max(pub.removal.Load(), int64(to)))\n", ""},
		}},
		{"removal-of-too-much", "internal/node/core_gc.go", []edit{
			{"max(mark, 0), g.to)", "max(mark, 0), g.to+1)"},
		}},
		{"count-misses-a-change", "internal/node/counts.go", []edit{
			{"		for _, u := range applied[i].Updates {\n", "		for _, u := range applied[i].Updates {\n			if u.Revision%8 == 0 {\n				continue\n			}\n"},
		}},
		{"reads-ahead-of-current", "range/store.go", []edit{
			{"s.known = max(s.known, g.Current)", "s.known = max(s.known, g.First+Revision(g.N)-1, g.Current)"},
		}},
	}
}

func plantsOfTransactions() []plant {
	return []plant{
		{"bound-forgets-intents", "range/closed.go", []edit{
			{"if rev, ok := r.locks.bound(); ok {", "if rev, ok := r.locks.bound(); ok && rev < 0 {"},
		}},
		{"closed-over-locks", "range/closed.go", []edit{
			{"case c.batch > r.advanced && r.hasBatch(c.batch), !r.locksLetClose(&c):", "case c.batch > r.advanced && r.hasBatch(c.batch):"},
		}},
		{"writes-pass-locks", "range/evaluate.go", []edit{
			{"if !w.admitted && !r.locks.idle() && !r.admit(w, accessesOf(body.Req), usesOf(mvcc.Leases(body.Req))...) {", "if b.number%3 != 0 && !w.admitted && !r.locks.idle() && !r.admit(w, accessesOf(body.Req), usesOf(mvcc.Leases(body.Req))...) {"},
		}},
		{"prepare-before-who-waited", "range/evaluate.go", []edit{
			{" && len(r.unparked) == 0 {", " {"},
		}},
		{"locks-gone-before-intents", "range/prepare.go", []edit{
			{"	r.logEnd(b, l, body.Commit)\n", "	r.logEnd(b, l, body.Commit)\n	r.unpark(r.locks.release(body.Txn, r.store.now))\n"},
		}},
		{"lost-lock-not-noticed", "router/txn_reply.go", []edit{
			{"&peerpb.Release{Txn: o.id, Lock: p.lock})", "&peerpb.Release{Txn: o.id})"},
		}},
		{"record-gone-before-intents", "router/txn_end.go", []edit{
			{"func (o *txnEnd) start(r *Router) { o.tick(r) }", "func (o *txnEnd) start(r *Router) {\n	if o.commit {\n		o.ask(r, 0, o.anchor, &peerpb.Forget{Txn: o.id, Anchor: o.anchor})\n		return\n	}\n	o.tick(r)\n}"},
		}},
		{"abort-not-durable", "range/prepare.go", []edit{
			{"		r.logEnd(b, l, false)\n		b.done(w.req.ID, aborted)\n", "		r.answerRead(answer{id: w.req.ID, body: aborted})\n"},
		}},
		{"starts-not-counted", "internal/node/bootstrap.go", []edit{
			{"start = binary.BigEndian.Uint64(raw) + 1", "start = binary.BigEndian.Uint64(raw)"},
		}},
	}
}

func plantsOfLargeDeletes() []plant {
	return []plant{
		{"piece-loses-a-key", "range/piece.go", []edit{
			{"Mutations: c.Tombstones}})", "Mutations: c.Tombstones[len(c.Tombstones)/2:]}})"},
		}},
		{"pieces-do-not-wait", "range/piece.go", []edit{
			{"if before := r.underWay(b, l.endBatch); before != nil {", "if before := r.underWay(b, l.endBatch); before != nil && b.number%3 == 0 {"},
		}},
		{"piece-is-done-again", "range/piece.go", []edit{
			{"		b.Set(keys.Intent(row.Address, ti.id), value)\n", "		_, _ = value, keys.Intent(row.Address, ti.id)\n"},
		}},
		{"resolved-with-the-first-piece", "range/piece.go", []edit{
			{"	invariant.Must(len(left) == 0,", "	r.ended = append(r.ended, c.Id)\n	invariant.Must(len(left) == 0,"},
		}},
		{"bound-without-spans", "range/lock_txn.go", []edit{
			{"			set.add(metapb.Span{Start: d.Start, End: d.End})\n", "			_ = d\n"},
		}},
		{"span-is-not-locked-anew", "range/lock_txn.go", []edit{
			{"			l.spans.add(metapb.Span{Start: d.Start, End: d.End})\n", "			_ = d\n"},
		}},
		{"page-begins-one-key-late", "mvcc/rows.go", []edit{
			{"			a.Start = from.Key\n", "			a.Start = append(bytes.Clone(from.Key), 0)\n"},
		}},
	}
}
