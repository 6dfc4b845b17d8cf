package security

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
)

// Limits of connections; they hold before anything is read.
type Limits struct {
	Conns        int // of one listener in all
	ConnsPerAddr int // of one address
}

// DefaultLimits suits a broker of a few thousand clients.
func DefaultLimits() Limits { return Limits{Conns: 10_000, ConnsPerAddr: 1_000} }

// Listener closes connections beyond its limits at once, so that what is open already goes on.
type Listener struct {
	net.Listener
	limits  Limits
	refused atomic.Int64

	mu   sync.Mutex
	all  int
	each map[netip.Addr]int
}

// Limit wraps l.
func Limit(l net.Listener, limits Limits) *Listener {
	return &Listener{Listener: l, limits: limits, each: map[netip.Addr]int{}}
}

// Refused counts the connections closed for being too many.
func (l *Listener) Refused() int64 { return l.refused.Load() }

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		addr := addressOf(conn)
		if l.enter(addr) {
			return &countedConn{Conn: conn, leave: sync.OnceFunc(func() { l.leave(addr) })}, nil
		}
		l.refused.Add(1)
		_ = conn.Close()
	}
}

func addressOf(c net.Conn) netip.Addr {
	ap, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Addr{} // not TCP: all of these count as one address
	}
	return ap.Addr().Unmap()
}

func (l *Listener) enter(a netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all >= l.limits.Conns || l.each[a] >= l.limits.ConnsPerAddr {
		return false
	}
	l.all++
	l.each[a]++
	return true
}

func (l *Listener) leave(a netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.each[a]--; l.each[a] == 0 {
		delete(l.each, a)
	}
}

type countedConn struct {
	net.Conn
	leave func()
}

func (c *countedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}
