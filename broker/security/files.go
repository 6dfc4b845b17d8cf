package security

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Files are the PEM files of one listener.
type Files struct {
	Cert, Key string // certificate chain and private key
	CA        string // authorities of whoever connects; "": certificates are not asked for
	CRL       string // revoked certificates of those authorities; "": none
}

// Empty says that there is no TLS.
func (f Files) Empty() bool { return f == Files{} }

// Check tells whether the names make sense together.
func (f Files) Check(what string) error {
	switch {
	case f.Empty():
		return nil
	case f.Cert == "" || f.Key == "":
		return fmt.Errorf("%s: a certificate and its key go together: set both %[1]s.cert and %[1]s.key", what)
	case f.CRL != "" && f.CA == "":
		return fmt.Errorf("%s.crl without %[1]s.ca: a revocation list needs the authority that signed it", what)
	}
	return nil
}

// material is what the files held at one moment. It is never changed.
type material struct {
	cert    tls.Certificate
	pool    *x509.CertPool
	revoked map[string]bool // issuer and serial number
	times   [4]time.Time    // of the files
}

// Source keeps one listener's certificates as they are in its files. It is safe for concurrent use.
type Source struct {
	what    string // config section, for errors
	files   Files
	mu      sync.Mutex // one reload at a time
	current atomic.Pointer[material]
}

// Open reads the files; a fault names the file.
func Open(what string, f Files) (*Source, error) {
	if err := f.Check(what); err != nil {
		return nil, err
	}
	s := &Source{what: what, files: f}
	m, err := s.read()
	if err != nil {
		return nil, err
	}
	s.current.Store(m)
	return s, nil
}

// Name is the section of the configuration that names the files.
func (s *Source) Name() string { return s.what }

// Reload reads the files again if any has changed. What can't be read or does not fit together changes nothing: the old
// certificates stay in use.
func (s *Source) Reload() (changed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if times, err := s.times(); err == nil && times == s.current.Load().times {
		return false, nil
	}
	m, err := s.read()
	if err != nil {
		return false, fmt.Errorf("%w: the certificates in use stay in use", err)
	}
	s.current.Store(m)
	return true, nil
}

func (s *Source) names() [4]string {
	return [4]string{s.files.Cert, s.files.Key, s.files.CA, s.files.CRL}
}

func (s *Source) times() (t [4]time.Time, err error) {
	for i, name := range s.names() {
		if name == "" {
			continue
		}
		info, err := os.Stat(name)
		if err != nil {
			return t, fmt.Errorf("%s: %w", s.what, err)
		}
		t[i] = info.ModTime()
	}
	return t, nil
}

func (s *Source) read() (*material, error) {
	times, err := s.times() // before the contents: a file that changes meanwhile is read once more later
	if err != nil {
		return nil, err
	}
	m := &material{times: times, revoked: map[string]bool{}}
	if m.cert, err = tls.LoadX509KeyPair(s.files.Cert, s.files.Key); err != nil {
		return nil, fmt.Errorf("%s: %s with %s: %w", s.what, s.files.Cert, s.files.Key, err)
	}
	if s.files.CA == "" {
		return m, nil
	}
	authorities, err := readAuthorities(s.files.CA)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.what, err)
	}
	m.pool = x509.NewCertPool()
	for _, a := range authorities {
		m.pool.AddCert(a)
	}
	if s.files.CRL != "" {
		if err := m.readRevoked(s.files.CRL, authorities); err != nil {
			return nil, fmt.Errorf("%s: %w", s.what, err)
		}
	}
	return m, nil
}

func readAuthorities(file string) (list []*x509.Certificate, err error) {
	err = eachBlock(file, "CERTIFICATE", func(der []byte) error {
		c, err := x509.ParseCertificate(der)
		list = append(list, c)
		return err
	})
	return list, err
}

func (m *material) readRevoked(file string, authorities []*x509.Certificate) error {
	return eachBlock(file, "X509 CRL", func(der []byte) error {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return err
		}
		for _, a := range authorities {
			if list.CheckSignatureFrom(a) == nil {
				for _, e := range list.RevokedCertificateEntries {
					m.revoked[serialKey(a.RawSubject, e.SerialNumber)] = true
				}
				return nil
			}
		}
		return errors.New("not signed by any of the authorities")
	})
}

// eachBlock visits the PEM blocks of a kind; there must be one at least.
func eachBlock(file, kind string, visit func(der []byte) error) error {
	rest, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	found := false
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != kind {
			continue
		}
		found = true
		if err := visit(block.Bytes); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	if !found {
		return fmt.Errorf("%s holds no %s", file, kind)
	}
	return nil
}

func serialKey(issuer []byte, serial *big.Int) string { return string(issuer) + serial.String() }

// verify judges the chains of a handshake: none may hold a revoked certificate.
func (m *material) verify(chains [][]*x509.Certificate) error {
	for _, chain := range chains {
		for _, c := range chain {
			if m.revoked[serialKey(c.RawIssuer, c.SerialNumber)] {
				return fmt.Errorf("the certificate of %q is revoked", c.Subject.CommonName)
			}
		}
	}
	return nil
}

// StillGood judges a certificate that was good at its handshake by the files as they are now: expired, revoked, or signed by an
// authority that is not trusted any more.
func (s *Source) StillGood(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return nil
	}
	m := s.current.Load()
	if m.pool == nil {
		return nil
	}
	between := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		between.AddCert(c)
	}
	chains, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: m.pool, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return err
	}
	return m.verify(chains)
}

// goodFor is how long a certificate that was good is not judged again while the files are the same: it costs more than most messages do.
const goodFor = time.Second

// Verdict is when the certificate of one connection was good, and by which files. Its zero value says never. It is safe for concurrent use.
type Verdict struct{ last atomic.Pointer[judged] }

type judged struct {
	by *material
	at time.Time
}

// StillGoodOn is StillGood of the certificate of one connection, whose verdict v is; nil if the connection is not known.
func (s *Source) StillGoodOn(v *Verdict, state tls.ConnectionState, now time.Time) error {
	if v == nil {
		return s.StillGood(state)
	}
	by := s.current.Load()
	if last := v.last.Load(); last != nil && last.by == by && now.Sub(last.at) < goodFor && !now.Before(last.at) {
		return nil
	}
	err := s.StillGood(state)
	if err == nil {
		v.last.Store(&judged{by, now})
	}
	return err
}

// Protocols of listeners, as TLS names them.
const (
	HTTP1 = "http/1.1"
	HTTP2 = "h2"
)

// base is what every handshake has in common: TLS 1.3, 1.2 for old clients.
func (m *material) base(protocol string) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{m.cert}, NextProtos: []string{protocol},
		VerifyConnection: func(state tls.ConnectionState) error { return m.verify(state.VerifiedChains) }}
}

// Server is the configuration of a listener that speaks a protocol (ALPN). Each handshake uses the files as they are then. mustProve:
// who connects needs a certificate of the authorities; else one is checked if it is shown.
func (s *Source) Server(mustProve bool, protocol string) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{protocol}, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		m := s.current.Load()
		c := m.base(protocol)
		if c.ClientCAs = m.pool; m.pool != nil {
			c.ClientAuth = tls.VerifyClientCertIfGiven
		}
		if mustProve {
			c.ClientAuth = tls.RequireAndVerifyClientCert
		}
		return c, nil
	}}
}

// Client is the configuration for dialing a listener whose authorities are ours; accept judges the certificate it shows in place of
// its host name.
func (s *Source) Client(accept func(*x509.Certificate) error) *tls.Config {
	m := s.current.Load()
	c := m.base(HTTP2)
	c.InsecureSkipVerify = true // host names say nothing about nodes: VerifyConnection checks the chain and the node
	c.VerifyConnection = func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 {
			return errors.New("no certificate was shown")
		}
		if err := s.StillGood(state); err != nil {
			return err
		}
		return accept(state.PeerCertificates[0])
	}
	return c
}
