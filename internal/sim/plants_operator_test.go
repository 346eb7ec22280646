package sim

// plantsOfOperator need an operator who hands leaders over and stops nodes, and nothing
// that fails.
func plantsOfOperator() []plant {
	all := []plant{
		{name: "leader-goes-to-who-leaves", file: "internal/node/core_drain.go", seed: 50, edits: []edit{
			{"	case m.to == 0, c.parts(m.to):", "	case m.to == 0:"},
			{"	case c.draining && !c.Drained(), c.seq != nil", "	case c.seq != nil"},
		}},
		{name: "sequencer-moves-without-its-exact-value", file: "internal/node/core_drain.go", edits: []edit{
			{"	case m.id == metapb.SystemRange && !c.sequencerStopped(m):\n		return false\n", ""},
		}},
		{name: "answers-of-the-sequencer-are-not-waited-for", file: "internal/node/core_drain.go", unproved: true, edits: []edit{
			{"	return c.seq.Stopped() && (c.answersArrived() || c.now.After(m.until))\n", "	return c.seq.Stopped()\n"},
		}},
		{name: "leader-goes-with-what-it-evaluates", file: "range/transfer.go", edits: []edit{
			{"		t.frozen = true\n", ""},
			{"	if r.asked == nil && len(r.inflight) == 0 && r.has(t.to) {\n", "	if r.has(t.to) {\n"},
		}},
		{name: "leader-goes-with-its-locks", file: "range/transfer.go", edits: []edit{
			{" || !r.locks.idle() && s.now.Before(t.locksUntil)", ""},
		}},
		{name: "registration-has-to-fit", file: "range/batch.go", unproved: true, edits: []edit{
			{"	case *peerpb.RegisterLease: // a put waits for it, which may be what there is no room beside\n		return true\n", ""},
		}},
		{name: "transaction-without-keys-is-not-answered", file: "router/txn_reply.go", seed: 27, edits: []edit{
			{"	if len(o.parts) == 0 { // it names no key\n", "	if len(o.parts) < 0 {\n"},
		}},
		{name: "node-stops-with-its-leaders", file: "internal/node/core_drain.go", unproved: true, edits: []edit{
			{"{ return !c.many || len(c.moving) == 0 && c.looked }", "{ return true }"},
		}},
		{name: "intents-do-not-follow-their-range", file: "router/txn_reply.go", seed: 77, nodes: 4, edits: []edit{
			{"	case r.now.Before(o.since.Add(o.hold(r)/2)) && o.follow(r, &o.parts[tag], err):\n", "	case false:\n"},
		}},
		{name: "hold-is-over-before-the-revision", file: "router/txn.go", unproved: true, nodes: 4, edits: []edit{
			{"		if len(o.parts) > 1 && !r.now.Before(o.touched.Add(o.hold(r)/2)) {\n", "		if false {\n"},
		}},
		{name: "holds-lapse-while-the-sequencer-moves", file: "router/txn.go", seed: 9998059, edits: []edit{
			{"		o.keepHolds(r)\n", ""},
		}},
		{name: "snapshot-forgets-who-leads", file: "internal/node/core_snap.go", seed: 149, nodes: 5, planner: true, edits: []edit{
			{"	c.keepLeader(id)\n", ""},
		}},
		{name: "pieces-of-an-end-are-in-key-order", file: "range/piece.go", seed: 218, nodes: 5, planner: true, edits: []edit{
			{"	slices.SortFunc(muts, compareSubs)\n", ""},
		}},
		{name: "holds-lapse-while-what-is-current-is-asked", file: "router/txn.go", seed: 354, nodes: 5, planner: true, edits: []edit{
			{"	case (o.phase == txnKnown || o.phase == txnRevision) && !o.answered:\n", "	case o.phase == txnRevision && !o.answered:\n"},
		}},
	}
	for i := range all {
		all[i].nodes, all[i].operator = max(3, all[i].nodes), true
	}
	return all
}
