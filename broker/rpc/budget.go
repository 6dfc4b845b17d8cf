package rpc

import (
	"fmt"
	"sync/atomic"

	"lograft/broker/partition"
)

// Budget bounds the bytes of record batches that a broker holds for all of its clients: one of appends without an answer, another of
// answers that are not sent yet. Nil has no bound.
type Budget struct {
	max    int64
	used   atomic.Int64
	within *Budget // takes and gives with it; nil: none
}

// BudgetBytesDefault is the bound where nobody sets one.
const BudgetBytesDefault = 256 << 20

// NewBudget makes a budget of so many bytes; 0 means BudgetBytesDefault.
func NewBudget(bytes int64) *Budget {
	if bytes == 0 {
		bytes = BudgetBytesDefault
	}
	return &Budget{max: bytes}
}

// take reports whether n bytes more are within the bound, and counts them if so. An empty budget takes anything once, so that no batch
// is refused for ever.
func (b *Budget) take(n int) bool {
	if b == nil {
		return true
	}
	if used := b.used.Add(int64(n)); used > b.max && used != int64(n) || !b.within.take(n) {
		b.used.Add(int64(-n))
		return false
	}
	return true
}

// Give gives n bytes back.
func (b *Budget) Give(n int) { b.give(n) }

func (b *Budget) give(n int) {
	if b != nil {
		b.used.Add(int64(-n))
		b.within.give(n)
	}
}

// Full reports whether no more would be taken.
func (b *Budget) Full() bool { return b != nil && b.used.Load() >= b.max }

// Used is what is taken now.
func (b *Budget) Used() int64 {
	if b == nil {
		return 0
	}
	return b.used.Load()
}

// overloadedRetryMs is when a client may ask again.
const overloadedRetryMs = 50

func overloaded(b *Budget, what string) *partition.Error {
	return &partition.Error{Reason: partition.ReasonOverloaded, RetryAfterMs: overloadedRetryMs,
		Message: fmt.Sprintf("%s hold %d bytes of this broker's memory, as much as limits.bytes-in-flight allows: slow down and retry", what, b.max)}
}

// releaser is a session that holds some of a budget while it lives.
type releaser interface{ release() }

// Release gives back what a session still holds of the broker's budgets. The driver calls it once, when it steps the session no more.
func Release(s Session) {
	if r, ok := s.(releaser); ok {
		r.release()
	}
}
