package codec

import (
	"bytes"
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	pb "lograft/api/lograft/v1"
)

// pieceSizes are payloads on either side of every threshold, ours and gRPC's.
var pieceSizes = []int{0, 10, fieldBytes - 1, fieldBytes, fieldBytes + 1, LargeBytes, 70_000, 300_000}

// Free comes once for each message, after the last of its pieces was freed and not before, whatever pieces it has.
func TestLentIsFreedOnce(t *testing.T) {
	for _, size := range pieceSizes {
		m := &pb.FetchStreamResponse{Response: &pb.FetchResponse{Batches: [][]byte{noise(size), noise(size)}}}
		freed := 0
		out, err := Codec{}.Marshal(Lent{Message: m, Free: func() { freed++ }})
		if err != nil {
			t.Fatal(err)
		}
		if want, _ := (Codec{}).Marshal(m); !bytes.Equal(out.Materialize(), want.Materialize()) {
			t.Errorf("payloads of %d bytes: a lent message is other bytes", size)
		}
		watched := 0
		for _, b := range out {
			if b.Len() > fieldBytes {
				watched++
			}
		}
		out.Ref()
		out.Free()
		if freed != 0 && watched > 0 {
			t.Errorf("payloads of %d bytes: freed while gRPC holds them", size)
		}
		out.Free()
		if freed != 1 {
			t.Errorf("payloads of %d bytes: freed %d times", size, freed)
		}
	}
}

// lender is a fetch stream that answers every request with memory which it spoils as soon as it may.
type lender struct {
	pb.UnimplementedFetchServiceServer
	sent, freed atomic.Int64
}

func payloadOf(id uint64) []byte {
	return bytes.Repeat([]byte{byte(id), byte(id >> 8), 7}, 1+pieceSizes[id%uint64(len(pieceSizes))]/3)
}

func (l *lender) FetchStream(g pb.FetchService_FetchStreamServer) error {
	for {
		m, err := g.Recv()
		if err != nil {
			return nil
		}
		b := payloadOf(m.GetCorrelationId())
		l.sent.Add(1)
		err = g.SendMsg(Lent{Message: &pb.FetchStreamResponse{CorrelationId: m.GetCorrelationId(), Response: &pb.FetchResponse{Batches: [][]byte{b}}}, Free: func() {
			clear(b)
			l.freed.Add(1)
		}})
		if err != nil {
			return err
		}
	}
}

// Over a real connection a receiver sees what was sent, though the memory is spoilt when gRPC says that it may be; and gRPC says so for
// every message that was sent. A call that ends early frees nothing twice.
func TestLentOverGRPC(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &lender{}
	srv := grpc.NewServer(grpc.ForceServerCodecV2(Codec{}))
	pb.RegisterFetchServiceServer(srv, l)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(lis) }()
	conn, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(Codec{})))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const asked = 200
	read := func(answers int) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		s, err := pb.NewFetchServiceClient(conn).FetchStream(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for id := range uint64(asked) {
			if err := s.Send(&pb.FetchStreamRequest{CorrelationId: id}); err != nil {
				t.Fatal(err)
			}
		}
		for id := range uint64(answers) {
			m, err := s.Recv()
			if err != nil {
				t.Fatal(err)
			}
			want := &pb.FetchStreamResponse{CorrelationId: id, Response: &pb.FetchResponse{Batches: [][]byte{payloadOf(id)}}}
			if !proto.Equal(m, want) {
				t.Fatalf("answer %d is not what was sent", id)
			}
		}
	}
	read(asked)
	for l.freed.Load() < asked && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	if got := l.freed.Load(); got != asked {
		t.Errorf("%d of %d messages were freed", got, asked)
	}
	read(asked / 3) // and goes away
	_ = conn.Close()
	srv.Stop()
	<-served
	if freed, sent := l.freed.Load(), l.sent.Load(); freed > sent {
		t.Errorf("%d messages were freed, %d sent", freed, sent)
	}
}
