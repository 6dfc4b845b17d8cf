package security

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// takes is a service of one stream that takes a message whenever it is told to.
type takes struct {
	who  *Who
	next chan struct{} // take one
	did  chan error    // RecvMsg's, after each
}

func (s *takes) stream(_ any, g grpc.ServerStream) error {
	taken := s.who.Taken(g.Context())
	for {
		select {
		case <-g.Context().Done():
			return g.Context().Err()
		case <-s.next:
		}
		err := g.RecvMsg(&wrapperspb.BytesValue{})
		if err == nil {
			taken()
		}
		s.did <- err
		if err != nil {
			return nil
		}
	}
}

// ended reports whether a client sends no more on some stream of which something is held.
func ended(f *Floods) bool {
	f.unfinished.mu.Lock()
	defer f.unfinished.mu.Unlock()
	for c := range f.unfinished.conns {
		c.streams.mu.Lock()
		defer c.streams.mu.Unlock()
		for _, s := range c.streams.open {
			if s.closed {
				return true
			}
		}
	}
	return false
}

// What a stream's messages hold that its call does not take is counted until it takes them, or is over, on real streams of gRPC; the client
// of a connection that holds too much is told why it is closed.
func TestTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := NewFloods(false, 0)
	f.unfinished.untold = 0
	f.goAwayTime, f.goAwayRests = 10*time.Second, 3*time.Second // the client reads why before it is closed, however slow the machine
	s := &takes{who: &Who{}, next: make(chan struct{}), did: make(chan error, 1)}
	srv := grpc.NewServer(grpc.Creds(f.Wrap(insecure.NewCredentials())), grpc.InitialWindowSize(4<<20))
	srv.RegisterService(&grpc.ServiceDesc{ServiceName: "takes", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{{StreamName: "Stream", ServerStreams: true, ClientStreams: true, Handler: s.stream}}}, s)
	go func() { _ = srv.Serve(l) }() // until Stop
	defer srv.Stop()
	conn, err := grpc.NewClient("passthrough:///"+l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	open := func() grpc.ClientStream {
		c, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/takes/Stream")
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	message := &wrapperspb.BytesValue{Value: make([]byte, 100<<10)}
	size := int64(messageHeadBytes + proto.Size(message))
	held := func(what string, want int64) {
		t.Helper()
		for f.Unfinished() != want {
			if time.Sleep(time.Millisecond); ctx.Err() != nil {
				t.Fatalf("%s: %d bytes are held, want %d", what, f.Unfinished(), want)
			}
		}
	}
	c := open()
	send := func(c grpc.ClientStream, n int) (err error) {
		for range n {
			if err = c.SendMsg(message); err != nil {
				break
			}
		}
		return err
	}
	if err := send(c, 5); err != nil {
		t.Fatal(err)
	}
	held("five are sent", 5*size)
	take := func(n int) {
		t.Helper()
		for range n {
			s.next <- struct{}{}
			if err := <-s.did; err != nil {
				t.Fatalf("a message is not taken: %v", err)
			}
		}
	}
	take(2)
	if err := send(c, 1); err != nil { // what was taken is told with the next frame
		t.Fatal(err)
	}
	held("six are sent, two are taken", 4*size)
	if err := c.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for !ended(f) {
		if time.Sleep(time.Millisecond); ctx.Err() != nil {
			t.Fatal("the end of the stream does not arrive")
		}
	}
	held("and no more will come", 4*size)
	take(4)
	s.next <- struct{}{}
	if err := <-s.did; !errors.Is(err, io.EOF) {
		t.Fatalf("behind the last message: %v", err)
	}
	held("all are taken", 0)
	c = open()
	if err := send(c, 3); err != nil {
		t.Fatal(err)
	}
	held("another stream", 3*size)
	another, stop := context.WithCancel(ctx)
	gone, err := conn.NewStream(another, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/takes/Stream")
	if err != nil {
		t.Fatal(err)
	}
	if err := send(gone, 3); err != nil {
		t.Fatal(err)
	}
	held("and one more", 6*size)
	stop()
	held("which is taken back", 3*size)

	f.unfinished.mu.Lock()
	f.unfinished.connMax = 10 * size
	f.unfinished.mu.Unlock()
	if err := send(c, 30); err == nil || c.RecvMsg(message) == nil {
		err = c.RecvMsg(message)
		t.Logf("the end comes late: %v", err)
	}
	end := c.RecvMsg(message)
	if status.Code(end) != codes.Unavailable || !strings.Contains(end.Error(), "OVERLOADED") || f.Overfull() != 1 {
		t.Errorf("the client is told %v, %d connections were overfull", end, f.Overfull())
	}
	held("it is closed", 0)
}
