package integration

import (
	"math/rand/v2"
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
	jitter  time.Duration // as much more by chance, at most
	bytes   int           // per second and direction of a connection; 0: any
	lossPct int           // percent of the pieces of answers that are lost, and their connection with them
	dropped int           // connections that ended so
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

// Jitter delays every piece of bytes by chance; their order stays.
func (k *Link) Jitter(d time.Duration) { k.change(func() { k.jitter = d }, false) }

// Thin lets so many bytes per second pass in each direction of a connection.
func (k *Link) Thin(bytesPerSecond int) { k.change(func() { k.bytes = bytesPerSecond }, false) }

// Drop loses so many percent of the answers, each with its connection: what was asked has reached the broker then.
func (k *Link) Drop(percent int) { k.change(func() { k.lossPct = percent }, false) }

// Dropped is how many connections have lost an answer.
func (k *Link) Dropped() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.dropped
}

// Reset ends every connection; new ones are welcome.
func (k *Link) Reset() { k.change(func() {}, true) }

// Heal lets everything pass again.
func (k *Link) Heal() {
	k.change(func() { k.refused, k.stalled, k.delay, k.jitter, k.bytes, k.lossPct = false, false, 0, 0, 0, 0 }, false)
}

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
	both.Go(func() { k.copy(c, d, true) })
	k.copy(d, c, false)
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

// greetingPieces of a connection's answers are no answers yet: HTTP/2 settings and their acknowledgement.
const greetingPieces = 3

// copy carries bytes until an end of them, then ends both connections.
func (k *Link) copy(to, from net.Conn, answers bool) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 64<<10)
	for pieces := 0; ; pieces++ {
		n, err := from.Read(buf)
		if n > 0 && (!k.pass(n) || answers && pieces >= greetingPieces && k.loses()) {
			return
		}
		if _, werr := to.Write(buf[:n]); werr != nil || err != nil {
			return
		}
	}
}

// loses says that an answer is lost.
func (k *Link) loses() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.lossPct == 0 || rand.IntN(100) >= k.lossPct {
		return false
	}
	k.dropped++
	return true
}

// pass waits as long as the link wants before n bytes go on; false says that it has ended.
func (k *Link) pass(n int) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	d := k.delay
	if k.jitter > 0 {
		d += rand.N(k.jitter)
	}
	if k.bytes > 0 {
		d += time.Duration(n) * time.Second / time.Duration(k.bytes)
	}
	if d > 0 {
		k.mu.Unlock()
		time.Sleep(d)
		k.mu.Lock()
	}
	for k.stalled && !k.closed {
		k.wake.Wait()
	}
	return !k.closed && !k.refused
}
