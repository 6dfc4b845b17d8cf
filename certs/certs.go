// Package certs makes certificates for trying Lograft out: one authority, and certificates of brokers and clients that it signs
// (`broker cert`, `broker --dev --tls`). A production cluster brings its own; what Lograft wants of them is said at Broker and Client.
package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// Names of the files in a directory of certificates; each comes with a .key of the same name.
const (
	authorityName = "ca"
	suffixCert    = ".crt"
	suffixKey     = ".key"
)

// validFor is how long what is made here is valid.
const validFor = 365 * 24 * time.Hour

// Authority signs. Its key is as secret as the cluster.
type Authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Pair names the files of a certificate and its key.
type Pair struct{ Cert, Key string }

// Open reads the authority in dir, or makes one there if there is none. Keys are readable by their owner alone.
func Open(dir string) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	a := &Authority{dir: dir}
	err := a.load()
	if errors.Is(err, os.ErrNotExist) {
		err = a.create()
	}
	if err != nil {
		return nil, fmt.Errorf("authority in %s: %w", dir, err)
	}
	return a, nil
}

// CA is the file of the authority's certificate: what others must trust.
func (a *Authority) CA() string { return filepath.Join(a.dir, authorityName+suffixCert) }

func (a *Authority) pair(name string) Pair {
	return Pair{filepath.Join(a.dir, name+suffixCert), filepath.Join(a.dir, name+suffixKey)}
}

func (a *Authority) load() error {
	p := a.pair(authorityName)
	certPEM, err := readPEM(p.Cert, "CERTIFICATE")
	if err != nil {
		return err
	}
	keyPEM, err := readPEM(p.Key, "PRIVATE KEY")
	if err != nil {
		return err
	}
	if a.cert, err = x509.ParseCertificate(certPEM); err != nil {
		return err
	}
	key, err := x509.ParsePKCS8PrivateKey(keyPEM)
	if err != nil {
		return err
	}
	var ok bool
	if a.key, ok = key.(*ecdsa.PrivateKey); !ok {
		return fmt.Errorf("%s holds a %T, not an ECDSA key: it was not made by broker cert", p.Key, key)
	}
	return nil
}

func readPEM(file, kind string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("%s holds no %s", file, kind)
	}
	return block.Bytes, nil
}

func (a *Authority) create() (err error) {
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return err
	}
	t, err := template("Lograft development authority")
	if err != nil {
		return err
	}
	t.IsCA, t.BasicConstraintsValid = true, true
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, t, t, &a.key.PublicKey, a.key)
	if err != nil {
		return err
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return err
	}
	return write(a.pair(authorityName), der, a.key)
}

func template(name string) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(validFor)}, nil
}

// BrokerURI is the SAN that makes a certificate one of a broker: peers take no other for node `node` of the cluster.
func BrokerURI(cluster string, node uint64) *url.URL {
	tail := fmt.Sprintf("/node/%d", node)
	return &url.URL{Scheme: "lograft", Host: "cluster", Path: "/" + cluster + tail, RawPath: "/" + url.PathEscape(cluster) + tail}
}

// Broker makes broker-N.crt and .key: for TLS as server and as client, with hosts (names or addresses) and BrokerURI as SANs.
func (a *Authority) Broker(cluster string, node uint64, hosts []string) (Pair, error) {
	name := fmt.Sprintf("broker-%d", node)
	return a.issue(name, name, func(t *x509.Certificate) {
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
		t.URIs = []*url.URL{BrokerURI(cluster, node)}
		for _, h := range hosts {
			if ip := net.ParseIP(h); ip != nil {
				t.IPAddresses = append(t.IPAddresses, ip)
			} else {
				t.DNSNames = append(t.DNSNames, h)
			}
		}
	})
}

// Client makes client-USER.crt and .key: its bearer is principal USER to brokers.
func (a *Authority) Client(user string) (Pair, error) {
	if user == "" || user != filepath.Base(user) || user == "." || user == ".." {
		return Pair{}, fmt.Errorf("user %q can't be part of a file name", user)
	}
	return a.issue("client-"+user, user, func(t *x509.Certificate) {
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	})
}

func (a *Authority) issue(file, commonName string, fill func(*x509.Certificate)) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	t, err := template(commonName)
	if err != nil {
		return Pair{}, err
	}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	fill(t)
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return Pair{}, err
	}
	p := a.pair(file)
	return p, write(p, der, key)
}

// Revoke writes a list of revoked certificates, ca.crl, that names those in the files given and nothing else.
func (a *Authority) Revoke(certFiles ...string) (file string, err error) {
	list := &x509.RevocationList{Number: big.NewInt(time.Now().UnixNano()), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(validFor)}
	for _, f := range certFiles {
		der, err := readPEM(f, "CERTIFICATE")
		if err != nil {
			return "", err
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return "", fmt.Errorf("%s: %w", f, err)
		}
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: list.ThisUpdate})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	if err != nil {
		return "", err
	}
	file = filepath.Join(a.dir, authorityName+".crl")
	return file, replace(file, 0o644, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
}

func write(p Pair, der []byte, key *ecdsa.PrivateKey) error {
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := replace(p.Key, 0o600, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})); err != nil {
		return err
	}
	return replace(p.Cert, 0o644, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// replace puts a whole file in place: a broker that reloads sees the old one or the new one.
func replace(file string, mode os.FileMode, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(file), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(mode), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}
