package placement

// Asker is a store's end of its path to the sequencer: first in, first out, one
// frame of asks under way at a time. It does not know where the sequencer is;
// when that moves, or what was sent may be lost, the same asks are sent again.
//
// It is a core; not safe for concurrent use.
type Asker struct {
	waiting []Ask // not sent, in the order in which they came
	// sent are under way, in order of Seq; answered ones are taken out.
	sent []Ask
	seq  uint64 // of the last one sent
	// epoch is the newest seen. Invariant: grows.
	epoch uint64
}

// Add takes an ask in.
func (a *Asker) Add(ask Ask) { a.waiting = append(a.waiting, ask) }

// Epoch is the sequencer's newest that was seen.
func (a *Asker) Epoch() uint64 { return a.epoch }

// Saw says that a sequencer of an epoch exists.
func (a *Asker) Saw(epoch uint64) { a.epoch = max(a.epoch, epoch) }

// Idle reports whether nothing is under way and nothing waits.
func (a *Asker) Idle() bool { return len(a.sent)+len(a.waiting) == 0 }

// HasNext reports whether Next has something.
func (a *Asker) HasNext() bool { return len(a.sent) == 0 && len(a.waiting) > 0 }

// Next returns the next frame of asks, if none is under way.
func (a *Asker) Next() []Ask {
	if !a.HasNext() {
		return nil
	}
	a.sent, a.waiting = a.waiting, a.sent[:0]
	for i := range a.sent {
		a.seq++
		a.sent[i].Seq = a.seq
	}
	return a.Again()
}

// Again returns what is under way, to be sent once more.
func (a *Asker) Again() []Ask {
	if len(a.sent) == 0 {
		return nil
	}
	asks := make([]Ask, len(a.sent))
	for i := range a.sent {
		a.sent[i].Epoch = a.epoch
		asks[i] = a.sent[i]
	}
	return asks
}

// AnsweredUpTo is the highest Seq up to which nothing is under way.
func (a *Asker) AnsweredUpTo() uint64 {
	if len(a.sent) > 0 {
		return a.sent[0].Seq - 1
	}
	return a.seq
}

// Answered takes an answer, and reports whether it counts: it is to an ask that is
// under way, and of no older epoch than was seen. Had a newer sequencer given out
// what is above an older one's grant, the grant would bring the versions of a key
// out of order.
func (a *Asker) Answered(ans *Answer) bool {
	if ans.Err != nil || ans.Epoch < a.epoch {
		return false
	}
	for i := range a.sent {
		if a.sent[i].Seq != ans.Seq {
			continue
		}
		if a.sent[i].Name != ans.Name || a.sent[i].N != ans.N {
			return false
		}
		a.sent = append(a.sent[:i], a.sent[i+1:]...)
		a.epoch = ans.Epoch
		return true
	}
	return false
}

// TakeBack returns everything that is under way or waits, in order, and forgets
// it: the sequencer is on this very store now.
func (a *Asker) TakeBack() []Ask {
	all := append(a.sent, a.waiting...)
	a.sent, a.waiting = nil, nil
	for i := range all {
		all[i].Seq = 0
	}
	return all
}
