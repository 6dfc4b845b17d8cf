package buffers

import "sync/atomic"

// Loan is memory of a pool, in one or more pieces, with a count of references. It is made by Lend, whose caller has the first one. A nil
// *Loan is no memory: Hold and Free do nothing.
type Loan struct {
	pool *Pool
	refs atomic.Int32
	held [][]byte
}

// Lend begins a loan without memory.
func (p *Pool) Lend() *Loan {
	l := &Loan{pool: p}
	l.refs.Store(1)
	return l
}

// Get adds a piece of n bytes, whose content is anything, to the loan. Only while nobody else has a reference.
func (l *Loan) Get(n int) []byte {
	b := l.pool.get(n)
	l.held = append(l.held, b)
	return b
}

// Hold adds a reference: the caller has one already, and makes one for somebody else.
func (l *Loan) Hold() {
	if l != nil && l.refs.Add(1) <= 1 {
		panic("buffers: a loan is held after its last reference was freed")
	}
}

// Free gives one reference up. The last one gives the memory back: nobody looks at it from then on.
func (l *Loan) Free() {
	if l == nil {
		return
	}
	switch n := l.refs.Add(-1); {
	case n > 0:
		return
	case n < 0:
		panic("buffers: a loan is freed twice")
	}
	for i, b := range l.held {
		l.held[i] = nil
		l.pool.put(b)
	}
	l.held = nil
}
