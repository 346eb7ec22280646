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
	return slices.Concat(plantsOfOneRange(), plantsOfTransactions(), plantsOfLargeDeletes(), plantsOfWatches(), plantsOfLeases(), plantsOfClusters(), plantsOfOperator())
}

func plantsOfOneRange() []plant {
	return []plant{
		{name: "reply-before-sync", file: "internal/sim/node.go", edits: []edit{
			{"	n.syncing++\n", "	n.syncing++\n	n.synced = append(n.synced, rd.Token)\n	n.wake()\n	token := uint64(0)\n"},
			{"	token := rd.Token\n", ""},
			{"		n.synced = append(n.synced, token)\n		n.wake()\n", "		_ = token\n"},
		}},
		{name: "overlay-loses-an-entry", file: "range/evaluate.go", edits: []edit{
			{"		r.overlay.Add(b.number, rev, res.Mutations)\n", "		if b.number%4 != 0 {\n			r.overlay.Add(b.number, rev, res.Mutations)\n		}\n"},
		}},
		{name: "split-forgets-a-write", file: "range/split.go", edits: []edit{
			{"	r.rights = append(r.rights, bornRange{c.Right, r.splitLeases(c.Right)})\n", "	r.rights = append(r.rights, bornRange{c.Right, r.splitLeases(c.Right)})\n	if start, _, ok := keys.UserBounds(c.Right.Span()); ok {\n		gone := keys.VersionSpan(start, append(bytes.Clone(start), 0))\n		b.DeleteRange(gone.Start, gone.End)\n	}\n"},
		}},
		{name: "split-does-not-stop-writes", file: "range/apply.go", edits: []edit{
			{"ent.Term != e.Term || ent.Generation != r.desc.Generation", "ent.Term != e.Term || ent.Generation > r.desc.Generation"},
			{"func (r *Replica) advanceLater() {\n", "func (r *Replica) advanceLater() {\n	r.frozen = false\n"},
		}},
		{name: "applied-ahead-of-effects", file: "range/replica.go", edits: []edit{
			{"		if rd.Token != 0 {\n", "		if ahead := r.state; rd.Token != 0 {\n			ahead.index = r.group.LastIndex()\n			writeApplied(s.append, r.desc.ID(), ahead)\n"},
		}},
		{name: "ring-forgets-who-rests", file: "range/ring.go", edits: []edit{
			{"if r.ringStep == g.step-ringSlots {", "if r.ringStep > g.step {"},
		}},
		{name: "ring-of-another-range", file: "range/ring.go", edits: []edit{
			{"	if in, ok := ring[id]; ok && in.replica == replica && in.index > st.index {", "	if in, ok := ring[id+1]; ok && in.replica == replica && in.index > st.index {"},
		}},
		{name: "sequencer-restarts-low", file: "internal/node/core_seq.go", edits: []edit{
			{"last = max(1, c.store.Revision())", "last = max(1, c.store.Revision()-1)"},
		}},
		{name: "removal-without-mark", file: "internal/node/core_gc.go", edits: []edit{
			{"	pub.removal.Store(max(pub.removal.Load(), int64(to)))\n", ""},
		}},
		{name: "removal-of-too-much", file: "internal/node/core_gc.go", edits: []edit{
			{"max(mark, 0), g.to)", "max(mark, 0), g.to+1)"},
		}},
		{name: "count-misses-a-change", file: "internal/node/counts.go", edits: []edit{
			{"		for _, u := range applied[i].Updates {\n", "		for _, u := range applied[i].Updates {\n			if u.Revision%8 == 0 {\n				continue\n			}\n"},
		}},
		{name: "reads-ahead-of-current", file: "range/store.go", edits: []edit{
			{"s.known = max(s.known, g.Current)", "s.known = max(s.known, g.First+Revision(g.N)-1, g.Current)"},
		}},
	}
}

func plantsOfTransactions() []plant {
	return []plant{
		{name: "bound-forgets-intents", file: "range/closed.go", edits: []edit{
			{"if rev, ok := r.locks.bound(); ok {", "if rev, ok := r.locks.bound(); ok && rev < 0 {"},
		}},
		{name: "closed-over-locks", file: "range/closed.go", edits: []edit{
			{"case c.batch > r.advanced && r.hasBatch(c.batch), !r.locksLetClose(&c):", "case c.batch > r.advanced && r.hasBatch(c.batch):"},
		}},
		{name: "writes-pass-locks", file: "range/evaluate.go", edits: []edit{
			{"if !w.admitted && !r.locks.idle() && !r.admit(w, accessesOf(body.Req), usesOf(mvcc.Leases(body.Req))...) {", "if b.number%3 != 0 && !w.admitted && !r.locks.idle() && !r.admit(w, accessesOf(body.Req), usesOf(mvcc.Leases(body.Req))...) {"},
		}},
		{name: "prepare-before-who-waited", file: "range/evaluate.go", edits: []edit{
			{" && len(r.unparked) == 0 {", " {"},
		}},
		{name: "locks-gone-before-intents", file: "range/prepare.go", edits: []edit{
			{"	r.logEnd(b, l, body.Commit)\n", "	r.logEnd(b, l, body.Commit)\n	r.unpark(r.locks.release(body.Txn, r.store.now))\n"},
		}},
		{name: "lost-lock-not-noticed", file: "router/txn_reply.go", nodes: 3, readers: true, seed: 78, edits: []edit{
			{"&peerpb.Release{Txn: o.id, Lock: p.lock})", "&peerpb.Release{Txn: o.id})"},
		}},
		{name: "record-gone-before-intents", file: "router/txn_end.go", edits: []edit{
			{"func (o *txnEnd) start(r *Router) { o.tick(r) }", "func (o *txnEnd) start(r *Router) {\n	if o.commit {\n		o.ask(r, 0, o.anchor, &peerpb.Forget{Txn: o.id, Anchor: o.anchor})\n		return\n	}\n	o.tick(r)\n}"},
		}},
		{name: "abort-not-durable", file: "range/prepare.go", edits: []edit{
			{"		r.logEnd(b, l, false)\n		b.done(w.req.ID, aborted)\n", "		r.answerRead(answer{id: w.req.ID, body: aborted})\n"},
		}},
		{name: "starts-not-counted", file: "internal/node/bootstrap.go", edits: []edit{
			{"start = binary.BigEndian.Uint64(raw) + 1", "start = binary.BigEndian.Uint64(raw)"},
		}},
	}
}

func plantsOfLargeDeletes() []plant {
	return []plant{
		{name: "piece-loses-a-key", file: "range/piece.go", edits: []edit{
			{"Mutations: muts}})", "Mutations: muts[len(muts)/2:]}})"},
		}},
		{name: "pieces-do-not-wait", file: "range/piece.go", edits: []edit{
			{"if before := r.underWay(b, l.endBatch); before != nil {", "if before := r.underWay(b, l.endBatch); before != nil && b.number%3 == 0 {"},
		}},
		{name: "piece-is-done-again", file: "range/piece.go", edits: []edit{
			{"		b.Set(keys.Intent(row.Address, ti.id), value)\n", "		_, _ = value, keys.Intent(row.Address, ti.id)\n"},
		}},
		{name: "resolved-with-the-first-piece", file: "range/piece.go", edits: []edit{
			{"	invariant.Must(len(left) == 0,", "	r.ended = append(r.ended, c.Id)\n	invariant.Must(len(left) == 0,"},
		}},
		{name: "bound-without-spans", file: "range/lock_txn.go", edits: []edit{
			{"			set.add(metapb.Span{Start: d.Start, End: d.End})\n", "			_ = d\n"},
		}},
		{name: "span-is-not-locked-anew", file: "range/lock_txn.go", edits: []edit{
			{"			l.spans.add(metapb.Span{Start: d.Start, End: d.End})\n", "			_ = d\n"},
		}},
		{name: "page-begins-one-key-late", file: "mvcc/rows.go", edits: []edit{
			{"			a.Start = from.Key\n", "			a.Start = append(bytes.Clone(from.Key), 0)\n"},
		}},
	}
}
