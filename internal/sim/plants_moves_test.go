package sim

// plantsOfMoves need replicas that come and go.
func plantsOfMoves() []plant {
	all := append(plantsOfChanges(), plantsOfSnapshots()...)
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
		{name: "joint-counts-the-new-alone", file: "range/change.go", unproved: true, edits: []edit{
			{"			if joint {\n", "			if joint && id == 0 {\n"},
			{"			c.VotersOutgoing = append(c.VotersOutgoing, id)\n		}\n	}\n	return c\n", "			_ = joint\n		}\n	}\n	return c\n"},
			{"	invariant.Must(conf.Equal(confOf(c.Descriptor_)), ", "	invariant.Must(conf.Equal(conf), "},
		}},
		{name: "change-keeps-the-generation", file: "range/change.go", unproved: true, edits: []edit{
			{"	next.Generation++\n", ""},
		}},
		{name: "removed-replica-is-not-told", file: "range/change.go", unproved: true, edits: []edit{
			{"			s.out.Gone = append(s.out.Gone, Gone{\n", "			_ = append(s.out.Gone, Gone{\n"},
		}},
		{name: "joint-is-never-left", file: "range/change.go", unproved: true, edits: []edit{
			{"	r.leaveJoint()\n}\n", "}\n"},
		}},
	}
}

func plantsOfSnapshots() []plant {
	return []plant{
		{name: "snapshot-asked-about-is-whole", file: "internal/node/core_snap.go", unproved: true, edits: []edit{
			{"	last.Number, last.Header, last.Rows = last.Number+1, nil, nil\n", "	last.Rows = nil\n"},
		}},
		{name: "repair-is-kept-back", file: "raftgroup/held.go", edits: []edit{
			{" && !g.repairs && ", " && "},
		}},
		{name: "last-change-is-kept-back", file: "raftgroup/held.go", edits: []edit{
			{" && g.confIndex <= g.applied && ", " && "},
		}},
		{name: "removal-is-not-noted", file: "internal/node/core_gc.go", unproved: true, edits: []edit{
			{"		ranges.WriteRemoving(b, g.to)\n", ""},
		}},
		{name: "compacted-is-the-system-range-s-alone", file: "internal/node/core.go", unproved: true, edits: []edit{
			{"metapb.Revision { return c.store.Compacted() }", "metapb.Revision { return c.system.Compacted() }"},
		}},
		{name: "snapshot-is-no-gap-to-watches", file: "internal/node/core_snap.go", edits: []edit{
			{"	c.lost = append(c.lost, id)\n", ""},
		}},
		{name: "snapshot-over-what-is-newer", file: "range/snapshot_receive.go", unproved: true, edits: []edit{
			{"		case s.inTheWay(in):\n", "		case s.inTheWay(in) && in.id == 0:\n"},
		}},
		{name: "snapshot-leaves-what-was-there", file: "range/ingest.go", unproved: true, edits: []edit{
			{"	if err := write(\"local\", g.Local, g.Rows); err != nil {\n", "	g.Local.End = g.Local.Start\n	if err := write(\"local\", g.Local, g.Rows); err != nil {\n"},
		}},
		{name: "snapshot-loses-a-row", file: "range/snapshot.go", unproved: true, edits: []edit{
			{"		c.Rows = appendBytes(appendBytes(c.Rows, x.it.Key()), value)\n", "		if x.table < 3 || len(value)%7 != 3 {\n			c.Rows = appendBytes(appendBytes(c.Rows, x.it.Key()), value)\n		}\n"},
		}},
		{name: "keys-that-are-elsewhere-count-as-closed", file: "watchfeed/split.go", unproved: true, edits: []edit{
			{"			c.keyless(d.ID())\n", ""},
		}},
		{name: "who-waits-for-a-part-is-not-woken", file: "watchfeed/split.go", unproved: true, edits: []edit{
			{"	if left.absent {\n", "	if left == nil {\n"},
		}},
		{name: "read-elsewhere-keeps-its-S", file: "router/read.go", edits: []edit{
			{"		if req.Revision <= 0 && errors.Is(err, mvcc.ErrCompacted) {\n", "		if req.Revision < 0 && errors.Is(err, mvcc.ErrCompacted) {\n"},
		}},
	}
}
