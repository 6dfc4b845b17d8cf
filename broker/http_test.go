package broker

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"lograft/broker/security"
	"lograft/certs"
)

// The certificate of an HTTP connection is verified seldom, not for each of its requests, and at once when the files change.
func TestHTTPCertificatesAreJudgedSeldom(t *testing.T) {
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	authority, err := certs.Open(t.TempDir())
	check(err)
	p, err := authority.Broker("test", 1, nil)
	check(err)
	alice, err := authority.Client("alice")
	check(err)
	crl, err := authority.Revoke()
	check(err)
	files := security.Files{Cert: p.Cert, Key: p.Key, CA: authority.CA(), CRL: crl}
	source, err := security.Open("http-tls", files)
	check(err)
	text, err := os.ReadFile(alice.Cert)
	check(err)
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	check(err)

	b := &Broker{opts: Options{Access: Access{HTTPTLS: files, Required: true, SuperUsers: []string{"alice"}}}}
	a := &access{http: source}
	r := httptest.NewRequest("GET", "/metrics", nil)
	r = r.WithContext(withVerdict(t.Context(), nil))
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}
	check(b.mayGet(a, r, "/metrics"))
	if n := testing.AllocsPerRun(100, func() { _ = b.mayGet(a, r, "/metrics") }); n > 5 { // a chain that is verified takes dozens
		t.Errorf("a request costs %v allocations", n)
	}
	_, err = authority.Revoke(alice.Cert)
	check(err)
	check(os.Chtimes(crl, time.Time{}, time.Now().Add(time.Hour)))
	if changed, err := source.Reload(); !changed || err != nil {
		t.Fatalf("the files changed: %t, %v", changed, err)
	}
	if b.mayGet(a, r, "/metrics") == nil {
		t.Error("a certificate that was revoked is good for its connection")
	}
}
