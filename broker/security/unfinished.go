package security

import (
	"encoding/binary"
	"errors"
	"sync"
	"time"
)

// gRPC before each message: a byte of flags, four of its length.
const messageHeadBytes = 5

// Bounds of unfinished messages.
const (
	UnfinishedBytesDefault = 256 << 20 // of all connections, where nobody sets one
	unfinishedConnMin      = 20 << 20  // what one connection may hold at the least: its longest message
)

// unfinished bounds the bytes of messages that no call has taken, of one connection and of all: their end has not come, or the call does
// not receive, as when its answers are not read. gRPC keeps them: up to its window of each stream, and the whole of each message that a
// call has begun to take. Beyond a bound a connection is closed.
type unfinished struct {
	connMax, max int64 // 0: no bound
	untold       int64 // a connection tells of so many bytes at once, and less when it likes

	mu    sync.Mutex
	all   int64
	conns map[*floodConn]*pending
}

// pending is what one connection holds.
type pending struct {
	bytes int64     // less than 0 while what a stream took is told after its end
	taken time.Time // when a message of it was last taken, or its first began
}

var errUnfinished = errors.New("OVERLOADED: closed, its messages that no call has taken are more than it may hold: end them, and read the answers")

// add notes that a connection holds n bytes more, and whether one of its messages was taken. It closes connections until the bounds
// hold: c itself if it is beyond its own, else those that have held the most for the longest time without any message taken.
func (u *unfinished) add(c *floodConn, n int64, taken bool, now time.Time) error {
	u.mu.Lock()
	if c.uncounted {
		u.mu.Unlock()
		return nil
	}
	p := u.conns[c]
	if p == nil {
		p = &pending{taken: now}
		if u.conns == nil {
			u.conns = map[*floodConn]*pending{}
		}
		u.conns[c] = p
	}
	if taken && now.After(p.taken) {
		p.taken = now
	}
	p.bytes += n
	u.all += n
	if p.bytes == 0 {
		delete(u.conns, c)
	}
	var bad []*floodConn
	if p.bytes > u.connMax {
		bad = append(bad, c)
		u.forget(c)
	}
	for u.all > u.max {
		worst := u.worst(now)
		if worst == nil { // what is counted is nobody's: a fault of ours, which is no reason to end the broker
			break
		}
		bad = append(bad, worst)
		u.forget(worst)
	}
	u.mu.Unlock()
	var err error
	for _, b := range bad {
		b.floods.closed.Add(1)
		b.floods.overfull.Add(1)
		if b == c {
			err = errUnfinished
		}
		go b.goAway(errUnfinished.Error()) // ends within seconds: at most this and one alert are written
	}
	return err
}

// worst is the connection with the most bytes times the time since a message of it was last taken, nil if none is counted. now may be
// before that: it was read before mu was locked. mu is held.
func (u *unfinished) worst(now time.Time) (worst *floodConn) {
	most := -1.0
	for c, p := range u.conns {
		if weight := float64(p.bytes) * (max(now.Sub(p.taken), 0) + 10*time.Millisecond).Seconds(); weight > most {
			worst, most = c, weight
		}
	}
	return worst
}

// forget counts a connection no longer: it is closed, or will be. mu is held.
func (u *unfinished) forget(c *floodConn) {
	c.uncounted = true
	if p := u.conns[c]; p != nil {
		u.all -= p.bytes
		delete(u.conns, c)
	}
}

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
}

func (s *inbound) held() int64 { return s.got + s.whole }

// take passes over bytes of the stream and tells by how much the bytes held change.
func (s *inbound) take(p []byte) (change int64) {
	before := s.held()
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
	return s.held() - before
}

// inbounds are the streams of one connection that a client has opened and that have not ended, and what they hold. Who reads and who writes
// the connection use it, and calls.
type inbounds struct {
	mu      sync.Mutex
	open    map[uint32]*inbound
	change  int64 // of the bytes held, not yet told
	known   int64 // bytes held, as told
	took    bool  // a call took a message, not yet told
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

// data is told the bytes of a frame's payload in their order; left is how many of the frame follow them.
func (b *inbounds) data(p []byte, left int, last bool, id uint32) {
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
	b.change += b.current.take(p)
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

// taken is told that a call took the next message of its stream.
func (b *inbounds) taken(id uint32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.open[id]
	if s == nil || len(s.sizes) == 0 {
		return
	}
	n := messageHeadBytes + int64(s.sizes[0])
	s.sizes = s.sizes[1:]
	s.whole -= n
	b.change, b.took = b.change-n, true
	b.settled(id, s)
}

// end is told that a stream is over: what it held is held no more. mu is held.
func (b *inbounds) end(id uint32) {
	s := b.open[id]
	if s == nil {
		return
	}
	delete(b.open, id)
	b.change -= s.held()
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
func (b *inbounds) told(untold int64) (change int64, took bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if max(b.change, -b.change) < untold && !(b.took && b.known > 0) {
		return 0, false
	}
	change, took = b.change, b.took
	b.known += change
	b.change, b.took = 0, false
	return change, took
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
