package config

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

// three is the command line of one of three nodes, as etcd's documentation has it.
func three(name, port string) []string {
	return []string{
		"--name=" + name, "--listen-peer-urls=http://127.0.0.1:" + port, "--initial-advertise-peer-urls=http://127.0.0.1:" + port,
		"--initial-cluster=m2=http://127.0.0.1:2380,m0=http://127.0.0.1:2180,m1=http://127.0.0.1:2280", "--initial-cluster-state=new",
	}
}

// All nodes of a cluster see the same members in the same order.
func TestMembers(t *testing.T) {
	want := []Member{{"m0", []string{"http://127.0.0.1:2180"}}, {"m1", []string{"http://127.0.0.1:2280"}}, {"m2", []string{"http://127.0.0.1:2380"}}}
	for name, port := range map[string]string{"m0": "2180", "m1": "2280", "m2": "2380"} {
		c, err := load(t, nil, three(name, port)...)
		if err != nil || !reflect.DeepEqual(c.Members, want) || len(c.JoinAddrs()) != 0 {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
	c, err := load(t, nil, "--initial-advertise-peer-urls=http://a:2,http://a:1")
	if err != nil || !reflect.DeepEqual(c.Members, []Member{{"default", []string{"http://a:1", "http://a:2"}}}) {
		t.Errorf("one node with two URLs: %v, %v", c, err)
	}
	c, err = load(t, nil, append(three("m1", "2280"), "--initial-cluster-state=existing")...)
	if err != nil || !reflect.DeepEqual(c.JoinAddrs(), []string{"127.0.0.1:2180", "127.0.0.1:2380"}) {
		t.Errorf("existing: %v, %v", c.JoinAddrs(), err)
	}
	const reached = "--initial-advertise-peer-urls=http://here:1"
	c, err = load(t, []string{"FLOTILLA_JOIN=a:1"}, "--initial-cluster-state=existing", reached)
	if err != nil || !reflect.DeepEqual(c.JoinAddrs(), []string{"a:1"}) {
		t.Errorf("join: %v, %v", c.JoinAddrs(), err)
	}
	c, err = load(t, nil, "--join=a:1, http://b:2 ,https://c:3", reached, "--peer-cert-file=x", "--peer-key-file=y")
	if err != nil || !reflect.DeepEqual(c.JoinAddrs(), []string{"a:1", "b:2", "c:3"}) {
		t.Errorf("join: %v, %v", c.JoinAddrs(), err)
	}
	for _, own := range []string{"localhost:1", "127.0.0.2:1", "[::1]:1"} {
		if c, err = load(t, nil, "--join="+own); err != nil || !reflect.DeepEqual(c.JoinAddrs(), []string{own}) {
			t.Errorf("join a node of this machine: %v, %v", c, err)
		}
	}
}

// With a second member that was announced and did not come yet etcdctl prints one without a
// name; and a cluster that exists may have more members than one begins with.
func TestExistingAsPrinted(t *testing.T) {
	printed, want := "=http://127.0.0.1:2180,=http://127.0.0.1:2181,m1=http://127.0.0.1:2280", []string{"127.0.0.1:2180", "127.0.0.1:2181"}
	for n := 'a'; n <= 'j'; n++ {
		printed += "," + string(n) + "=http://" + string(n) + ":1"
		want = append(want, string(n)+":1")
	}
	c, err := load(t, []string{"ETCD_INITIAL_CLUSTER=" + printed, "ETCD_INITIAL_CLUSTER_STATE=existing"}, three("m1", "2280")[:3]...)
	if err != nil || !reflect.DeepEqual(c.JoinAddrs(), want) {
		t.Errorf("%v, %v", c, err)
	}
}

func TestBadClustersAreNamed(t *testing.T) {
	ten := ""
	for _, n := range strings.Split("b,c,d,e,f,g,h,i,j", ",") {
		ten += "," + n + "=http://" + n + ":1"
	}
	const own = "default=http://localhost:2380"
	for _, tc := range []struct{ args, flag, says string }{
		{"--initial-cluster=b=http://b:1,c=http://c:1", "initial-cluster", `names "b", "c" and not this node, "default"; add default=http://localhost:2380`},
		{"--initial-cluster=" + own + "," + own, "initial-cluster", "has default=http://localhost:2380 twice"},
		{"--initial-cluster=" + own + ",b=http://localhost:2380", "initial-cluster", `to both "default" and "b"`},
		{"--initial-cluster=" + own + ",default=http://localhost:1", "initial-cluster", "give each a name of its own"},
		{"--initial-cluster=" + own + ",=http://localhost:1", "initial-cluster", "want name=http://host:port"},
		{"--initial-cluster=" + own + ",b=", "initial-cluster", "want name=http://host:port"},
		{"--initial-cluster=" + own + ",b=http://b", "initial-cluster", "has no port"},
		{"--initial-cluster=" + own + ten, "initial-cluster", "has 10 nodes; begin with at most 9"},
		{"--join=a:1 --initial-cluster=" + own + ",b=http://b:1", "join", "either begins a cluster"},
		{"--join=a", "join", "want host:port"},
		{"--join=:2380", "join", "want host:port"},
		{"--join=localhost:2380", "join", "own address"},
		{"--join=localhost:1,10.0.0.1:2380", "initial-advertise-peer-urls", "http://localhost:2380 is of this machine alone"},
		{"--join=a:1 --initial-advertise-peer-urls=http://127.0.0.1:1,http://[::1]:1", "initial-advertise-peer-urls", "Give an address"},
		{"--join=a:1,https://b:1", "join", "set --peer-cert-file"},
		{"--initial-cluster=" + own + ",b=https://b:1", "initial-cluster", "set --peer-cert-file"},
		{"--tls-min-version=TLS1.1", "tls-min-version", "want TLS1.2 or TLS1.3"},
		{"--tls-max-version=1.3", "tls-max-version", "want TLS1.2 or TLS1.3"},
		{"--tls-min-version=TLS1.3 --tls-max-version=TLS1.2", "tls-max-version", "is below --tls-min-version"},
		{"--cipher-suites=TLS_NONE", "cipher-suites", "is not known"},
		{"--tls-min-version=TLS1.3 --cipher-suites=TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "cipher-suites", "cannot be chosen"},
		{"--initial-advertise-peer-urls=https://a:1", "initial-advertise-peer-urls", "set --peer-cert-file"},
		{"--peer-cert-file=x", "peer-key-file", "is required"},
		{"--peer-key-file=x", "peer-cert-file", "is required"},
		{"--peer-trusted-ca-file=x", "peer-trusted-ca-file", "needs --peer-cert-file"},
		{"--peer-client-cert-auth", "peer-client-cert-auth", "needs --peer-trusted-ca-file"},
		{"--peer-cert-file=x --peer-key-file=y --peer-client-cert-auth", "peer-client-cert-auth", "needs --peer-trusted-ca-file"},
	} {
		_, err := load(t, nil, strings.Fields(tc.args)...)
		var bad *Error
		if !errors.As(err, &bad) || bad.Flag != tc.flag || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v, want --%s: ...%s...", tc.args, err, tc.flag, tc.says)
		}
	}
}
