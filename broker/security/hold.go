package security

import (
	"context"
	"sync"

	"google.golang.org/grpc/peer"
)

// connOf is the connection over which a call came, nil if it is none of a listener's.
func connOf(ctx context.Context) *floodConn {
	caller, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	info, ok := caller.AuthInfo.(connInfo)
	if !ok {
		return nil
	}
	return info.conn
}

// holds is what a connection holds for its client that is to be given back when it is closed, if not before.
type holds struct {
	mu     sync.Mutex
	open   map[*func()]struct{}
	closed bool
}

// Hold returns a function that calls give, once: whenever it is called itself, or when the connection of ctx is closed, whichever is
// first. A call that came over no connection of a listener has the first only.
func Hold(ctx context.Context, give func()) (done func()) {
	once := sync.OnceFunc(give)
	c := connOf(ctx)
	if c == nil {
		return once
	}
	h := &c.holds
	h.mu.Lock()
	closed := h.closed
	if !closed {
		if h.open == nil {
			h.open = map[*func()]struct{}{}
		}
		h.open[&once] = struct{}{}
	}
	h.mu.Unlock()
	if closed {
		once()
	}
	return func() {
		h.mu.Lock()
		delete(h.open, &once)
		h.mu.Unlock()
		once()
	}
}

// close gives everything back.
func (h *holds) close() {
	h.mu.Lock()
	open := h.open
	h.open, h.closed = nil, true
	h.mu.Unlock()
	for give := range open {
		(*give)()
	}
}
