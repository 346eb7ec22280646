package config

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func load(t *testing.T, environ []string, args ...string) (*Config, error) {
	t.Helper()
	fs := pflag.NewFlagSet("server", pflag.ContinueOnError)
	f := AddFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatalf("parse %v: %v", args, err)
	}
	return f.Load(environ)
}

func TestDefaultsAreEtcds(t *testing.T) {
	c, err := load(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case c.Name != "default" || c.DataDir != "default.flotilla":
		t.Errorf("name %q, directory %q", c.Name, c.DataDir)
	case c.ListenClientURLs[0].String() != "http://localhost:2379":
		t.Errorf("listens at %v", c.ListenClientURLs)
	case c.InitialCluster != "default=http://localhost:2380":
		t.Errorf("initial cluster %q", c.InitialCluster)
	case c.MaxTxnOps != 128 || c.MaxRequestBytes != 1572864 || c.QuotaBackendBytes != 0:
		t.Errorf("limits %d %d %d", c.MaxTxnOps, c.MaxRequestBytes, c.QuotaBackendBytes)
	case c.HeartbeatInterval != 100*time.Millisecond || c.ElectionTimeout != time.Second || c.RequestTimeout() != 7*time.Second:
		t.Errorf("times %v %v %v", c.HeartbeatInterval, c.ElectionTimeout, c.RequestTimeout())
	case c.AutoCompaction != CompactionOff || c.LogLevel != "info" || c.LogFormat != "json":
		t.Errorf("compaction %v, log %s %s", c.AutoCompaction, c.LogLevel, c.LogFormat)
	}
}

// etcd's own test harness and a kubeadm manifest start a node with these.
func TestEtcdsCommandLines(t *testing.T) {
	for _, line := range []string{
		"--name m0 --listen-client-urls http://localhost:20000 --advertise-client-urls http://localhost:20000 " +
			"--listen-peer-urls http://localhost:20001 --initial-advertise-peer-urls http://localhost:20001 " +
			"--initial-cluster-token new --data-dir /tmp/x --snapshot-count 10000 " +
			"--initial-cluster m0=http://localhost:20001 --initial-cluster-state new --max-learners 1 " +
			"--quota-backend-bytes 65536 --strict-reconfig-check=false --pre-vote --auth-token simple",
		"--listen-metrics-urls=http://127.0.0.1:2381 --watch-progress-notify-interval=5s --snapshot-count=10000 --client-cert-auth=false",
		"--unsafe-no-fsync=false --v2-deprecation=gone --metrics=extensive --logger=zap --log-outputs=stderr,/tmp/log",
		"--listen-client-urls unix:///tmp/s --advertise-client-urls unix:///tmp/s",
	} {
		if _, err := load(t, nil, strings.Fields(line)...); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestBadValuesAreNamed(t *testing.T) {
	for _, tc := range []struct{ args, flag, says string }{
		{"--cert-file=x", "cert-file", "TLS is not supported"},
		{"--peer-auto-tls", "peer-auto-tls", "between nodes there are --peer-cert-file"},
		{"--unsafe-no-fsync", "unsafe-no-fsync", "is synced"},
		{"--auth-token=jwt,pub-key=x", "auth-token", "simple"},
		{"--config-file=x", "config-file", "FLOTILLA_"},
		{"--name=a,b", "name", "must not contain"},
		{"--listen-client-urls=http://localhost:1", "advertise-client-urls", "is required"},
		{"--listen-client-urls=https://localhost:1 --advertise-client-urls=http://localhost:1", "listen-client-urls", "use http"},
		{"--listen-client-urls=http://example.com:1 --advertise-client-urls=http://localhost:1", "listen-client-urls", "IP address"},
		{"--listen-client-urls=localhost:1 --advertise-client-urls=http://localhost:1", "listen-client-urls", "want http://host:port"},
		{"--advertise-client-urls=http://localhost", "advertise-client-urls", "no port"},
		{"--advertise-client-urls=http://localhost:1/x", "advertise-client-urls", "nothing but"},
		{"--advertise-client-urls=http://:2379", "advertise-client-urls", "names no host"},
		{"--initial-advertise-peer-urls=http://:2380", "initial-advertise-peer-urls", "names no host"},
		{"--initial-cluster=default=http://localhost:2380,b=http://:2380", "initial-cluster", "names no host"},
		{"--initial-advertise-peer-urls=http://a", "initial-advertise-peer-urls", "no port"},
		{"--listen-peer-urls=unix:///tmp/s", "listen-peer-urls", "nodes do not talk over unix sockets"},
		{"--initial-advertise-peer-urls=unix://localhost:2380", "initial-advertise-peer-urls", "nodes do not talk over unix sockets"},
		{"--initial-cluster=default=http://localhost:1", "initial-cluster", "not in --initial-advertise-peer-urls"},
		{"--initial-cluster=default", "initial-cluster", "want name="},
		{"--initial-advertise-peer-urls=http://a:1,http://a:2 --initial-cluster=default=http://a:1", "initial-cluster", "lacks default=http://a:2"},
		{"--initial-cluster-state=old", "initial-cluster-state", "new or existing"},
		{"--quota-backend-bytes=-1", "quota-backend-bytes", "0 (no limit)"},
		{"--gossip-key-file=/no", "gossip-key-file", "no such file"},
		{"--gossip-key-file=/dev/null", "gossip-key-file", "want 16, 24 or 32 bytes"},
		{"--listen-gossip-addr=host:1", "listen-gossip-addr", "want an IP address"},
		{"--listen-gossip-addr=127.0.0.1", "listen-gossip-addr", "want an IP address"},
		{"--max-txn-ops=0", "max-txn-ops", "more than 0"},
		{"--max-request-bytes=0", "max-request-bytes", "want 1 to"},
		{"--max-request-bytes=12582913", "max-request-bytes", "want 1 to 12582912"},
		{"--heartbeat-interval=0", "heartbeat-interval", "more than 0"},
		{"--heartbeat-interval=500", "election-timeout", "at least 5 times"},
		{"--election-timeout=60000", "election-timeout", "at most 50s"},
		{"--auto-compaction-mode=never", "auto-compaction-mode", "periodic or revision"},
		{"--auto-compaction-retention=soon", "auto-compaction-retention", "such as 5m"},
		{"--auto-compaction-retention=-5", "auto-compaction-retention", "or more"},
		{"--auto-compaction-retention=-5m", "auto-compaction-retention", "such as 5m"},
		{"--auto-compaction-retention=9223372036854775807", "auto-compaction-retention", "want less"},
		{"--auto-compaction-mode=revision --auto-compaction-retention=5m", "auto-compaction-retention", "number of revisions"},
		{"--log-level=loud", "log-level", "debug, info"},
		{"--log-format=xml", "log-format", "json or console"},
		{"--log-outputs=,", "log-outputs", "stderr"},
		{"--logger=capnslog", "logger", "zap"},
		{"--cache-bytes=1", "cache-bytes", "at least"},
		{"--gc-percent=0", "gc-percent", "more than 0"},
		{"--memory-limit-bytes=-1", "memory-limit-bytes", "or more"},
		{"--grpc-keepalive-timeout=-1s", "grpc-keepalive-timeout", "or more"},
	} {
		_, err := load(t, nil, strings.Fields(tc.args)...)
		var bad *Error
		if !errors.As(err, &bad) || bad.Flag != tc.flag || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v, want --%s: ...%s...", tc.args, err, tc.flag, tc.says)
		}
	}
}

func TestCompaction(t *testing.T) {
	for _, tc := range []struct {
		args   string
		mode   Compaction
		period time.Duration
		keep   int64
	}{
		{"--auto-compaction-retention=0", CompactionOff, 0, 0},
		{"--auto-compaction-retention=0s", CompactionOff, 0, 0},
		{"--auto-compaction-retention=2", CompactionPeriodic, 2 * time.Hour, 0},
		{"--auto-compaction-retention=90s", CompactionPeriodic, 90 * time.Second, 0},
		{"--auto-compaction-mode=revision --auto-compaction-retention=1000", CompactionRevision, 0, 1000},
		{"--auto-compaction-mode=revision", CompactionOff, 0, 0},
	} {
		c, err := load(t, nil, strings.Fields(tc.args)...)
		if err != nil {
			t.Errorf("%s: %v", tc.args, err)
		} else if c.AutoCompaction != tc.mode || c.AutoCompactionPeriod != tc.period || c.AutoCompactionRevisions != tc.keep {
			t.Errorf("%s: %v %v %v", tc.args, c.AutoCompaction, c.AutoCompactionPeriod, c.AutoCompactionRevisions)
		}
	}
}

func TestWatchProgressInterval(t *testing.T) {
	for args, want := range map[string]time.Duration{
		"": 10 * time.Minute, "0": 10 * time.Minute, "-1s": 10 * time.Minute, "1ms": 100 * time.Millisecond, "5s": 5 * time.Second,
	} {
		var line []string
		if args != "" {
			line = []string{"--watch-progress-notify-interval=" + args}
		}
		c, err := load(t, nil, line...)
		if err != nil || c.WatchProgressNotifyInterval != want || (len(c.Warnings) == 1) != (args == "1ms") {
			t.Errorf("%q: %v, %v", args, c, err)
		}
	}
}

// The command line, then our variables, then etcd's.
func TestEnvironment(t *testing.T) {
	environ := []string{
		"ETCD_NAME=etcds", "FLOTILLA_NAME=ours", "ETCD_MAX_TXN_OPS=9", "ETCD_DATA_DIR=",
		"FLOTILLA_ENABLE_PPROF=true", "ETCD_SERVICE_HOST=10.0.0.1", "PATH=/bin",
	}
	c, err := load(t, environ, "--initial-cluster-token=t")
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "ours" || c.MaxTxnOps != 9 || c.DataDir != "ours.flotilla" || !c.EnablePprof {
		t.Fatalf("%q %d %q %v", c.Name, c.MaxTxnOps, c.DataDir, c.EnablePprof)
	}
	if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "ETCD_SERVICE_HOST") {
		t.Fatalf("warnings: %v", c.Warnings)
	}
	if c, err = load(t, environ, "--name=said"); err != nil || c.Name != "said" {
		t.Fatalf("the command line does not count: %v %v", c, err)
	}
	if _, err = load(t, []string{"ETCD_MAX_TXN_OPS=many"}); err == nil || !strings.Contains(err.Error(), "ETCD_MAX_TXN_OPS: --max-txn-ops") {
		t.Fatalf("a bad variable: %v", err)
	}
	if _, err = load(t, []string{"ETCD_CERT_FILE=x"}); err == nil || !strings.Contains(err.Error(), "--cert-file") {
		t.Fatalf("a refused variable: %v", err)
	}
}
