package integration

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// http2Attacks are floods of frames that are each allowed, or nearly. Those on the client port come from nobody and from mallory.
var http2Attacks = []attack{
	{"rapid reset", func(s *siege) { s.frames(8, resets) }, 96 << 20, nil},
	{"endless continuation", func(s *siege) { s.frames(8, continuations) }, 96 << 20, nil},
	{"settings flood", func(s *siege) {
		s.frames(4, func(h *h2) error {
			return h.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: rand.Uint32N(1 << 20)})
		})
	}, 64 << 20, nil},
	{"ping flood", func(s *siege) {
		s.frames(4, func(h *h2) error { return h.WritePing(false, [8]byte{1}) })
	}, 64 << 20, nil},
	{"empty data", func(s *siege) {
		s.frames(4, func(h *h2) error { return h.WriteData(1, false, nil) })
	}, 64 << 20, nil},
	{"priority and window", func(s *siege) {
		s.frames(4, func(h *h2) error {
			if err := h.WritePriority(3, http2.PriorityParam{StreamDep: 5, Weight: 1}); err != nil {
				return err
			}
			return h.WriteWindowUpdate(0, 1)
		})
	}, 64 << 20, nil},
	{"messages of 4 GiB", func(s *siege) { s.frames(8, claims) }, 96 << 20, nil},
	{"messages without an end", func(s *siege) { s.frames(8, halfMessages) }, 192 << 20, nil},
	{"random bytes", randomBytes, 128 << 20, nil},
}

// h2 is a raw connection: frames as they are written.
type h2 struct {
	*http2.Framer
	conn   net.Conn
	stream uint32 // last opened
}

// dialH2 begins HTTP/2 at an address; what the broker says is read and forgotten.
func (s *siege) dialH2(i int, address, user string) (*h2, func(), error) {
	conn, err := s.secureFrom(i, address, user)
	if err != nil {
		return nil, nil, err
	}
	end := s.closeAfter(conn)
	s.wg.Go(func() { _, _ = io.Copy(io.Discard, conn) })
	h := &h2{Framer: http2.NewFramer(conn, nil), conn: conn}
	if _, err = io.WriteString(conn, http2.ClientPreface); err == nil {
		err = h.WriteSettings()
	}
	return h, end, err
}

// frames has n attackers write frames as fast as they go, to the client port as nobody and as mallory, and to the peer port as mallory.
func (s *siege) frames(n int, act func(*h2) error) {
	s.each(n, func(ctx context.Context, i int) error {
		address, user := s.target.Client, []string{"", "mallory"}[i%2]
		if i%4 == 3 {
			address = s.target.Peer
		}
		h, end, err := s.dialH2(i, address, user)
		if err != nil {
			return err
		}
		defer end()
		for ctx.Err() == nil {
			if err := act(h); err != nil {
				return err
			}
			s.did()
		}
		return errOver
	})
}

// headersOf is the header block of a call.
func headersOf(path string, more ...string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	e.SetMaxDynamicTableSizeLimit(0)
	for _, f := range [][2]string{{":method", "POST"}, {":scheme", "https"}, {":path", path}, {":authority", "127.0.0.1"}, {"content-type", "application/grpc"}, {"te", "trailers"}} {
		_ = e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	for i := 0; i+1 < len(more); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: more[i], Value: more[i+1]})
	}
	return b.Bytes()
}

// open begins a stream with a call.
func (h *h2) open(path string, more ...string) error {
	if h.stream == 0 {
		h.stream = 1
	} else {
		h.stream += 2
	}
	return h.WriteHeaders(http2.HeadersFrameParam{StreamID: h.stream, BlockFragment: headersOf(path, more...), EndHeaders: true})
}

const listTopics = "/lograft.v1.TopicService/ListTopics"

// resets opens a stream and takes it back at once (CVE-2023-44487).
func resets(h *h2) error {
	if err := h.open(listTopics); err != nil {
		return err
	}
	return h.WriteRSTStream(h.stream, http2.ErrCodeCancel)
}

// continuations adds to the headers of one call for ever (CVE-2023-45288).
func continuations(h *h2) error {
	if h.stream == 0 {
		h.stream = 1
		return h.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: headersOf(listTopics), EndHeaders: false})
	}
	var b bytes.Buffer
	_ = hpack.NewEncoder(&b).WriteField(hpack.HeaderField{Name: "x", Value: strings.Repeat("a", 8000), Sensitive: true})
	return h.WriteContinuation(1, false, b.Bytes())
}

// claims sends the head of a message that says it is 4 GiB long, and some of it.
func claims(h *h2) error {
	if err := h.open("/lograft.v1.ProduceService/Produce"); err != nil {
		return err
	}
	return h.WriteData(h.stream, false, append([]byte{0, 0xff, 0xff, 0xff, 0xff}, make([]byte, 1000)...))
}

// halfMessages begins messages of 15 MiB on stream after stream and ends none. Nobody's are refused by their headers; the sizes are those
// that flow control lets through unread.
func halfMessages(h *h2) error {
	if h.stream >= 200 {
		time.Sleep(100 * time.Millisecond)
		return nil
	}
	if err := h.open("/lograft.v1.AccessService/Authenticate"); err != nil {
		return err
	}
	part := append([]byte{0, 0, 0xf0, 0, 0}, make([]byte, 16<<10-5)...)
	for range 12 {
		if err := h.WriteData(h.stream, false, part); err != nil {
			return err
		}
		part = part[:cap(part)]
	}
	return nil
}

// randomBytes sends what is no protocol to every listener: in place of TLS, after TLS in place of HTTP/2, and in place of frames.
func randomBytes(s *siege) {
	s.each(6, func(_ context.Context, i int) error {
		rng := rand.NewChaCha8([32]byte{byte(i)})
		junk := make([]byte, 64<<10)
		_, _ = rng.Read(junk)
		address := s.listeners()[i%3]
		var conn net.Conn
		var err error
		if i < 3 {
			conn, err = s.from(i, address)
		} else {
			conn, err = s.secureFrom(i, address, "mallory")
		}
		if err != nil {
			return err
		}
		defer s.closeAfter(conn)()
		_ = conn.SetDeadline(time.Now().Add(500 * time.Millisecond))
		if i >= 3 && rng.Uint64()%2 == 0 {
			_, _ = io.WriteString(conn, http2.ClientPreface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
		}
		_, _ = conn.Write(junk) // the broker may hang up at any byte
		_, _ = io.Copy(io.Discard, conn)
		s.did()
		return nil
	})
}
