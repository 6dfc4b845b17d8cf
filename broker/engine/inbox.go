package engine

import "sync"

// Inbox hands values from any goroutine to the one that owns it: a slice swapped under a mutex, and one wake-up for all that came
// since the last look. Its bound is kept by those who put: peers by the transport's queues, sessions by their in-flight limits.
type Inbox[T any] struct {
	mu     sync.Mutex
	items  []T
	closed bool
	wake   chan struct{}
}

// NewInbox makes an empty inbox.
func NewInbox[T any]() *Inbox[T] { return &Inbox[T]{wake: make(chan struct{}, 1)} }

// Put adds values; false says that the owner is gone and they were dropped.
func (b *Inbox[T]) Put(values ...T) bool {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return false
	}
	b.items = append(b.items, values...)
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return true
}

// Take returns everything put since the last Take, in order, and keeps spare's memory for the next. Wake fires at least once after
// a Put that Take has not returned yet.
func (b *Inbox[T]) Take(spare []T) []T {
	clear(spare)
	b.mu.Lock()
	items := b.items
	b.items = spare[:0]
	b.mu.Unlock()
	return items
}

// Wake is ready when something was put.
func (b *Inbox[T]) Wake() <-chan struct{} { return b.wake }

// Close makes later Puts fail and returns what was left.
func (b *Inbox[T]) Close() []T {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	left := b.items
	b.items = nil
	return left
}
