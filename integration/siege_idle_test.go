package integration

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"golang.org/x/net/http2"
)

// idleAttacks hold what they have opened. Each has a thousand connections to every listener, from addresses of their own.
var idleAttacks = []attack{
	{"silent before TLS", func(s *siege) { s.hold(3000, func(i int) (net.Conn, error) { return s.from(i, s.listeners()[i%3]) }) }, 96 << 20, nil},
	{"silent after TLS", func(s *siege) {
		s.hold(1500, func(i int) (net.Conn, error) { return s.secureFrom(i, s.listeners()[i%3], "mallory") })
	}, 192 << 20, nil},
	{"silent after the preface", func(s *siege) {
		s.hold(1500, func(i int) (net.Conn, error) {
			conn, err := s.secureFrom(i, s.listeners()[i%2], "mallory")
			if err == nil {
				_, err = io.WriteString(conn, http2.ClientPreface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
			}
			return conn, err
		})
	}, 256 << 20, nil},
	{"slow HTTP", slowHTTP, 64 << 20, nil},
	{"HTTP that is not read", unreadHTTP, 192 << 20, nil},
}

// hold opens connections, 30 at a time, and leaves them open. What is refused is tried no more: that is an answer.
func (s *siege) hold(n int, open func(i int) (net.Conn, error)) {
	next := make(chan int)
	s.wg.Go(func() {
		defer close(next)
		for i := range n {
			select {
			case next <- i:
			case <-s.ctx.Done():
				return
			}
		}
	})
	for range 30 {
		s.wg.Go(func() {
			for i := range next {
				conn, err := open(i)
				if conn != nil {
					s.wg.Go(func() { <-s.ctx.Done(); conn.Close() })
				}
				if err == nil {
					s.did()
				}
			}
		})
	}
}

// httpFrom is a TLS connection to the HTTP port.
func (s *siege) httpFrom(i int, user string) (net.Conn, error) {
	config, err := s.c.TLS(user)
	if err != nil {
		return nil, err
	}
	config.ServerName = "127.0.0.1"
	conn, err := s.from(i, s.target.HTTP)
	if err != nil {
		return nil, err
	}
	return tls.Client(conn, config), nil
}

// slowHTTP sends headers, and bodies that nobody asked for, byte by byte.
func slowHTTP(s *siege) {
	s.each(200, func(ctx context.Context, i int) error {
		conn, err := s.httpFrom(i, "")
		if err != nil {
			return err
		}
		defer s.closeAfter(conn)()
		begin := "GET /metrics HTTP/1.1\r\nHost: x\r\n"
		if i%2 == 0 {
			begin = "POST /debug/pprof/symbol HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n"
		}
		if _, err := io.WriteString(conn, begin); err != nil {
			return err
		}
		for ctx.Err() == nil {
			if _, err := io.WriteString(conn, "x"); err != nil {
				return err
			}
			s.did()
			time.Sleep(200 * time.Millisecond)
		}
		return errOver
	})
}

// unreadHTTP asks for the largest answers, many at a time, and reads none.
func unreadHTTP(s *siege) {
	request := strings.Repeat(fmt.Sprintf("GET /metrics HTTP/1.1\r\nHost: %s\r\n\r\n", s.target.HTTP), 50)
	s.hold(200, func(i int) (net.Conn, error) {
		conn, err := s.httpFrom(i, SuperUser)
		if err == nil {
			_, err = io.WriteString(conn, request)
		}
		return conn, err
	})
}
