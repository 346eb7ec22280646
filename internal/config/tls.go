package config

import (
	"crypto/tls"
	"crypto/x509"
	"os"
)

// PeerTLS is how nodes prove to each other who they are: each shows one
// certificate, to those that it calls and to those that call it. It is on if a
// certificate is set.
type PeerTLS struct {
	CertFile, KeyFile, TrustedCAFile string
	// ClientCertAuth refuses nodes that show no certificate of those who are
	// trusted. As in etcd, TrustedCAFile alone does so, too.
	ClientCertAuth bool
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
		MinVersion:           tls.VersionTLS12,
		GetCertificate:       func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return read() },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return read() },
	}
	if p.TrustedCAFile == "" {
		return c, nil
	}
	pem, err := os.ReadFile(p.TrustedCAFile)
	if err != nil {
		return nil, bad("peer-trusted-ca-file", "%v", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, bad("peer-trusted-ca-file", "%s holds no certificate", p.TrustedCAFile)
	}
	c.RootCAs, c.ClientCAs, c.ClientAuth = pool, pool, tls.RequireAndVerifyClientCert
	return c, nil
}
