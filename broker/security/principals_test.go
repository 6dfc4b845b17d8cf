package security

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"
)

// Connections beyond a principal's bound are refused, take no further call and are closed; those that came first stay, also when the
// bound falls; a closed one makes room; what nobody bounds is counted all the same, so that a bound set later holds.
func TestConnectionsOfAPrincipal(t *testing.T) {
	w := &Who{}
	f, a, ctxA, _ := handshaken(t, true)
	open := func() (*floodConn, func(string, uint64) bool, net.Conn) {
		_, c, ctx, other := handshaken(t, true)
		c.floods = f // one listener
		return c, func(principal string, max uint64) bool { return w.Connect(ctx, principal, max) }, other
	}
	b, asB, otherB := open()
	_, asC, _ := open()
	_, asD, otherD := open()
	want := func(what string, got, want bool) {
		t.Helper()
		if got != want {
			t.Errorf("%s: let in is %v, want %v", what, got, want)
		}
	}
	want("the first, without a bound", w.Connect(ctxA, "alice", 0), true)
	want("the second, without a bound", asB("alice", 0), true)
	want("a third of two", asC("alice", 2), false)
	want("another principal's on the same connection", asC("bob", 1), false) // it is on its way out
	want("the second of two, again", asB("alice", 2), true)
	want("a fourth of three", asD("alice", 3), true)
	want("the third of two", asD("alice", 2), false)
	want("the third of two, when the bound is gone", asD("alice", 0), false)
	want("the second of one", asB("alice", 1), false)
	want("the first of one", w.Connect(ctxA, "alice", 1), true)
	for what, other := range map[string]net.Conn{"B": otherB, "D": otherD} {
		_ = other.SetReadDeadline(time.Now().Add(30 * time.Second))
		if _, err := other.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("connection %s, refused, is not closed: %v", what, err)
		}
	}
	want("a call on a closed connection", asB("alice", 9), false)
	_ = a.Close()
	_, asE, _ := open()
	want("one of one, when the first is closed", asE("alice", 1), true)
	if n := len(f.principals.open["alice"]); n != 1 || b.refused != true {
		t.Errorf("%d connections are counted, want 1", n)
	}
}

// A connection that several principals share is not closed for what one of them is refused; they are bounded in number; nothing is left
// of a connection that is closed.
func TestPrincipalsOfAConnection(t *testing.T) {
	w := &Who{}
	f, c, ctx, _ := handshaken(t, true)
	for i := range principalsPerConnMax {
		if !w.Connect(ctx, fmt.Sprint(i), 0) {
			t.Fatalf("principal %d is refused", i)
		}
	}
	if w.Connect(ctx, "one too many", 0) {
		t.Error("no bound holds")
	}
	time.Sleep(refusedLinger * 3 / 2)
	if !w.Connect(ctx, "7", 1) || c.closed {
		t.Error("the connection is closed for those who were let in, too")
	}
	_ = c.Close()
	if len(f.principals.open) > 0 || len(c.principals) > 0 {
		t.Errorf("%d principals have connections, want none", len(f.principals.open))
	}
}
