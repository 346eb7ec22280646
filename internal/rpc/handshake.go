package rpc

import "fmt"

// self is what a process says of itself.
type self struct {
	Identity
	instance uint64
}

// hello is the greeting of s; the caller adds what is about the connection.
func (s self) hello() hello {
	return hello{Version: protocolVersion, VersionMin: protocolVersionMin, Identity: s.Identity, Instance: s.instance}
}

// admit says whether a sender that greets with h may have a connection to s; addr is
// where it came from. Whether its store id is free is for remotes to say.
func (s self) admit(h *hello, addr string) *RefusedError {
	switch {
	case !s.known():
		return refuse(refusedNotReady, "the node at the other end has not joined a cluster yet: it is tried again")
	case h.VersionMin > protocolVersion:
		return refuse(refusedVersion, "store %d (%s) speaks protocol %d and newer, store %d only up to %d: upgrade the node of store %d first",
			h.Store, addr, h.VersionMin, s.Store, protocolVersion, s.Store)
	case h.Version < protocolVersionMin:
		return refuse(refusedVersion, "store %d (%s) speaks protocol %d, store %d needs at least %d: upgrade the node of store %d",
			h.Store, addr, h.Version, s.Store, protocolVersionMin, h.Store)
	case h.ClusterID != s.ClusterID:
		return refuse(refusedCluster, "store %d (%s) is of cluster %x, store %d of cluster %x: correct the peer addresses of that node, or start it with an empty data folder",
			h.Store, addr, h.ClusterID, s.Store, s.ClusterID)
	case h.Store == 0 || !h.Lanes.known():
		return refuse(refusedOther, "a greeting from %s names store %d and lanes %b: is it a node of this cluster?", addr, h.Store, h.Lanes)
	case h.Store == s.Store && h.Instance == s.instance:
		return refuse(refusedStore, "this node, store %d, is itself at the address where store %d is said to be (%s): its address book is old, it is asked again",
			s.Store, h.To, addr)
	case h.Store == s.Store:
		return refuse(refusedOwn, "the node at %s says that it is store %d, which is this one: if its data folder is a copy, stop it and start it with an empty one",
			addr, h.Store)
	case h.To != s.Store:
		return refuse(refusedStore, "store %d (%s) looked for store %d and found store %d: its address book is old, it is asked again",
			h.Store, addr, h.To, s.Store)
	}
	return nil
}

// accept says whether the welcome w at addr is of the store that s meant.
func (s self) accept(w *hello, to hello, addr string) *RefusedError {
	switch {
	case w.ClusterID != s.ClusterID:
		return refuse(refusedCluster, "the node at %s is of cluster %x, this one of cluster %x: correct the peer addresses of this node",
			addr, w.ClusterID, s.ClusterID)
	case w.Store != to.To:
		return refuse(refusedStore, "the node at %s is store %d, not store %d: its address is looked up again", addr, w.Store, to.To)
	case w.Version < protocolVersionMin || w.VersionMin > protocolVersion:
		return refuse(refusedVersion, "store %d at %s speaks protocol %d to %d, this node %d to %d: upgrade the older one",
			w.Store, addr, w.VersionMin, w.Version, protocolVersionMin, protocolVersion)
	}
	return nil
}

func refuse(kind refusal, format string, args ...any) *RefusedError {
	return &RefusedError{kind: kind, Text: fmt.Sprintf(format, args...)}
}
