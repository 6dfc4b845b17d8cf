package security

import (
	"encoding/binary"
	"errors"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc/credentials"
)

// Frames of HTTP/2 (RFC 9113 §4.1 and §6) that are looked at.
const (
	frameHeadBytes  = 9
	prefaceBytes    = 24
	frameData       = 0x0
	frameHeaders    = 0x1
	frameReset      = 0x3
	framePing       = 0x6
	frameGoAway     = 0x7
	frameWindow     = 0x8
	flagDataLast    = 0x1 // of headers, too
	flagPadded      = 0x8
	floodDelayMax   = 5 * time.Second // a connection that would have to wait longer is closed
	frameKindsSlow  = 4
	idleFramesBurst = 500
	untoldBytes     = 16 << 10
	strikesMax      = 100 // calls that sent what no client sends; then the connection is nobody's again
)

// The kinds of frames that are bounded, and how many per second: what costs a broker work and its sender nothing. Data that is there is
// bounded by flow control and quotas, calls of who has proved who he is by his quota.
const (
	kindReset   = iota // streams that were opened and taken back (CVE-2023-44487)
	kindIdle           // frames that good clients send now and then: settings, priorities, empty data, what nobody knows
	kindWindow         // pings and windows: as many as answers
	kindUnknown        // calls on a connection of which nobody has proved anything yet
)

var framesPerSecond = [frameKindsSlow]struct {
	rate  rate.Limit
	burst int
}{kindReset: {100, 500}, kindIdle: {100, idleFramesBurst}, kindWindow: {20_000, 20_000}, kindUnknown: {100, 200}}

// Floods slows connections down that send more frames of a kind than good clients do, and closes those that send many times more. It is
// safe for concurrent use.
type Floods struct {
	prove      bool // who has not proved who he is makes few calls
	closed     atomic.Int64
	overfull   atomic.Int64 // of closed
	principals principals
	unfinished unfinished

	goAwayTime, goAwayRests time.Duration // see their defaults; set before connections come

	start time.Time
}

// ms is how long after the start something is.
func (f *Floods) ms(at time.Time) int64 { return at.Sub(f.start).Milliseconds() }

// NewFloods makes the bounds of a listener. prove: callers must prove who they are. unfinished bounds the bytes of messages that clients
// began and no call has taken (Who.Taken), on all connections; one may hold half of it (and 20 MiB in any case). 0: UnfinishedBytesDefault,
// negative: no bound.
func NewFloods(prove bool, unfinishedBytes int64) *Floods {
	f := &Floods{prove: prove, start: time.Now(), goAwayTime: goAwayTimeDefault, goAwayRests: goAwayRestsDefault}
	if unfinishedBytes == 0 {
		unfinishedBytes = UnfinishedBytesDefault
	}
	if unfinishedBytes > 0 {
		f.unfinished.connMax = max(unfinishedBytes/2, unfinishedConnMin)
		f.unfinished.max = max(unfinishedBytes, f.unfinished.connMax)
		f.unfinished.untold = untoldBytes
	}
	return f
}

// Unfinished is how many bytes of messages that no call has taken all connections hold, but for untoldBytes of each.
func (f *Floods) Unfinished() int64 {
	f.unfinished.mu.Lock()
	defer f.unfinished.mu.Unlock()
	return f.unfinished.all
}

// Closed counts the connections that were closed.
func (f *Floods) Closed() int64 { return f.closed.Load() }

// Overfull counts those of Closed that were closed for messages that no call has taken.
func (f *Floods) Overfull() int64 { return f.overfull.Load() }

// Wrap makes credentials whose connections are bounded. It is the outermost: it sees the frames.
func (f *Floods) Wrap(inner credentials.TransportCredentials) credentials.TransportCredentials {
	return &floodCreds{inner, f}
}

type floodCreds struct {
	credentials.TransportCredentials
	floods *Floods
}

func (c *floodCreds) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		return conn, info, err
	}
	now := time.Now()
	f := &floodConn{Conn: conn, floods: c.floods, skip: prefaceBytes, over: make(chan struct{})}
	for i, l := range framesPerSecond {
		f.limits[i] = rate.NewLimiter(l.rate, l.burst)
		f.limits[i].AllowN(now, 0)
	}
	f.proven.Store(!c.floods.prove)
	return f, connInfo{info, f}, nil
}

func (c *floodCreds) Clone() credentials.TransportCredentials {
	return &floodCreds{c.TransportCredentials.Clone(), c.floods}
}

// connInfo is what is known of a connection's other end, and the connection.
type connInfo struct {
	credentials.AuthInfo
	conn *floodConn
}

// floodConn reads frames' heads as they pass.
type floodConn struct {
	net.Conn
	floods  *Floods
	proven  atomic.Bool // somebody has proved who he is in a call
	strikes atomic.Int64
	ending  atomic.Bool // set under floods.unfinished's lock: it will be closed soon, and what comes is nobody's

	head   [frameHeadBytes]byte
	have   int // of head
	skip   int // bytes until the next head
	limits [frameKindsSlow]*rate.Limiter

	streams inbounds
	written heads

	once sync.Once
	over chan struct{} // closed by Close

	good          Verdict // of its certificate
	holds         holds
	lastPrincipal atomic.Pointer[string] // that was counted; of calls by it nothing needs to be looked up
	// Of floods.principals, under its lock:
	principals      []string // whose connection it is
	refused, closed bool     // it takes no further calls
	uncounted       bool     // of floods.unfinished, under its lock: it is closed, or will be at once
}

var errFlood = errors.New("closed: it sent many more frames that carry nothing than any client needs")

// Read implements net.Conn.
func (c *floodConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	now := time.Now()
	wait := c.scan(p[:n], now)
	if bad := c.settle(now); bad != nil || c.ending.Load() {
		<-c.over
		return 0, errUnfinished
	}
	switch {
	case wait > floodDelayMax:
		c.floods.closed.Add(1)
		_ = c.Close()
		return 0, errFlood
	case wait > 0:
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-c.over:
		}
	}
	return n, err
}

// Write implements net.Conn. It looks for the ends of streams.
func (c *floodConn) Write(p []byte) (int, error) {
	if c.floods.unfinished.max == 0 {
		return c.Conn.Write(p)
	}
	c.written.scan(p, c.noteWritten)
	_ = c.settle(time.Now()) // this can only be less
	return c.Conn.Write(p)
}

func (c *floodConn) noteWritten(kind, flags byte, id uint32) {
	if kind == frameReset || kind == frameHeaders && flags&flagDataLast != 0 {
		c.streams.refused(id)
	}
}

// settle counts what the messages of the connection hold that no call has taken.
func (c *floodConn) settle(now time.Time) error {
	change := c.streams.told(c.floods.unfinished.untold)
	if change == (holding{}) {
		return nil
	}
	return c.floods.unfinished.add(c, change, c.floods.ms(now))
}

// goAwayTimeDefault is how long a connection that is to be closed may take to say why, goAwayRestsDefault how long that rests with the client: a
// connection that is closed while bytes of his are unread forgets what he has not read.
const (
	goAwayTimeDefault  = 200 * time.Millisecond
	goAwayRestsDefault = 100 * time.Millisecond
)

// goAway closes the connection and tells the client why (RFC 9113 §6.8, ENHANCE_YOUR_CALM), if he reads. What else is written may come
// between: then he is told nothing. Nothing that he sends is received any more (ending).
func (c *floodConn) goAway(why string) {
	const enhanceYourCalm = 0xb
	b := binary.BigEndian.AppendUint32(nil, uint32(8+len(why))<<8|frameGoAway)
	b = append(b, make([]byte, 1+4)...)                 // no flags, stream 0
	b = binary.BigEndian.AppendUint32(b, math.MaxInt32) // any stream may have been processed
	b = append(binary.BigEndian.AppendUint32(b, enhanceYourCalm), why...)
	_ = c.SetWriteDeadline(time.Now().Add(c.floods.goAwayTime))
	if _, err := c.Conn.Write(b); err == nil {
		select {
		case <-time.After(c.floods.goAwayRests):
		case <-c.over:
		}
	}
	_ = c.Close()
}

// Close implements net.Conn.
func (c *floodConn) Close() error {
	c.shut()
	return c.Conn.Close()
}

// shut ends reading and counting; it waits for nothing. Close takes up to seconds: an alert is written to who may not read it.
func (c *floodConn) shut() {
	c.once.Do(func() {
		close(c.over)
		c.floods.principals.leave(c)
		c.holds.close()
		c.floods.unfinished.leave(c)
		_ = c.SetReadDeadline(time.Unix(1, 0)) // gRPC lets go of what it holds now
	})
}

// scan passes over frames that came now and tells how long they must wait.
func (c *floodConn) scan(p []byte, now time.Time) (wait time.Duration) {
	var counts [frameKindsSlow]int
	ms := c.floods.ms(now)
	for len(p) > 0 {
		if c.skip > 0 {
			n := min(c.skip, len(p))
			if c.skip -= n; c.head[3] == frameData && c.floods.unfinished.max > 0 {
				c.streams.data(p[:n], c.skip, c.head[4]&flagDataLast != 0, streamOf(c.head[:]), ms)
			}
			p = p[n:]
			continue
		}
		n := copy(c.head[c.have:], p)
		c.have, p = c.have+n, p[n:]
		if c.have == frameHeadBytes {
			c.have, c.skip = 0, int(binary.BigEndian.Uint32(c.head[:])>>8)
			if c.floods.unfinished.max > 0 {
				c.streams.begin(c.head[3], c.head[4], streamOf(c.head[:]), c.skip)
			}
			if kind := c.kind(); kind >= 0 {
				counts[kind]++
			}
		}
	}
	for kind, n := range counts {
		for l := c.limits[kind]; n > 0; {
			part := min(n, l.Burst())
			wait = max(wait, l.ReserveN(now, part).DelayFrom(now))
			n -= part
		}
	}
	return wait
}

// kind is the bound that the frame in head counts for, -1 for none.
func (c *floodConn) kind() int {
	switch c.head[3] {
	case frameData:
		if c.skip == 0 && c.head[4]&flagDataLast == 0 {
			return kindIdle
		}
		return -1
	case frameHeaders:
		if !c.proven.Load() {
			return kindUnknown
		}
		return -1
	case frameReset:
		return kindReset
	case framePing, frameWindow:
		return kindWindow
	case frameGoAway:
		return -1
	}
	return kindIdle
}
