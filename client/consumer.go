package client

import (
	"context"
	"sync"
	"time"

	pb "lograft/api/lograft/v1"
	"lograft/client/core"
	"lograft/internal/buffers"
)

// Consistency is the promise of a read.
type Consistency uint8

// Linearizable reflects every append acknowledged before the read began; Committed is what the replica knows; Session is what it knows
// once that includes the states of ConsumerOptions.Sessions and everything that the consumer was shown before.
const (
	Linearizable Consistency = iota
	Committed
	Session
)

func (c Consistency) wire() pb.Consistency {
	if c == Committed {
		return pb.Consistency_CONSISTENCY_COMMITTED
	}
	return pb.Consistency_CONSISTENCY_LINEARIZABLE
}

// reads is the promise for reads of partitions: in a session the token decides, and without one what the replica knows.
func (c Consistency) reads() pb.Consistency {
	if c == Session {
		return pb.Consistency_CONSISTENCY_COMMITTED
	}
	return c.wire()
}

// Position is a place in a partition.
type Position = core.Position

// AtOffset is an offset; AtStart and AtEnd count from the log's start and its end when the consumer begins.
func AtOffset(o int64) Position { return Position{From: core.Absolute, Offset: o} }

// AtStart is n records after the log start offset.
func AtStart(n int64) Position { return Position{From: core.FromStart, Offset: n} }

// AtEnd is n records after (n < 0: before) the end.
func AtEnd(n int64) Position { return Position{From: core.FromEnd, Offset: n} }

// AtTime is the first record appended at or after a time (ms since 1970), or the end if there is none.
func AtTime(ms int64) Position { return Position{From: core.AtTime, Offset: ms} }

// Subscription names what to read.
type Subscription = core.Subscription

// ConsumerOptions of a Consumer. Zero values take the defaults named.
type ConsumerOptions struct {
	Subscriptions []Subscription
	Consistency   Consistency
	Sessions      [][]byte      // Session: tokens of results and fetches (Result.Session), at most one counts for each partition
	Replica       uint64        // read from this node only; 0: from any
	FetchBytes    int           // 1 MiB
	BufferBytes   int           // 32 MiB
	Timeout       time.Duration // a partition that was not readable for so long is given up, 30 s
}

// Fetched is a record that was read.
type Fetched struct {
	Topic       string
	Partition   int32
	Offset      int64
	LeaderEpoch int32
	Timestamp   int64 // ms
	Key, Value  []byte
	Headers     []Header
}

// End says that a partition is read up to its stop (Err nil), or can't be read on. Partition -1: the topic as a whole.
type End = core.PartitionEnd

// Batch is what one Poll gives: records of one partition in order of offset. Records share memory that lives as long as they do, unless
// the program gives it back (Release).
type Batch struct {
	Topic         string
	Partition     int32
	Records       []Fetched
	NextOffset    int64 // after the last record, of those that count
	HighWatermark int64
	LogStart      int64

	list *[]Fetched    // of Records
	lent *buffers.Loan // of what was inflated; nil: released
}

// Consumer reads partitions. Poll is called by one goroutine.
type Consumer struct {
	c      *Client
	opts   ConsumerOptions
	core   *core.Consumer
	events *inbox[core.ConsumerEvent]
	cancel context.CancelFunc
	done   chan struct{}

	reader   *reader  // owned by run
	watching []string // topics whose changes are to be told; nil: none, or they are told
	mu       sync.Mutex
	fetched  []*fetched
	ahead    int // of fetched and of what Poll waits for: being decoded, or decoded
	ended    []End
	memory   *buffers.Pool
	over     bool // every partition has ended
	stalled  core.Stall
	closed   bool
	wake     chan struct{}
}

// NewConsumer starts a consumer; Close ends it.
func (c *Client) NewConsumer(o ConsumerOptions) (*Consumer, error) {
	ctx, cancel := context.WithCancel(context.Background())
	k := &Consumer{c: c, opts: o, events: newInbox[core.ConsumerEvent](), cancel: cancel, done: make(chan struct{}), wake: make(chan struct{}, 1), memory: buffers.NewPool(releasedBytesMax),
		core: core.NewConsumer(core.ConsumerOptions{Consistency: o.Consistency.reads(), Session: o.Consistency == Session, Tokens: o.Sessions, Replica: o.Replica, FetchBytes: o.FetchBytes, BufferBytes: o.BufferBytes,
			TimeoutNs: int64(o.Timeout), Rand: newRand()})}
	k.reader = newReader(c, o.Consistency, func(ev core.ConsumerEvent) { k.events.put(ev) })
	for _, s := range o.Subscriptions {
		if s.Stop == nil {
			k.watching = append(k.watching, s.Topic)
		}
	}
	k.events.put(core.ConsumerEvent{Subscribe: o.Subscriptions})
	go k.run(ctx)
	return k, nil
}

// Poll waits for the next records of any partition, or for partitions to end. over says that nothing more will come. An error is
// ctx's, or says that a batch can't be decoded.
func (k *Consumer) Poll(ctx context.Context) (b *Batch, ended []End, over bool, err error) {
	for {
		b, ended, over, ok, err := k.TryPoll()
		if ok || err != nil {
			return b, ended, over, err
		}
		select {
		case <-ctx.Done():
			return nil, nil, false, ctx.Err()
		case <-k.wake:
		}
	}
}

// TryPoll is Poll without waiting: ok is false if there is nothing at the moment.
func (k *Consumer) TryPoll() (b *Batch, ended []End, over, ok bool, err error) {
	k.mu.Lock()
	if len(k.fetched) > 0 {
		f := k.fetched[0]
		k.fetched[0] = nil
		k.fetched = k.fetched[1:]
		claimed := f.claimed
		k.mu.Unlock()
		if claimed {
			<-f.done
		} else {
			f.decode()
		}
		k.mu.Lock()
		if claimed {
			k.ahead--
		}
		k.decodeAhead()
		k.mu.Unlock()
		k.events.put(core.ConsumerEvent{Consumed: f.Bytes})
		return f.batch, nil, false, true, f.err
	}
	defer k.mu.Unlock()
	ended, k.ended = k.ended, nil
	return nil, ended, k.over, k.over || len(ended) > 0, nil
}

// Close ends the consumer.
func (k *Consumer) Close() {
	k.mu.Lock()
	k.closed = true
	k.mu.Unlock()
	k.cancel()
	<-k.done
	k.reader.wait()
}

func (k *Consumer) run(ctx context.Context) {
	defer close(k.done)
	var eff core.ConsumerEffects
	loop(ctx, k.c, k.events, core.ConsumerEvent{Timer: true}, func(ev *core.ConsumerEvent) int64 {
		k.step(ctx, ev, &eff)
		return eff.Timer
	})
	k.reader.close()
}

func (k *Consumer) step(ctx context.Context, ev *core.ConsumerEvent, eff *core.ConsumerEffects) {
	k.reader.before(ev)
	k.core.Step(k.c.now(), ev, eff)
	k.reader.effects(ctx, eff)
	if ev.Metadata != nil && ev.Metadata.Err == nil && k.watching != nil { // the topics are known: what changes from now on
		k.reader.watch(ctx, k.watching)
		k.watching = nil
	}
	over, stalled := k.core.Done(), k.core.Stalled()
	k.mu.Lock()
	k.stalled = stalled
	if len(eff.Fetched) == 0 && len(eff.Ended) == 0 && !over {
		k.mu.Unlock()
		return
	}
	for i := range eff.Fetched {
		k.fetched = append(k.fetched, &fetched{Fetched: eff.Fetched[i], memory: k.memory, done: make(chan struct{})})
	}
	k.decodeAhead()
	k.ended = append(k.ended, eff.Ended...)
	k.over = over
	k.mu.Unlock()
	select {
	case k.wake <- struct{}{}:
	default:
	}
}
