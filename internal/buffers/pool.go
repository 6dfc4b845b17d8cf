// Package buffers lends memory that is used again. A Pool keeps what was given back, within a bound; a Loan is memory of a pool with a
// count of those who look at it, and the last one to Free it gives it back.
//
// Ownership: whoever has a *Loan has one reference and frees it once, or hands it on together with the bytes, and then both are
// another's. A loan that is never freed costs nothing but its memory's second use: the garbage collector takes it. One that is freed
// while somebody still looks at its bytes hands him another's: in doubt, don't free.
//
// Built with -tags poison, memory is overwritten when it is given back and rests before it is lent again: who reads it sees poison, and
// who has written to it stops the program when it is lent again.
package buffers

import (
	"math/bits"
	"sync"
)

const (
	// classMin and classMax bound what a pool keeps: below it a fresh allocation is as cheap, above it memory is better given up.
	classMin = 4 << 10
	classMax = 16 << 20
	// stepsPerDouble is how many sizes lie between one and its double: a buffer is at most a quarter larger than what was asked for.
	stepsPerDouble = 4
)

// Pool is memory to lend. Its methods may be called by many goroutines. A nil Pool lends fresh memory that nobody uses again.
type Pool struct {
	idleMax int

	mu      sync.Mutex
	idle    int // bytes kept
	classes map[int][][]byte
	resting rest // given back, not to be lent yet
}

// NewPool makes a pool that keeps at most idleMax bytes for their next use. What is lent is not bounded here.
func NewPool(idleMax int) *Pool { return &Pool{idleMax: idleMax, classes: map[int][][]byte{}} }

// Idle is how many bytes are kept for their next use, never more than idleMax.
func (p *Pool) Idle() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.idle
}

// classOf is the smallest size of those kept that holds n bytes; n itself if that is not kept.
func classOf(n int) int {
	if n > classMax {
		return n
	}
	n = max(n, classMin)
	step := 1 << (bits.Len(uint(n-1)) - 1) / stepsPerDouble
	return (n + step - 1) / step * step
}

// Takes is how much memory n bytes of a loan take: n, or up to a quarter more.
func Takes(n int) int {
	if n < classMin {
		return n
	}
	return classOf(n)
}

// get gives n bytes with any content.
func (p *Pool) get(n int) []byte {
	size := classOf(n)
	if p == nil || n < classMin || size > classMax {
		return make([]byte, n)
	}
	p.mu.Lock()
	kept := p.classes[size]
	if len(kept) == 0 {
		p.mu.Unlock()
		return make([]byte, n, size)
	}
	b := kept[len(kept)-1]
	kept[len(kept)-1] = nil
	p.classes[size] = kept[:len(kept)-1]
	p.idle -= size
	p.mu.Unlock()
	unspoiled(b)
	return b[:n]
}

// put keeps b, which get gave, if there is room. Nobody looks at it any more.
func (p *Pool) put(b []byte) {
	size := cap(b)
	if p == nil || size < classMin || size > classMax || classOf(size) != size {
		return
	}
	b = b[:size]
	spoil(b)
	p.mu.Lock()
	defer p.mu.Unlock()
	if b = p.resting.put(b); b == nil {
		return
	}
	if size = cap(b); p.idle+size > p.idleMax {
		return
	}
	p.idle += size
	p.classes[size] = append(p.classes[size], b)
}
