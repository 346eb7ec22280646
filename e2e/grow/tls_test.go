package grow

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/flotilladb/flotilla/e2e/proc"
)

// authority signs for nodes, whose flags point into its folder.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.cert, a.key = a.sign(t, 1)
	a.renew(t, 2)
	return a
}

// sign makes a certificate for 127.0.0.1; the first is the authority's own.
func (a *authority) sign(t *testing.T, serial int64) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0), BasicConstraintsValid: true,
	}
	parent, signer, file := a.cert, a.key, "node.crt"
	if parent == nil {
		template.IsCA, template.KeyUsage = true, x509.KeyUsageCertSign
		parent, signer, file = template, key, "ca.crt"
	} else {
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a.write(t, file, "CERTIFICATE", der)
	return cert, key
}

// renew writes another certificate for all nodes in place of the one before.
func (a *authority) renew(t *testing.T, serial int64) {
	t.Helper()
	_, key := a.sign(t, serial)
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	a.write(t, "node.key", "EC PRIVATE KEY", der)
}

func (a *authority) write(t *testing.T, name, what string, der []byte) {
	t.Helper()
	if err := os.WriteFile(a.file(name), pem.EncodeToMemory(&pem.Block{Type: what, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// flags are those of a node of this authority.
func (a *authority) flags() []string {
	return []string{
		"--peer-cert-file", a.file("node.crt"), "--peer-key-file", a.file("node.key"),
		"--peer-trusted-ca-file", a.file("ca.crt"), "--peer-client-cert-auth",
	}
}

// shows returns the number of the certificate that a node shows to others.
func (a *authority) shows(t *testing.T, n *proc.Node) int64 {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	cert, err := tls.LoadX509KeyPair(a.file("node.crt"), a.file("node.key"))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", n.PeerAddr(), &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

// says waits for a node to say something.
func says(t *testing.T, n *proc.Node, what string) {
	t.Helper()
	until(t, "it says: "+what, func() (bool, string) { return strings.Contains(n.Tail(), what), n.Tail() })
}

// Nodes talk over TLS. Their certificates are replaced while they run; who has none, or
// another authority's, is told why it is not let in, and comes in when that is mended.
func TestTLS(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	c := proc.StartCluster(t, proc.ClusterConfig{Bin: *flotilla, Args: ours.flags()})
	l := newLoad(t, "tls", 2, c.Nodes...)
	l.goesOn(20)

	c.Kill(2)
	ours.renew(t, 3)
	if err := c.Restart(2); err != nil {
		t.Fatal(err)
	}
	for i, n := range c.Nodes {
		if serial := ours.shows(t, n); serial != 3 {
			t.Errorf("node %d shows certificate %d", i, serial)
		}
	}
	c.Kill(1) // so nothing is acknowledged without the node that came back
	l.goesOn(20)
	if err := c.Restart(1); err != nil {
		t.Fatal(err)
	}

	other := newNode(t, "m3", c.Nodes[0].PeerAddr())
	for _, bad := range []struct {
		flags []string
		why   string
	}{
		{nil, "speaks plain text to one with TLS"},
		{theirs.flags(), "certificate signed by unknown authority"},
	} {
		n := other.With(bad.flags...)
		if err := n.Launch(); err != nil {
			t.Fatal(err)
		}
		says(t, n, bad.why)
		n.Kill()
	}
	good := other.With(ours.flags()...)
	defer good.Kill()
	joined(t, good)
	l.end()
	l.check(good)
}
