// Package client is the Go client of Lograft: Producer, Consumer, GroupConsumer, and administration. It drives the step machines of client/core
// with goroutines and gRPC.
//
//	c, err := client.New(client.Options{Brokers: []string{"127.0.0.1:7400"}})
//	p, err := c.NewProducer(client.ProducerOptions{})
//	p.Produce(ctx, &client.Record{Topic: "t", Partition: client.AnyPartition, Value: []byte("v")}, func(r client.Result) { ... })
//	err = p.Flush(ctx)
//
//	g, err := c.NewGroupConsumer(client.GroupOptions{Group: "g", Topics: []string{"t"}})
//	batch, _, _, err := g.Poll(ctx)
package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"lograft/api/codec"
	pb "lograft/api/lograft/v1"
	"lograft/client/core"
	"lograft/record"
)

// Options of a Client.
type Options struct {
	Brokers []string      // host:port of client listeners; any one that answers suffices
	Timeout time.Duration // of one administrative call with its retries, 20 s
	Logger  *slog.Logger
	TLS     *tls.Config // nil: connections are in the clear; LoadTLS makes one from files
	Login   Login       // besides, or in place of, a certificate in TLS
}

// BrokerDefault is where a broker listens if nobody says otherwise.
const BrokerDefault = "127.0.0.1:7400"

const (
	callTimeoutDefault = 20 * time.Second
	messageBytesMax    = 32 << 20
	windowBytes        = 4 << 20
	connWindowBytes    = 16 << 20
)

// Client is a connection to a cluster. It is safe for concurrent use.
type Client struct {
	opts  Options
	start time.Time

	mu     sync.Mutex
	conns  map[string]*grpc.ClientConn
	good   string   // address that answered last
	known  []string // client addresses of the brokers that the newest metadata named, as further ones to ask
	closed bool
}

// Error is what a broker refused or this client gave up on. Its text names the fix.
type Error = core.Error

// Codec compresses batches.
type Codec = record.Codec

// The codecs.
const (
	CodecNone   = record.CodecNone
	CodecGzip   = record.CodecGzip
	CodecSnappy = record.CodecSnappy
	CodecLZ4    = record.CodecLZ4
	CodecZstd   = record.CodecZstd
)

// ParseCodec reads a codec's name.
func ParseCodec(s string) (Codec, error) { return record.ParseCodec(s) }

// Header is a named value beside a record.
type Header = record.Header

// New makes a client. It connects when it is first used.
func New(o Options) (*Client, error) {
	if len(o.Brokers) == 0 {
		o.Brokers = []string{BrokerDefault}
	}
	if o.Timeout == 0 {
		o.Timeout = callTimeoutDefault
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	for _, b := range o.Brokers {
		if !strings.Contains(b, ":") {
			return nil, &Error{Reason: core.ReasonInvalid, Message: fmt.Sprintf("broker address %q: want host:port", b)}
		}
	}
	if err := o.Login.check(); err != nil {
		return nil, &Error{Reason: core.ReasonInvalid, Message: err.Error()}
	}
	return &Client{opts: o, start: time.Now(), conns: map[string]*grpc.ClientConn{}}, nil
}

// Close closes all connections. Producers and consumers must be closed before.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	var err error
	for _, conn := range c.conns {
		err = errors.Join(err, conn.Close())
	}
	clear(c.conns)
	return err
}

// now is monotonic, ns.
func (c *Client) now() int64 { return int64(time.Since(c.start)) + 1 }

func newRand() *rand.Rand { return rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())) }

// conn gives the one connection to an address.
func (c *Client) conn(address string) (*grpc.ClientConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, &Error{Reason: core.ReasonClosed, Message: "the client is closed"}
	}
	if conn := c.conns[address]; conn != nil {
		return conn, nil
	}
	options := []grpc.DialOption{grpc.WithTransportCredentials(c.transport()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(codec.Codec{}), grpc.MaxCallRecvMsgSize(messageBytesMax), grpc.MaxCallSendMsgSize(messageBytesMax)),
		grpc.WithInitialWindowSize(windowBytes), grpc.WithInitialConnWindowSize(connWindowBytes),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: 2 * time.Second, Backoff: backoffConfig}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 15 * time.Second, Timeout: 5 * time.Second})}
	if c.opts.Login != (Login{}) {
		if c.opts.TLS == nil && !loopback(address) {
			return nil, &Error{Reason: core.ReasonInvalid, Message: fmt.Sprintf("a password or token is not sent to %s in the clear: connect with TLS (--tls-ca)", address)}
		}
		l := &login{Login: c.opts.Login, address: address, transport: c.transport()}
		options = append(options, grpc.WithPerRPCCredentials(l), grpc.WithUnaryInterceptor(l.unary), grpc.WithStreamInterceptor(l.stream))
	}
	conn, err := grpc.NewClient("passthrough:///"+address, options...)
	if err != nil {
		return nil, err
	}
	c.conns[address] = conn
	return conn, nil
}

// transport is how a connection is protected.
func (c *Client) transport() credentials.TransportCredentials {
	if c.opts.TLS == nil {
		return insecure.NewCredentials()
	}
	return credentials.NewTLS(c.opts.TLS)
}

// candidates are the addresses to ask, the one that answered last first.
func (c *Client) candidates() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]string, 0, len(c.opts.Brokers)+1)
	if c.good != "" {
		list = append(list, c.good)
	}
	for _, b := range slices.Concat(c.opts.Brokers, c.known) {
		if !slices.Contains(list, b) {
			list = append(list, b)
		}
	}
	return list
}

// knownMax bounds the addresses that are remembered beside those that the client was given.
const knownMax = 256

// learn remembers where the brokers are: those that the client was given may all be replaced while it runs.
func (c *Client) learn(brokers []*pb.Broker) {
	var list []string
	for _, b := range brokers[:min(len(brokers), knownMax)] {
		if a := b.GetClientAddress(); a != "" {
			list = append(list, a)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known = list
}

// tryTimeout bounds one broker's answer in a call: then the next one is asked.
const tryTimeout = 8 * time.Second

// call runs one unary call on some broker: on the next one while brokers are unreachable or answer a retriable reason, until the
// client's timeout.
func call[Out any](ctx context.Context, c *Client, do func(context.Context, *grpc.ClientConn) (Out, error)) (Out, *Error) {
	var zero Out
	ctx, cancel := context.WithTimeout(ctx, c.opts.Timeout)
	defer cancel()
	var last *Error
	rng := newRand()
	for round := 1; ; round++ {
		refused := 0
		list := c.candidates()
		for _, address := range list {
			out, err := callOne(ctx, c, address, do)
			if err == nil {
				c.mu.Lock()
				c.good = address
				c.mu.Unlock()
				return out, nil
			}
			last = err
			if !core.Retriable(err.Reason) {
				return zero, err
			}
			if err.Reason == core.ReasonUnreachable {
				refused++
			}
		}
		if refused == len(list) && round >= 3 {
			return zero, unreachable(list, last)
		}
		select {
		case <-ctx.Done():
			if refused == len(list) {
				return zero, unreachable(list, last)
			}
			return zero, last
		case <-time.After(time.Duration(core.Backoff(rng, round))):
		}
	}
}

func unreachable(list []string, last *Error) *Error {
	if strings.Contains(last.Message, "server preface") && !strings.Contains(last.Message, "closed network connection") { // something closed the connection when it read what is no TLS
		return &Error{Reason: core.ReasonUnreachable, Message: fmt.Sprintf("%s closed the connection at once: it may speak TLS: name the authority of its certificate with --tls-ca FILE (%s)", strings.Join(list, ", "), last.Message)}
	}
	return &Error{Reason: core.ReasonUnreachable, Message: fmt.Sprintf("no broker answers at %s (%s): start one (broker --dev), or name one that runs with -b HOST:PORT", strings.Join(list, ", "), strings.TrimPrefix(last.Message, list[len(list)-1]+": "))}
}

func callOne[Out any](ctx context.Context, c *Client, address string, do func(context.Context, *grpc.ClientConn) (Out, error)) (Out, *Error) {
	var zero Out
	conn, err := c.conn(address)
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, tryTimeout)
		defer cancel()
		var out Out
		if out, err = do(ctx, conn); err == nil {
			return out, nil
		}
	}
	return zero, toError(address, err)
}

// toError reads a status: the reason is in its ErrorInfo, or it is a failure of the connection.
func toError(address string, err error) *Error {
	var own *Error
	if errors.As(err, &own) {
		return own
	}
	s := status.Convert(err)
	e := &Error{Message: s.Message()}
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			e.Reason = info.GetReason()
			if info.GetMetadata()["outcome"] == "unknown" {
				e.Outcome = core.OutcomeUnknown
			}
		}
	}
	if e.Reason != "" {
		return e
	}
	switch s.Code() {
	case codes.Unavailable:
		e.Reason = core.ReasonUnreachable
	case codes.DeadlineExceeded, codes.Canceled:
		e.Reason = core.ReasonTimeout
	case codes.InvalidArgument, codes.ResourceExhausted:
		e.Reason = core.ReasonInvalid
	default:
		e.Reason = "INTERNAL"
	}
	e.Message = address + ": " + plain(e.Message)
	if s.Code() == codes.DeadlineExceeded {
		e.Message = address + " did not answer in time: see whether it is up (broker cluster health)"
	}
	if errors.Is(err, io.EOF) {
		e.Message = address + ": the connection ended"
	}
	return e
}

// plain leaves out what gRPC says around the reason of a connection that could not be made.
func plain(message string) string {
	if _, reason, ok := strings.Cut(message, "Error while dialing: "); ok {
		return strings.TrimSuffix(reason, `"`)
	}
	if strings.Contains(message, "server preface") && strings.Contains(message, "closed network connection") {
		return "it takes connections, but says nothing"
	}
	return message
}

// Unavailable reports whether err says that brokers could not be reached or did not answer in time, rather than that they refused.
func Unavailable(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return errors.Is(err, context.DeadlineExceeded)
	}
	return core.Retriable(e.Reason)
}

// ReasonOf is the reason of an error of this package, "" if it has none.
func ReasonOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}

// Reasons that programs may want to tell apart; docs/errors.md lists all.
const (
	ReasonInvalid       = core.ReasonInvalid
	ReasonTopicNotFound = core.ReasonTopicNotFound
	ReasonOutOfRange    = core.ReasonOutOfRange
	ReasonLogTruncated  = core.ReasonLogTruncated
	ReasonUnavailable   = core.ReasonUnavailable
	ReasonTopicExists   = core.ReasonTopicExists
	ReasonTimeout       = core.ReasonTimeout
	ReasonUnreachable   = core.ReasonUnreachable
)

// ErrLogTruncated is what errors.Is finds in the end of a partition whose log lost records that were read from it; Error.Divergence says from
// which offset on.
var ErrLogTruncated = core.ErrLogTruncated

// Outcomes of an Error.
const (
	OutcomeFailed  = core.OutcomeFailed
	OutcomeUnknown = core.OutcomeUnknown
)
