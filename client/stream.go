package client

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"
)

// inbox hands events to the one goroutine that owns a core.
type inbox[T any] struct {
	mu    sync.Mutex
	items []T
	wake  chan struct{}
}

func newInbox[T any]() *inbox[T] { return &inbox[T]{wake: make(chan struct{}, 1)} }

func (b *inbox[T]) put(v ...T) {
	b.mu.Lock()
	b.items = append(b.items, v...)
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *inbox[T]) take(spare []T) []T {
	clear(spare)
	b.mu.Lock()
	defer b.mu.Unlock()
	items := b.items
	b.items = spare[:0]
	return items
}

// loop steps a core with its events, and with timerEvent when its time has come, until ctx ends. step gives when that is: monotonic ns, 0:
// no change.
func loop[T any](ctx context.Context, c *Client, events *inbox[T], timerEvent T, step func(*T) (timer int64)) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var batch []T
	for {
		at := int64(0)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			at = step(&timerEvent)
		case <-events.wake:
		}
		batch = events.take(batch)
		for i := range batch {
			at = step(&batch[i])
		}
		if at > 0 {
			timer.Reset(time.Duration(max(at-c.now(), 0)))
		}
	}
}

// stream is one bidirectional stream to one broker, with a goroutine that sends and one that receives. It reports one end, through
// down, after which it is dead.
type stream[Out any] struct {
	out    *inbox[Out]
	cancel context.CancelFunc
	done   sync.WaitGroup
}

type bidi[Out, In any] interface {
	Send(Out) error
	Recv() (In, error)
	grpc.ClientStream
}

func openStream[Out, In any](ctx context.Context, c *Client, address string, open func(context.Context, *grpc.ClientConn) (bidi[Out, In], error), got func(In), down func(error)) *stream[Out] {
	ctx, cancel := context.WithCancel(ctx)
	s := &stream[Out]{out: newInbox[Out](), cancel: cancel}
	s.done.Add(1)
	go func() {
		defer s.done.Done()
		defer cancel()
		conn, err := c.conn(address)
		if err != nil {
			down(err)
			return
		}
		g, err := open(ctx, conn)
		if err != nil {
			down(err)
			return
		}
		s.done.Add(1)
		go func() {
			defer s.done.Done()
			s.send(ctx, g.Send)
		}()
		for {
			m, err := g.Recv()
			if err != nil {
				down(err)
				return
			}
			got(m)
		}
	}()
	return s
}

// send sends what comes; an error ends Recv too, which reports it.
func (s *stream[Out]) send(ctx context.Context, send func(Out) error) {
	defer s.cancel()
	var msgs []Out
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.out.wake:
		}
		msgs = s.out.take(msgs)
		for _, m := range msgs {
			if send(m) != nil {
				return
			}
		}
	}
}

func (s *stream[Out]) close() {
	s.cancel()
	s.done.Wait()
}
