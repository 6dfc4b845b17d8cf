package security

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"lograft/certs"
)

// The certificate of a connection is judged once in goodFor, not for each of its messages, and at once when the files change.
func TestCertificatesAreJudgedSeldom(t *testing.T) {
	authority := must(certs.Open(t.TempDir()))(t)
	p := must(authority.Broker("c", 1, nil))(t)
	alice := must(authority.Client("alice"))(t)
	s := must(Open("tls", Files{Cert: p.Cert, Key: p.Key, CA: authority.CA()}))(t)
	now := time.Now()
	w := &Who{source: s, now: func() time.Time { return now }}
	_, c, _, _ := handshaken(t, true)
	ctx := peer.NewContext(t.Context(), &peer.Peer{AuthInfo: connInfo{credentials.TLSInfo{State: tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf(t, alice.Cert)}}}, c}})
	name, fresh, err := w.Who(ctx)
	if err != nil || name != "alice" {
		t.Fatalf("%q, %v", name, err)
	}
	if n := testing.AllocsPerRun(100, func() { fresh() }); n > 1 { // a chain that is verified takes dozens
		t.Errorf("a message costs %v allocations", n)
	}
	last := c.good.last.Load()
	now = now.Add(goodFor - 1)
	if !fresh() || c.good.last.Load() != last {
		t.Error("judged before its time")
	}
	now = now.Add(1)
	if !fresh() || c.good.last.Load() == last {
		t.Error("not judged when its time has come")
	}
	s.files.CRL = must(authority.Revoke(alice.Cert))(t)
	s.current.Store(must(s.read())(t))
	if fresh() {
		t.Error("a certificate that was revoked is good until its time has come")
	}
	if _, _, err := w.Who(ctx); err == nil {
		t.Error("and good for the next call")
	}
}
