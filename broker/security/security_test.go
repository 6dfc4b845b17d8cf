package security

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"lograft/certs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// leaf reads the certificate in a file.
func leaf(t *testing.T, file string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(must(os.ReadFile(file))(t))
	return must(x509.ParseCertificate(block.Bytes))(t)
}

// touch makes a file look newer than it was, as an edit does.
func touch(t *testing.T, file string, n int) {
	t.Helper()
	at := time.Now().Add(time.Duration(n) * time.Second)
	if err := os.Chtimes(file, at, at); err != nil {
		t.Fatal(err)
	}
}

// Files that can't be used leave what is in use in use, and the fault names the file; the next good ones are taken.
func TestReload(t *testing.T) {
	authority := must(certs.Open(t.TempDir()))(t)
	p := must(authority.Broker("c", 1, []string{"127.0.0.1"}))(t)
	s := must(Open("tls", Files{Cert: p.Cert, Key: p.Key, CA: authority.CA()}))(t)
	state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf(t, must(authority.Client("alice"))(t).Cert)}}
	if changed, err := s.Reload(); changed || err != nil {
		t.Errorf("nothing changed: %t, %v", changed, err)
	}
	good := must(os.ReadFile(authority.CA()))(t)
	for i, bad := range []string{"", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		if err := os.WriteFile(authority.CA(), []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		touch(t, authority.CA(), 2*i+1)
		if changed, err := s.Reload(); changed || err == nil || !strings.Contains(err.Error(), authority.CA()) {
			t.Errorf("%q: %t, %v", bad, changed, err)
		}
		if err := s.StillGood(state); err != nil {
			t.Errorf("after %q: %v", bad, err)
		}
	}
	if err := os.WriteFile(authority.CA(), good, 0o600); err != nil {
		t.Fatal(err)
	}
	touch(t, authority.CA(), 99)
	if changed, err := s.Reload(); !changed || err != nil {
		t.Errorf("good again: %t, %v", changed, err)
	}
	other := must(certs.Open(t.TempDir()))(t)
	if err := os.WriteFile(authority.CA(), must(os.ReadFile(other.CA()))(t), 0o600); err != nil {
		t.Fatal(err)
	}
	touch(t, authority.CA(), 200)
	if changed, err := s.Reload(); !changed || err != nil {
		t.Errorf("another authority: %t, %v", changed, err)
	}
	if s.StillGood(state) == nil {
		t.Error("a certificate of an authority that is not trusted any more is still good")
	}
}

// A revocation list counts only if an authority signed it.
func TestForeignRevocations(t *testing.T) {
	authority, other := must(certs.Open(t.TempDir()))(t), must(certs.Open(t.TempDir()))(t)
	p := must(authority.Broker("c", 1, nil))(t)
	alice := must(authority.Client("alice"))(t)
	foreign := must(other.Revoke(alice.Cert))(t)
	if _, err := Open("tls", Files{Cert: p.Cert, Key: p.Key, CA: authority.CA(), CRL: foreign}); err == nil || !strings.Contains(err.Error(), foreign) {
		t.Errorf("a foreign list was taken: %v", err)
	}
	own := must(authority.Revoke(alice.Cert))(t)
	s := must(Open("tls", Files{Cert: p.Cert, Key: p.Key, CA: authority.CA(), CRL: own}))(t)
	if err := s.StillGood(tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf(t, alice.Cert)}}); err == nil || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("a revoked certificate: %v", err)
	}
}

// What makes a certificate a broker's is exactly one form of SAN.
func TestBrokerOf(t *testing.T) {
	for _, c := range []struct {
		uri     string
		cluster string
		node    uint64
	}{
		{"lograft://cluster/c/node/3", "c", 3},
		{certs.BrokerURI("a/b node", 7).String(), "a/b node", 7},
		{"lograft://cluster/c/node/", "", 0},
		{"lograft://cluster/c/node/-1", "", 0},
		{"lograft://cluster/c/node/1/x", "", 0},
		{"lograft://other/c/node/1", "", 0},
		{"spiffe://cluster/c/node/1", "", 0},
	} {
		u, err := url.Parse(c.uri)
		if err != nil {
			t.Fatal(err)
		}
		cluster, node, err := BrokerOf(&x509.Certificate{URIs: []*url.URL{u}})
		if (err == nil) != (c.node != 0) || cluster != c.cluster || node != c.node {
			t.Errorf("%s: %q, %d, %v", c.uri, cluster, node, err)
		}
	}
}

// A listener takes so many connections and no more, in all and of one address, and takes new ones when old ones are closed.
func TestLimit(t *testing.T) {
	inner := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	l := Limit(inner, Limits{Conns: 3, ConnsPerAddr: 2})
	accepted := make(chan net.Conn, 10)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	dialAs := func(from string) net.Conn {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 5 * time.Second}
		c := must(d.Dial("tcp", inner.Addr().String()))(t)
		t.Cleanup(func() { c.Close() })
		return c
	}
	refused := func(c net.Conn) bool {
		t.Helper()
		if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		_, err := c.Read(make([]byte, 1))
		return errors.Is(err, io.EOF) || strings.Contains(err.Error(), "reset")
	}
	first := func() net.Conn {
		t.Helper()
		select {
		case c := <-accepted:
			return c
		case <-time.After(10 * time.Second):
			t.Fatal("a connection within the limits was not taken")
			return nil
		}
	}
	dialAs("127.0.0.1")
	one := first()
	dialAs("127.0.0.1")
	two := first()
	if !refused(dialAs("127.0.0.1")) {
		t.Error("a third connection of one address was taken")
	}
	dialAs("127.0.0.2")
	three := first()
	if !refused(dialAs("127.0.0.3")) {
		t.Error("a fourth connection was taken")
	}
	one.Close()
	one.Close() // counts once
	dialAs("127.0.0.1")
	four := first()
	if !refused(dialAs("127.0.0.3")) {
		t.Error("closing one connection twice made room for two")
	}
	if n := l.Refused(); n != 3 {
		t.Errorf("%d refused, want 3", n)
	}
	for _, c := range []net.Conn{two, three, four} {
		c.Close()
	}
	inner.Close()
	<-done
}
