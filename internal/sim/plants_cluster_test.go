package sim

import "slices"

// plantsOfClusters need several nodes. What two checks guard, each of which is
// enough, cannot be missed here by leaving out one: that a grant is of no older
// epoch, the store's path sees as well as the range.
func plantsOfClusters() []plant {
	all := plantsOfPromises()
	for i := range all {
		all[i].readers = true
	}
	all = slices.Concat(all, plantsOfLinks(), plantsOfReads(), plantsOfGroups())
	for i := range all {
		all[i].nodes = 3
	}
	return slices.Concat(all, plantsOfMoves(), plantsOfChecks(), plantsOfPlanning(), plantsOfStopping())
}

func plantsOfPromises() []plant {
	return []plant{
		{name: "vote-while-a-promise-runs", file: "raftgroup/vote.go", seed: 24, edits: []edit{
			{"		may = false\n", ""},
		}},
		{name: "lease-from-the-answer-on", file: "raftgroup/liveness_step.go", seed: 3, edits: []edit{
			{"until := m.Echo.Add(l.worth(m.Promise))", "until := l.now.Add(2 * l.worth(m.Promise))"},
		}},
		{name: "bound-under-an-old-epoch", file: "raftgroup/leaderlease.go", seed: 3, edits: []edit{
			{"stamps == nil || stamps[i] == s.peers[i].stamp", "stamps == nil || stamps[i] != 0"},
		}},
		{name: "nobody-is-asked-whom-he-follows", file: "raftgroup/leaderlease.go", seed: 3, edits: []edit{
			{"			return x.set.compute(x.stamps)\n", "			return x.set.compute(nil)\n"},
		}},
		{name: "transfer-keeps-its-lease", file: "raftgroup/leaderlease.go", seed: 4, edits: []edit{
			{"func (l *Liveness) GiveUp(x *Leadership) { x.given = true }", "func (l *Liveness) GiveUp(x *Leadership) {}"},
		}},
		{name: "promise-is-forgotten-by-a-start", file: "raftgroup/liveness.go", seed: 3, edits: []edit{
			{"		l.votesFrom = now.Add(l.cfg.EarlierPromise)\n", "		l.votesFrom = now\n"},
		}},
		{name: "closed-without-lease", file: "range/closed.go", unproved: true, edits: []edit{
			{"		case !r.holdsLease():\n", "		case r.leading == 0:\n"},
		}},
		{name: "renewed-without-lease", file: "range/lease.go", seed: 9, edits: []edit{
			{"	if !r.holdsLease() { // after all was read\n", "	if r.leading == 0 {\n"},
		}},
		{name: "late-vote-unbinds", file: "raftgroup/vote.go", readers: true, seed: 5428, edits: []edit{
			{"			if led < term {\n", "			if led <= term {\n"},
		}},
		{name: "answer-under-the-epoch-of-a-vote", file: "raftgroup/vote.go", unproved: true, edits: []edit{
			{"		p.follows = nil // not said yet, and not true under the new epoch\n", ""},
		}},
		{name: "vote-keeps-the-epoch", file: "raftgroup/vote.go", seed: 1, edits: []edit{
			{"		p.epoch++ // its promise has run out; Tick will say so, or has\n", ""},
		}},
		{name: "lease-of-one-promise", file: "raftgroup/leaderlease.go", seed: 3, edits: []edit{
			{"ends[len(ends)-(len(ends)/2+1)]", "ends[len(ends)-1]"},
		}},
		{name: "renewals-outlive-the-lease", file: "range/peers.go", seed: 318, edits: []edit{
			{"	r.expirer.Renewals().SetLease(r.lead.Until())\n", "	r.expirer.Renewals().SetLease(r.lead.Until().Add(4 * r.store.peers.live.ElectionTimeout()))\n"},
		}},
	}
}

// plantsOfGroups are of groups of replicas, and of what is done with several ranges.
func plantsOfGroups() []plant {
	return []plant{
		{name: "answers-before-sync", file: "raftgroup/ready.go", seed: 3, edits: []edit{
			{"	g.token++\n	g.appends = append(g.appends, pendingAppend{token: g.token, last: last, responses: m.Responses})\n",
				"	g.token++\n	var own []*Message\n	for _, x := range m.Responses {\n		if x.GetTo() == uint64(g.cfg.ReplicaID) {\n			own = append(own, x)\n		} else {\n			g.messages = append(g.messages, x)\n		}\n	}\n	g.appends = append(g.appends, pendingAppend{token: g.token, last: last, responses: own})\n"},
		}},
		{name: "leader-evaluates-before-its-first-entry", file: "range/leader.go", seed: 3, edits: []edit{
			{"		s.peers.elected++\n", "		s.peers.elected++\n		r.begin(r.group.Term())\n"},
		}},
		{name: "new-leader-forgets-intents", file: "range/intent.go", seed: 3, edits: []edit{
			{"		r.locks.load(ti.rows, pushAt, now)\n", "		if r.store.coordinatorGone(ti.id) {\n			r.locks.load(ti.rows, pushAt, now)\n		}\n"},
		}},
		{name: "touches-leave-no-turn", file: "router/txn_reply.go", unproved: true, edits: []edit{
			{"		o.sendPrepare(r, o, o.prepared, o.from)\n	case", "		o.prepare(r)\n	case"},
		}},
		{name: "unknown-record-is-another-attempt", file: "router/txn_reply.go", unproved: true, edits: []edit{
			{"	case judge(err) == verdictUnknown:\n		o.phase = txnLearn\n		o.sendAnchor(r)\n", "	case judge(err) == verdictUnknown:\n		o.startOver(r, peerpb.ErrTxnAborted)\n"},
		}},
		{name: "rest-before-all-know", file: "raftgroup/quiesce.go", seed: 1, edits: []edit{
			{"!p.Probing && g.knownBy(p.ReplicaID) >= g.lastIndex:", "!p.Probing:"},
		}},
		{name: "rest-with-a-live-one-behind", file: "raftgroup/quiesce.go", seed: 1, edits: []edit{
			{"		case live(p.ReplicaID):\n			ok = false\n", ""},
		}},
		{name: "born-as-closed-as-was-told", file: "internal/node/core_close.go", unproved: true, edits: []edit{
			{"cl.closed, cl.want = from.closed, max", "cl.closed, cl.want = from.told, max"},
		}},
		{name: "takes-after-its-last-word", file: "internal/node/core_link.go", unproved: true, edits: []edit{
			{"	l.acked(f, now)\n	if l.ends {\n		return h\n	}\n", "	l.acked(f, now)\n"},
		}},
		{name: "lost-question-is-not-asked-again", file: "internal/node/core_close.go", seed: 3, edits: []edit{
			{"			cl.asked = 0\n			c.wantLater(id, cl)\n		}\n", "			c.wantLater(id, cl)\n		}\n"},
		}},
		{name: "rest-without-who-is-behind", file: "range/leader.go", unproved: true, edits: []edit{
			{"				r.store.peers.lags(r.storeOf(id), r.desc.ID())\n", "				_ = id\n"},
		}},
	}
}

func plantsOfLinks() []plant {
	return []plant{
		{name: "sequencer-without-lease", file: "internal/node/core_seq.go", readers: true, seed: 3, edits: []edit{
			{"	if c.seq == nil || !c.store.HoldsLease(metapb.SystemRange) {\n", "	if c.seq == nil {\n"},
			{"	} else if !c.store.HoldsLease(metapb.SystemRange) {\n", "	} else if c.seq == nil {\n"},
		}},
		{name: "sequencer-goes-on-below-the-ceiling", file: "internal/node/core_seq.go", edits: []edit{
			{"	last := max(1, c.system.Ceiling())\n", "	last := max(1, c.store.Visible())\n"},
		}},
		{name: "ceiling-of-an-older-term", file: "range/evaluate.go", readers: true, unproved: true, edits: []edit{
			{"op.OfTerm() != r.leading {", "op.OfTerm() == 0 {"},
		}},
		{name: "grant-at-or-below-closed", file: "range/evaluate.go", unproved: true, edits: []edit{
			{" || b.changes > 0 && g.First <= r.called {", " {"},
		}},
		{name: "frame-is-taken-twice", file: "internal/node/core_link.go", edits: []edit{
			{"	case f.Number == l.heard+1:\n", "	case f.Number == l.heard+1 || f.Number == l.heard:\n		l.heard = f.Number - 1\n"},
		}},
		{name: "what-was-sent-is-said-not-to-be", file: "internal/node/core_link.go", seed: 75, edits: []edit{
			{"	for _, req := range l.next.Requests {\n		l.unsent = append(l.unsent, req.ID)\n	}\n", "	l.unsent = append(l.unsent, l.untaken()...)\n"},
		}},
		{name: "early-frame-of-another-session", file: "internal/node/core_link.go", seed: 27, edits: []edit{
			{"l.heardSession, l.heard, l.early = session, 0, nil }", "l.heardSession, l.heard = session, 0 }"},
		}},
		{name: "frame-for-a-start-that-is-over", file: "internal/node/core_link.go", readers: true, unproved: true, edits: []edit{
			{" || (f.ToStart != 0 && f.ToStart != l.selfStart) {", " {"},
		}},
		{name: "start-that-is-over-is-followed", file: "internal/node/core_peers.go", readers: true, unproved: true, edits: []edit{
			{"	if !c.store.Hear(f.From, f.FromStart) {\n", "	if c.store == nil {\n"},
		}},
		{name: "given-up-session-is-not-told", file: "internal/node/core_link.go", seed: 86, edits: []edit{
			{"	f := &frame.Frame{Session: l.session, Formats: l.formats}\n", "	f := &frame.Frame{Formats: l.formats}\n"},
		}},
		{name: "lost-request-is-sent-again", file: "internal/node/core_peers.go", seed: 22, edits: []edit{
			{"c.router.Reply(peerpb.Reply{ID: id, Err: peerpb.ErrUnknown}, c.now)", "c.router.Reply(peerpb.Reply{ID: id, Err: peerpb.ErrRefused}, c.now)"},
		}},
		{name: "unknown-outcome-is-tried-again", file: "router/retry.go", edits: []edit{
			{"		{peerpb.ErrUnknown, verdictUnknown},\n", "		{peerpb.ErrUnknown, verdictLater},\n"},
		}},
	}
}

func plantsOfReads() []plant {
	return []plant{
		{name: "closed-ahead-of-batches", file: "range/closed.go", edits: []edit{
			{"		case c.batch > r.advanced && r.hasBatch(c.batch), !r.locksLetClose(&c):\n", "		case !r.locksLetClose(&c):\n"},
		}},
		{name: "closed-without-the-index", file: "internal/node/core_close.go", edits: []edit{
			{"r == nil || r.Applied() < cl.index {", "r == nil {"},
		}},
		{name: "read-of-what-is-not-closed", file: "internal/node/core_read.go", unproved: true, edits: []edit{
			{"c.notClosed(span, rd.rev))", "c.notClosed(span, rd.rev-1))"},
		}},
		{name: "read-joins-a-question-under-way", file: "internal/node/core_read.go", edits: []edit{
			{"		c.fresh = append(c.fresh, rd)\n", "		if c.askingS {\n			c.askedReads = append(c.askedReads, rd)\n			break\n		}\n		c.fresh = append(c.fresh, rd)\n"},
		}},
		{name: "hub-takes-current-for-reached", file: "internal/node/core.go", unproved: true, edits: []edit{
			{"			c.reached = max(c.reached, metapb.Revision(u.Revision))\n", "			_ = u\n"},
		}},
		{name: "keys-given-up-are-no-gap", file: "watchfeed/absent.go", unproved: true, edits: []edit{
			{"			c.leave(f.id, through)\n			c.keyless(f.id)\n", ""},
		}},
		{name: "removal-ahead-of-closed", file: "internal/node/core_gc.go", edits: []edit{
			{"	if metapb.Revision(pr.bound.Load()) <= g.to {\n", "	if pr.bound.Load() < 0 {\n"},
		}},
	}
}
