package rpc

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"lograft/api/codec"
	pb "lograft/api/lograft/v1"
	"lograft/broker/partition"
	"lograft/broker/security"
)

// noHost is a host of sessions that ask nothing of replicas.
type noHost struct{}

func (noHost) Post([]partition.Request)                   {}
func (noHost) Register(func(partition.Reply)) (id uint64) { return 1 }
func (noHost) Unregister(uint64)                          {}
func (noHost) Now() int64                                 { return 1 }

// bigAnswers answers every message with bigBytes, which it takes from the budget.
type bigAnswers struct {
	env   *Env
	unary bool
}

const bigBytes = 2 << 20

func (*bigAnswers) Full() bool { return false }

func (s *bigAnswers) Step(_ int64, ev *Event, eff *Effects) {
	if ev.Message == nil {
		eff.Done = true
		return
	}
	s.env.Answers.take(bigBytes)
	answer := &pb.FetchResponse{Session: make([]byte, bigBytes)}
	eff.Held, eff.Done = bigBytes, s.unary
	if eff.Send = append(eff.Send, answer); !s.unary {
		eff.Send[0] = &pb.FetchStreamResponse{Response: answer}
	}
}

type bigServer struct {
	pb.UnimplementedFetchServiceServer
	*Server
}

func (b bigServer) FetchStream(g pb.FetchService_FetchStreamServer) error {
	return stream(g.Context(), b.Server, &bigAnswers{env: b.env}, g.Recv, g.SendMsg)
}

// fetchUnary is Fetch as Guard.Before registers it.
func (b bigServer) fetchUnary(_ any, s grpc.ServerStream) error {
	in := &pb.FetchRequest{}
	if err := s.RecvMsg(in); err != nil {
		return err
	}
	ctx, answer := withAnswer(s.Context())
	out, err := unary[*pb.FetchResponse](ctx, b.Server, &bigAnswers{env: b.env, unary: true}, in)
	if err != nil {
		return err
	}
	return answer.send(out, s.SendMsg)
}

// What an answer takes of the budget is held until it has left for the client: while he does not read it is not given back, be it that of
// a stream or of a single call; when he reads, takes the call back, or closes the connection, it is.
func TestAnswersAreHeldUntilTheyLeave(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	env := &Env{Answers: NewBudget(0), Hold: security.Hold}
	big := bigServer{Server: NewServer(env, noHost{})}
	srv := grpc.NewServer(grpc.Creds(security.NewFloods(false, 0).Wrap(insecure.NewCredentials())), grpc.ForceServerCodecV2(codec.Codec{}))
	srv.RegisterService(&grpc.ServiceDesc{ServiceName: "big", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{
		{StreamName: "Stream", ServerStreams: true, ClientStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
			return big.FetchStream(&grpc.GenericServerStream[pb.FetchStreamRequest, pb.FetchStreamResponse]{ServerStream: s})
		}},
		{StreamName: "Unary", Handler: big.fetchUnary}}}, big)
	go func() { _ = srv.Serve(l) }() // until Stop
	defer srv.Stop()

	used := func(what string, want int64) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); env.Answers.Used() != want; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: %d bytes of the budget are held, want %d", what, env.Answers.Used(), want)
			}
		}
	}
	for _, method := range []string{"Stream", "Unary"} {
		for _, end := range []string{"reads", "cancels", "closes"} {
			conn, err := grpc.NewClient("passthrough:///"+l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithInitialWindowSize(64<<10), grpc.WithInitialConnWindowSize(64<<10))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			s, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/big/"+method)
			if err != nil {
				t.Fatal(err)
			}
			var in, out proto.Message = &pb.FetchRequest{}, &pb.FetchResponse{}
			if method == "Stream" {
				in, out = &pb.FetchStreamRequest{}, &pb.FetchStreamResponse{}
			}
			if err := s.SendMsg(in); err != nil {
				t.Fatal(err)
			}
			if method == "Unary" {
				_ = s.CloseSend()
			}
			used(method+", not read", bigBytes)
			time.Sleep(100 * time.Millisecond) // what would be given back too early is by now
			used(method+", not read for long", bigBytes)
			switch end {
			case "reads":
				if err := s.RecvMsg(out); err != nil {
					t.Fatal(err)
				}
			case "cancels":
				cancel()
			case "closes":
				conn.Close()
			}
			used(method+", client "+end, 0)
			cancel()
			conn.Close()
		}
	}
}

// An answer that gRPC refuses gives back what it holds of the budget: that of a call; those of a stream, of which it took one before it
// refused the next; and that of a stream whose answers nobody counts.
func TestRefusedAnswersGiveBack(t *testing.T) {
	refused := errors.New("refused")
	env := &Env{Answers: NewBudget(0)}
	s := NewServer(env, noHost{})
	sends := 0
	after := func(taken int) func(any) error {
		sends = 0
		return func(any) error {
			if sends++; sends > taken {
				return refused
			}
			return nil
		}
	}
	for name, call := range map[string]func() error{
		"call": func() error {
			ctx, answer := withAnswer(t.Context())
			out, err := unary[*pb.FetchResponse](ctx, s, &bigAnswers{env: env, unary: true}, &pb.FetchRequest{})
			if err != nil {
				return err
			}
			if used := env.Answers.Used(); used != bigBytes {
				t.Errorf("call: %d bytes are held before it is sent, want %d", used, bigBytes)
			}
			return answer.send(out, after(0))
		},
		"stream": func() error {
			asked := 0
			recv := func() (*pb.FetchStreamRequest, error) {
				if asked++; asked > 2 {
					<-t.Context().Done()
					return nil, t.Context().Err()
				}
				return &pb.FetchStreamRequest{}, nil
			}
			return stream(t.Context(), s, &bigAnswers{env: env}, recv, after(1))
		},
		"uncounted stream": func() error {
			send := after(0)
			return serverStream(t.Context(), s, &bigAnswers{env: env}, &pb.FetchStreamRequest{}, func(m *pb.FetchStreamResponse) error { return send(m) })
		},
	} {
		if err := call(); !errors.Is(err, refused) {
			t.Errorf("%s: %v, want what gRPC said", name, err)
		}
		// What gRPC took and has not let go of is another parcel's, if it was another round.
		if used := env.Answers.Used(); used != 0 && !(name == "stream" && used == bigBytes) {
			t.Errorf("%s: %d bytes are held of answers that were refused", name, used)
		}
		env.Answers.give(int(env.Answers.Used()))
	}
}
