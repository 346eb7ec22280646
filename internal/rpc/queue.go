package rpc

// frameOverheadBytes is what a queued frame counts beside its bytes, so that a
// bound in bytes also bounds tiny frames.
const frameOverheadBytes = 64

// lengthBytesMax is what the length before a small frame takes at most.
const lengthBytesMax = 5

// largeTurnsMax is how many large frames of a lane that is not ordered share it.
const largeTurnsMax = 8

// sendQueue is what waits on a lane to a store, and the order in which it leaves.
// Its owner guards it.
//
// Small frames leave in the order in which they came, as many as a batch has room
// for. A large frame leaves a chunk at a time. On an ordered lane it is the only
// one until its last chunk; else up to largeTurnsMax large ones take turns with
// each other and with the batches.
//
// A frame is charged to the credit as a whole when it begins to leave, and begins
// only with credit above zero. So what has begun is sure to end: were chunks
// charged one by one, several large frames could each wait for the credit that
// the others' pieces hold.
type sendQueue struct {
	ordered  bool
	bytesMax int64 // of what waits
	chunkMax int   // a frame above is large
	batchMax int   // bytes of a batch

	fifo  ring // frames in order; on a lane that is not ordered, small ones
	large ring // on a lane that is not ordered: large ones that have no turn yet
	turns []turn
	next  int // index in turns. Invariant: < len(turns), or both 0.

	bytes     int64 // of all that waits, with overhead. Invariant: <= bytesMax.
	credit    int64 // may be sent; below zero by less than one frame
	ids       uint64
	batchTurn bool // a batch comes before the next chunk
}

// turn is a large frame that has begun to leave.
type turn struct {
	head chunkHead
	rest []byte
}

// piece is what take hands out: a batch, or one chunk.
type piece struct {
	frames [][]byte // a batch, if not empty
	head   chunkHead
	chunk  []byte
	last   bool // the chunk ends its frame
}

// push adds a frame, or reports that there is no room.
func (q *sendQueue) push(frame []byte) bool {
	cost := int64(len(frame)) + frameOverheadBytes
	if q.bytes+cost > q.bytesMax {
		return false
	}
	q.bytes += cost
	if !q.ordered && len(frame) > q.chunkMax {
		q.large.push(frame)
	} else {
		q.fifo.push(frame)
	}
	return true
}

// take fills p with what leaves next, and reports whether there is anything that
// may. It reuses p.frames.
func (q *sendQueue) take(p *piece) bool {
	p.frames, p.chunk = p.frames[:0], nil
	if q.smallReady() && q.batchTurn {
		q.takeBatch(p)
		return true
	}
	q.beginLarge()
	if len(q.turns) > 0 {
		q.takeChunk(p)
		return true
	}
	if q.smallReady() {
		q.takeBatch(p)
		return true
	}
	return false
}

// beginLarge gives large frames a turn while there is credit.
func (q *sendQueue) beginLarge() {
	from, most := &q.large, largeTurnsMax
	if q.ordered {
		from, most = &q.fifo, 1
	}
	for len(q.turns) < most && q.credit > 0 && from.len() > 0 && len(from.first()) > q.chunkMax {
		f := from.pop()
		q.credit -= int64(len(f))
		q.ids++
		q.turns = append(q.turns, turn{chunkHead{ID: q.ids, Total: uint64(len(f))}, f})
	}
}

func (q *sendQueue) smallReady() bool {
	if q.credit <= 0 || q.fifo.len() == 0 || len(q.fifo.first()) > q.chunkMax {
		return false
	}
	return !q.ordered || len(q.turns) == 0
}

func (q *sendQueue) takeBatch(p *piece) {
	q.batchTurn = false
	bytes := 0
	for q.smallReady() {
		n := len(q.fifo.first())
		if bytes += n + lengthBytesMax; len(p.frames) > 0 && bytes > q.batchMax {
			return
		}
		p.frames = append(p.frames, q.fifo.pop())
		q.credit -= int64(n)
		q.bytes -= int64(n) + frameOverheadBytes
	}
}

func (q *sendQueue) takeChunk(p *piece) {
	q.batchTurn = true
	t := &q.turns[q.next]
	n := min(len(t.rest), q.chunkMax)
	p.head, p.chunk = t.head, t.rest[:n:n]
	t.rest = t.rest[n:]
	q.bytes -= int64(n)
	p.last = len(t.rest) == 0
	if p.last {
		q.bytes -= frameOverheadBytes
		last := len(q.turns) - 1
		copy(q.turns[q.next:], q.turns[q.next+1:])
		q.turns[last] = turn{}
		q.turns = q.turns[:last]
	} else {
		q.next++
	}
	if q.next >= len(q.turns) {
		q.next = 0
	}
}

// begin starts a connection with some credit.
func (q *sendQueue) begin(credit int64) {
	q.credit, q.ids, q.batchTurn = credit, 0, true
}

// drop forgets all that waits and tells how many frames that is.
func (q *sendQueue) drop() (frames int) {
	frames = q.fifo.len() + q.large.len() + len(q.turns)
	*q = sendQueue{ordered: q.ordered, bytesMax: q.bytesMax, chunkMax: q.chunkMax, batchMax: q.batchMax}
	return frames
}

// ring is a queue of frames that keeps its memory, but lets go of what left.
type ring struct {
	buf  [][]byte // len is a power of two, or 0
	head int
	n    int
}

func (r *ring) len() int      { return r.n }
func (r *ring) first() []byte { return r.buf[r.head] }

func (r *ring) push(f []byte) {
	if r.n == len(r.buf) {
		r.grow()
	}
	r.buf[(r.head+r.n)&(len(r.buf)-1)] = f
	r.n++
}

func (r *ring) grow() {
	bigger := make([][]byte, max(16, 2*len(r.buf)))
	for i := range r.n {
		bigger[i] = r.buf[(r.head+i)&(len(r.buf)-1)]
	}
	r.buf, r.head = bigger, 0
}

func (r *ring) pop() []byte {
	f := r.buf[r.head]
	r.buf[r.head] = nil
	r.head = (r.head + 1) & (len(r.buf) - 1)
	r.n--
	return f
}
