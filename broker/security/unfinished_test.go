package security

import (
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
	"time"
)

// frameOn is a frame of a stream with a payload.
func frameOn(stream uint32, kind, flags byte, payload []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
	b = append(b, flags)
	return append(binary.BigEndian.AppendUint32(b, stream), payload...)
}

// message is one of gRPC, of a length.
func message(n int) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(n)), make([]byte, n)...)
}

// twin is a client that knows what it has sent: the bytes of each open stream since its last whole message, and the whole messages that
// no call has taken.
type twin struct {
	rng   *rand.Rand
	send  map[uint32][]byte // what is left of the message that is being sent, while the stream is not ended by the client
	held  map[uint32]int
	whole map[uint32][]int // sizes
	next  uint32
}

// act is what a client does next, and the broker: a frame that the client sends, the stream that the broker ends or of which a call takes a
// message, 0 for none.
type act struct {
	sent         []byte
	ends, taking uint32
}

func (w *twin) act() act {
	var id uint32
	if ids := slices.Sorted(maps.Keys(w.held)); len(ids) > 0 {
		id = ids[w.rng.IntN(len(ids))]
	}
	roll := w.rng.IntN(40)
	switch {
	case roll < 3 || id == 0:
		w.next += 2
		w.send[w.next], w.held[w.next] = message(w.rng.IntN(50_000)), 0
		return act{sent: frameOn(w.next, frameHeaders, 4, make([]byte, 20))}
	case roll == 5:
		w.over(id)
		return act{sent: frameOn(id, frameReset, 0, make([]byte, 4))}
	case roll == 4:
		w.over(id)
		return act{ends: id}
	case roll < 16:
		if n := len(w.whole[id]); n > 0 {
			w.whole[id] = w.whole[id][1:]
		}
		return act{taking: id}
	case w.send[id] == nil: // he has ended it
		return act{}
	case roll < 18:
		return act{sent: w.last(id)}
	}
	data := w.piece(id, w.rng.IntN(20_000))
	if w.rng.IntN(3) == 0 {
		pad := w.rng.IntN(256)
		return act{sent: frameOn(id, frameData, flagPadded, append(append([]byte{byte(pad)}, data...), make([]byte, pad)...))}
	}
	return act{sent: frameOn(id, frameData, 0, data)}
}

// piece is the next n bytes of a stream, or as many as end its message.
func (w *twin) piece(id uint32, n int) []byte {
	n = min(n, len(w.send[id]))
	data := w.send[id][:n]
	w.send[id], w.held[id] = w.send[id][n:], w.held[id]+n
	if len(w.send[id]) == 0 {
		w.whole[id] = append(w.whole[id], w.held[id])
		w.held[id] = 0
		w.send[id] = message(w.rng.IntN(50_000))
	}
	return data
}

// last ends a stream: with headers, an empty frame, or the last that it sends.
func (w *twin) last(id uint32) []byte {
	var data []byte
	kind := byte(frameData)
	switch w.rng.IntN(3) {
	case 0:
		kind = frameHeaders
	case 1:
		data = w.piece(id, 1000)
	}
	w.send[id] = nil
	return frameOn(id, kind, flagDataLast, data)
}

func (w *twin) over(id uint32) {
	delete(w.send, id)
	delete(w.held, id)
	delete(w.whole, id)
}

func (w *twin) all() (n int64) {
	for _, held := range w.held {
		n += int64(held)
	}
	for _, sizes := range w.whole {
		for _, size := range sizes {
			n += int64(size)
		}
	}
	return n
}

// However a client's frames are cut into pieces, what its messages hold that no call has taken is counted to the byte, be they whole or not:
// padding is none of it, what its streams hold that it ends waits for the call, and those that are over hold nothing. When the connection
// is closed nothing is left.
func TestUnfinishedIsCounted(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	f, c, _, _ := handshaken(t, false)
	w := &twin{rng: rng, send: map[uint32][]byte{}, held: map[uint32]int{}, whole: map[uint32][]int{}, next: 1}
	now := time.Now()
	f.unfinished.connMax, f.unfinished.max = 1<<40, 1<<40
	c.scan([]byte(preface), now)
	most := int64(0)
	for i := range 5000 {
		a := w.act()
		for len(a.sent) > 0 {
			n := min(1+rng.IntN(9000), len(a.sent))
			c.scan(a.sent[:n], now)
			a.sent = a.sent[n:]
		}
		if a.ends > 0 {
			kind, flags := byte(frameReset), byte(0)
			if rng.IntN(2) == 0 {
				kind, flags = frameHeaders, flagDataLast
			}
			said := frameOn(a.ends, kind, flags, make([]byte, 4))
			at := rng.IntN(len(said))
			for _, p := range [][]byte{said[:at], said[at:]} {
				c.written.scan(p, c.noteWritten)
			}
		}
		if a.taking > 0 {
			c.streams.taken(a.taking, f.ms(now))
		}
		if err := c.settle(now); err != nil {
			t.Fatal(err)
		}
		most = max(most, w.all())
		if got, want := f.Unfinished(), w.all(); got != want {
			t.Fatalf("seed %d, after act %d: %d bytes are counted, the client has sent %d", seed, i, got, want)
		}
		moment := int64(0)
		for id, x := range c.streams.open {
			if moment += x.moment(); x.held() > 0 && x.behind == 0 || x.since > f.ms(now) {
				t.Fatalf("seed %d, after act %d: stream %d holds %d bytes since %d ms, %d messages before the next backlog", seed, i, id, x.held(), x.since, x.behind)
			}
		}
		if p := f.unfinished.conns[c]; p != nil && p.moment != moment || p == nil && moment != 0 {
			t.Fatalf("seed %d, after act %d: %+v is counted, the moment is %d", seed, i, p, moment)
		}
		now = now.Add(time.Duration(rng.IntN(20)) * time.Millisecond)
	}
	if most < 50_000 {
		t.Errorf("at most %d bytes were held: the test shows little", most)
	}
	_ = c.Close()
	if got := f.Unfinished(); got != 0 {
		t.Errorf("%d bytes are counted when the connection is closed", got)
	}
}

// Small messages that are taken as they come are told to nobody; what is held is, as soon as it is much, and so is that it was taken.
func TestUnfinishedIsToldInParts(t *testing.T) {
	f, c, _, _ := handshaken(t, false)
	f.unfinished.untold = untoldBytes
	now := time.Now()
	c.scan(append([]byte(preface), frameOn(1, frameHeaders, 4, nil)...), now)
	send := func(n int) int64 {
		c.scan(frameOn(1, frameData, 0, message(n)), now)
		if err := c.settle(now); err != nil {
			t.Fatal(err)
		}
		return f.Unfinished()
	}
	for range 100 {
		if held := send(1000); held != 0 {
			t.Fatalf("%d bytes are told of one small message", held)
		}
		c.streams.taken(1, f.ms(now))
	}
	var held int64
	for range 20 {
		held = send(995)
	}
	if held != 17_000 { // 17 are more than 16 KiB, the others are less
		t.Errorf("%d bytes are told of 20 messages of 1000", held)
	}
	for range 20 {
		c.streams.taken(1, f.ms(now))
	}
	if err := c.settle(now); err != nil || f.Unfinished() != 0 {
		t.Errorf("%d bytes are told when all is taken: %v", f.Unfinished(), err)
	}
}

// isClosed waits until a connection is closed by the broker.
func isClosed(t *testing.T, other net.Conn) {
	t.Helper()
	_ = other.SetReadDeadline(time.Now().Add(30 * time.Second))
	var timeout net.Error
	if _, err := other.Read(make([]byte, 1)); errors.As(err, &timeout) && timeout.Timeout() {
		t.Error("the connection is not closed")
	}
}

// staying is what the connections hold that will not be closed.
func (f *Floods) staying() int64 {
	f.unfinished.mu.Lock()
	defer f.unfinished.mu.Unlock()
	return f.unfinished.all - f.unfinished.ending
}

// A connection that holds too much is closed. If all hold too much together, those that hold most and end nothing go, not the one that
// came last nor those whose messages are taken, and what is left is within the bound.
func TestUnfinishedIsBounded(t *testing.T) {
	f, c, _, other := handshaken(t, false)
	f.unfinished.connMax, f.unfinished.max = 1000, 2000
	now := time.Now()
	connBytes := func(c *floodConn) int64 { return f.unfinished.conns[c].bytes }
	half := func(c *floodConn, id uint32, n int) error {
		all := append(frameOn(id, frameHeaders, 4, nil), frameOn(id, frameData, 0, message(10_000)[:n])...)
		c.scan(all, now)
		return c.settle(now)
	}
	open := func() (*floodConn, net.Conn) {
		_, c, _, other := handshaken(t, false)
		c.floods = f
		c.scan([]byte(preface), now)
		return c, other
	}
	c.scan([]byte(preface), now)
	if err := half(c, 1, 1000); err != nil {
		t.Errorf("as much as one may hold: %v", err)
	}
	if err := half(c, 3, 10); !errors.Is(err, errUnfinished) {
		t.Errorf("more than one may hold: %v", err)
	}
	if !c.ending.Load() || f.Unfinished() != 1010 {
		t.Errorf("%d bytes are held until it is closed, want 1010; receives nothing: %t", f.Unfinished(), c.ending.Load())
	}
	isClosed(t, other)
	for deadline := time.Now().Add(30 * time.Second); f.Unfinished() > 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if f.Unfinished() != 0 || f.Closed() != 1 {
		t.Errorf("%d bytes are held, %d connections were closed; want 0 and 1", f.Unfinished(), f.Closed())
	}
	_ = half(c, 5, 100)
	if f.Unfinished() != 0 {
		t.Error("what came last on a closed connection is counted for ever")
	}

	good, _ := open()
	if err := half(good, 1, 900); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Minute)
	var bad []net.Conn
	for range 2 {
		c, other := open()
		if err := half(c, 1, 500); err != nil {
			t.Fatal(err)
		}
		bad = append(bad, other)
	}
	now = now.Add(time.Minute)
	if good.scan(frameOn(1, frameData, 0, message(10_000)[900:]), now); connBytes(good) != 900 {
		t.Fatal("it is told before it is settled")
	}
	good.streams.taken(1, f.ms(now))
	if good.settle(now) != nil { // taken, and the next one begins
		t.Fatal("a client was closed whose messages are taken")
	}
	for id := uint32(3); id < 9; id += 2 {
		if err := half(good, id, 300); err != nil {
			t.Errorf("a client of which a message was taken just now was closed for what others hold: %v", err)
		}
	}
	last, _ := open()
	if err := half(last, 1, 200); err != nil {
		t.Errorf("the client that came last was closed for what others hold: %v", err)
	}
	if f.staying() > 2000 || f.Closed() != 2 || f.Overfull() != 2 {
		t.Errorf("%d bytes are held, %d connections were closed, %d for that; want at most 2000 and 2", f.staying(), f.Closed(), f.Overfull())
	}
	closed := 0
	for _, other := range bad {
		_ = other.SetReadDeadline(time.Now().Add(time.Second))
		var timeout net.Error
		if _, err := other.Read(make([]byte, 1)); !errors.As(err, &timeout) {
			closed++
		}
	}
	if closed != 1 {
		t.Errorf("%d of those that end nothing were closed, want 1", closed)
	}
}

// What a stream holds that the broker ends is counted no more, whoever ends it: the connection sees the end pass in what is written.
func TestEndedByTheBrokerIsNotCounted(t *testing.T) {
	f, c, _, other := handshaken(t, false)
	now := time.Now()
	c.scan(append([]byte(preface), append(frameOn(1, frameHeaders, 4, nil), frameOn(1, frameData, 0, message(10_000)[:500])...)...), now)
	if err := c.settle(now); err != nil || f.Unfinished() != 500 {
		t.Fatalf("%d bytes are held, want 500: %v", f.Unfinished(), err)
	}
	read := make(chan error, 1)
	reset := frameOn(1, frameReset, 0, make([]byte, 4))
	go func() {
		_, err := io.ReadFull(other, make([]byte, len(reset)))
		read <- err
	}()
	if _, err := c.Write(reset); err != nil {
		t.Fatal(err)
	}
	if err := <-read; err != nil {
		t.Fatal(err)
	}
	if f.Unfinished() != 0 {
		t.Errorf("%d bytes are held of a stream that is over", f.Unfinished())
	}
}

// Connections that were all read from after who adds bytes took its time are weighed like others: one of them goes, and the broker lives.
func TestUnfinishedSeesTimeGoBack(t *testing.T) {
	f, a, _, _ := handshaken(t, false)
	f.unfinished.connMax, f.unfinished.max = 64<<20, 64<<20
	conn := func() *floodConn {
		_, c, _, _ := handshaken(t, false)
		c.floods = f
		return c
	}
	b, c := conn(), conn()
	early := time.Now()
	late := f.ms(early.Add(30 * time.Millisecond))
	for _, x := range []struct {
		conn  *floodConn
		bytes int64
	}{{a, 31 << 20}, {b, 31 << 20}, {c, 1 << 20}} {
		if err := f.unfinished.add(x.conn, holding{x.bytes, x.bytes * late}, late); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.unfinished.add(c, holding{2 << 20, 2 << 20 * f.ms(early)}, f.ms(early)); err != nil || f.Closed() != 1 {
		t.Errorf("%v, %d connections are closed, want 1: one of the two that hold most", err, f.Closed())
	}
}

// Who holds most for the longest time goes, though calls take small messages of it all the time: on another stream, or the first of many on
// the same one. Who holds nearly as much for a moment stays.
func TestUnfinishedAgesByStream(t *testing.T) {
	for name, trickle := range map[string]bool{"another stream": false, "the same stream": true} {
		f, c, _, _ := handshaken(t, false)
		f.unfinished.connMax, f.unfinished.max = 2000, 2000
		now := time.Now()
		open := func() *floodConn {
			_, c, _, _ := handshaken(t, false)
			c.floods = f
			c.scan(append([]byte(preface), frameOn(1, frameHeaders, 4, nil)...), now)
			return c
		}
		send := func(c *floodConn, id uint32, n int, settle bool) {
			c.scan(frameOn(id, frameData, 0, message(n-messageHeadBytes)), now)
			if err := c.settle(now); settle && err != nil {
				t.Fatal(err)
			}
		}
		c.scan(append([]byte(preface), append(frameOn(1, frameHeaders, 4, nil), frameOn(3, frameHeaders, 4, nil)...)...), now)
		small := uint32(3)
		if trickle {
			small = 1
		}
		for range 100 {
			send(c, 1, 10, true)
		}
		take := func() {
			now = now.Add(time.Second)
			send(c, small, 10, true)
			c.streams.taken(small, f.ms(now))
			if err := c.settle(now); err != nil {
				t.Fatal(err)
			}
		}
		for range 60 {
			take()
		}
		good := open()
		send(good, 1, 900, true)
		take()
		last := open()
		send(last, 1, 200, false)
		if !c.ending.Load() || good.ending.Load() || last.ending.Load() {
			t.Errorf("%s: closed are: who held most %t, who held it for a moment %t, who came last %t", name, c.ending.Load(), good.ending.Load(), last.ending.Load())
		}
	}
}

// What a connection holds that is told why it is closed counts until it is: such are few, and hold little beside what all may; more are
// closed at once. Those that stay are within the bound, and none of them goes for what those hold that go.
func TestUnfinishedEndsAreBounded(t *testing.T) {
	for _, x := range []struct {
		name                 string
		max                  int64
		conns, bytes, gentle int
	}{
		{"with much", 4000, 40, 500, 2},
		{"many", 320, 200, 2, gentleMax},
		{"the largest", 4000, 5, 2000, 1},
	} {
		f := NewFloods(false, 0)
		f.unfinished.untold, f.unfinished.connMax, f.unfinished.max = 0, x.max, x.max
		f.goAwayTime = time.Hour // the clients do not read
		now := time.Now()
		stay := int(x.max) / x.bytes
		var others []net.Conn
		for i := range x.conns {
			_, c, _, other := handshaken(t, false)
			c.floods = f
			others = append(others, other)
			c.scan(append([]byte(preface), append(frameOn(1, frameHeaders, 4, nil), frameOn(1, frameData, 0, message(10_000)[:x.bytes])...)...), now)
			now = now.Add(time.Second)
			_ = c.settle(now)
			if want := int64(min(i+1, stay) * x.bytes); f.staying() != want {
				t.Fatalf("%s: %d bytes are held by those that stay, want %d", x.name, f.staying(), want)
			}
		}
		want := int64((stay + x.gentle) * x.bytes)
		if f.Unfinished() != want || f.unfinished.gentle != x.gentle || f.Overfull() != int64(x.conns-stay) {
			t.Errorf("%s: %d bytes are held, %d connections are told why, %d closed; want %d, %d, %d", x.name, f.Unfinished(), f.unfinished.gentle, f.Overfull(), want, x.gentle, x.conns-stay)
		}
		for _, other := range others {
			_ = other.Close()
		}
		for deadline := time.Now().Add(30 * time.Second); f.Unfinished() != f.staying() && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		if f.Unfinished() != f.staying() {
			t.Errorf("%s: %d bytes are held of connections that are closed", x.name, f.Unfinished()-f.staying())
		}
	}
}
