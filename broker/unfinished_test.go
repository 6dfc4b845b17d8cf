package broker

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	pb "lograft/api/lograft/v1"
	"lograft/client"
)

// beginMessages opens a connection and begins n messages of 8 MiB on it, of each of which it sends half. It returns the connection.
func beginMessages(t *testing.T, address string, as *tls.Config, n int) net.Conn {
	t.Helper()
	c := as.Clone()
	c.ServerName, c.NextProtos = "127.0.0.1", []string{"h2"}
	conn, err := tls.Dial("tcp", address, c)
	if err != nil {
		t.Fatal(err)
	}
	var headers bytes.Buffer
	e := hpack.NewEncoder(&headers)
	for _, f := range [][2]string{{":method", "POST"}, {":scheme", "https"}, {":path", "/lograft.v1.ProduceService/Produce"}, {":authority", "127.0.0.1"}, {"content-type", "application/grpc"}, {"te", "trailers"}} {
		_ = e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1], Sensitive: true})
	}
	h := http2.NewFramer(conn, nil)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	_ = h.WriteSettings()
	for i := range n { // it may be closed at any time
		id := uint32(2*i + 1)
		if h.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: headers.Bytes(), EndHeaders: true}) != nil {
			return conn
		}
		part := make([]byte, 16<<10)
		binary.BigEndian.PutUint32(part[1:], 8<<20)
		for range 3 << 20 / len(part) { // the window of a stream is 4 MiB
			if h.WriteData(id, false, part) != nil {
				return conn
			}
			clear(part)
		}
	}
	return conn
}

// Messages that are begun and not ended are bounded: of one connection, which is closed when it holds too much, and of all together; when
// they are closed nothing is held; a good client produces all the while.
func TestUnfinishedMessages(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	const bound = 40 << 20
	s := startSecured(t, 1, func(o *Options) {
		o.Access.Required, o.Access.SuperUsers, o.BytesInFlight = true, []string{"root", "mallory"}, bound
	})
	root, mallory := s.as("root"), s.as("mallory")
	s.up(ctx, root)
	k := s.clientAs(client.Options{TLS: root})
	if _, err := k.CreateTopic(ctx, client.TopicSpec{Name: "t", Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	floods := s.made[0].running.Load().access.clientFloods
	var most atomic.Int64
	stop := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			most.Store(max(most.Load(), floods.Unfinished()))
			time.Sleep(time.Millisecond)
		}
	})

	one := beginMessages(t, s.options[0].Listen, mallory, 10) // 30 MiB: more than the 20 that one may hold
	if _, err := io.Copy(io.Discard, one); ctx.Err() != nil {
		t.Errorf("a connection that holds too much stays open: %v", err)
	}
	if n := floods.Closed(); n != 1 {
		t.Errorf("%d connections were closed, want the one that held too much", n)
	}
	for range 20 { // 60 MiB in all
		defer beginMessages(t, s.options[0].Listen, mallory, 1).Close()
		if err := produceOne(ctx, t, k, "t"); err != nil {
			t.Fatalf("a good client, beside messages that do not end: %v", err)
		}
	}
	for floods.Closed() < 1+(60<<20-bound)/(3<<20) {
		time.Sleep(5 * time.Millisecond)
		if ctx.Err() != nil {
			t.Fatalf("%d connections were closed, %d bytes are held", floods.Closed(), floods.Unfinished())
		}
	}
	close(stop)
	watching.Wait()
	closing := int64(bound / 4) // what connections hold that are told why they are closed
	if n := most.Load(); n > bound+closing || n < bound/2 {
		t.Errorf("at most %d bytes were held, the bound is %d and %d of those that are being closed", n, bound, closing)
	}
}

// Messages that are whole and that no call takes, because the answers of their streams are not read, are bounded as those that do not end:
// the client that holds too much of them is told so. One that sends far more than the bound, and reads, is not closed.
func TestUntakenMessages(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	s := startSecured(t, 1, func(o *Options) {
		o.Access.Required, o.Access.SuperUsers, o.BytesInFlight = true, []string{"root", "mallory"}, 40<<20
	})
	root, mallory := s.as("root"), s.as("mallory")
	s.up(ctx, root)
	k := s.clientAs(client.Options{TLS: root})
	if _, err := k.CreateTopic(ctx, client.TopicSpec{Name: "t", Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	floods := s.made[0].running.Load().access.clientFloods
	dial := func(as *tls.Config) *grpc.ClientConn {
		c := as.Clone()
		c.ServerName = "127.0.0.1"
		dials := 0
		once := func(ctx context.Context, address string) (net.Conn, error) { // who was closed does not come back
			if dials++; dials > 1 {
				return nil, io.EOF
			}
			return (&net.Dialer{}).DialContext(ctx, "tcp", address)
		}
		conn, err := grpc.NewClient("passthrough:///"+s.options[0].Listen, grpc.WithTransportCredentials(credentials.NewTLS(c)), grpc.WithContextDialer(once),
			grpc.WithStaticStreamWindowSize(64<<10)) // one that grows with the round trips of a busy machine takes all answers
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	good := pb.NewFetchServiceClient(dial(root))
	ask := &pb.FetchRequest{Partition: &pb.PartitionRef{Topic: "t"}, Offset: -1, Session: make([]byte, 512<<10)} // refused at once
	read, err := good.FetchStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for range 30 << 20 / len(ask.Session) { // of each kind
		if _, err := good.Fetch(ctx, ask); status.Code(err) != codes.InvalidArgument {
			t.Fatalf("a call: %v", err)
		}
		if err := read.Send(&pb.FetchStreamRequest{Request: ask}); err != nil {
			t.Fatal(err)
		}
		if _, err := read.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	if n := floods.Closed(); n != 0 {
		t.Errorf("%d connections were closed of who sends much and reads", n)
	}

	bad := pb.NewFetchServiceClient(dial(mallory))
	small := &pb.FetchStreamRequest{Request: &pb.FetchRequest{Partition: ask.Partition, Offset: -1}}
	var sending sync.WaitGroup
	streams := make([]pb.FetchService_FetchStreamClient, 7) // 4 MiB each: one may hold 20
	for i := range streams {
		if streams[i], err = bad.FetchStream(ctx); err != nil {
			t.Fatal(err)
		}
		sending.Go(func() {
			for range 3000 { // until nothing is received any more
				if streams[i].Send(small) != nil {
					return
				}
			}
			for streams[i].Send(&pb.FetchStreamRequest{Request: ask}) == nil {
			}
		})
	}
	sending.Wait()
	for i := range streams {
		for err == nil {
			_, err = streams[i].Recv()
		}
		if status.Code(err) != codes.Unavailable {
			t.Errorf("stream %d ends with %v", i, err)
		}
		err = nil
	}
	if n := floods.Overfull(); n != 1 {
		t.Errorf("%d connections were closed, want the one that held too much", n)
	}
	if err := produceOne(ctx, t, k, "t"); err != nil {
		t.Errorf("a good client: %v", err)
	}
}
