package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/flotilladb/flotilla/placement"
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
	if r.Refused != "" {
		n.cfg.Logger.Warn("a node is not let in", "name", q.Name, "urls", q.PeerURLs, "why", r.Refused)
	}
	return json.Marshal(r)
}

// admit lets a node into the cluster.
func (n *Node) admit(ctx context.Context, q *peerQuestion) *peerAnswer {
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
	case q.Kind == askWho:
		return r
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

// endOneStore has the cluster count as one of several stores.
func (n *Node) endOneStore(ctx context.Context) error {
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

// checkCluster asks the join addresses whether they are of the same cluster as this
// node's folder: a node with data does not join, but who gives --join means that
// cluster.
func (n *Node) checkCluster(ctx context.Context) {
	p := n.peers.Load()
	if p == nil {
		return
	}
	unheard := slices.Clone(n.cfg.Join)
	for pause := checkPause; len(unheard) > 0; pause = min(2*pause, checkPauseMax) {
		unheard = slices.DeleteFunc(unheard, func(addr string) bool {
			r, err := ask(ctx, p.t, addr, &peerQuestion{Kind: askWho, Cluster: n.ident.ClusterId, Name: n.cfg.Name})
			if err == nil && r.Final {
				n.failSoon(fmt.Errorf("%w: the node at %s says: %s", ErrOtherCluster, addr, r.Refused))
			}
			return err == nil
		})
		if len(unheard) > 0 && sleep(ctx, pause) != nil {
			return
		}
	}
}

// checkPause is when who did not answer checkCluster is asked again. It doubles up to
// checkPauseMax.
const (
	checkPause    = 100 * time.Millisecond
	checkPauseMax = 10 * time.Second
)
