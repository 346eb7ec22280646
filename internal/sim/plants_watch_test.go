package sim

// plantsOfWatches leave out what only several stores have: a feed that is asked to
// close, and one that moves.
func plantsOfWatches() []plant {
	return []plant{
		{name: "event-before-its-ranges-are-closed", file: "watchfeed/group.go", edits: []edit{
			{"		if f.pos >= g.lo.pos && f.pos <= g.hi.pos {\n", "		if f.pos < 0 {\n"},
		}},
		{name: "join-loses-a-revision", file: "watchfeed/catchup.go", edits: []edit{
			{"		if w.next > p.group.released {\n", "		if w.next >= p.group.released {\n"},
		}},
		{name: "split-forgets-watchers", file: "watchfeed/split.go", edits: []edit{
			{"	f.groups = slices.Clone(left.groups)\n	for", "	for"},
		}},
		{name: "progress-ahead-of-who-is-behind", file: "watchfeed/progress.go", edits: []edit{
			{"	if s.asked == 0 || s.behind > 0 || !s.room() {\n", "	if s.asked == 0 || !s.room() {\n"},
		}},
		{name: "progress-ahead-of-what-is-held", file: "watchfeed/progress.go", edits: []edit{
			{"		low = min(low, g.released)\n", "		low = max(g.released, c.current)\n"},
		}},
		{name: "progress-below-an-event", file: "watchfeed/stream.go", edits: []edit{
			{"	s.said = max(s.said, Revision(events[len(events)-1].Revision))\n", ""},
		}},
		{name: "pair-before-of-another-revision", file: "watchfeed/scans.go", edits: []edit{
			{"Revision(ev.Revision)-1)", "Revision(ev.Revision)-2)"},
		}},
		{name: "slow-watcher-skips", file: "watchfeed/group.go", edits: []edit{
			{"		g.c.fallBehind(w, Revision(events[0].Revision))\n", "		g.c.fallBehind(w, Revision(events[len(events)-1].Revision)+1)\n"},
		}},
		{name: "lost-steps-are-not-read", file: "watchfeed/core.go", edits: []edit{
			{"		g.lostTo = max(g.lostTo, f.ring.low)\n		c.activate(g)\n", "		c.activate(g)\n"},
		}},
		{name: "lost-before-a-split", file: "watchfeed/core.go", edits: []edit{
			{"	if len(s.Lost) > 0 {\n", "	if len(s.Lost) < 0 {\n"},
		}},
		{name: "now-is-what-the-hub-has-seen", file: "watchfeed/stream.go", seed: 529, edits: []edit{
			{"	now = max(now, c.current)\n", "	now = c.current\n"},
		}},
		{name: "window-claims-more", file: "watchfeed/scans.go", edits: []edit{
			{"through: r.Through, events", "through: s.To, events"},
		}},
		{name: "scan-of-what-was-removed", file: "watchfeed/scans.go", edits: []edit{
			{"err == nil && out.Removed <= s.From+1 {", "err == nil {"},
			{"	if r.Removed <= s.From+1 {\n		win", "	if s != nil {\n		win"},
		}},
		{name: "transaction-in-the-order-of-ranges", file: "watchfeed/group.go", edits: []edit{
			{"			slices.SortFunc(c.scratch, compareEvents)\n", ""},
		}},
		{name: "ring-covers-one-revision-more", file: "watchfeed/catchup.go", edits: []edit{
			{"		if f.ring.low >= low {\n", "		if f.ring.low > low {\n"},
		}},
		{name: "compaction-takes-what-its-revision-covered", file: "mvcc/gc.go", seed: 7010999, edits: []edit{
			{"rev == kept && (sub == keptSub || rev == s.c.to) {", "rev == kept && sub == keptSub {"},
		}},
	}
}

// plantsOfLeases leave out what only several leaders have: that one asks for the
// end of a lease to which another has given more time.
func plantsOfLeases() []plant {
	return []plant{
		{name: "revoke-forgets-a-range", file: "router/txn_lease.go", edits: []edit{
			{"	for _, pc := range pieces {\n", "	for i, pc := range pieces {\n		if i > 0 && i == len(pieces)-1 {\n			continue\n		}\n"},
		}},
		{name: "mark-installed-after-the-revoke", file: "range/mark.go", nodes: 3, seed: 2235, edits: []edit{
			{" && !reg.spoiled && !r.locks.ending(reg.id, false) {", " {"},
		}},
		{name: "revoke-of-many-ranges-has-the-time-of-one", file: "router/txn_reply.go", nodes: 3, unproved: true, edits: []edit{
			{"			r.extend(o)\n", ""},
		}},
		{name: "revoke-by-lease-takes-the-span", file: "range/piece.go", nodes: 3, seed: 35, edits: []edit{
			{"			if d.Lease != 0 {\n", "			if d.Lease == -1 {\n"},
			{"			invariant.Check(sub == d.Sub+d.Count, \"a delete of %d keys finds %d\", d.Count, sub-d.Sub)\n", ""},
		}},
		{name: "mark-outlives-the-revoke", file: "range/mark.go", edits: []edit{
			{"	r.marks.drop(id)\n	if", "	if"},
		}},
		{name: "span-is-not-noted", file: "range/mark.go", edits: []edit{
			{"		rec.Register(s)\n", "		if len(rec.Spans) == 0 {\n			rec.Register(s)\n		}\n"},
		}},
		{name: "keys-under-way-are-forgotten", file: "range/mark.go", edits: []edit{
			{"	r.overlay.Leases(id, func(key []byte, lease int64, batch uint64) {\n", "	r.overlay.Leases(id, func(key []byte, lease int64, batch uint64) {\n		if batch > 0 {\n			return\n		}\n"},
		}},
		{name: "renewal-keeps-the-old-deadline", file: "lease/expirer.go", seed: 5, edits: []edit{
			{"	st.extend(deadline(e.now, st.ttl))\n", ""},
		}},
		{name: "checkpoint-outlives-a-renewal", file: "lease/expirer.go", seed: 139, edits: []edit{
			{"	case st.flags&mayBeCheckpointed != 0:\n", "	case st.flags&mayBeCheckpointed != 0 && e.now < 0:\n"},
		}},
		{name: "checkpoint-shortens", file: "range/lease_home.go", edits: []edit{
			{"		rec.Remaining = c.Remaining\n", "		rec.Remaining = min(c.Remaining, 1)\n"},
		}},
		{name: "detach-is-forgotten", file: "range/lease.go", edits: []edit{
			{"		r.index.Detach(m.Key, leaseID(m.PrevLease))\n", ""},
		}},
		{name: "leased-row-stays", file: "mvcc/value.go", seed: 1, edits: []edit{
			{"	if m.Lease != m.PrevLease {\n", "	if m.Lease != m.PrevLease && m.Lease != 0 {\n"},
		}},
		{name: "keys-of-a-lease-beside-intents", file: "router/lease.go", nodes: 3, readers: true, seed: 45, edits: []edit{
			{"&peerpb.Close{S: o.s, Spans: []metapb.Span{p.span}})", "&peerpb.Close{Spans: []metapb.Span{p.span}})"},
		}},
	}
}
