package integration

import (
	"net"
	"sync"
	"time"
)

// Link is a TCP proxy for one direction of dialing: what one broker dials to reach another. It can be cut, stalled, slowed and reset.
// Its methods may be called by any goroutine.
type Link struct {
	listener net.Listener
	target   string

	mu      sync.Mutex
	wake    *sync.Cond // a change of what is below
	stalled bool       // bytes wait, connections stay open
	refused bool       // no connection lives
	closed  bool
	delay   time.Duration // of every piece of bytes, each way
	conns   map[net.Conn]bool
	work    sync.WaitGroup
}

// NewLink listens on a port of its own and connects to target for everyone who comes.
func NewLink(target string) (*Link, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	k := &Link{listener: l, target: target, conns: map[net.Conn]bool{}}
	k.wake = sync.NewCond(&k.mu)
	k.work.Go(k.accept)
	return k, nil
}

// Address is where to dial.
func (k *Link) Address() string { return k.listener.Addr().String() }

// Cut ends every connection and refuses new ones.
func (k *Link) Cut() { k.change(func() { k.refused = true }, true) }

// Stall lets bytes wait and leaves the connections open, as when packets are dropped.
func (k *Link) Stall() { k.change(func() { k.stalled = true }, false) }

// Slow delays every piece of bytes.
func (k *Link) Slow(d time.Duration) { k.change(func() { k.delay = d }, false) }

// Reset ends every connection; new ones are welcome.
func (k *Link) Reset() { k.change(func() {}, true) }

// Heal lets everything pass again.
func (k *Link) Heal() { k.change(func() { k.refused, k.stalled, k.delay = false, false, 0 }, false) }

// Close ends the proxy and waits for its goroutines.
func (k *Link) Close() {
	k.listener.Close()
	k.change(func() { k.closed, k.stalled = true, false }, true)
	k.work.Wait()
}

func (k *Link) change(what func(), end bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	what()
	if end {
		for c := range k.conns {
			c.Close()
		}
	}
	k.wake.Broadcast()
}

func (k *Link) accept() {
	for {
		c, err := k.listener.Accept()
		if err != nil {
			return
		}
		k.work.Go(func() { k.serve(c) })
	}
}

func (k *Link) serve(c net.Conn) {
	defer c.Close()
	if !k.hold(c) {
		return
	}
	defer k.drop(c)
	d, err := net.DialTimeout("tcp", k.target, 5*time.Second)
	if err != nil {
		return
	}
	defer d.Close()
	if !k.hold(d) {
		return
	}
	defer k.drop(d)
	var both sync.WaitGroup
	both.Go(func() { k.copy(c, d) })
	k.copy(d, c)
	both.Wait()
}

// hold notes a connection; false says that none may live.
func (k *Link) hold(c net.Conn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.refused || k.closed {
		return false
	}
	k.conns[c] = true
	return true
}

func (k *Link) drop(c net.Conn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.conns, c)
}

// copy carries bytes until an end of them, then ends both connections.
func (k *Link) copy(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && !k.pass() {
			return
		}
		if _, werr := to.Write(buf[:n]); werr != nil || err != nil {
			return
		}
	}
}

// pass waits as long as the link wants; false says that it has ended.
func (k *Link) pass() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.delay > 0 {
		d := k.delay
		k.mu.Unlock()
		time.Sleep(d)
		k.mu.Lock()
	}
	for k.stalled && !k.closed {
		k.wake.Wait()
	}
	return !k.closed && !k.refused
}
