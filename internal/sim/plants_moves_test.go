package sim

import "slices"

// plantsOfMoves need replicas that come and go.
func plantsOfMoves() []plant {
	all := slices.Concat(plantsOfChanges(), plantsOfSnapshots(), plantsOfFollowers())
	for i := range all {
		all[i].nodes, all[i].moves = 4, true
	}
	return all
}

func plantsOfChanges() []plant {
	return []plant{
		{name: "tombstone-is-not-written", file: "range/remove.go", unproved: true, edits: []edit{
			{"	s.append.Set(row.Key, row.Value)\n", "	_ = row\n"},
			{"	s.tombstones[id] = lowest\n", ""},
		}},
		{name: "learner-votes-too-early", file: "range/change.go", unproved: true, edits: []edit{
			{"		if !r.caughtUp(metapb.ReplicaID(p.ReplicaId)) {\n", "		if !r.caughtUp(metapb.ReplicaID(p.ReplicaId)) && p.ReplicaId == 0 {\n"},
		}},
		{name: "voters-that-are-not-there", file: "range/change.go", unproved: true, edits: []edit{
			{"	case there <= voters/2:\n", "	case there < 0:\n"},
		}},
		{name: "joint-counts-the-new-alone", file: "range/change.go", seed: 1, edits: []edit{
			{"			if joint {\n", "			if joint && id == 0 {\n"},
			{"			c.VotersOutgoing = append(c.VotersOutgoing, id)\n		}\n	}\n	return c\n", "			_ = joint\n		}\n	}\n	return c\n"},
			{"	invariant.Must(conf.Equal(confOf(c.Descriptor_)), ", "	invariant.Must(conf.Equal(conf), "},
		}},
		{name: "change-keeps-the-generation", file: "range/change.go", seed: 1, edits: []edit{
			{"	next.Generation++\n", ""},
		}},
		{name: "removed-replica-is-not-told", file: "range/change.go", unproved: true, edits: []edit{
			{"			r.parting = append(r.parting, parting{Gone{To: metapb.StoreID(p.StoreId), Range: r.desc.ID(), Replica: metapb.ReplicaID(p.ReplicaId)}, r.state.index})\n", ""},
		}},
		{name: "moves-hand-over-to-each-other", file: "internal/node/core_operate.go", seed: 636, edits: []edit{
			{"&& o.op.Move.Next(o.desc, t.Leader).Change != nil {", "&& t.Leader == 0 {"},
		}},
		{name: "leader-that-is-removed-counts", file: "range/remove.go", seed: 2104, edits: []edit{
			{"	s.countLeader(r, false)\n", ""},
		}},
		{name: "commit-is-not-written-with-a-change", file: "raftgroup/ready.go", unproved: true, edits: []edit{
			{"			g.log.setCommitted(b, g.committed)\n", "			_ = g.committed\n"},
		}},
		{name: "gone-is-said-before-others-know", file: "range/remove.go", unproved: true, edits: []edit{
			{"		known := r.group.Known(p.index)\n", "		known := r.group.IsLeader() || r.group.Known(p.index)\n"},
		}},
		{name: "followers-say-who-has-gone", file: "range/remove.go", unproved: true, edits: []edit{
			{"	if r.group.Known(r.confIndex) {\n", "	if r.confIndex > 0 {\n"},
		}},
		{name: "known-before-it-is-durable", file: "raftgroup/doubt.go", unproved: true, edits: []edit{
			{"		return min(index, d.below)\n", "		return index\n"},
		}},
		{name: "what-is-learned-is-not-taken", file: "raftgroup/group.go", unproved: true, edits: []edit{
			{"	if err := g.learn(m); err != nil {\n", "	if err := error(nil); err != nil {\n"},
		}},
		{name: "who-taught-is-taken-for-the-leader", file: "raftgroup/doubt.go", unproved: true, edits: []edit{
			{"	return g.rn.ForgetLeader()\n", "	return nil\n"},
		}},
		{name: "answers-of-an-older-term-count", file: "raftgroup/group.go", unproved: true, edits: []edit{
			{"		g.notes = g.notes[:0]\n", ""},
		}},
		{name: "a-refusal-ends-no-settling", file: "raftgroup/peernote.go", unproved: true, edits: []edit{
			{"		n.settled = false\n	case", "		_ = n.settled\n	case"},
		}},
		{name: "nothing-is-offered", file: "range/remove.go", unproved: true, edits: []edit{
			{"		r.offer(metapb.ReplicaID(m.GetFrom()), from)\n", ""},
		}},
		{name: "adrift-asks-nobody", file: "internal/node/core_move.go", unproved: true, edits: []edit{
			{"	c.askAround(out.Present)\n", ""},
		}},
		{name: "joint-is-never-left", file: "range/change.go", seed: 1, edits: []edit{
			{"	r.leaveJoint()\n}\n", "}\n"},
		}},
	}
}

func plantsOfSnapshots() []plant {
	return []plant{
		{name: "snapshot-asked-about-is-whole", file: "internal/node/core_snap.go", unproved: true, edits: []edit{
			{"	last.Number, last.Header, last.Rows = last.Number+1, nil, nil\n", "	last.Rows = nil\n"},
		}},
		{name: "repair-is-kept-back", file: "raftgroup/held.go", seed: 22, edits: []edit{
			{" && !g.repairs && ", " && "},
		}},
		{name: "last-change-is-kept-back", file: "raftgroup/held.go", unproved: true, edits: []edit{
			{" && g.confIndex <= g.applied && ", " && "},
		}},
		{name: "removal-is-not-noted", file: "internal/node/core_gc.go", unproved: true, edits: []edit{
			{"		ranges.WriteRemoving(b, g.to)\n", ""},
		}},
		{name: "compacted-is-the-system-range-s-alone", file: "internal/node/core.go", unproved: true, edits: []edit{
			{"metapb.Revision { return c.store.Compacted() }", "metapb.Revision { return c.system.Compacted() }"},
		}},
		{name: "snapshot-is-no-gap-to-watches", file: "internal/node/core_snap.go", seed: 2018, edits: []edit{
			{"	c.lost = append(c.lost, id)\n", ""},
		}},
		{name: "snapshot-over-what-is-newer", file: "range/snapshot_receive.go", seed: 2041, edits: []edit{
			{"		case s.inTheWay(in):\n", "		case s.inTheWay(in) && in.id == 0:\n"},
		}},
		{name: "snapshot-leaves-what-was-there", file: "range/ingest.go", seed: 6, edits: []edit{
			{"	if err := write(\"local\", g.Local, g.Rows); err != nil {\n", "	g.Local.End = g.Local.Start\n	if err := write(\"local\", g.Local, g.Rows); err != nil {\n"},
		}},
		{name: "snapshot-forgets-the-ring", file: "range/snapshot.go", seed: 28, edits: []edit{
			{"	st := own.newest(ring, id, self)\n", "	_, _ = ring, self\n	st := own\n"},
		}},
		{name: "snapshot-brings-no-mark", file: "range/snapshot.go", unproved: true, edits: []edit{
			{"	x.header.Compacted = max(x.header.RemovalMark, s.compacted)\n", "	x.header.RemovalMark, x.header.Compacted = -1, -1\n"},
		}},
		{name: "applies-behind-its-removal", file: "range/apply.go", unproved: true, edits: []edit{
			{"	case r.stopped:\n		return nil\n", ""},
		}},
		{name: "snapshot-loses-a-row", file: "range/snapshot.go", seed: 2, edits: []edit{
			{"		c.Rows = appendBytes(appendBytes(c.Rows, x.it.Key()), value)\n", "		if x.table < 3 || len(value)%7 != 3 {\n			c.Rows = appendBytes(appendBytes(c.Rows, x.it.Key()), value)\n		}\n"},
		}},
		{name: "read-elsewhere-keeps-its-S", file: "router/read.go", seed: 57, edits: []edit{
			{"		if req.Revision <= 0 && errors.Is(err, mvcc.ErrCompacted) {\n", "		if req.Revision < 0 && errors.Is(err, mvcc.ErrCompacted) {\n"},
		}},
	}
}

// plantsOfStopping are of nodes that stop in order.
func plantsOfStopping() []plant {
	return []plant{
		{name: "stopped-sequencer-of-a-stopping-node", file: "internal/node/core_drain.go", unproved: true, nodes: 3, checks: true, edits: []edit{
			{"	if c.seq != nil && c.endBy == 0 {\n", "	if c.seq != nil && !c.stopping {\n"},
		}},
		{name: "read-waits-for-a-stopped-sequencer", file: "internal/node/core_read.go", seed: 9994041, nodes: 3, edits: []edit{
			{"	case c.endBy != 0, c.stopping", "	case c.said, c.stopping"},
		}},
	}
}

// plantsOfPlanning are of a planner that moves replicas.
func plantsOfPlanning() []plant {
	return []plant{
		{name: "refusal-of-a-leader-says-nothing-of-it", file: "internal/node/core_peers.go", nodes: 5, planner: true, unproved: true, edits: []edit{
			{" || errors.Is(err, peerpb.ErrNotCaughtUp) || errors.Is(err, peerpb.ErrLeaderLeaves)\n", "\n"},
		}},
	}
}

// plantsOfFollowers are of what is watched and not here.
func plantsOfFollowers() []plant {
	return []plant{
		{name: "keys-that-are-elsewhere-count-as-closed", file: "watchfeed/split.go", unproved: true, edits: []edit{
			{"			c.keyless(d.ID())\n", ""},
		}},
		{name: "who-waits-for-a-part-is-not-woken", file: "watchfeed/split.go", unproved: true, edits: []edit{
			{"	if left.absent {\n", "	if left == nil {\n"},
		}},
		{name: "idle-is-told-what-is-current", file: "watchfeed/progress.go", seed: 4, edits: []edit{
			{"	rev := max(w.place.group.released, w.next-1)\n", "	rev := max(w.place.group.released, w.next-1, c.tells.rev)\n"},
		}},
		{name: "follows-one-revision-late", file: "watchfeed/remote.go", seed: 2, edits: []edit{
			{"After: r.at})", "After: r.at + 1})"},
		}},
		{name: "followed-is-closed-too-far", file: "watchfeed/remote.go", seed: 3, edits: []edit{
			{"		c.setBound(f, rev+1)\n", "		c.setBound(f, rev+2)\n"},
		}},
		{name: "arrives-as-closed-as-elsewhere", file: "watchfeed/absent.go", unproved: true, edits: []edit{
			{"	c.setBound(f, 1)\n", ""},
		}},
		{name: "leaves-with-what-is-held", file: "watchfeed/absent.go", seed: 3, edits: []edit{
			{"	c.lost(id, through)\n", ""},
		}},
		{name: "scan-goes-on-over-what-left", file: "watchfeed/absent.go", seed: 2158, edits: []edit{
			{"			s.void = true // it may have found rows gone\n", "			s.void = false\n"},
		}},
	}
}

// plantsOfChecks are of the comparison of replicas.
func plantsOfChecks() []plant {
	all := []plant{
		{name: "verdict-condemns-the-majority", file: "range/verdict.go", seed: 1, edits: []edit{
			{"		case decided && string(a.Sum) != best:\n", "		case decided && len(votes) > 1 && string(a.Sum) == best:\n"},
		}},
		{name: "check-of-different-indexes", file: "range/apply.go", seed: 3, edits: []edit{
			{"	case r.checking != nil:\n		r.rest = append(r.rest, entries...)\n		return nil\n", ""},
			{"		if r.checking != nil {\n			r.rest = append(r.rest, entries[i+1:]...)\n			entries = entries[:i+1]\n			break\n		}\n", ""},
		}},
		{name: "check-of-different-compactions", file: "range/check.go", unproved: true, edits: []edit{
			{" && s.compacted <= at.compacted {", " {"},
		}},
		{name: "system-range-waits-for-its-ceiling", file: "internal/node/core_seq.go", seed: 810017, edits: []edit{
			{"a.N == 0 && c.seq != nil", "a.N < 0 && c.seq != nil"},
		}},
		{name: "check-of-what-was-let-go", file: "range/statehash.go", seed: 110, edits: []edit{
			{"	old := rev <= x.compacted\n", "	old := rev < 0 && x.compacted > 0\n"},
		}},
	}
	for i := range all {
		all[i].nodes, all[i].checks = 3, true
	}
	return all
}
