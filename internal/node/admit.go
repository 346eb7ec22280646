package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/flotilladb/flotilla/internal/rpc"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// answerPeer answers the question of a process that has no lanes to this one.
func (n *Node) answerPeer(ctx context.Context, raw []byte) ([]byte, error) {
	var q peerQuestion
	if err := json.Unmarshal(raw, &q); err != nil {
		return nil, fmt.Errorf("a question that cannot be read: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r := n.admit(ctx, &q)
	switch {
	case r.Refused == "":
	case r.Final:
		n.cfg.Logger.Warn("a node is not let in", "name", q.Name, "urls", q.PeerURLs, "why", r.Refused)
	default: // it asks again at once, and says so itself if that goes on
		n.cfg.Logger.Debug("a node is not let in yet", "name", q.Name, "urls", q.PeerURLs, "why", r.Refused)
	}
	return json.Marshal(r)
}

// admit lets a node into the cluster.
func (n *Node) admit(ctx context.Context, q *peerQuestion) *peerAnswer {
	// A node that was removed, or has lost its folder, hears of it also from one that waits
	// for a majority: else it might be what makes one.
	if q.Kind == askWho && q.Self != 0 && q.Cluster == n.ident.ClusterId {
		switch {
		case n.book.removed(q.Self):
			return n.refuseRemoved()
		case n.book.otherFolder(q.Self, nonce(q.Nonce)):
			return n.refuseFolder()
		}
	}
	select {
	case <-n.announced:
	default:
		return &peerAnswer{Refused: "this node has not found its own place in the cluster yet"}
	}
	r := &peerAnswer{Cluster: n.ident.ClusterId, Members: n.book.all()}
	switch {
	case q.Cluster != 0 && q.Cluster != r.Cluster:
		r.Refused, r.Final = fmt.Sprintf("it is of cluster %x, this is cluster %x: correct --join, or start it with an empty data folder",
			q.Cluster, r.Cluster), true
		return r
	case q.Kind == askWho && q.Self == 0:
		return r
	}
	if old := n.refuseOld(ctx, q); old != nil {
		return old
	}
	switch {
	case q.Kind == askWho:
		return n.knowsMember(ctx, q, r)
	case q.Kind != askJoin:
		return &peerAnswer{Refused: fmt.Sprintf("a question of kind %q is not known to this version", q.Kind)}
	}
	op := &placement.JoinOp{Name: q.Name, Nonce: q.Nonce, PeerURLs: q.PeerURLs, ClientURLs: q.ClientURLs}
	got, err := n.client.System(ctx, op)
	if errors.Is(err, placement.ErrOneStore) {
		if err = n.endOneStore(ctx); err == nil {
			got, err = n.client.System(ctx, op)
		}
	}
	if err != nil {
		r.Refused, r.Final = refusalOf(q, err)
		return r
	}
	ids, ok := got.(*placement.JoinReply)
	if !ok {
		return &peerAnswer{Refused: fmt.Sprintf("unexpected reply %T", got)}
	}
	r.Node, r.Store = ids.Node, ids.Store
	n.cfg.Logger.Info("a node joins", "name", q.Name, "urls", q.PeerURLs, "node", ids.Node, "store", ids.Store)
	return r
}

// refusalOf says why a node is not let in, and whether it ever will be.
func refusalOf(q *peerQuestion, err error) (text string, final bool) {
	switch {
	case errors.Is(err, placement.ErrNameTaken):
		return err.Error() + "; give this node another --name, or remove that member first", true
	case errors.Is(err, placement.ErrURLTaken):
		return err.Error() + "; give this node another --initial-advertise-peer-urls, or remove that member first", true
	case errors.Is(err, placement.ErrRemoved):
		return err.Error() + "; start it with an empty data folder to join anew", true
	case errors.Is(err, placement.ErrBadOp):
		return fmt.Sprintf("it does not say who it is: name %q, URLs %v", q.Name, q.PeerURLs), true
	}
	return err.Error(), false
}

// endOneStore has the cluster count as one of several stores. That is for good, and needs a
// node that others reach.
func (n *Node) endOneStore(ctx context.Context) error {
	if n.peers.Load() == nil {
		return fmt.Errorf("%w, and its node does not listen for others: start it again with --listen-peer-urls, at a port that is free", placement.ErrOneStore)
	}
	if err := n.inLoop(ctx, n.core.EndOneStore); err != nil {
		return err
	}
	select {
	case <-n.several:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-n.failed:
		return n.err
	}
}

// knowsMember answers whether a node that has an id is a member still.
func (n *Node) knowsMember(ctx context.Context, q *peerQuestion, r *peerAnswer) *peerAnswer {
	is := func(m placement.Member) bool { return m.Node == q.Self }
	members := n.book.all()
	if !slices.ContainsFunc(members, is) { // this node may not have heard of it yet
		var err error
		if members, err = n.members(ctx); err != nil {
			return r
		}
	}
	if r.Member = slices.ContainsFunc(members, is); !r.Member {
		return n.refuseRemoved() // who has an id was a member
	}
	if otherFolderAmong(members, q.Self, nonce(q.Nonce)) {
		return n.refuseFolder()
	}
	return r
}

// refuseOld refuses a node that does not read what the cluster writes; nil: it does, or does
// not say.
func (n *Node) refuseOld(ctx context.Context, q *peerQuestion) *peerAnswer {
	if q.Reads == 0 {
		return nil
	}
	format := metapb.Format(0)
	if err := n.inLoop(ctx, func() { format = n.core.Format() }); err != nil {
		return &peerAnswer{Refused: err.Error()}
	}
	if q.Reads >= format {
		return nil
	}
	return &peerAnswer{
		Cluster: n.ident.ClusterId, Final: true, OldVersion: true,
		Refused: fmt.Sprintf("the cluster writes format %d, and this node reads up to %d: start it with a newer version", format, q.Reads),
	}
}

func (n *Node) refuseFolder() *peerAnswer {
	return &peerAnswer{Cluster: n.ident.ClusterId, Refused: placement.ErrOtherFolder.Error(), Final: true, OtherFolder: true}
}

func (n *Node) refuseRemoved() *peerAnswer {
	return &peerAnswer{Cluster: n.ident.ClusterId, Refused: placement.ErrRemoved.Error(), Final: true, Removed: true}
}

// checkCluster asks others about this node. Those at the join addresses, whether they are
// of its folder's cluster: a node with data does not join, but who gives --join means that
// cluster; who names members of one that exists may name some that went. All, whether it is
// a member still: it may have been removed while it was away, with the replicas that it has.
// A start votes only after the longest promise, and so not before somebody who knows could
// say so. And whether it is the one with this folder: one that was begun anew takes nothing
// of its replicas' leaders until all have answered, or as long as it does not vote.
func (n *Node) checkCluster(ctx context.Context) {
	p := n.peers.Load()
	if p == nil {
		return
	}
	at := make(map[string]bool) // true: whoever is there is to be of this cluster
	for _, id := range n.book.stores() {
		if uint64(id) == n.ident.StoreId {
			continue
		}
		for _, addr := range n.resolveAll(id) {
			at[addr] = false
		}
	}
	for _, addr := range n.cfg.Join {
		at[addr] = !n.cfg.Existing
	}
	heard := make(chan struct{}, len(at))
	for addr, join := range at { // each has a goroutine, since one that hangs must not keep others waiting
		if n.stop.Go("same cluster", func(ctx context.Context) { n.checkWith(ctx, p.t, addr, join, heard) }) != nil {
			return
		}
	}
	if !n.onTrial.Load() {
		return
	}
	timer := time.NewTimer(n.earlier)
	defer timer.Stop()
	for range at {
		select {
		case <-heard:
			continue
		case <-timer.C: // as with what is said of a node that was removed
		case <-ctx.Done():
		}
		break
	}
	n.onTrial.Store(false)
}

// checkWith asks one address until it has answered, or the cluster has taken this node
// back. heard gets a value when there was an answer that lets this node go on.
func (n *Node) checkWith(ctx context.Context, t *rpc.Transport, addr string, join bool, heard chan<- struct{}) {
	hear := sync.OnceFunc(func() { heard <- struct{}{} })
	for tries, pause := 0, checkPause; ; tries++ {
		r, err := ask(ctx, t, addr, &peerQuestion{
			Kind: askWho, Cluster: n.ident.ClusterId, Name: n.cfg.Name, Self: metapb.NodeID(n.ident.NodeId), Nonce: uint64(n.folder), Reads: n.cfg.reads,
		})
		switch {
		case err == nil && r.Removed && r.Cluster == n.ident.ClusterId:
			n.failSoon(removedError(nil))
			return
		case err == nil && r.OtherFolder && r.Cluster == n.ident.ClusterId:
			n.failSoon(otherFolderError())
			return
		case err == nil && r.OldVersion && r.Cluster == n.ident.ClusterId:
			n.failSoon(fmt.Errorf("%w: the node at %s says: %s", ErrOldVersion, addr, r.Refused))
			return
		case err == nil && r.Final && join:
			n.failSoon(fmt.Errorf("%w: the node at %s says: %s", ErrOtherCluster, addr, r.Refused))
			return
		case err == nil && (r.Member || r.Final || r.Refused == ""):
			hear()
			return
		case err == nil:
			hear()
		}
		select {
		case <-n.announced:
			if !join {
				return
			}
		default:
		}
		if sleep(ctx, pause) != nil {
			return
		}
		if tries >= checkTriesSoon {
			pause = min(2*pause, checkPauseMax)
		}
	}
}

// removedError says that the cluster has no place for this node.
func removedError(why error) error {
	if why == nil {
		why = placement.ErrRemoved
	}
	return fmt.Errorf("the cluster does not take this node back: %w; start it with an empty data folder to join anew", why)
}

// otherFolderError says that what this node had acknowledged is not in its folder.
func otherFolderError() error {
	return fmt.Errorf("the cluster does not take this node back: %w; give it back the one that it had, "+
		"or, if that is lost, remove the member and start the node with an empty data folder and --join", placement.ErrOtherFolder)
}

// checkPause is when who did not answer checkCluster is asked again. After
// checkTriesSoon it doubles up to checkPauseMax.
const (
	checkPause     = 50 * time.Millisecond
	checkTriesSoon = 100
	checkPauseMax  = 10 * time.Second
)
