package placement

// Asker is a store's end of its path to the sequencer: first in, first out, one
// frame of asks under way at a time. It does not know where the sequencer is;
// when that moves, or what was sent may be lost, the same asks are sent again.
//
// It is a core; not safe for concurrent use.
type Asker struct {
	waiting []Ask // not sent, in the order in which they came
	// sent is the frame under way, or the last one. Their Seqs are one after the other.
	sent []askSent
	// Of sent, open are not answered, and none is before first.
	open, first int
	seq         uint64 // of the last one sent
	// epoch is the newest seen. Invariant: grows.
	epoch uint64
}

// askSent is an ask that was sent.
type askSent struct {
	Ask
	answered bool
}

// Add takes an ask in.
func (a *Asker) Add(ask Ask) { a.waiting = append(a.waiting, ask) }

// Epoch is the sequencer's newest that was seen.
func (a *Asker) Epoch() uint64 { return a.epoch }

// Saw says that a sequencer of an epoch exists.
func (a *Asker) Saw(epoch uint64) { a.epoch = max(a.epoch, epoch) }

// Idle reports whether nothing is under way and nothing waits.
func (a *Asker) Idle() bool { return a.open+len(a.waiting) == 0 }

// HasNext reports whether Next has something.
func (a *Asker) HasNext() bool { return a.open == 0 && len(a.waiting) > 0 }

// Next returns the next frame of asks, if none is under way.
func (a *Asker) Next() []Ask {
	if !a.HasNext() {
		return nil
	}
	a.sent, a.first, a.open = a.sent[:0], 0, len(a.waiting)
	for _, ask := range a.waiting {
		a.seq++
		ask.Seq = a.seq
		a.sent = append(a.sent, askSent{Ask: ask})
	}
	a.waiting = a.waiting[:0]
	return a.Again()
}

// Again returns what is under way, to be sent once more.
func (a *Asker) Again() []Ask {
	if a.open == 0 {
		return nil
	}
	asks := make([]Ask, 0, a.open)
	for i := range a.sent[a.first:] {
		if s := &a.sent[a.first+i]; !s.answered {
			s.Epoch = a.epoch
			asks = append(asks, s.Ask)
		}
	}
	return asks
}

// AnsweredUpTo is the highest Seq up to which nothing is under way.
func (a *Asker) AnsweredUpTo() uint64 {
	if a.open > 0 {
		return a.sent[a.first].Seq - 1
	}
	return a.seq
}

// Answered takes an answer, and reports whether it counts: it is to an ask that is
// under way, and of no older epoch than was seen. Had a newer sequencer given out
// what is above an older one's grant, the grant would bring the versions of a key
// out of order.
func (a *Asker) Answered(ans *Answer) bool {
	if ans.Err != nil || ans.Epoch < a.epoch || a.open == 0 {
		return false
	}
	begin := a.sent[0].Seq
	if ans.Seq < begin || ans.Seq > a.seq {
		return false
	}
	s := &a.sent[ans.Seq-begin]
	if s.answered || s.Name != ans.Name || s.N != ans.N {
		return false
	}
	s.answered = true
	a.open--
	for a.first < len(a.sent) && a.sent[a.first].answered {
		a.first++
	}
	a.epoch = ans.Epoch
	return true
}
