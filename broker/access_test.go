package broker

import (
	"context"
	"crypto/tls"
	"net/http"
	"strings"
	"testing"
	"time"

	"lograft/broker/security"
	"lograft/broker/transport"
	"lograft/certs"
	"lograft/client"
)

// secured is a cluster whose listeners all have TLS.
type secured struct {
	*brokers
	authority *certs.Authority
	reload    chan struct{} // of the first broker
}

func startSecured(t *testing.T, n int, change func(*Options)) *secured {
	t.Helper()
	authority, err := certs.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := &secured{authority: authority, reload: make(chan struct{}, 1)}
	crl, err := authority.Revoke()
	if err != nil {
		t.Fatal(err)
	}
	s.brokers = startBrokers(t, n, func(o *Options) {
		p, err := authority.Broker(o.ClusterName, o.NodeID, []string{"127.0.0.1"})
		if err != nil {
			t.Fatal(err)
		}
		files := security.Files{Cert: p.Cert, Key: p.Key, CA: authority.CA(), CRL: crl}
		o.Access = Access{TLS: files, PeerTLS: files, HTTPTLS: files}
		if o.NodeID == 1 {
			o.Reload = s.reload
		}
		if change != nil {
			change(o)
		}
	})
	return s
}

// up waits until the brokers answer a client with this TLS.
func (s *secured) up(ctx context.Context, c *tls.Config) {
	s.t.Helper()
	k := s.clientAs(client.Options{TLS: c})
	for {
		_, err := k.DescribeCluster(ctx)
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			s.t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// as gives the TLS of a client with the certificate of a principal, "" for none.
func (s *secured) as(user string) *tls.Config {
	s.t.Helper()
	f := client.TLSFiles{CA: s.authority.CA()}
	if user != "" {
		p, err := s.authority.Client(user)
		if err != nil {
			s.t.Fatal(err)
		}
		f.Cert, f.Key = p.Cert, p.Key
	}
	c, err := client.LoadTLS(f)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func probe(t *testing.T, addr string, creds transport.Credentials, hello transport.Hello) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err := transport.Probe(ctx, addr, 1, creds, hello)
	return err
}

// peersWith are the credentials of who holds a certificate.
func peersWith(t *testing.T, a *certs.Authority, p certs.Pair) transport.Credentials {
	t.Helper()
	source, err := security.Open("peer-tls", security.Files{Cert: p.Cert, Key: p.Key, CA: a.CA()})
	if err != nil {
		t.Fatal(err)
	}
	peers, err := security.NewPeers(source, "test")
	if err != nil {
		t.Fatal(err)
	}
	return peers
}

// A cluster with TLS everywhere works; in the clear nobody gets in, nor does a peer with a client's certificate, one of another
// cluster, of another node, or of an authority of its own.
func TestTLS(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	s := startSecured(t, 3, nil)
	s.up(ctx, s.as(""))
	k := s.clientAs(client.Options{TLS: s.as("")})
	if _, err := k.CreateTopic(ctx, client.TopicSpec{Name: "t", Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	produceN(ctx, t, k, "t", 0, 100)
	if got := consumeAll(ctx, t, k, "t", 3); len(got) != 100 {
		t.Errorf("%d records came back, 100 were sent", len(got))
	}

	clear := s.clientAs(client.Options{Timeout: 2 * time.Second})
	if _, err := clear.DescribeCluster(ctx); err == nil || !strings.Contains(err.Error(), "--tls-ca") {
		t.Errorf("a client in the clear: %v, want a refusal that names --tls-ca", err)
	}
	stranger, err := certs.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	pair := func(p certs.Pair, err error) certs.Pair {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	addr := s.options[0].PeerListen
	hello := transport.Hello{Protocol: transport.Protocol, ClusterName: "test", NodeID: 2}
	if err := probe(t, addr, peersWith(t, s.authority, pair(s.authority.Broker("test", 2, nil))), hello); err != nil {
		t.Errorf("the right peer: %v", err)
	}
	for _, bad := range []struct {
		name  string
		creds transport.Credentials
		hello transport.Hello
		says  string
	}{
		{"in the clear", nil, hello, ""},
		{"a client's certificate", peersWith(t, s.authority, pair(s.authority.Client("alice"))), hello, "no broker's"},
		{"another cluster's", peersWith(t, s.authority, pair(s.authority.Broker("other", 2, nil))), hello, `cluster "other"`},
		{"another node's", peersWith(t, s.authority, pair(s.authority.Broker("test", 3, nil))), hello, "node 3, not for node 2"},
		{"another authority's", peersWith(t, stranger, pair(stranger.Broker("test", 2, nil))), hello, ""},
	} {
		if err := probe(t, addr, bad.creds, bad.hello); err == nil || !strings.Contains(err.Error(), bad.says) {
			t.Errorf("%s: got %v, want a refusal that says %q", bad.name, err, bad.says)
		}
	}
}

func httpGet(t *testing.T, c *tls.Config, url string) int {
	t.Helper()
	h := &http.Client{Transport: &http.Transport{TLSClientConfig: c, DisableKeepAlives: true}, Timeout: 30 * time.Second}
	r, err := h.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	return r.StatusCode
}

// Health is for everyone, the rest of the HTTP port for who holds a certificate. A certificate that is revoked while the broker runs
// ends the connections that used it and is refused from then on; other clients go on. A broken file changes nothing.
func TestCertificatesReload(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	s := startSecured(t, 1, nil)
	s.up(ctx, s.as(""))
	alice, bob := s.as("alice"), s.as("bob")
	ka, kb := s.clientAs(client.Options{TLS: alice, Timeout: 10 * time.Second}), s.clientAs(client.Options{TLS: bob})
	for _, k := range []*client.Client{ka, kb} {
		if _, err := k.DescribeCluster(ctx); err != nil {
			t.Fatal(err)
		}
	}
	base := "https://" + s.options[0].HTTPListen
	for _, c := range []struct {
		path string
		as   *tls.Config
		want int
	}{{"/livez", s.as(""), 200}, {"/debug/pprof/cmdline", s.as(""), 403}, {"/debug/pprof/cmdline", alice, 200}} {
		if got := httpGet(t, c.as, base+c.path); got != c.want {
			t.Errorf("%s with %d certificates: status %d, want %d", c.path, len(c.as.Certificates), got, c.want)
		}
	}

	pair, err := s.authority.Client("alice2") // the serial number of alice's own is not on disk any more
	if err != nil {
		t.Fatal(err)
	}
	f := client.TLSFiles{CA: s.authority.CA(), Cert: pair.Cert, Key: pair.Key}
	second, err := client.LoadTLS(f)
	if err != nil {
		t.Fatal(err)
	}
	k2 := s.clientAs(client.Options{TLS: second, Timeout: 10 * time.Second})
	if _, err := k2.DescribeCluster(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := s.authority.Revoke(pair.Cert); err != nil {
		t.Fatal(err)
	}
	s.reload <- struct{}{}
	for end := time.Now().Add(time.Minute); ; {
		if _, err := k2.DescribeCluster(ctx); err != nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("a revoked certificate is still taken")
		}
		time.Sleep(20 * time.Millisecond)
	}
	if got := httpGet(t, s.as("carol"), base+"/debug/pprof/cmdline"); got != 200 {
		t.Errorf("another certificate: status %d", got)
	}
	for name, k := range map[string]*client.Client{"alice": ka, "bob": kb} {
		if _, err := k.DescribeCluster(ctx); err != nil {
			t.Errorf("%s, who is not revoked: %v", name, err)
		}
	}
}
