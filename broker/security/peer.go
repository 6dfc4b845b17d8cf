package security

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// BrokerOf reads which node of which cluster a certificate speaks for: its one SAN of the form
// lograft://cluster/CLUSTER-ID/node/N (made by broker cert). A certificate of a client has none and is never a peer.
func BrokerOf(c *x509.Certificate) (cluster string, node uint64, err error) {
	for _, u := range c.URIs {
		if u.Scheme != "lograft" {
			continue
		}
		parts := strings.Split(strings.TrimPrefix(u.EscapedPath(), "/"), "/")
		if u.Host != "cluster" || len(parts) != 3 || parts[1] != "node" {
			return "", 0, fmt.Errorf("certificate of %q: SAN %s is not lograft://cluster/CLUSTER-ID/node/N", c.Subject.CommonName, u)
		}
		if cluster, err = url.PathUnescape(parts[0]); err != nil {
			return "", 0, err
		}
		if node, err = strconv.ParseUint(parts[2], 10, 64); err != nil {
			return "", 0, fmt.Errorf("certificate of %q: SAN %s: %w", c.Subject.CommonName, u, err)
		}
		return cluster, node, nil
	}
	return "", 0, fmt.Errorf("the certificate of %q is no broker's: it has no SAN lograft://cluster/CLUSTER-ID/node/N (broker cert makes such certificates)", c.Subject.CommonName)
}

// Peers proves who is at the other end of links between brokers.
type Peers struct {
	source  *Source
	cluster string
}

// NewPeers makes the proof of a cluster's peers from the peer listener's certificates.
func NewPeers(s *Source, cluster string) (*Peers, error) {
	if s.current.Load().pool == nil {
		return nil, errors.New("peer-tls.ca: brokers prove themselves to each other: name the authority of their certificates")
	}
	return &Peers{source: s, cluster: cluster}, nil
}

// Listen is the peer listener's credentials: a certificate of the authorities is a must.
func (p *Peers) Listen() credentials.TransportCredentials {
	return credentials.NewTLS(p.source.Server(true, HTTP2))
}

// Dial is the credentials for a link to a node; node 0 takes any node of the cluster.
func (p *Peers) Dial(node uint64) credentials.TransportCredentials {
	c := p.source.Client(func(c *x509.Certificate) error { return p.check(c, node) })
	// grpc sets its own ServerName; verification does not use it.
	return credentials.NewTLS(c)
}

func (p *Peers) check(c *x509.Certificate, node uint64) error {
	cluster, n, err := BrokerOf(c)
	switch {
	case err != nil:
		return err
	case cluster != p.cluster:
		return fmt.Errorf("the certificate of %q is for cluster %q, this broker belongs to %q", c.Subject.CommonName, cluster, p.cluster)
	case node != 0 && n != node:
		return fmt.Errorf("the certificate of %q is for node %d, not for node %d", c.Subject.CommonName, n, node)
	}
	return nil
}

// Prove checks that the caller of a stream holds a certificate of the node that it says it is, now.
func (p *Peers) Prove(ctx context.Context, node uint64) error {
	state, err := tlsState(ctx)
	if err != nil {
		return err
	}
	if err := p.source.StillGood(state); err != nil {
		return err
	}
	err = p.check(state.PeerCertificates[0], node)
	if err == nil {
		proved(ctx)
	}
	return err
}

// proved notes that the caller of ctx has proved who he is.
func proved(ctx context.Context) {
	if caller, ok := peer.FromContext(ctx); ok {
		if c, ok := caller.AuthInfo.(connInfo); ok && !c.conn.proven.Load() && c.conn.strikes.Load() < strikesMax {
			c.conn.proven.Store(true)
		}
	}
}

// tlsState is the TLS state of a call's connection, with a certificate of the caller.
func tlsState(ctx context.Context) (tls.ConnectionState, error) {
	caller, ok := peer.FromContext(ctx)
	if !ok {
		return tls.ConnectionState{}, errors.New("no peer is known")
	}
	of := caller.AuthInfo
	if c, ok := of.(connInfo); ok {
		of = c.AuthInfo
	}
	info, ok := of.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return tls.ConnectionState{}, errors.New("no certificate was shown")
	}
	return info.State, nil
}
