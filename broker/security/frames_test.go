package security

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
)

// frame is one of HTTP/2, of a length, type and flags.
func frame(bytes int, kind, flags byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(bytes)<<8|uint32(kind))
	return append(append(b, flags, 0, 0, 0, 1), make([]byte, bytes)...)
}

// handshaken is a connection as a server has it after its handshake, and a context of a call on it.
func handshaken(t *testing.T, prove bool) (*Floods, *floodConn, context.Context, net.Conn) {
	t.Helper()
	client, server := net.Pipe()
	t.Cleanup(func() { client.Close(); server.Close() })
	f := NewFloods(prove, 0)
	f.unfinished.untold = 0
	conn, info, err := f.Wrap(insecure.NewCredentials()).ServerHandshake(server)
	if err != nil {
		t.Fatal(err)
	}
	return f, conn.(*floodConn), peer.NewContext(t.Context(), &peer.Peer{AuthInfo: info}), client
}

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// What good clients send does not wait, however it is cut into pieces; each kind of flood does, about as long as its rate says.
func TestFramesWait(t *testing.T) {
	for _, c := range []struct {
		name   string
		frames []byte
		n      int
		prove  bool
		waits  time.Duration
	}{
		{"data and calls", append(frame(100, frameHeaders, 4), frame(1000, frameData, 0)...), 5000, false, 0},
		{"some resets", frame(4, frameReset, 0), 500, false, 0},
		{"many resets", frame(4, frameReset, 0), 700, false, 2 * time.Second},
		{"settings", frame(6, 0x4, 0), 700, false, 2 * time.Second},
		{"empty data", frame(0, frameData, 0), 700, false, 2 * time.Second},
		{"ends of streams", frame(0, frameData, flagDataLast), 5000, false, 0},
		{"what nobody knows", frame(3, 0xfe, 0), 700, false, 2 * time.Second},
		{"windows", frame(4, frameWindow, 0), 15_000, false, 0},
		{"pings", frame(8, framePing, 0), 60_000, false, 2 * time.Second},
		{"calls without a proof", frame(50, frameHeaders, 4), 400, true, 2 * time.Second},
	} {
		for _, piece := range []int{1, 7, 64 << 10} {
			_, conn, _, _ := handshaken(t, c.prove)
			all := append([]byte(preface), bytes.Repeat(c.frames, c.n)...)
			var wait time.Duration
			now := time.Now() // all comes at once
			for len(all) > 0 {
				n := min(piece, len(all))
				wait = max(wait, conn.scan(all[:n], now))
				all = all[n:]
			}
			if wait > c.waits || wait < c.waits*9/10 {
				t.Errorf("%s in pieces of %d bytes: waits %v, want %v", c.name, piece, wait, c.waits)
			}
		}
	}
}

// A connection that would have to wait too long is closed and counted. Who proves who he is may make as many calls as he likes, until he
// has sent too much that no client sends.
func TestFloodsAreClosed(t *testing.T) {
	f, conn, _, client := handshaken(t, false)
	go func() { _, _ = client.Write(append([]byte(preface), bytes.Repeat(frame(4, frameReset, 0), 2000)...)) }()
	for {
		if _, err := conn.Read(make([]byte, 64<<10)); err != nil {
			if err != errFlood {
				t.Errorf("%v", err)
			}
			break
		}
	}
	if f.Closed() != 1 {
		t.Errorf("%d connections are closed, want 1", f.Closed())
	}
	if _, err := client.Write([]byte{0}); err != io.ErrClosedPipe {
		t.Errorf("the connection is open: %v", err)
	}

	_, conn, ctx, _ := handshaken(t, true)
	calls := append([]byte(preface), bytes.Repeat(frame(50, frameHeaders, 4), 400)...)
	proved(ctx)
	if wait := conn.scan(calls, time.Now()); wait != 0 {
		t.Errorf("calls by who has proved who he is wait %v", wait)
	}
	w := &Who{}
	for range strikesMax {
		w.Strike(ctx)
	}
	proved(ctx) // in vain
	if wait := conn.scan(calls[len(preface):], time.Now()); wait == 0 {
		t.Error("calls by who sends what no client sends do not wait")
	}
}
