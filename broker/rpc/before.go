package rpc

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"lograft/broker/partition"
)

// GRPCServer is what services are registered at; it is reflection.GRPCServer.
type GRPCServer interface {
	grpc.ServiceRegistrar
	GetServiceInfo() map[string]grpc.ServiceInfo
}

// Before registers services so that unary calls, too, are let in or not by their headers alone. gRPC takes the whole message of a unary
// call before it asks any interceptor; so they are registered as streams of one message each way, which are the same on the wire, and
// whose message is taken when their handler receives. The server needs Guard.Stream for the streams proper, and nothing for these.
func (g *Guard) Before(to GRPCServer) GRPCServer { return registrar{to, g} }

type registrar struct {
	GRPCServer
	guard *Guard
}

// RegisterService implements grpc.ServiceRegistrar.
func (r registrar) RegisterService(d *grpc.ServiceDesc, impl any) {
	as := *d
	as.Methods, as.Streams = nil, slices.Clone(d.Streams)
	for _, m := range d.Methods {
		path := "/" + d.ServiceName + "/" + m.MethodName
		as.Streams = append(as.Streams, grpc.StreamDesc{StreamName: m.MethodName, Handler: func(srv any, s grpc.ServerStream) error {
			return r.guard.unary(srv, s, path, &m)
		}})
	}
	r.GRPCServer.RegisterService(&as, impl)
}

// unary runs a unary call that is let in by its headers; its message is judged when it is there.
func (g *Guard) unary(srv any, s grpc.ServerStream, path string, m *grpc.MethodDesc) (err error) {
	defer g.contain(path, &err)
	s = &takingStream{s, g.who.Taken(s.Context())}
	a, refusal := g.admit(s.Context(), path)
	if refusal != nil {
		return g.refuse(a, refusal)
	}
	receive := func(m any) error { return g.heard(s.Context(), s.RecvMsg(m)) }
	call := func() error {
		ctx, answer := withAnswer(s.Context())
		out, err := m.Handler(srv, ctx, receive, func(ctx context.Context, in any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			return g.one(ctx, a, in, next)
		})
		if err != nil {
			answer.parcel.drop()
			return err
		}
		return answer.send(out, s.SendMsg)
	}
	if a.rule.public {
		return g.public(a, call)
	}
	return call()
}

// heard notes what a client sent that could not be received: a message beyond the bounds, or none at all.
func (g *Guard) heard(ctx context.Context, err error) error {
	switch status.Code(err) {
	case codes.ResourceExhausted: // gRPC's word for a message that is too large
		if g.counts != nil {
			g.counts.refuse(partition.ReasonTooLarge)
		}
		g.who.Strike(ctx)
	case codes.Internal, codes.Unimplemented: // counted by Server.Malformed, or not a message at all
		g.who.Strike(ctx)
	}
	return err
}

// one judges the message of a unary call and runs it.
func (g *Guard) one(ctx context.Context, a *admission, in any, next grpc.UnaryHandler) (any, error) {
	if refusal := g.judge(a, in); refusal != nil {
		return nil, g.refuse(a, refusal)
	}
	out, err := next(context.WithValue(ctx, callerKey{}, a.caller), in)
	if err == nil && a.rule.filter != nil && a.caller != nil {
		a.rule.filter(out.(proto.Message), a.caller)
	}
	g.audit(a, in, err)
	return out, err
}

// Bounds of calls that want no proof: whoever reaches the port may make them, and each may hold a whole message.
const (
	publicCallsMax        = 32
	publicCallsPerAddrMax = 8
	publicCallTimeout     = 10 * time.Second
	publicRetryMs         = 100
)

// publicCalls counts the calls under way that want no proof.
type publicCalls struct {
	mu   sync.Mutex
	all  int
	each map[netip.Addr]int
}

func (p *publicCalls) enter(where netip.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all >= publicCallsMax || p.each[where] >= publicCallsPerAddrMax {
		return false
	}
	p.all++
	if p.each == nil {
		p.each = map[netip.Addr]int{}
	}
	p.each[where]++
	return true
}

func (p *publicCalls) leave(where netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all--
	if p.each[where]--; p.each[where] == 0 {
		delete(p.each, where)
	}
}

// hostOf is the address of a host and port. What is no TCP address shares one.
func hostOf(where string) netip.Addr {
	at, _ := netip.ParseAddrPort(where)
	return at.Addr().Unmap()
}

// public runs a call that wants no proof within its bounds of number and time.
func (g *Guard) public(a *admission, call func() error) error {
	where := hostOf(a.where)
	if !g.open.enter(where) {
		return g.refuse(a, &partition.Error{Reason: partition.ReasonOverloaded, RetryAfterMs: publicRetryMs,
			Message: fmt.Sprintf("%d calls that need no proof are under way, or %d of this address: try again", publicCallsMax, publicCallsPerAddrMax)})
	}
	done := make(chan error, 1)
	go func() { // ends with the call: receiving fails then
		var err error
		defer g.open.leave(where)
		defer func() { done <- err }()
		defer g.contain(a.method, &err)
		err = call()
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(publicCallTimeout):
		return g.refuse(a, &partition.Error{Reason: partition.ReasonTimeout, Message: fmt.Sprintf("the call took longer than %v: try again", publicCallTimeout)})
	}
}

// HTTP judges a request to a path of the HTTP port by who makes it: principal, as proved by certificate, or "" for nobody. The error is
// what the caller is told.
func (g *Guard) HTTP(principal, where, path string) error {
	a := &admission{method: httpPath + path, where: where, caller: &Caller{rights: g.rights, principal: principal, all: !g.required}}
	var known bool
	if a.rule, known = rules[a.method]; a.rule.public {
		return nil
	}
	err := g.judgeHTTP(a, known)
	if err != nil {
		return g.refuse(a, err)
	}
	g.audit(a, nil, nil)
	return nil
}

func (g *Guard) judgeHTTP(a *admission, known bool) *partition.Error {
	switch {
	case !known:
		return &partition.Error{Reason: partition.ReasonDenied, Message: "this path is not in the table of rights"}
	case a.caller.principal == "":
		return &partition.Error{Reason: partition.ReasonUnauthenticated, Message: "a client certificate of http-tls.ca is needed"}
	case a.rule.needs == nil:
		return nil
	}
	for _, n := range a.rule.needs(g.dir, a.caller, nil) {
		if err := a.caller.check(n); err != nil {
			return err
		}
	}
	return nil
}
