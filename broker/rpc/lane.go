package rpc

import (
	"context"
	"slices"
	"sync"

	"google.golang.org/grpc/peer"
)

// laneWaitsMax is how many of one asker wait for a place in a lane. Who waits holds its goroutine and its reply, which is counted by Answers.
const laneWaitsMax = 1024

// asker is on whose behalf something waits, and until when: a principal, or an address where nobody has to say who he is.
type asker struct {
	name string
	over <-chan struct{} // closed when the call is over; nil: never
}

// askerOf is who makes the call of ctx.
func askerOf(ctx context.Context) asker {
	a := asker{over: ctx.Done()}
	if c := callerOf(ctx); c != nil {
		a.name = "principal " + c.principal
	} else if p, ok := peer.FromContext(ctx); ok {
		a.name = "address " + hostOf(p.Addr.String()).String()
	}
	return a
}

// lane lets some pass at a time. Askers who wait have turns, one after the other, whatever number each wants. A nil lane lets all pass. It
// is safe for concurrent use.
type lane struct {
	mu    sync.Mutex
	free  int                        // while some are free nobody waits
	waits map[string][]chan struct{} // by asker, first come first; each is closed when a place is its own
	turns []string                   // askers who wait, the next one first
}

func newLane(n int) *lane { return &lane{free: n, waits: map[string][]chan struct{}{}} }

// enter waits for a place; it reports false if too many of this asker wait already, or the call is over. Who has a place leaves it without
// waiting for anything.
func (l *lane) enter(a asker) bool {
	if l == nil {
		return true
	}
	l.mu.Lock()
	if l.free > 0 {
		l.free--
		l.mu.Unlock()
		return true
	}
	waits := l.waits[a.name]
	if len(waits) >= laneWaitsMax {
		l.mu.Unlock()
		return false
	}
	if len(waits) == 0 {
		l.turns = append(l.turns, a.name)
	}
	mine := make(chan struct{})
	l.waits[a.name] = append(waits, mine)
	l.mu.Unlock()
	select {
	case <-mine:
		return true
	case <-a.over:
		l.giveUp(a.name, mine)
		return false
	}
}

// giveUp takes back what waits, or leaves the place that it was given meanwhile.
func (l *lane) giveUp(name string, mine chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	waits := l.waits[name]
	at := slices.Index(waits, mine)
	if at < 0 {
		l.next()
		return
	}
	if l.waits[name] = slices.Delete(waits, at, at+1); len(waits) == 1 {
		delete(l.waits, name)
		l.turns = slices.DeleteFunc(l.turns, func(other string) bool { return other == name })
	}
}

func (l *lane) leave() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next()
}

// next gives a place that is free to the asker whose turn it is. mu is held.
func (l *lane) next() {
	if len(l.turns) == 0 {
		l.free++
		return
	}
	name := l.turns[0]
	l.turns = l.turns[1:]
	waits := l.waits[name]
	close(waits[0])
	if len(waits) == 1 {
		delete(l.waits, name)
		return
	}
	l.waits[name], l.turns = waits[1:], append(l.turns, name)
}
