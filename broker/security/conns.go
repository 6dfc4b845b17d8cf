package security

import (
	"context"
	"crypto/tls"
	"net"
	"sync"

	"google.golang.org/grpc/credentials"
)

// Conns knows the open TLS connections of one set of certificates, so that those of an identity that is not good any more can be
// ended. It is safe for concurrent use.
type Conns struct {
	source *Source
	mu     sync.Mutex
	open   map[*trackedConn]tls.ConnectionState
}

// NewConns makes an empty register.
func NewConns(s *Source) *Conns {
	return &Conns{source: s, open: map[*trackedConn]tls.ConnectionState{}}
}

// Sweep ends every connection whose certificate the files as they are now do not allow, and returns how many these were.
func (c *Conns) Sweep() int {
	c.mu.Lock()
	var bad []*trackedConn
	for conn, state := range c.open {
		if c.source.StillGood(state) != nil {
			bad = append(bad, conn)
		}
	}
	c.mu.Unlock()
	for _, conn := range bad {
		_ = conn.Close()
	}
	return len(bad)
}

// trackedConn leaves the register when it is closed.
type trackedConn struct {
	net.Conn
	conns *Conns
}

func (t *trackedConn) Close() error {
	t.conns.mu.Lock()
	delete(t.conns.open, t)
	t.conns.mu.Unlock()
	return t.Conn.Close()
}

func (c *Conns) track(conn net.Conn, info credentials.AuthInfo) net.Conn {
	ti, ok := info.(credentials.TLSInfo)
	if !ok || len(ti.State.PeerCertificates) == 0 {
		return conn
	}
	t := &trackedConn{Conn: conn, conns: c}
	c.mu.Lock()
	c.open[t] = ti.State
	c.mu.Unlock()
	return t
}

// Wrap makes credentials whose connections are known here.
func (c *Conns) Wrap(inner credentials.TransportCredentials) credentials.TransportCredentials {
	return &trackedCreds{inner, c}
}

type trackedCreds struct {
	credentials.TransportCredentials
	conns *Conns
}

func (t *trackedCreds) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := t.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		return conn, info, err
	}
	return t.conns.track(conn, info), info, nil
}

func (t *trackedCreds) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := t.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		return conn, info, err
	}
	return t.conns.track(conn, info), info, nil
}

func (t *trackedCreds) Clone() credentials.TransportCredentials {
	return &trackedCreds{t.TransportCredentials.Clone(), t.conns}
}
