package config

import (
	"fmt"
	"net/url"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// Load turns the parsed flags and the environment (as os.Environ gives it) into
// a valid Config, or says what is wrong with the first bad value.
func (f *Flags) Load(environ []string) (*Config, error) {
	warnings, err := f.fromEnvironment(environ)
	if err != nil {
		return nil, err
	}
	for _, r := range refusedFlags() {
		if v := f.fs.Lookup(r.name).Value.String(); v != r.byDefault {
			return nil, &Error{Flag: r.name, Why: r.why}
		}
	}
	c := f.cfg
	c.Warnings = warnings
	if err := f.parse(&c); err != nil {
		return nil, err
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &c, nil
}

// fromEnvironment sets every flag that the command line leaves alone. What it
// does not know it warns of, no more: on Kubernetes a service named etcd puts
// variables of its own into every pod.
func (f *Flags) fromEnvironment(environ []string) (warnings []string, err error) {
	values := make(map[string]string)
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "FLOTILLA_") || strings.HasPrefix(name, "ETCD_") {
			values[name] = value
		}
	}
	f.fs.VisitAll(func(flag *pflag.Flag) {
		suffix := strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
		for _, prefix := range []string{"ETCD_", "FLOTILLA_"} { // ours has the last word
			value, ok := values[prefix+suffix]
			delete(values, prefix+suffix)
			if !ok || value == "" || flag.Changed || err != nil {
				continue
			}
			if setErr := flag.Value.Set(value); setErr != nil {
				err = fmt.Errorf("%s%s: --%s: %w", prefix, suffix, flag.Name, setErr)
			}
		}
	})
	for name := range values {
		warnings = append(warnings, "environment variable "+name+" is no flag of the server")
	}
	sort.Strings(warnings)
	return warnings, err
}

// given reports whether somebody set a flag to something.
func (f *Flags) given(name string) bool {
	flag := f.fs.Lookup(name)
	return flag.Changed || flag.Value.String() != flag.DefValue
}

// parse fills what is more than a plain value.
func (f *Flags) parse(c *Config) (err error) {
	for _, u := range []struct {
		flag, text string
		to         *[]url.URL
	}{
		{"listen-client-urls", f.listenClient, &c.ListenClientURLs},
		{"advertise-client-urls", f.adClient, &c.AdvertiseClientURLs},
		{"listen-peer-urls", f.listenPeer, &c.ListenPeerURLs},
		{"initial-advertise-peer-urls", f.adPeer, &c.InitialAdvertisePeerURLs},
		{"listen-metrics-urls", f.listenMetrics, &c.ListenMetricsURLs},
	} {
		if *u.to, err = parseURLs(u.flag, u.text); err != nil {
			return err
		}
	}
	if f.given("listen-client-urls") && !f.given("advertise-client-urls") {
		return bad("advertise-client-urls", "is required when --listen-client-urls is set, for clients must be told where to go")
	}
	if c.DataDir == "" {
		c.DataDir = c.Name + ".flotilla"
	}
	if f.gossipKeyFile != "" {
		if c.GossipKey, err = readGossipKey(f.gossipKeyFile); err != nil {
			return err
		}
	}
	if err := f.parseTLS(&c.PeerTLS); err != nil {
		return err
	}
	for _, check := range []func() error{c.checkNames, c.PeerTLS.check, c.checkURLs} {
		if err := check(); err != nil {
			return err // a bad name or URL would show up as a bad cluster
		}
	}
	if c.InitialCluster == "" {
		members := make([]string, len(c.InitialAdvertisePeerURLs))
		for i := range members {
			members[i] = c.Name + "=" + c.InitialAdvertisePeerURLs[i].String()
		}
		c.InitialCluster = strings.Join(members, ",")
	}
	if c.Members, err = parseCluster(c.InitialCluster, c.InitialClusterState == "existing"); err != nil {
		return err
	}
	if err := f.checkSecured(c); err != nil {
		return err
	}
	c.Join = parseJoin(f.join)
	if f.logger != "zap" {
		return bad("logger", "%q: want zap, or leave the flag out", f.logger)
	}
	c.LogOutputs = splitList(f.logOutputs)
	c.HeartbeatInterval = time.Duration(f.heartbeatMs) * time.Millisecond
	c.ElectionTimeout = time.Duration(f.electionMs) * time.Millisecond
	c.MaxTxnOps = int(min(f.maxTxnOps, 1<<31-1))
	c.MaxRequestBytes = int(min(f.maxRequestSize, 1<<31-1))
	c.watchProgress()
	return f.parseCompaction(c)
}

// watchProgress takes any interval, as etcd does: none is the default, and one
// that is too short is raised.
func (c *Config) watchProgress() {
	switch d := c.WatchProgressNotifyInterval; {
	case d <= 0:
		c.WatchProgressNotifyInterval = watchProgressByDefault
	case d < watchProgressMin:
		c.WatchProgressNotifyInterval = watchProgressMin
		c.Warnings = append(c.Warnings, fmt.Sprintf("--watch-progress-notify-interval: %v is raised to %v", d, watchProgressMin))
	}
}

func splitList(text string) (items []string) {
	for _, s := range strings.Split(text, ",") {
		if s = strings.TrimSpace(s); s != "" {
			items = append(items, s)
		}
	}
	return items
}

func parseURLs(flag, text string) (urls []url.URL, err error) {
	for _, s := range splitList(text) {
		u, err := url.Parse(s)
		if err != nil {
			return nil, bad(flag, "%q is no URL: want http://host:port", s)
		}
		urls = append(urls, *u)
	}
	return urls, nil
}

// parseCompaction reads a retention as etcd does: a bare number is hours or
// revisions, anything else a duration.
func (f *Flags) parseCompaction(c *Config) error {
	const flag = "auto-compaction-retention"
	n, numErr := strconv.ParseInt(f.compactKeep, 10, 64)
	if numErr == nil && n < 0 {
		return bad(flag, "%d: want 0 (off) or more", n)
	}
	switch f.compactMode {
	case "revision":
		if numErr != nil {
			return bad(flag, "%q: with --auto-compaction-mode=revision, want a number of revisions", f.compactKeep)
		}
		if n > 0 {
			c.AutoCompaction, c.AutoCompactionRevisions = CompactionRevision, n
		}
	case "periodic":
		period := time.Duration(n) * time.Hour
		if numErr != nil {
			var err error
			if period, err = time.ParseDuration(f.compactKeep); err != nil || period < 0 {
				return bad(flag, "%q: want a time such as 5m, or a number of hours", f.compactKeep)
			}
		} else if n > int64(1<<63-1)/int64(time.Hour) {
			return bad(flag, "%d hours: want less", n)
		}
		if period > 0 {
			c.AutoCompaction, c.AutoCompactionPeriod = CompactionPeriodic, period
		}
	default:
		return bad("auto-compaction-mode", "%q: want periodic or revision", f.compactMode)
	}
	return nil
}
