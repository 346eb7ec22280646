package sim

// plantsOfWatches leave out what only several stores have: a feed that is asked to
// close, and one that moves.
func plantsOfWatches() []plant {
	return []plant{
		{"event-before-its-ranges-are-closed", "watchfeed/group.go", []edit{
			{"		if f.pos >= g.lo.pos && f.pos <= g.hi.pos {\n", "		if f.pos < 0 {\n"},
		}},
		{"join-loses-a-revision", "watchfeed/catchup.go", []edit{
			{"		if w.next > p.group.released {\n", "		if w.next >= p.group.released {\n"},
		}},
		{"split-forgets-watchers", "watchfeed/split.go", []edit{
			{"	f.groups = slices.Clone(left.groups)\n	for", "	for"},
		}},
		{"progress-ahead-of-who-is-behind", "watchfeed/progress.go", []edit{
			{"	if s.asked == 0 || s.behind > 0 || !s.room() {\n", "	if s.asked == 0 || !s.room() {\n"},
		}},
		{"progress-ahead-of-what-is-held", "watchfeed/progress.go", []edit{
			{"		low = min(low, g.released)\n", "		low = max(g.released, c.current)\n"},
		}},
		{"progress-below-an-event", "watchfeed/stream.go", []edit{
			{"	s.said = max(s.said, Revision(events[len(events)-1].Revision))\n", ""},
		}},
		{"pair-before-of-another-revision", "watchfeed/scans.go", []edit{
			{"Revision(ev.Revision)-1)", "Revision(ev.Revision)-2)"},
		}},
		{"slow-watcher-skips", "watchfeed/group.go", []edit{
			{"		g.c.fallBehind(w, Revision(events[0].Revision))\n", "		g.c.fallBehind(w, Revision(events[len(events)-1].Revision)+1)\n"},
		}},
		{"lost-steps-are-not-read", "watchfeed/core.go", []edit{
			{"		g.lostTo = max(g.lostTo, f.ring.low)\n		c.activate(g)\n", "		c.activate(g)\n"},
		}},
		{"lost-before-a-split", "watchfeed/core.go", []edit{
			{"	if len(s.Lost) > 0 {\n", "	if len(s.Lost) < 0 {\n"},
		}},
		{"now-is-what-the-hub-has-seen", "watchfeed/stream.go", []edit{
			{"	now = max(now, c.current)\n", "	now = c.current\n"},
		}},
		{"window-claims-more", "watchfeed/scans.go", []edit{
			{"through: r.Through, events", "through: s.To, events"},
		}},
		{"scan-of-what-was-removed", "watchfeed/scans.go", []edit{
			{"err == nil && out.Removed <= s.From+1 {", "err == nil {"},
			{"	if r.Removed <= s.From+1 {\n		win", "	if s != nil {\n		win"},
		}},
		{"transaction-in-the-order-of-ranges", "watchfeed/group.go", []edit{
			{"			slices.SortFunc(c.scratch, compareEvents)\n", ""},
		}},
		{"ring-covers-one-revision-more", "watchfeed/catchup.go", []edit{
			{"		if f.ring.low >= low {\n", "		if f.ring.low > low {\n"},
		}},
		{"scan-waits-for-a-bound", "watchfeed/scans.go", []edit{
			{"	to := max(c.closed(p.group), p.group.released)\n", "	to := c.closed(p.group)\n"},
		}},
	}
}

// plantsOfLeases leave out what only several leaders have: that one asks for the
// end of a lease to which another has given more time.
func plantsOfLeases() []plant {
	return []plant{
		{"revoke-forgets-a-range", "router/txn_lease.go", []edit{
			{"	for _, pc := range pieces {\n", "	for i, pc := range pieces {\n		if i > 0 && i == len(pieces)-1 {\n			continue\n		}\n"},
		}},
		{"mark-installed-after-the-revoke", "range/mark.go", []edit{
			{" && !reg.spoiled && !r.locks.ending(reg.id, false) {", " {"},
		}},
		{"mark-outlives-the-revoke", "range/mark.go", []edit{
			{"	r.marks.drop(id)\n	if", "	if"},
		}},
		{"span-is-not-noted", "range/mark.go", []edit{
			{"		rec.Register(s)\n", "		if len(rec.Spans) == 0 {\n			rec.Register(s)\n		}\n"},
		}},
		{"keys-under-way-are-forgotten", "range/mark.go", []edit{
			{"	r.overlay.Leases(id, func(key []byte, lease int64, batch uint64) {\n", "	r.overlay.Leases(id, func(key []byte, lease int64, batch uint64) {\n		if batch > 0 {\n			return\n		}\n"},
		}},
		{"renewal-keeps-the-old-deadline", "lease/expirer.go", []edit{
			{"	st.extend(deadline(e.now, st.ttl))\n", ""},
		}},
		{"checkpoint-outlives-a-renewal", "lease/expirer.go", []edit{
			{"	case st.flags&mayBeCheckpointed != 0:\n", "	case st.flags&mayBeCheckpointed != 0 && e.now < 0:\n"},
		}},
		{"checkpoint-shortens", "range/lease_home.go", []edit{
			{"		rec.Remaining = c.Remaining\n", "		rec.Remaining = min(c.Remaining, 1)\n"},
		}},
		{"detach-is-forgotten", "range/lease.go", []edit{
			{"		r.index.Detach(m.Key, leaseID(m.PrevLease))\n", ""},
		}},
		{"leased-row-stays", "mvcc/value.go", []edit{
			{"	if m.Lease != m.PrevLease {\n", "	if m.Lease != m.PrevLease && m.Lease != 0 {\n"},
		}},
		{"keys-of-a-lease-beside-intents", "router/lease.go", []edit{
			{"&peerpb.Close{S: o.s, Spans: []metapb.Span{p.span}})", "&peerpb.Close{Spans: []metapb.Span{p.span}})"},
		}},
	}
}
