package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writeCert makes a certificate for 127.0.0.1 that signs for itself.
func writeCert(t *testing.T, dir, name string) (cert, key string) {
	t.Helper()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &priv.PublicKey, priv)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "EC PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// shake lets two ends meet, and returns what each says to that.
func shake(t *testing.T, server, client *tls.Config) (serverErr, clientErr error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		a, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		s := tls.Server(a, server)
		if err = s.Handshake(); err == nil {
			_, err = s.Write([]byte("x"))
		}
		done <- errors.Join(err, a.Close())
	}()
	b, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	client = client.Clone()
	client.ServerName = "127.0.0.1"
	c := tls.Client(b, client)
	_, clientErr = c.Read(make([]byte, 1)) // a refusal comes with the first bytes
	closeErr := b.Close()
	return <-done, errors.Join(clientErr, closeErr)
}

func TestPeerTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key := writeCert(t, dir, "good")
	otherCert, otherKey := writeCert(t, dir, "other")
	node, err := (&PeerTLS{CertFile: cert, KeyFile: key, TrustedCAFile: cert, ClientCertAuth: true}).Load()
	if err != nil {
		t.Fatal(err)
	}
	if serverErr, clientErr := shake(t, node, node); serverErr != nil || clientErr != nil {
		t.Errorf("two nodes of a cluster: %v, %v", serverErr, clientErr)
	}
	stranger, err := (&PeerTLS{CertFile: otherCert, KeyFile: otherKey, TrustedCAFile: cert}).Load()
	if err != nil {
		t.Fatal(err)
	}
	if serverErr, _ := shake(t, node, stranger); serverErr == nil {
		t.Error("a node with a certificate that nobody trusts was let in")
	}
	if _, clientErr := shake(t, stranger, node); clientErr == nil {
		t.Error("a server with a certificate that nobody trusts was believed")
	}
}

func TestPeerTLSFiles(t *testing.T) {
	dir := t.TempDir()
	cert, key := writeCert(t, dir, "good")
	for _, tc := range []struct {
		p          PeerTLS
		flag, says string
	}{
		{PeerTLS{CertFile: filepath.Join(dir, "no"), KeyFile: key}, "peer-cert-file", "no such file"},
		{PeerTLS{CertFile: cert, KeyFile: key, TrustedCAFile: filepath.Join(dir, "no")}, "peer-trusted-ca-file", "no such file"},
		{PeerTLS{CertFile: cert, KeyFile: key, TrustedCAFile: key}, "peer-trusted-ca-file", "holds no certificate"},
	} {
		_, err := tc.p.Load()
		var bad *Error
		if !errors.As(err, &bad) || bad.Flag != tc.flag || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%v: %v", tc.p, err)
		}
	}
	if c, err := (&PeerTLS{}).Load(); c != nil || err != nil {
		t.Errorf("without files: %v, %v", c, err)
	}
	c, err := load(t, nil, "--peer-cert-file="+cert, "--peer-key-file="+key,
		"--listen-peer-urls=https://127.0.0.1:1", "--initial-advertise-peer-urls=https://127.0.0.1:1")
	if err != nil || !c.PeerTLS.Enabled() || c.Gossip() {
		t.Errorf("https between nodes: %v, %v", c, err)
	}
	secret := filepath.Join(dir, "gossip.key")
	if err := os.WriteFile(secret, []byte(base64.StdEncoding.EncodeToString(make([]byte, 32))+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err = load(t, nil, "--peer-cert-file="+cert, "--peer-key-file="+key, "--gossip-key-file="+secret)
	if err != nil || !c.Gossip() || len(c.GossipKey) != 32 {
		t.Errorf("with a key for gossip: %v, %v", c, err)
	}
	if c, err = load(t, nil); err != nil || !c.Gossip() {
		t.Errorf("without TLS: %v, %v", c, err)
	}
}

// What etcd's flags say of TLS holds between nodes: who asks for a newest version or for
// good ciphers is not given others.
func TestTLSVersionsAndCiphers(t *testing.T) {
	dir := t.TempDir()
	cert, key := writeCert(t, dir, "good")
	node := func(args ...string) *tls.Config {
		t.Helper()
		args = append(args, "--peer-cert-file="+cert, "--peer-key-file="+key, "--peer-trusted-ca-file="+cert)
		c, err := load(t, nil, args...)
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		tc, err := c.PeerTLS.Load()
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return tc
	}
	const suite, other = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
	newest, older, usual := node("--tls-min-version=TLS1.3"), node("--tls-max-version=TLS1.2"), node()
	one, two := node("--tls-max-version=TLS1.2", "--cipher-suites="+suite), node("--tls-max-version=TLS1.2", "--cipher-suites="+other)
	for _, tc := range []struct {
		what           string
		server, client *tls.Config
		talk           bool
	}{
		{"TLS 1.3 and any", newest, usual, true},
		{"TLS 1.3 and 1.2", newest, older, false},
		{"TLS 1.2 and 1.3", older, newest, false},
		{"any and 1.2", usual, older, true},
		{"a cipher and any", one, usual, true},
		{"two ciphers", one, two, false},
	} {
		serverErr, clientErr := shake(t, tc.server, tc.client)
		if talk := serverErr == nil && clientErr == nil; talk != tc.talk {
			t.Errorf("%s: %v, %v", tc.what, serverErr, clientErr)
		}
	}
}

// A file of authorities of which one cannot be read would let in some nodes and not others.
func TestDamagedAuthority(t *testing.T) {
	dir := t.TempDir()
	cert, key := writeCert(t, dir, "good")
	raw, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	both := filepath.Join(dir, "both.crt")
	raw = append(raw, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("not one")})...)
	if err := os.WriteFile(both, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = (&PeerTLS{CertFile: cert, KeyFile: key, TrustedCAFile: both}).Load()
	var bad *Error
	if !errors.As(err, &bad) || bad.Flag != "peer-trusted-ca-file" || !strings.Contains(err.Error(), both) {
		t.Errorf("a damaged certificate: %v", err)
	}
}
