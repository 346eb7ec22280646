package config

import (
	"cmp"
	"net"
	"net/url"
	"slices"
	"strings"
)

// Member is a node that --initial-cluster names. Its URLs are in the order of
// their text.
type Member struct {
	Name     string
	PeerURLs []string
}

// membersMax bounds the nodes that a cluster begins with: every range begins
// with a replica on each.
const membersMax = 9

// parseCluster reads --initial-cluster: name=url,... As in etcd a name may come
// again with another URL of the same node. Members are returned in the order of
// their names, so that it does not matter in which order an operator writes them.
//
// Of a cluster that exists only the addresses count: it has as many members as it likes,
// and those that are announced and did not come yet have no name. `etcdctl member add`
// prints all of them.
func parseCluster(text string, existing bool) ([]Member, error) {
	const flag = "initial-cluster"
	byName, byURL := make(map[string]*Member), make(map[string]string)
	for _, item := range splitList(text) {
		name, peer, ok := strings.Cut(item, "=")
		if !ok || name == "" && !existing || peer == "" {
			return nil, bad(flag, "%q: want name=http://host:port", item)
		}
		u, err := url.Parse(peer)
		if err != nil {
			return nil, bad(flag, "%q is no URL: want name=http://host:port", peer)
		}
		if err := checkURL(flag, u, peerURL); err != nil {
			return nil, err
		}
		peer = u.String()
		switch owner, known := byURL[peer]; {
		case known && owner == name:
			return nil, bad(flag, "has %s=%s twice; remove one", name, peer)
		case known:
			return nil, bad(flag, "gives %s to both %q and %q; each node needs URLs of its own", peer, owner, name)
		}
		byURL[peer] = name
		if byName[name] == nil {
			byName[name] = &Member{Name: name}
		}
		byName[name].PeerURLs = append(byName[name].PeerURLs, peer)
	}
	if len(byName) > membersMax && !existing {
		return nil, bad(flag, "has %d nodes; begin with at most %d and start the others with --join", len(byName), membersMax)
	}
	members := make([]Member, 0, len(byName))
	for _, m := range byName {
		slices.Sort(m.PeerURLs)
		members = append(members, *m)
	}
	slices.SortFunc(members, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
	return members, nil
}

// checkCluster wants this node in the initial cluster, at the URLs that it
// advertises.
func (c *Config) checkCluster() error {
	if s := c.InitialClusterState; s != "new" && s != "existing" {
		return bad("initial-cluster-state", "%q: want new or existing", s)
	}
	if len(c.Join) > 0 {
		return c.checkJoin()
	}
	i := slices.IndexFunc(c.Members, func(m Member) bool { return m.Name == c.Name })
	if i < 0 {
		return bad("initial-cluster", "names %s and not this node, %q; add %s=%s to it on every node, or set --name to one of its names",
			quoted(c.Members), c.Name, c.Name, texts(c.InitialAdvertisePeerURLs)[0])
	}
	listed, advertised := c.Members[i].PeerURLs, texts(c.InitialAdvertisePeerURLs)
	slices.Sort(advertised)
	if advertised = slices.Compact(advertised); slices.Equal(listed, advertised) {
		return nil
	}
	for _, u := range listed {
		if !slices.Contains(advertised, u) {
			return bad("initial-cluster", "has %s=%s, which is not in --initial-advertise-peer-urls (%s); make the two the same. "+
				"If two nodes are called %q, give each a name of its own", c.Name, u, strings.Join(advertised, ","), c.Name)
		}
	}
	for _, u := range advertised {
		if !slices.Contains(listed, u) {
			return bad("initial-cluster", "lacks %s=%s, which is in --initial-advertise-peer-urls; add it on every node", c.Name, u)
		}
	}
	return nil
}

// checkJoin wants addresses, and no other word on what the cluster is.
func (c *Config) checkJoin() error {
	if len(c.Members) > 1 {
		return bad("join", "cannot go with an --initial-cluster of several nodes: a node either begins a cluster with them, or joins one that runs")
	}
	for _, addr := range c.Join {
		host, port, err := net.SplitHostPort(addr)
		if err != nil || host == "" || port == "" {
			return bad("join", "%q: want host:port, the peer address of a node that runs (2380 by default)", addr)
		}
		for i := range c.InitialAdvertisePeerURLs {
			if c.InitialAdvertisePeerURLs[i].Host == addr {
				return bad("join", "%s is this node's own address, by --initial-advertise-peer-urls; name another node's", addr)
			}
		}
		if !loopback(host) && !slices.ContainsFunc(c.InitialAdvertisePeerURLs, func(u url.URL) bool { return !loopback(u.Hostname()) }) {
			return bad("initial-advertise-peer-urls", "%s is of this machine alone, and --join names another one, %s: the nodes there would look for this node "+
				"on theirs. Give an address at which they reach it, and --listen-peer-urls one there", c.InitialAdvertisePeerURLs[0].String(), addr)
		}
	}
	return nil
}

// loopback reports whether a host is of its own machine alone, as far as its name says. A
// name that has to be looked up is not.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// checkSecured refuses https in what names other nodes, where this one has no TLS: they
// would be spoken to in plain text, against what was asked for.
func (f *Flags) checkSecured(c *Config) error {
	if c.PeerTLS.Enabled() {
		return nil
	}
	for _, m := range c.Members {
		for _, peer := range m.PeerURLs {
			if strings.HasPrefix(peer, "https:") {
				return bad("initial-cluster", "%q: for https, set --peer-cert-file and --peer-key-file", peer)
			}
		}
	}
	for _, item := range splitList(f.join) {
		if u, err := url.Parse(item); err == nil && u.Scheme == "https" {
			return bad("join", "%q: for https, set --peer-cert-file and --peer-key-file", item)
		}
	}
	return nil
}

// parseJoin reads --join. A URL is taken as well, for its host and port.
func parseJoin(text string) (addrs []string) {
	for _, item := range splitList(text) {
		if u, err := url.Parse(item); err == nil && u.Host != "" {
			item = u.Host
		}
		addrs = append(addrs, item)
	}
	return addrs
}

// JoinAddrs are the peer addresses at which a node without data asks to be let
// into a cluster that runs: those of --join, or in etcd's way, with
// --initial-cluster-state=existing, those of the other members. Without any, and
// unless Existing, the node begins a cluster.
func (c *Config) JoinAddrs() []string {
	if !c.Existing() {
		return c.Join
	}
	var addrs []string
	for _, m := range c.Members {
		for _, peer := range m.PeerURLs {
			if u, err := url.Parse(peer); err == nil && m.Name != c.Name {
				addrs = append(addrs, u.Host)
			}
		}
	}
	return addrs
}

// Existing reports whether the node says, in etcd's way, that its cluster is there.
func (c *Config) Existing() bool { return len(c.Join) == 0 && c.InitialClusterState == "existing" }

func quoted(members []Member) string {
	names := make([]string, len(members))
	for i := range members {
		names[i] = `"` + members[i].Name + `"`
	}
	return strings.Join(names, ", ")
}

func texts(urls []url.URL) []string {
	out := make([]string, len(urls))
	for i := range urls {
		out[i] = urls[i].String()
	}
	return out
}
