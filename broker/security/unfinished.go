package security

import (
	"encoding/binary"
	"errors"
	"sync"
)

// gRPC before each message: a byte of flags, four of its length.
const messageHeadBytes = 5

// Bounds of unfinished messages.
const (
	UnfinishedBytesDefault = 256 << 20 // of all connections, where nobody sets one
	unfinishedConnMin      = 20 << 20  // what one connection may hold at the least: its longest message
)

// Bounds of connections that are told why they are closed, which takes them some time; others are closed at once.
const (
	gentleMax      = 16 // at a time
	gentleMaxShare = 4  // what they hold together is at most max divided by this, if they are more than one
)

// unfinished bounds the bytes of messages that no call has taken, of one connection and of all: their end has not come, or the call does
// not receive, as when its answers are not read. gRPC keeps them: up to its window of each stream, and the whole of each message that a
// call has begun to take. Beyond a bound a connection is closed.
type unfinished struct {
	connMax, max int64 // 0: no bound
	untold       int64 // a connection tells of so many bytes at once, and less when it likes

	mu     sync.Mutex
	all    int64 // bytes that connections hold, those among them that will be closed
	ending int64 // of all: of those that are told why they will be closed
	gentle int   // connections that are told why they will be closed
	conns  map[*floodConn]*pending
}

// pending is what one connection holds.
type pending struct {
	holding
	ending bool // it is told why it will be closed: it is no candidate, and counts in all until it is
}

// holding is what a connection's streams hold, or a change of it.
type holding struct {
	bytes int64 // less than 0 while what a stream took is told after its end
	// moment is the sum of each stream's bytes times when its backlog began (ms). It may wrap around, as sums and products of it do: bytes x
	// ms of age, which is what it is for, are within 63 bits.
	moment int64
}

func (h *holding) add(change holding) {
	h.bytes += change.bytes
	h.moment += change.moment
}

// weight is bytes times ms since they came; now may be before that. Bytes that have just come weigh a little, too.
func (h *holding) weight(now int64) int64 { return max(h.bytes*now-h.moment, 0) + 10*max(h.bytes, 0) }

var errUnfinished = errors.New("OVERLOADED: closed, its messages that no call has taken are more than it may hold: end them, and read the answers")

// doomed is a connection that is to be closed.
type doomed struct {
	conn   *floodConn
	gentle bool
}

// add notes what a connection holds more. It closes connections until the bounds hold for the others: c itself if it is beyond its own,
// else those that have held the most for the longest time. now is ms since some time.
func (u *unfinished) add(c *floodConn, change holding, now int64) (err error) {
	u.mu.Lock()
	bad := u.count(c, change, now)
	u.mu.Unlock()
	for _, b := range bad {
		b.conn.floods.closed.Add(1)
		b.conn.floods.overfull.Add(1)
		if b.conn == c {
			err = errUnfinished
		}
		if b.gentle {
			go b.conn.goAway(errUnfinished.Error()) // ends within seconds: at most this and one alert are written
		} else {
			b.conn.shut()
			go func() { _ = b.conn.Close() }() // ends within seconds: at most one alert is written
		}
	}
	return err
}

// count is add, but for closing. mu is held.
func (u *unfinished) count(c *floodConn, change holding, now int64) (bad []doomed) {
	if c.uncounted {
		return nil
	}
	p := u.conns[c]
	if p == nil {
		p = &pending{}
		if u.conns == nil {
			u.conns = map[*floodConn]*pending{}
		}
		u.conns[c] = p
	}
	p.add(change)
	u.all += change.bytes
	if p.ending {
		u.ending += change.bytes
		return nil
	}
	if p.holding == (holding{}) {
		delete(u.conns, c)
	}
	if p.bytes > u.connMax {
		bad = append(bad, u.end(c, p))
	}
	for u.all-u.ending > u.max {
		worst, p := u.worst(now)
		if worst == nil { // what is counted is nobody's: a fault of ours, which is no reason to end the broker
			break
		}
		bad = append(bad, u.end(worst, p))
	}
	return bad
}

// worst is the connection with the most bytes times the time that they have been there, nil if none is counted. mu is held.
func (u *unfinished) worst(now int64) (worst *floodConn, of *pending) {
	most := int64(-1)
	for c, p := range u.conns {
		if p.ending {
			continue
		}
		if weight := p.weight(now); weight > most {
			worst, of, most = c, p, weight
		}
	}
	return worst, of
}

// end makes a connection one that will be closed: nothing that it sends is received from now on. What it holds counts until it leaves. Many
// at a time, or with much, are closed without a word, and at once: they leave here. mu is held.
func (u *unfinished) end(c *floodConn, p *pending) doomed {
	gentle := u.gentle == 0 || u.gentle < gentleMax && u.ending+p.bytes <= u.max/gentleMaxShare
	c.ending.Store(true)
	if gentle {
		p.ending = true
		u.ending += p.bytes
		u.gentle++
	} else {
		u.forget(c)
	}
	return doomed{c, gentle}
}

// forget counts a connection no longer. mu is held.
func (u *unfinished) forget(c *floodConn) {
	c.uncounted = true
	p := u.conns[c]
	if p == nil {
		return
	}
	delete(u.conns, c)
	u.all -= p.bytes
	if p.ending {
		u.ending -= p.bytes
		u.gentle--
	}
}

// leave is told that a connection is closed.
func (u *unfinished) leave(c *floodConn) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.forget(c)
}

// inbound is a stream of one connection on which the client may send: where in a message it is.
type inbound struct {
	head [messageHeadBytes]byte
	have int    // of head
	left uint32 // of the message behind it
	got  int64  // bytes of a message that is not here to its end, its head among them

	whole  int64    // bytes of messages that are here to their ends and that no call has taken, their heads among them
	sizes  []uint32 // of these, in order, without their heads
	closed bool     // the client sends no more

	// since is when the oldest message that no call has taken came, or a little later (ms): of a backlog's first behind messages, all that
	// were there when the backlog before it had been taken. So who takes one small message after the other makes the rest no younger.
	since  int64
	behind int
}

func (s *inbound) held() int64 { return s.got + s.whole }

// moment is holding.moment of the stream.
func (s *inbound) moment() int64 { return s.held() * s.since }

// begin begins a backlog with all that is here now.
func (s *inbound) begin(now int64) {
	s.since, s.behind = now, len(s.sizes)
	if s.got > 0 {
		s.behind++
	}
}

// take passes over bytes of the stream that came now and tells by how much what is held changes.
func (s *inbound) take(p []byte, now int64) (change holding) {
	before := holding{s.held(), s.moment()}
	for len(p) > 0 {
		if s.have < messageHeadBytes {
			n := copy(s.head[s.have:], p)
			s.have, s.got, p = s.have+n, s.got+int64(n), p[n:]
			if s.have < messageHeadBytes {
				break
			}
			s.left = binary.BigEndian.Uint32(s.head[1:])
		}
		n := min(int64(s.left), int64(len(p)))
		s.left, s.got, p = s.left-uint32(n), s.got+n, p[n:]
		if s.left == 0 {
			s.have, s.got = 0, 0
			size := binary.BigEndian.Uint32(s.head[1:])
			s.whole, s.sizes = s.whole+messageHeadBytes+int64(size), append(s.sizes, size)
		}
	}
	if before.bytes == 0 {
		s.begin(now)
	}
	return holding{s.held() - before.bytes, s.moment() - before.moment}
}

// inbounds are the streams of one connection that a client has opened and that have not ended, and what they hold. Who reads and who writes
// the connection use it, and calls.
type inbounds struct {
	mu      sync.Mutex
	open    map[uint32]*inbound
	change  holding // not yet told
	known   int64   // bytes held, as told
	took    bool    // a call took a message, not yet told
	current *inbound
	padding int // bytes at the end of the current frame that are none of a message; -1: the next byte says how many
}

// begin is told the head of every frame that a client sends, of a length, and of stream id.
func (b *inbounds) begin(kind, flags byte, id uint32, length int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.current = nil
	switch kind {
	case frameHeaders:
		if b.open == nil {
			b.open = map[uint32]*inbound{}
		}
		if _, ok := b.open[id]; !ok && flags&flagDataLast == 0 {
			b.open[id] = &inbound{}
		} else if flags&flagDataLast != 0 {
			b.last(id)
		}
	case frameReset:
		b.end(id)
	case frameData:
		b.current, b.padding = b.open[id], 0
		if flags&flagPadded != 0 {
			b.padding = -1
		}
		if length == 0 && flags&flagDataLast != 0 {
			b.last(id)
		}
	}
}

// data is told the bytes of a frame's payload in their order, when they come (ms); left is how many of the frame follow them.
func (b *inbounds) data(p []byte, left int, last bool, id uint32, now int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.current == nil {
		return
	}
	if b.padding < 0 && len(p) > 0 {
		b.padding, p = int(p[0]), p[1:]
	}
	if over := b.padding - left; over > 0 { // the end of p is padding
		p = p[:max(len(p)-over, 0)]
	}
	b.change.add(b.current.take(p, now))
	if last && left == 0 {
		b.last(id)
	}
}

// last is told that a client sends no more on a stream. What it holds is held until the call takes it, or is over. mu is held.
func (b *inbounds) last(id uint32) {
	if s := b.open[id]; s != nil {
		s.closed = true
		b.settled(id, s)
	}
}

// settled forgets a stream on which nothing is held and nothing comes. mu is held.
func (b *inbounds) settled(id uint32, s *inbound) {
	if s.closed && s.held() == 0 {
		b.end(id)
	}
}

// taken is told that a call took the next message of its stream now (ms).
func (b *inbounds) taken(id uint32, now int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.open[id]
	if s == nil || len(s.sizes) == 0 {
		return
	}
	n, moment := messageHeadBytes+int64(s.sizes[0]), s.moment()
	s.sizes = s.sizes[1:]
	s.whole -= n
	if s.behind--; s.behind <= 0 {
		s.begin(now)
	}
	b.change.add(holding{-n, s.moment() - moment})
	b.took = true
	b.settled(id, s)
}

// end is told that a stream is over: what it held is held no more. mu is held.
func (b *inbounds) end(id uint32) {
	s := b.open[id]
	if s == nil {
		return
	}
	delete(b.open, id)
	b.change.add(holding{-s.held(), -s.moment()})
	if b.current == s {
		b.current = nil
	}
}

// refused is told that the broker has ended a stream.
func (b *inbounds) refused(id uint32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.end(id)
}

// told returns what has changed since it was last asked, if that is as much as untold: small messages that are taken at once are told
// to nobody. A connection of which something is known tells each time that a message was taken.
func (b *inbounds) told(untold int64) (change holding) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if max(b.change.bytes, -b.change.bytes) < untold && !(b.took && b.known > 0) {
		return holding{}
	}
	change = b.change
	b.known += change.bytes
	b.change, b.took = holding{}, false
	return change
}

// heads passes over the frames that the broker writes.
type heads struct {
	head [frameHeadBytes]byte
	have int
	skip int
}

// scan calls each with the kind, flags and stream of every frame that begins in p.
func (h *heads) scan(p []byte, each func(kind, flags byte, id uint32)) {
	for len(p) > 0 {
		if h.skip > 0 {
			n := min(h.skip, len(p))
			h.skip, p = h.skip-n, p[n:]
			continue
		}
		n := copy(h.head[h.have:], p)
		h.have, p = h.have+n, p[n:]
		if h.have == frameHeadBytes {
			h.have, h.skip = 0, int(binary.BigEndian.Uint32(h.head[:])>>8)
			each(h.head[3], h.head[4], streamOf(h.head[:]))
		}
	}
}

// streamOf is the stream that a frame's head names.
func streamOf(head []byte) uint32 { return binary.BigEndian.Uint32(head[5:]) &^ (1 << 31) }
