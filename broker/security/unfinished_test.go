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

// twin is a client that knows what it has sent: the bytes of each open stream since its last whole message.
type twin struct {
	rng  *rand.Rand
	send map[uint32][]byte // what is left of the message that is being sent
	held map[uint32]int
	next uint32
}

// frame makes the next frame of a client, and of what the broker says about it: which stream it ends, 0 for none.
func (w *twin) frame() (sent []byte, refuses uint32) {
	var id uint32
	if ids := slices.Sorted(maps.Keys(w.send)); len(ids) > 0 {
		id = ids[w.rng.IntN(len(ids))]
	}
	switch roll := w.rng.IntN(30); {
	case roll < 3 || id == 0:
		w.next += 2
		w.send[w.next], w.held[w.next] = message(w.rng.IntN(50_000)), 0
		return frameOn(w.next, frameHeaders, 4, make([]byte, 20)), 0
	case roll == 5:
		w.over(id)
		return frameOn(id, frameReset, 0, make([]byte, 4)), 0
	case roll == 4:
		w.over(id)
		return frameOn(id, framePing, 0, make([]byte, 8)), id
	case roll == 3:
		rest := w.send[id]
		w.over(id)
		return frameOn(id, frameData, flagDataLast, rest[:min(len(rest), 1000)]), 0
	}
	n := min(w.rng.IntN(20_000), len(w.send[id]))
	data := w.send[id][:n]
	w.send[id], w.held[id] = w.send[id][n:], w.held[id]+n
	if len(w.send[id]) == 0 {
		w.held[id] = 0
		w.send[id] = message(w.rng.IntN(50_000))
	}
	if w.rng.IntN(3) == 0 {
		pad := w.rng.IntN(256)
		return frameOn(id, frameData, flagPadded, append(append([]byte{byte(pad)}, data...), make([]byte, pad)...)), 0
	}
	return frameOn(id, frameData, 0, data), 0
}

func (w *twin) over(id uint32) {
	delete(w.send, id)
	delete(w.held, id)
}

func (w *twin) all() (n int64) {
	for _, held := range w.held {
		n += int64(held)
	}
	return n
}

// However a client's frames are cut into pieces, what its unfinished messages hold is counted to the byte: padding is none of it, and
// streams that either side ends hold nothing. When the connection is closed nothing is left.
func TestUnfinishedIsCounted(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	f, c, _, _ := handshaken(t, false)
	w := &twin{rng: rng, send: map[uint32][]byte{}, held: map[uint32]int{}, next: 1}
	now := time.Now()
	c.scan([]byte(preface), now)
	most := int64(0)
	for i := range 5000 {
		all, refuses := w.frame()
		for len(all) > 0 {
			n := min(1+rng.IntN(9000), len(all))
			c.scan(all[:n], now)
			all = all[n:]
		}
		if refuses > 0 {
			kind, flags := byte(frameReset), byte(0)
			if rng.IntN(2) == 0 {
				kind, flags = frameHeaders, flagDataLast
			}
			said := frameOn(refuses, kind, flags, make([]byte, 4))
			at := rng.IntN(len(said))
			for _, p := range [][]byte{said[:at], said[at:]} {
				c.written.scan(p, c.noteWritten)
			}
		}
		if err := c.settle(now); err != nil {
			t.Fatal(err)
		}
		most = max(most, w.all())
		if got, want := f.Unfinished(), w.all(); got != want {
			t.Fatalf("seed %d, after frame %d: %d bytes are counted, the client has sent %d", seed, i, got, want)
		}
	}
	if most < 50_000 {
		t.Errorf("at most %d bytes were unfinished: the test shows little", most)
	}
	_ = c.Close()
	if got := f.Unfinished(); got != 0 {
		t.Errorf("%d bytes are counted when the connection is closed", got)
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

// A connection that holds too much is closed. If all hold too much together, those that hold most and end nothing go, not the one that
// came last nor those that end what they begin, and what is left is within the bound.
func TestUnfinishedIsBounded(t *testing.T) {
	f, c, _, other := handshaken(t, false)
	f.unfinished.connMax, f.unfinished.max = 1000, 2000
	now := time.Now()
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
	isClosed(t, other)
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
	if good.scan(frameOn(1, frameData, 0, message(10_000)[900:]), now); good.settle(now) != nil { // ended, and the next one begins
		t.Fatal("a client was closed that ends its messages")
	}
	for id := uint32(3); id < 9; id += 2 {
		if err := half(good, id, 300); err != nil {
			t.Errorf("a client that ended a message just now was closed for what others hold: %v", err)
		}
	}
	last, _ := open()
	if err := half(last, 1, 200); err != nil {
		t.Errorf("the client that came last was closed for what others hold: %v", err)
	}
	if f.Unfinished() > 2000 || f.Closed() != 2 {
		t.Errorf("%d bytes are held, %d connections were closed; want at most 2000 and 2", f.Unfinished(), f.Closed())
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
