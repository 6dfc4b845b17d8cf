package rpc

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	"lograft/broker/cluster"
	"lograft/broker/partition"
)

// Authenticator tells who makes a call.
type Authenticator interface {
	// Who is the principal of a call, "" for an anonymous one. fresh reports later whether the proof still holds. The error is one of
	// a proof that is wrong, never of one that is missing.
	Who(ctx context.Context) (principal string, fresh func() bool, err error)
	// Strike notes that a call sent what no client sends: a connection of many such calls is slowed down.
	Strike(ctx context.Context)
	// Taken returns what is to be called whenever the call has taken a message that was sent to it.
	Taken(ctx context.Context) (taken func())
	// Connect counts the connection of a call as one of a principal's until it is closed. It reports false if it is beyond max (0: no
	// bound): what is called on it is refused, and it is closed soon.
	Connect(ctx context.Context, principal string, max uint64) bool
}

// Guard stands before every call: who is it, and may he (the table in rules.go). A panic in a call ends that call alone.
type Guard struct {
	dir      Directory
	rights   *Rights
	who      Authenticator
	required bool // callers must prove who they are and need rights
	now      func() int64
	log      *slog.Logger
	counts   *counts // nil: refusals are not counted

	open publicCalls

	mu     sync.Mutex
	said   map[string]int64 // refusals written lately: when
	lines  *rate.Limiter    // of refusals written
	unsaid int              // refusals that were not written for want of lines
}

// Bounds of the audit log: what strangers do must not fill a disk.
const (
	refusalEvery        = int64(10e9) // ns; equal refusals are written once in so long
	refusalsKept        = 10_000
	refusalsPerSecond   = 10
	refusalsBurst       = 100
	refusalWordBytesMax = 300 // of what the caller chose
)

// NewGuard makes a guard. now is the clock of sessions.
func NewGuard(dir Directory, rights *Rights, who Authenticator, required bool, now func() int64, log *slog.Logger) *Guard {
	return &Guard{dir: dir, rights: rights, who: who, required: required, now: now, log: log, said: map[string]int64{},
		lines: rate.NewLimiter(refusalsPerSecond, refusalsBurst)}
}

// Count makes what the guard refuses count among a server's answers. It is called before the first call.
func (g *Guard) Count(s *Server) { g.counts = &s.counts }

type callerKey struct{}

// callerOf is who makes the call of ctx; nil if nobody asks.
func callerOf(ctx context.Context) *Caller {
	c, _ := ctx.Value(callerKey{}).(*Caller)
	return c
}

// admission is one call that was let in.
type admission struct {
	method string
	rule   rule
	caller *Caller
	fresh  func() bool
	where  string // address of the caller
}

func unauthenticated(why string) *partition.Error {
	return &partition.Error{Reason: partition.ReasonUnauthenticated, Message: why + ": show a client certificate (--tls-cert, --tls-key), a password (--user, --password-file) or a token (--token-file)"}
}

// admit finds the rule of a method and who calls.
func (g *Guard) admit(ctx context.Context, method string) (*admission, *partition.Error) {
	a := &admission{method: method, fresh: func() bool { return true }}
	if p, ok := peer.FromContext(ctx); ok {
		a.where = p.Addr.String()
	}
	var known bool
	if a.rule, known = rules[method]; !known || !strings.HasPrefix(method, "/") {
		return a, &partition.Error{Reason: partition.ReasonDenied, Message: "method " + method + " is not in the table of rights"}
	}
	if a.rule.public {
		return a, nil
	}
	principal, fresh, err := g.who.Who(ctx)
	if err != nil {
		return a, unauthenticated(err.Error())
	}
	if !g.required && principal == "" {
		return a, nil
	}
	if principal == "" {
		return a, unauthenticated("this broker wants to know who calls")
	}
	a.caller, a.fresh = &Caller{rights: g.rights, principal: principal, all: !g.required}, fresh
	return a, g.connected(ctx, principal)
}

// connectionRetryMs is when who has too many connections may try again: one of them may be closed by then.
const connectionRetryMs = 1000

// connected counts the connection of a call for its principal, within the quota.
func (g *Guard) connected(ctx context.Context, principal string) *partition.Error {
	max := g.rights.connectionsMax(principal)
	if g.who.Connect(ctx, principal, max) {
		return nil
	}
	why := fmt.Sprintf("%s has as many connections to this broker as its quota allows, %d: close one, or raise it: broker quota set %[1]s --connections N", principal, max)
	if max == 0 {
		why = "this connection is beyond a quota and will be closed, or too many principals share it: open another"
	}
	return &partition.Error{Reason: partition.ReasonQuota, RetryAfterMs: connectionRetryMs, Message: why}
}

// judge checks one message of a call.
func (g *Guard) judge(a *admission, m any) *partition.Error {
	if a.caller == nil {
		return nil
	}
	if !a.fresh() {
		return unauthenticated("the proof of who calls is over or revoked")
	}
	if err := a.caller.spend(g.now(), spendRequests, 1); err != nil {
		return err
	}
	if a.rule.needs == nil {
		return nil
	}
	message, ok := m.(proto.Message)
	if !ok {
		return &partition.Error{Reason: partition.ReasonDenied, Message: "the message is not known to the table of rights"}
	}
	for _, n := range a.rule.needs(g.dir, a.caller, message) {
		if err := a.caller.check(n); err != nil {
			return err
		}
	}
	return nil
}

// refuse counts the refusal, writes it to the audit log within its bounds, and makes it a status.
func (g *Guard) refuse(a *admission, err *partition.Error) error {
	if g.counts != nil {
		g.counts.refuse(err.Reason)
	}
	principal := ""
	if a.caller != nil {
		principal = a.caller.principal
	}
	if say, unsaid := g.say(string(err.Reason)+a.method+principal+err.Message, g.now()); say {
		g.log.Warn("audit: refused", "principal", principal, "addr", a.where, "method", fmt.Sprintf("%.*s", refusalWordBytesMax, a.method), "reason", string(err.Reason),
			"err", fmt.Sprintf("%.*s", refusalWordBytesMax, err.Message), "unwritten", unsaid)
	}
	return toStatus(g.dir, err)
}

// say tells whether a refusal is to be written, and how many were not since the last that was.
func (g *Guard) say(key string, now int64) (say bool, unsaid int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if last, ok := g.said[key]; ok && now-last < refusalEvery {
		return false, 0
	}
	if !g.lines.AllowN(time.Unix(0, now), 1) {
		g.unsaid++
		return false, 0
	}
	if len(g.said) >= refusalsKept {
		clear(g.said)
	}
	g.said[key] = now
	unsaid, g.unsaid = g.unsaid, 0
	return true, unsaid
}

func (g *Guard) audit(a *admission, m any, err error) {
	if !a.rule.admin {
		return
	}
	principal := ""
	if a.caller != nil {
		principal = a.caller.principal
	}
	var what []string
	if message, ok := m.(proto.Message); ok && a.rule.needs != nil {
		for _, n := range a.rule.needs(g.dir, a.caller, message) {
			what = append(what, n.op.String()+" "+n.kind.String()+" "+n.name)
		}
	}
	g.log.Info("audit: admin action", "principal", principal, "addr", a.where, "method", a.method, "what", what, "err", err)
}

// contain makes a panic of a handler an error of its call.
func (g *Guard) contain(method string, err *error) {
	if p := recover(); p != nil {
		g.log.Error("a call panicked", "method", method, "panic", p, "stack", string(debug.Stack()))
		*err = toStatus(g.dir, &partition.Error{Reason: partition.ReasonInternal, Message: "a fault of ours: the broker's log says more"})
	}
}

// Stream is the interceptor of streams.
func (g *Guard) Stream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	defer g.contain(info.FullMethod, &err)
	s = &takingStream{s, g.who.Taken(s.Context())}
	a, refusal := g.admit(s.Context(), info.FullMethod)
	if refusal != nil {
		return g.refuse(a, refusal)
	}
	if a.rule.public {
		return g.public(a, func() error { return next(srv, s) })
	}
	if a.caller == nil {
		return next(srv, s)
	}
	ctx, cancel := context.WithCancelCause(context.WithValue(s.Context(), callerKey{}, a.caller))
	defer cancel(nil)
	w := &guardedStream{ServerStream: s, ctx: ctx, guard: g, admission: a}
	stop := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() { w.watch(stop, cancel) })
	err = next(srv, w)
	close(stop)
	watching.Wait()
	if refusal := w.refused(); refusal != nil {
		return g.refuse(a, refusal)
	}
	return err
}

// takingStream tells of every message that the call takes.
type takingStream struct {
	grpc.ServerStream
	taken func()
}

// RecvMsg implements grpc.ServerStream.
func (s *takingStream) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	if err == nil {
		s.taken()
	}
	return err
}

// guardedStream judges every message that comes, and the stream as a whole again and again while it is open.
type guardedStream struct {
	grpc.ServerStream
	ctx   context.Context
	guard *Guard
	*admission

	mu      sync.Mutex
	last    proto.Message // the message whose needs the stream lives on; nil while there is none
	refusal *partition.Error
}

func (w *guardedStream) Context() context.Context { return w.ctx }

func (w *guardedStream) refused() *partition.Error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.refusal
}

func (w *guardedStream) refuseWith(err *partition.Error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refusal == nil {
		w.refusal = err
	}
}

// RecvMsg implements grpc.ServerStream.
func (w *guardedStream) RecvMsg(m any) error {
	if err := w.ServerStream.RecvMsg(m); err != nil {
		return w.guard.heard(w.ctx, err)
	}
	for {
		err := w.guard.judge(w.admission, m)
		if err == nil {
			break
		}
		if err.Reason != partition.ReasonQuota {
			w.refuseWith(err)
			return toStatus(w.guard.dir, err)
		}
		select { // a stream is slowed down, not ended; its message is judged again
		case <-w.ctx.Done():
			return context.Cause(w.ctx)
		case <-time.After(time.Duration(err.RetryAfterMs) * time.Millisecond):
		}
	}
	if message, ok := m.(proto.Message); ok && w.rule.needs != nil && len(w.rule.needs(w.guard.dir, w.caller, message)) > 0 {
		w.mu.Lock()
		w.last = message
		w.mu.Unlock()
	}
	return nil
}

// recheckEvery is how soon an open stream notices that its caller's proof or rights are gone.
const recheckEvery = time.Second

// watch ends the stream when its caller may not go on.
func (w *guardedStream) watch(stop <-chan struct{}, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(recheckEvery)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		if err := w.recheck(); err != nil {
			w.refuseWith(err)
			cancel(toStatus(w.guard.dir, err))
			return
		}
	}
}

func (w *guardedStream) recheck() *partition.Error {
	if !w.fresh() {
		return unauthenticated("the proof of who calls is over or revoked")
	}
	if err := w.guard.connected(w.ctx, w.caller.principal); err != nil {
		return err
	}
	w.mu.Lock()
	last := w.last
	w.mu.Unlock()
	if last == nil {
		return nil
	}
	for _, n := range w.rule.needs(w.guard.dir, w.caller, last) {
		if err := w.caller.check(n); err != nil {
			return err
		}
	}
	return nil
}

// canonical is the name of the topic that a reference means here: rights are judged by it. A topic that is not known is judged by
// the name given, an unknown id by no name at all.
func canonical(dir Directory, name string, id []byte) string {
	if len(id) != len(cluster.ID{}) {
		return name
	}
	if t, ok := dir.View().TopicByID(cluster.ID(id)); ok {
		return t.Name
	}
	return ""
}
