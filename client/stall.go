package client

import (
	"fmt"
	"strings"
	"time"

	"lograft/client/core"
)

// Stall says what a producer or consumer has waited for in vain, and for how long: an answer of brokers, not records that nobody wrote
// yet. For is 0 if it waits for nothing.
type Stall struct {
	For  time.Duration
	What string // for people: what is waited for, from which address, and why it did not come, if that is known
}

func (c *Client) stall(s core.Stall) Stall {
	if s.Since == 0 {
		return Stall{}
	}
	address := s.Address
	if address == "" {
		address = strings.Join(c.candidates(), ", ")
	}
	out := Stall{For: time.Duration(c.now() - s.Since)}
	switch {
	case s.Last == nil:
		out.What = fmt.Sprintf("%s: no answer from %s", s.String(), address)
	case strings.Contains(s.Last.Message, address):
		out.What = fmt.Sprintf("%s: %s", s.String(), s.Last.Message)
	default:
		out.What = fmt.Sprintf("%s: asked of %s: %s", s.String(), address, s.Last.Message)
	}
	return out
}

// Stalled says what the consumer waits for.
func (k *Consumer) Stalled() Stall {
	k.mu.Lock()
	s := k.stalled
	k.mu.Unlock()
	return k.c.stall(s)
}

// Stalled says what the member waits for.
func (k *GroupConsumer) Stalled() Stall {
	k.mu.Lock()
	s := k.stalled
	k.mu.Unlock()
	return k.c.stall(s)
}

// Stalled says what the producer waits for.
func (p *Producer) Stalled() Stall {
	p.mu.Lock()
	s := p.stalled
	p.mu.Unlock()
	return p.c.stall(s)
}
