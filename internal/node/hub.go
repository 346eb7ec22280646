package node

import (
	"fmt"

	"github.com/flotilladb/flotilla/watchfeed"
)

// newHub starts the hub of the watches. The loop feeds it from its first step
// on.
func (n *Node) newHub() (*watchfeed.Hub, error) {
	hub, err := watchfeed.NewHub(watchfeed.HubConfig{
		Core:    watchfeed.CoreConfig{Reader: n.eng, ProgressInterval: n.cfg.WatchProgressInterval},
		Current: n.pub.Current,
		Removal: n.pub.Removal,
	})
	if err != nil {
		return nil, err
	}
	if err := n.cfg.Registerer.Register(hub.Collector()); err != nil {
		hub.Stop()
		return nil, fmt.Errorf("register the metrics of watches: %w", err)
	}
	return hub, nil
}

// Watches is where streams of watches are opened.
func (n *Node) Watches() *watchfeed.Hub { return n.hub }

// feed tells the hub what a step made readable, after readers were told and
// before any result is given out: a watch that begins after a write was
// acknowledged begins above it.
func (n *Node) feed(rd *Ready) { n.hub.Feed(n.pub.Step(rd)) }
