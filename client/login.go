package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/xdg-go/scram"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	pb "lograft/api/lograft/v1"
)

// Login proves who a client is where its certificate does not: by password (SCRAM-SHA-256: it never leaves this process) or by a signed
// token, which is read from its file again for each connection's use of it, so that it can be replaced while the client runs.
type Login struct {
	User, Password string
	TokenFile      string
}

func (l Login) check() error {
	switch {
	case l.TokenFile != "" && l.User != "":
		return errors.New("a user with password and a token file are both named: one is enough")
	case (l.User == "") != (l.Password == ""):
		return errors.New("a user and a password go together")
	}
	return nil
}

func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}

// Timing of sessions.
const (
	loginTimeout  = 10 * time.Second
	loginRetry    = 100 * time.Millisecond // to twice as long
	sessionMargin = time.Minute            // a session is renewed so long before it ends
	sessionFresh  = 2 * time.Second        // a session that is refused so soon was refused for good
)

// login is a Login at one broker.
type login struct {
	Login
	address   string
	transport credentials.TransportCredentials

	mu    sync.Mutex
	token string
	since time.Time
	ends  time.Time
}

// RequireTransportSecurity implements credentials.PerRPCCredentials; conn has refused what must not be sent in the clear.
func (l *login) RequireTransportSecurity() bool { return false }

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (l *login) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	token, err := l.current(ctx)
	if err != nil {
		return nil, err
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

func (l *login) current(ctx context.Context) (string, error) {
	if l.TokenFile != "" {
		text, err := os.ReadFile(l.TokenFile)
		if err != nil {
			return "", status.Error(codes.InvalidArgument, err.Error())
		}
		return strings.TrimSpace(string(text)), nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.token != "" && time.Now().Before(l.ends) {
		return l.token, nil
	}
	token, valid, err := l.authenticate(ctx)
	for status.Code(err) == codes.ResourceExhausted { // too many prove themselves there now
		select {
		case <-ctx.Done():
			return "", err
		case <-time.After(loginRetry + rand.N(loginRetry)):
		}
		token, valid, err = l.authenticate(ctx)
	}
	if err != nil {
		return "", err
	}
	l.token, l.since, l.ends = token, time.Now(), time.Now().Add(valid-sessionMargin)
	return token, nil
}

// authenticate proves the password on a connection of its own and checks that the broker knows the verifier, too.
func (l *login) authenticate(ctx context.Context) (token string, valid time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	user, err := scram.SHA256.NewClient(l.User, l.Password, "")
	if err != nil {
		return "", 0, status.Error(codes.InvalidArgument, fmt.Sprintf("user or password: %v", err))
	}
	conn, err := grpc.NewClient("passthrough:///"+l.address, grpc.WithTransportCredentials(l.transport))
	if err != nil {
		return "", 0, err
	}
	defer conn.Close()
	s, err := pb.NewAccessServiceClient(conn).Authenticate(ctx)
	if err != nil {
		return "", 0, err
	}
	conv := user.NewConversation()
	heard := ""
	for token == "" {
		say, err := conv.Step(heard)
		if err != nil {
			return "", 0, status.Error(codes.Unauthenticated, fmt.Sprintf("%s did not answer as SCRAM wants: %v", l.address, err))
		}
		if err := s.Send(&pb.AuthenticateRequest{Mechanism: "SCRAM-SHA-256", Message: say}); err != nil {
			_, err = s.Recv() // the broker's reason
			return "", 0, err
		}
		m, err := s.Recv()
		if err != nil {
			return "", 0, err
		}
		heard, token, valid = m.GetMessage(), m.GetToken(), time.Duration(m.GetValidMs())*time.Millisecond
	}
	if _, err := conv.Step(heard); err != nil || !conv.Valid() {
		return "", 0, status.Error(codes.Unauthenticated, fmt.Sprintf("%s did not prove that it knows user %s: it may be no broker of this cluster", l.address, l.User))
	}
	return token, valid, nil
}

// over says that a session that was good is over, for example because the broker was started again: it is to be opened anew.
func (l *login) over(err error) bool {
	if l.TokenFile != "" || status.Code(err) != codes.Unauthenticated {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.token == "" || time.Since(l.since) < sessionFresh {
		return false
	}
	l.token = ""
	return true
}

func (l *login) unary(ctx context.Context, method string, in, out any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, in, out, conn, opts...)
	if l.over(err) {
		err = invoke(ctx, method, in, out, conn, opts...)
	}
	return err
}

func (l *login) stream(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := open(ctx, desc, conn, method, opts...)
	if err != nil {
		return nil, l.again(err)
	}
	return &loginStream{s, l}, nil
}

// again makes the end of a session an error after which the caller connects anew.
func (l *login) again(err error) error {
	if l.over(err) {
		return status.Error(codes.Unavailable, "the session is over: authenticating again")
	}
	return err
}

type loginStream struct {
	grpc.ClientStream
	login *login
}

// RecvMsg implements grpc.ClientStream.
func (s *loginStream) RecvMsg(m any) error { return s.login.again(s.ClientStream.RecvMsg(m)) }
