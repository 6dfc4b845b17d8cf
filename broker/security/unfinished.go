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

// unfinished bounds the bytes of messages whose end has not come, of one connection and of all. gRPC keeps them, and takes the whole of
// each message that it has begun to take. Beyond a bound a connection is closed.
type unfinished struct {
	connMax, max int64 // 0: no bound

	mu    sync.Mutex
	all   int64
	conns map[*floodConn]*pending
}

// pending is what one connection holds.
type pending struct {
	bytes int64     // less than 0 while what a stream took is told after its end
	ended time.Time // when a message of it was last received to its end, or its first began
}

var errUnfinished = errors.New("closed: it began more messages than it may hold without ending them")

// add notes that a connection holds n bytes more, and whether one of its messages has ended. It closes connections until the bounds
// hold: c itself if it is beyond its own, else those that have held the most for the longest time without ending any message.
func (u *unfinished) add(c *floodConn, n int64, ended bool, now time.Time) error {
	u.mu.Lock()
	if c.uncounted {
		u.mu.Unlock()
		return nil
	}
	p := u.conns[c]
	if p == nil {
		p = &pending{ended: now}
		if u.conns == nil {
			u.conns = map[*floodConn]*pending{}
		}
		u.conns[c] = p
	}
	if ended {
		p.ended = now
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
		bad = append(bad, worst)
		u.forget(worst)
	}
	u.mu.Unlock()
	var err error
	for _, b := range bad {
		b.floods.closed.Add(1)
		if b == c {
			err = errUnfinished
		}
		go func() { _ = b.Close() }() // within seconds: at most one alert is written
	}
	return err
}

// worst is the connection with the most bytes times the time since it last ended a message. mu is held; some connection holds bytes.
func (u *unfinished) worst(now time.Time) (worst *floodConn) {
	most := -1.0
	for c, p := range u.conns {
		if weight := float64(p.bytes) * (now.Sub(p.ended) + 10*time.Millisecond).Seconds(); weight > most {
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
}

// take passes over bytes of the stream and tells by how much the bytes held change, and whether a message ended.
func (s *inbound) take(p []byte) (change int64, ended bool) {
	before := s.got
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
			s.have, s.got, ended = 0, 0, true
		}
	}
	return s.got - before, ended
}

// inbounds are the streams of one connection that a client has opened and nobody has ended, and what they hold. Who reads and who writes
// the connection use it.
type inbounds struct {
	mu      sync.Mutex
	open    map[uint32]*inbound
	change  int64 // of the bytes held, not yet told
	ended   bool  // a message did, not yet told
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
			b.end(id)
		}
	case frameReset:
		b.end(id)
	case frameData:
		b.current, b.padding = b.open[id], 0
		if flags&flagPadded != 0 {
			b.padding = -1
		}
		if length == 0 && flags&flagDataLast != 0 {
			b.end(id)
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
	change, ended := b.current.take(p)
	b.change, b.ended = b.change+change, b.ended || ended
	if last && left == 0 {
		b.end(id)
	}
}

// end is told that a stream is over: what it held is held no more. mu is held.
func (b *inbounds) end(id uint32) {
	s := b.open[id]
	if s == nil {
		return
	}
	delete(b.open, id)
	b.change -= s.got
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

// told returns what has changed since it was last asked.
func (b *inbounds) told() (change int64, ended bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change, ended = b.change, b.ended
	b.change, b.ended = 0, false
	return change, ended
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
