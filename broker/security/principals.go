package security

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Bounds of connections that principals share and leave.
const (
	principalsPerConnMax = 100         // who proves himself on one connection: a gateway's may carry several
	refusedLinger        = time.Second // a connection that is one too many is closed after so long: the refusal goes out first
)

// principals knows the open connections on which principals have proved who they are, each in the order in which they came.
type principals struct {
	mu   sync.Mutex
	open map[string][]*floodConn
}

// Connect counts the connection of ctx as one of a principal's until it is closed. It reports false if max or more that came earlier are
// open (0: no bound), or if too many principals share it: its calls are to be refused, and unless another principal uses it, too, it
// takes no further ones and is closed soon. A call that came over no connection of a listener is not counted.
func (w *Who) Connect(ctx context.Context, principal string, max uint64) bool {
	c := connOf(ctx)
	if c == nil {
		return true
	}
	if last := c.lastPrincipal.Load(); max == 0 && last != nil && *last == principal {
		return true // counted already
	}
	return c.floods.principals.enter(c, principal, max)
}

func (p *principals) enter(c *floodConn, principal string, max uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.refused {
		return false
	}
	list := p.open[principal]
	if last := c.lastPrincipal.Load(); last != nil && *last == principal && uint64(len(list)) <= max {
		return true
	}
	at := slices.Index(list, c)
	if at < 0 {
		if c.closed {
			return false
		}
		at = len(list)
	}
	if max > 0 && uint64(at) >= max || at == len(list) && len(c.principals) >= principalsPerConnMax {
		p.remove(c, principal)
		if len(c.principals) == 0 {
			c.refused = true
			time.AfterFunc(refusedLinger, func() { _ = c.Close() })
		}
		return false
	}
	if at == len(list) {
		if p.open == nil {
			p.open = map[string][]*floodConn{}
		}
		p.open[principal] = append(list, c)
		c.principals = append(c.principals, principal)
	}
	c.lastPrincipal.Store(&principal)
	return true
}

// leave forgets a connection that is closed.
func (p *principals) leave(c *floodConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.closed = true
	for _, name := range slices.Clone(c.principals) {
		p.remove(c, name)
	}
}

// remove counts c no longer as one of a principal's. mu is held.
func (p *principals) remove(c *floodConn, principal string) {
	c.lastPrincipal.Store(nil)
	if at := slices.Index(c.principals, principal); at >= 0 {
		c.principals = slices.Delete(c.principals, at, at+1)
	}
	list := p.open[principal]
	if at := slices.Index(list, c); at >= 0 {
		list = slices.Delete(list, at, at+1)
	}
	if len(list) == 0 {
		delete(p.open, principal)
	} else {
		p.open[principal] = list
	}
}
