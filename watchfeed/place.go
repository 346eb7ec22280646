package watchfeed

import "cmp"

// watcher is one watch of one stream. There may be millions: it has no more
// fields than it needs.
type watcher struct {
	id int64
	// next is the lowest revision that is still wanted. While the watcher is
	// synced it is not kept up: what its group has released was given as well.
	next   Revision
	stream *stream
	place  *place
	slot   uint32 // in place.more.many
	behind uint32 // in place.more.catching, while catching
	flags  watcherFlags
}

type watcherFlags uint16

const (
	wantsPrev watcherFlags = 1 << iota
	wantsProgress
	noPut
	noDelete
	fragment
	// catching: it gets nothing from its group.
	catching
	// ahead: its start is above what was current when it came.
	ahead
	// sent: something was sent since the last look at its progress.
	sent
	// waiting: in its stream's blocked.
	waiting
	// gone: canceled.
	gone
	// followed: it is what another store follows here.
	followed
	// telling: in Core.tells.
	telling

	filters = noPut | noDelete
)

func (w *watcher) has(f watcherFlags) bool { return w.flags&f != 0 }

func flagsOf(req *CreateRequest) watcherFlags {
	return when(req.PrevKV, wantsPrev) | when(req.Progress, wantsProgress) | when(req.NoPut, noPut) |
		when(req.NoDelete, noDelete) | when(req.Fragment, fragment)
}

func when(on bool, f watcherFlags) watcherFlags {
	if on {
		return f
	}
	return 0
}

// place is a key or a span that is watched, with all its watchers. Most are keys
// with one watcher; what others need is elsewhere.
type place struct {
	key   string
	tree  *treeNode // of a span [key, tree.end); nil: it is key alone
	more  *crowd    // nil: one is all there is to it
	group *group
	one   *watcher // if it is the only one
}

// treeNode is what a span needs besides.
type treeNode struct {
	end         string // empty: no end
	left, right *place
	max         *place // with the highest end in the tree below
	prio        uint32
}

// crowd is what a place needs that has, or had, several watchers, or some that
// catch up.
type crowd struct {
	many     []*watcher // in no order that means anything; then place.one is nil
	catching []*watcher
	poked    bool   // in Core.poked
	queued   bool   // in one of Core.queues
	in       source // of the queue
	scan     *scan
	// windows were read from the engine, one after the other, and some watcher
	// still wants them.
	windows []*window
	stride  Revision // how many revisions the next scan looks at
	touch   uint32
}

// touch is the place's number + 1 in the release under way, 0 outside of one.
// A watcher that is the only one has no other use for its slot.
func (p *place) touch() *uint32 {
	if p.one != nil {
		return &p.one.slot
	}
	return &p.more.touch
}

// extra returns more, made if need be.
func (p *place) extra() *crowd {
	if p.more == nil {
		p.more = &crowd{}
	}
	return p.more
}

// maybeLess forgets more, if nothing is in it.
func (p *place) maybeLess() {
	if x := p.more; x != nil && len(x.many)+len(x.catching)+len(x.windows) == 0 && !x.poked && !x.queued && x.scan == nil {
		p.more = nil
	}
}

// bounds returns the place as the user keys [start, end), an empty end being the
// end of the keyspace.
func (p *place) bounds() (start, end []byte) {
	if p.tree != nil {
		return []byte(p.key), []byte(p.tree.end)
	}
	return []byte(p.key), append([]byte(p.key), 0)
}

func (p *place) contains(key []byte) bool {
	if p.tree == nil {
		return p.key == string(key)
	}
	return p.key <= string(key) && (p.tree.end == "" || string(key) < p.tree.end)
}

// compare puts places in order of what they watch, a key before the spans that begin there.
func (p *place) compare(o *place) int {
	switch n := cmp.Compare(p.key, o.key); {
	case n != 0 || p.tree == o.tree:
		return n
	case p.tree == nil:
		return -1
	case o.tree == nil:
		return 1
	default:
		return cmp.Compare(p.tree.end, o.tree.end)
	}
}

// isQueued reports whether the place waits for a scan.
func (p *place) isQueued() bool { return p.more != nil && p.more.queued }

func (p *place) empty() bool { return p.one == nil && (p.more == nil || len(p.more.many) == 0) }

// watchers calls fn for each watcher. fn does not add or remove any.
func (p *place) watchers(fn func(*watcher)) {
	if p.one != nil {
		fn(p.one)
	} else if p.more != nil {
		for _, w := range p.more.many {
			fn(w)
		}
	}
}

func (p *place) add(w *watcher) {
	w.place = p
	if p.empty() {
		p.one = w
		return
	}
	x := p.extra()
	if p.one != nil {
		p.one.slot = 0
		x.many = append(x.many, p.one)
		p.one = nil
	}
	w.slot = uint32(len(x.many))
	x.many = append(x.many, w)
}

func (p *place) remove(w *watcher) {
	if p.one == w {
		p.one = nil
		return
	}
	x := p.more
	last := len(x.many) - 1
	x.many[w.slot] = x.many[last]
	x.many[w.slot].slot = w.slot
	x.many[last] = nil
	x.many = x.many[:last]
}

// caught takes a watcher out of those that catch up.
func (p *place) caught(w *watcher) {
	x := p.more
	last := len(x.catching) - 1
	x.catching[w.behind] = x.catching[last]
	x.catching[w.behind].behind = w.behind
	x.catching[last] = nil
	x.catching = x.catching[:last]
}
