package broker

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"lograft/broker/cluster"
	"lograft/broker/rpc"
	"lograft/broker/security"
	"lograft/broker/transport"
)

// Access says who may use a broker and how it proves itself.
type Access struct {
	TLS, PeerTLS, HTTPTLS security.Files
	Required              bool     // clients must prove who they are
	SuperUsers            []string // principals that may do everything
	TokenKey              string   // PEM file with the key that signs bearer tokens; "": none are taken
	Limits                security.Limits
}

// certificatesEvery is how often certificate files are looked at.
const certificatesEvery = 5 * time.Second

// access is what a running broker demands of whoever connects.
type access struct {
	client, peer, http     *security.Source // nil: no TLS on that listener
	clientConns, peerConns *security.Conns
	peers                  transport.Credentials // nil: peers prove nothing
	clientFloods           *security.Floods
	peerFloods             *security.Floods
	reloadFailures         atomic.Int64
}

func openAccess(o Options) (*access, error) {
	a := &access{clientFloods: security.NewFloods(o.Access.Required, o.BytesInFlight), peerFloods: security.NewFloods(!o.Access.PeerTLS.Empty(), -1)}
	for _, s := range []struct {
		what  string
		files security.Files
		to    **security.Source
	}{{"tls", o.Access.TLS, &a.client}, {"peer-tls", o.Access.PeerTLS, &a.peer}, {"http-tls", o.Access.HTTPTLS, &a.http}} {
		if s.files.Empty() {
			continue
		}
		source, err := security.Open(s.what, s.files)
		if err != nil {
			return nil, err
		}
		*s.to = source
	}
	if a.client != nil {
		a.clientConns = security.NewConns(a.client)
	}
	if a.peer != nil {
		peers, err := security.NewPeers(a.peer, o.ClusterName)
		if err != nil {
			return nil, err
		}
		a.peerConns = security.NewConns(a.peer)
		a.peers = trackedPeers{peers, a.peerConns, a.peerFloods}
	}
	return a, nil
}

// trackedPeers are peers whose connections can be ended.
type trackedPeers struct {
	*security.Peers
	conns  *security.Conns
	floods *security.Floods
}

func (t trackedPeers) Listen() credentials.TransportCredentials {
	return t.floods.Wrap(t.conns.Wrap(t.Peers.Listen()))
}
func (t trackedPeers) Dial(node uint64) credentials.TransportCredentials {
	return t.conns.Wrap(t.Peers.Dial(node))
}

// clientCredentials are the client listener's.
func (a *access) clientCredentials() credentials.TransportCredentials {
	if a.client == nil {
		return a.clientFloods.Wrap(insecure.NewCredentials())
	}
	return a.clientFloods.Wrap(a.clientConns.Wrap(credentials.NewTLS(a.client.Server(false, security.HTTP2))))
}

// httpListener is the HTTP listener with TLS if there is any.
func (a *access) httpListener(l net.Listener) net.Listener {
	if a.http == nil {
		return l
	}
	return tls.NewListener(l, a.http.Server(false, security.HTTP1))
}

// guard is what stands before every call of clients, and the proof of passwords.
func (a *access) guard(n *node) (*rpc.Guard, rpc.Prover, error) {
	rights := func() *cluster.Access { return n.parts.View().Access() }
	who, err := security.NewWho(a.client, n.opts.ClusterName, n.opts.Access.TokenKey, func(user string) bool { return rights().HasUser(user) }, time.Now)
	if err != nil {
		return nil, nil, err
	}
	prover, err := security.NewScram(who, func(user, mechanism string) (security.Verifier, bool) {
		v, ok := rights().Verifier(user, mechanism)
		return security.Verifier{Salt: v.Salt, Iterations: int(v.Iterations), StoredKey: v.StoredKey, ServerKey: v.ServerKey}, ok
	})
	if err != nil {
		return nil, nil, err
	}
	g := rpc.NewGuard(n.dir, rpc.NewRights(n.dir, n.opts.Access.SuperUsers), who, n.opts.Access.Required, n.host.Now, n.log)
	return g, func(mechanism string) (rpc.Proof, error) { return prover.Begin(mechanism) }, nil
}

// watchCertificates reads certificate files again when they have changed, until ctx is done. What can't be used is named and counted, and the
// old certificates stay; connections of identities that are not good any more are ended.
func (n *node) watchCertificates(ctx context.Context) {
	tick := time.NewTicker(certificatesEvery)
	defer tick.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-n.opts.Reload:
		}
		var faults []string
		for _, s := range []*security.Source{n.access.client, n.access.peer, n.access.http} {
			if s == nil {
				continue
			}
			changed, err := s.Reload()
			if err != nil {
				n.access.reloadFailures.Add(1)
				faults = append(faults, err.Error())
			}
			if changed {
				n.log.Info("certificates were read again", "listener", s.Name())
			}
		}
		if text := strings.Join(faults, "; "); text != said {
			if said = text; text != "" {
				n.log.Error("certificates can't be read again", "err", text)
			}
		}
		for _, c := range []*security.Conns{n.access.clientConns, n.access.peerConns} {
			if c == nil {
				continue
			}
			if ended := c.Sweep(); ended > 0 {
				n.log.Warn("connections were ended: their certificates are revoked, expired or no longer trusted", "connections", ended)
			}
		}
	}
}
