package config

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
)

// PeerTLS is how nodes prove to each other who they are: each shows one
// certificate, to those that it calls and to those that call it. It is on if a
// certificate is set.
type PeerTLS struct {
	CertFile, KeyFile, TrustedCAFile string
	// ClientCertAuth refuses nodes that show no certificate of those who are
	// trusted. As in etcd, TrustedCAFile alone does so, too.
	ClientCertAuth bool
	// MinVersion, MaxVersion and CipherSuites bound what is spoken; 0, and none: whatever
	// Go takes for good from TLS 1.2 on.
	MinVersion, MaxVersion uint16
	CipherSuites           []uint16
}

// Enabled reports whether nodes talk over TLS.
func (p *PeerTLS) Enabled() bool { return p.CertFile != "" }

func (p *PeerTLS) check() error {
	switch {
	case p.CertFile != "" && p.KeyFile == "":
		return bad("peer-key-file", "is required with --peer-cert-file")
	case p.CertFile == "" && p.KeyFile != "":
		return bad("peer-cert-file", "is required with --peer-key-file")
	case !p.Enabled() && p.TrustedCAFile != "":
		return bad("peer-trusted-ca-file", "needs --peer-cert-file and --peer-key-file")
	case p.ClientCertAuth && p.TrustedCAFile == "":
		return bad("peer-client-cert-auth", "needs --peer-trusted-ca-file, to know whose certificates are good")
	}
	return nil
}

// tlsVersion reads a version as etcd names it.
func tlsVersion(flag, text string) (uint16, error) {
	switch text {
	case "":
		return 0, nil
	case "TLS1.2":
		return tls.VersionTLS12, nil
	case "TLS1.3":
		return tls.VersionTLS13, nil
	}
	return 0, bad(flag, "%q: want TLS1.2 or TLS1.3", text)
}

// cipherSuites finds suites by the names that Go has for them, or had.
func cipherSuites(names []string) (ids []uint16, err error) {
	known := map[string]uint16{
		"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305":   tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	}
	for _, s := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		known[s.Name] = s.ID
	}
	for _, name := range names {
		id, ok := known[name]
		if !ok {
			return nil, bad("cipher-suites", "%q is not known; want names such as TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", name)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// parseTLS reads what TLS between nodes may be.
func (f *Flags) parseTLS(p *PeerTLS) (err error) {
	if p.MinVersion, err = tlsVersion("tls-min-version", f.tlsMin); err != nil {
		return err
	}
	if p.MaxVersion, err = tlsVersion("tls-max-version", f.tlsMax); err != nil {
		return err
	}
	p.CipherSuites, err = cipherSuites(splitList(f.cipherSuites))
	switch {
	case err != nil:
		return err
	case p.MaxVersion != 0 && p.MaxVersion < p.MinVersion:
		return bad("tls-max-version", "%s is below --tls-min-version=%s", f.tlsMax, f.tlsMin)
	case p.MinVersion == tls.VersionTLS13 && len(p.CipherSuites) > 0:
		return bad("cipher-suites", "those of TLS 1.3 cannot be chosen; remove the flag, or --tls-min-version=TLS1.3")
	}
	return nil
}

// Gossip reports whether this node may gossip: what it says is for the eyes of nodes,
// and TLS does not cover it.
func (c *Config) Gossip() bool { return len(c.GossipKey) > 0 || !c.PeerTLS.Enabled() }

// readGossipKey reads a key in base64.
func readGossipKey(file string) ([]byte, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, bad("gossip-key-file", "%v", err)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(raw)))
	if n := len(key); err != nil || n != 16 && n != 24 && n != 32 {
		return nil, bad("gossip-key-file", "%s: want 16, 24 or 32 bytes in base64; `head -c 32 /dev/urandom | base64` makes some", file)
	}
	return key, nil
}

func (c *Config) checkGossip() error {
	if c.ListenGossipAddr == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(c.ListenGossipAddr)
	if _, portErr := strconv.ParseUint(port, 10, 16); err != nil || portErr != nil || net.ParseIP(host) == nil {
		return bad("listen-gossip-addr", "%q: want an IP address and a port, such as 10.0.0.1:2381", c.ListenGossipAddr)
	}
	return nil
}

// Load reads the files and returns what both ends of a connection use, or nil if
// TLS is off. The certificate is read anew for every connection, so that it can be
// replaced while the node runs.
func (p *PeerTLS) Load() (*tls.Config, error) {
	if !p.Enabled() {
		return nil, nil
	}
	read := func() (*tls.Certificate, error) {
		cert, err := tls.LoadX509KeyPair(p.CertFile, p.KeyFile)
		return &cert, err
	}
	if _, err := read(); err != nil {
		return nil, bad("peer-cert-file", "%v", err)
	}
	c := &tls.Config{
		MinVersion:           cmp.Or(p.MinVersion, tls.VersionTLS12),
		MaxVersion:           p.MaxVersion,
		CipherSuites:         p.CipherSuites,
		GetCertificate:       func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return read() },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return read() },
	}
	if p.TrustedCAFile == "" {
		return c, nil
	}
	pool, err := readAuthorities(p.TrustedCAFile)
	if err != nil {
		return nil, bad("peer-trusted-ca-file", "%v", err)
	}
	c.RootCAs, c.ClientCAs, c.ClientAuth = pool, pool, tls.RequireAndVerifyClientCert
	return c, nil
}

// readAuthorities reads all certificates of a file: if one that cannot be read were passed
// over, some nodes would be let in and others not.
func readAuthorities(file string) (*x509.CertPool, error) {
	rest, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool, some := x509.NewCertPool(), false
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		pool.AddCert(cert)
		some = true
	}
	if !some {
		return nil, fmt.Errorf("%s holds no certificate", file)
	}
	return pool, nil
}
