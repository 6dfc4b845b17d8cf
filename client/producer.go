package client

import (
	"context"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"

	pb "lograft/api/lograft/v1"
	"lograft/client/core"
	"lograft/record"
)

// AnyPartition leaves the choice of a record's partition to its key, or to the producer.
const AnyPartition int32 = -1

// Record is a record to append.
type Record struct {
	Topic      string
	Partition  int32  // AnyPartition, or a number
	Key, Value []byte // nil is null
	Headers    []Header
	Timestamp  int64 // ms; 0: when it is batched, which is now or soon
}

// Result is the end of one record: its place, or why it has none.
type Result struct {
	Topic     string
	Partition int32
	Offset    int64
	Timestamp int64  // append time, ms
	Session   []byte // token for reads that must see this record
	Err       *Error // nil: on stable storage of a majority
}

// ProducerOptions of a Producer. Zero values take the defaults named.
type ProducerOptions struct {
	Codec           Codec         // the zero value is none; DefaultProducerOptions says snappy
	Linger          time.Duration // how long a batch waits for company while another is in flight, 5 ms
	BatchBytes      int           // before compression, 1 MiB, and never above the topic's max.message.bytes
	DeliveryTimeout time.Duration // 120 s
	BufferBytes     int64         // of records without a result, 64 MiB: Produce waits at this bound
	Create          bool          // create topics that do not exist
	// Conditional: the first record of each partition is appended only at offset ExpectedOffset, every later one only right behind the
	// one before it. The first refusal (EXPECTED_OFFSET) ends the partition: nothing of what follows is appended.
	Conditional    bool
	ExpectedOffset int64
}

// DefaultProducerOptions compresses with snappy.
func DefaultProducerOptions() ProducerOptions {
	return ProducerOptions{Codec: CodecSnappy, Linger: 5 * time.Millisecond}
}

const (
	producerBufferDefault = 64 << 20
	recordOverhead        = 64
)

// Producer appends records, idempotently: each is there once, in the order given per partition, or its Result says failed or
// unknown. It is safe for concurrent use.
type Producer struct {
	c      *Client
	opts   ProducerOptions
	core   *core.Producer
	events *inbox[core.ProducerEvent]
	space  *semaphore.Weighted
	cancel context.CancelFunc
	done   chan struct{}
	calls  sync.WaitGroup

	streams  map[string]*stream[*pb.ProduceStreamRequest] // owned by run
	builders sync.WaitGroup

	builds chan *core.Build // large batches for the builders; when it is full, run builds itself

	mu      sync.Mutex
	pending []core.Record
	tags    []tag         // room for the next records' tags
	waiting int           // records without a result
	idle    chan struct{} // closed when waiting becomes 0; nil while nobody waits
	stalled core.Stall
	closed  bool
}

// tag is what a record carries through the core, by pointer. Tags are made tagsAtOnce at a time.
type tag struct {
	bytes int64
	done  func(Result)
}

const tagsAtOnce = 64

// newTag is called with mu held.
func (p *Producer) newTag(t tag) *tag {
	if len(p.tags) == 0 {
		p.tags = make([]tag, tagsAtOnce)
	}
	out := &p.tags[0]
	p.tags = p.tags[1:]
	*out = t
	return out
}

// buildsMax bounds the large batches that wait for a builder.
const buildsMax = 8

// NewProducer starts a producer; Close ends it.
func (c *Client) NewProducer(o ProducerOptions) (*Producer, error) {
	if o.BufferBytes == 0 {
		o.BufferBytes = producerBufferDefault
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Producer{c: c, opts: o, events: newInbox[core.ProducerEvent](), space: semaphore.NewWeighted(o.BufferBytes), cancel: cancel, done: make(chan struct{}),
		streams: map[string]*stream[*pb.ProduceStreamRequest]{}, builds: make(chan *core.Build, buildsMax),
		core: core.NewProducer(core.ProducerOptions{Codec: o.Codec, LingerNs: int64(o.Linger), BatchBytes: o.BatchBytes, TimeoutNs: int64(o.DeliveryTimeout),
			Create: o.Create, Conditional: o.Conditional, Expected: o.ExpectedOffset, Rand: newRand()})}
	for range runtime.GOMAXPROCS(0) {
		p.builders.Go(p.build)
	}
	go p.run(ctx)
	return p, nil
}

// Produce takes a record; done is called once, from the producer's goroutine, and must not block. Key, Value and Headers must not
// change until then. Produce waits while BufferBytes of records have no result.
func (p *Producer) Produce(ctx context.Context, r *Record, done func(Result)) error {
	bytes := min(int64(len(r.Key)+len(r.Value)+recordOverhead), p.opts.BufferBytes)
	if err := p.space.Acquire(ctx, bytes); err != nil {
		return err
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		p.space.Release(bytes)
		return &Error{Reason: core.ReasonClosed, Message: "the producer is closed"}
	}
	p.waiting++
	p.pending = append(p.pending, core.Record{Topic: r.Topic, Partition: r.Partition, Tag: p.newTag(tag{bytes, done}),
		Record: record.Record{Timestamp: r.Timestamp, Key: r.Key, Value: r.Value, Headers: r.Headers}})
	first := len(p.pending) == 1
	p.mu.Unlock()
	if first {
		p.events.put()
	}
	return nil
}

// Flush sends what waits for company and returns when every record given before has its result.
func (p *Producer) Flush(ctx context.Context) error {
	p.mu.Lock()
	if p.waiting == 0 {
		p.mu.Unlock()
		return nil
	}
	if p.idle == nil {
		p.idle = make(chan struct{})
	}
	idle := p.idle
	p.mu.Unlock()
	p.events.put(core.ProducerEvent{Flush: true})
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-idle:
		return nil
	}
}

// Close flushes and ends the producer. Records without a result when ctx ends get one that says unknown.
func (p *Producer) Close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	err := p.Flush(ctx)
	p.cancel()
	<-p.done
	p.calls.Wait()
	if err == nil {
		p.release(ctx)
	}
	return err
}

// releaseTimeout bounds what a closing producer does to be forgotten by the brokers at once instead of later.
const releaseTimeout = time.Second

// release tells the leaders that the producer's ids are done with.
func (p *Producer) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	var calls sync.WaitGroup
	for _, x := range p.core.Identities() {
		calls.Go(func() {
			_, _ = callOne(ctx, p.c, x.Address, func(ctx context.Context, conn *grpc.ClientConn) (*pb.ReleaseProducerResponse, error) {
				return pb.NewProduceServiceClient(conn).ReleaseProducer(ctx, &pb.ReleaseProducerRequest{Partition: &pb.PartitionRef{Topic: x.Topic, TopicId: x.TopicID, Partition: x.Partition},
					ProducerId: x.ID, ProducerEpoch: int32(x.Epoch), TimeoutMs: releaseTimeout.Milliseconds()})
			})
		})
	}
	calls.Wait()
}

// run owns the core and the streams.
func (p *Producer) run(ctx context.Context) {
	defer close(p.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var events []core.ProducerEvent
	var records, rest []core.Record // rest: of records, not yet in the core
	var eff core.ProducerEffects
	flush := false
	for {
		select {
		case <-ctx.Done():
			close(p.builds)
			p.builders.Wait()
			p.abandon(rest)
			return
		case <-timer.C:
			p.step(ctx, &core.ProducerEvent{Timer: true}, &eff)
		case <-p.events.wake:
		}
		events = p.events.take(events)
		for i := range events {
			if events[i].Flush {
				flush = true
				continue
			}
			p.step(ctx, &events[i], &eff)
		}
		if len(rest) == 0 {
			clear(records)
			p.mu.Lock()
			records, p.pending = p.pending, records[:0]
			p.mu.Unlock()
			stamp(records)
			rest = records
		}
		for len(rest) > 0 && p.core.Building() < buildsMax {
			n := chunk(rest)
			p.step(ctx, &core.ProducerEvent{Records: rest[:n]}, &eff)
			rest = rest[n:]
		}
		if flush && len(rest) == 0 { // everything given before the flush is in the core
			flush = false
			p.step(ctx, &core.ProducerEvent{Flush: true}, &eff)
		}
		p.mu.Lock()
		p.stalled = p.core.Stalled()
		p.mu.Unlock()
		if eff.Timer > 0 {
			timer.Reset(time.Duration(max(eff.Timer-p.c.now(), 0)))
		}
	}
}

// stamp gives the time to records that have none.
func stamp(records []core.Record) {
	now := time.Now().UnixMilli()
	for i := range records {
		if records[i].Timestamp == 0 {
			records[i].Timestamp = now
		}
	}
}

// chunk is how many of records make about one batch.
func chunk(records []core.Record) (n int) {
	for bytes := 0; n < len(records) && bytes < chunkBytes; n++ {
		bytes += len(records[n].Key) + len(records[n].Value) + recordOverhead
	}
	return n
}

const chunkBytes = 1 << 20

// build compresses large batches until run has ended.
func (p *Producer) build() {
	for b := range p.builds {
		b.Do()
		p.events.put(core.ProducerEvent{Built: b})
	}
}

func (p *Producer) step(ctx context.Context, ev *core.ProducerEvent, eff *core.ProducerEffects) {
	if s := p.streams[ev.Down]; ev.Down != "" && s != nil {
		delete(p.streams, ev.Down)
		s.close()
	}
	p.core.Step(p.c.now(), ev, eff)
	for i := range eff.Send {
		p.streamTo(ctx, eff.Send[i].Address).out.put(eff.Send[i].Message)
	}
	for _, b := range eff.Build {
		select {
		case p.builds <- b:
		default:
			b.Do()
			p.events.put(core.ProducerEvent{Built: b})
		}
	}
	if len(eff.Metadata) > 0 {
		names := eff.Metadata
		p.calls.Go(func() {
			out, err := p.c.metadata(ctx, &pb.GetMetadataRequest{Topics: names})
			p.events.put(core.ProducerEvent{Metadata: &core.MetadataAnswer{Topics: names, Response: out, Err: err}})
		})
	}
	for _, name := range eff.Create {
		p.calls.Go(func() {
			_, err := p.c.CreateTopic(ctx, TopicSpec{Name: name})
			answer := &core.CreateAnswer{Topic: name}
			if err != nil {
				answer.Err = toError("", err)
			}
			p.events.put(core.ProducerEvent{Created: answer})
		})
	}
	if eff.InitProducer {
		p.calls.Go(func() {
			out, err := call(ctx, p.c, func(ctx context.Context, conn *grpc.ClientConn) (*pb.InitProducerIdResponse, error) {
				return pb.NewClusterServiceClient(conn).InitProducerId(ctx, &pb.InitProducerIdRequest{})
			})
			p.events.put(core.ProducerEvent{Producer: &core.ProducerAnswer{ID: out.GetProducerId(), Epoch: int16(out.GetProducerEpoch()), Err: err}})
		})
	}
	p.deliver(eff.Results)
}

func (p *Producer) streamTo(ctx context.Context, address string) *stream[*pb.ProduceStreamRequest] {
	if s := p.streams[address]; s != nil {
		return s
	}
	s := openStream(ctx, p.c, address,
		func(ctx context.Context, conn *grpc.ClientConn) (bidi[*pb.ProduceStreamRequest, *pb.ProduceStreamResponse], error) {
			return pb.NewProduceServiceClient(conn).ProduceStream(ctx)
		},
		func(m *pb.ProduceStreamResponse) { p.events.put(core.ProducerEvent{Answer: m}) },
		func(err error) { p.events.put(core.ProducerEvent{Down: address, DownError: err}) })
	p.streams[address] = s
	return s
}

func (p *Producer) deliver(results []core.Result) {
	if len(results) == 0 {
		return
	}
	var bytes int64
	for i := range results {
		r := &results[i]
		t := r.Tag.(*tag)
		bytes += t.bytes
		t.done(Result{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp, Session: r.Session, Err: r.Err})
	}
	p.space.Release(bytes)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting -= len(results); p.waiting == 0 && p.idle != nil {
		close(p.idle)
		p.idle = nil
	}
}

// abandon ends the streams and gives every record without a result one that says unknown.
func (p *Producer) abandon(rest []core.Record) {
	for _, s := range p.streams {
		s.close()
	}
	var eff core.ProducerEffects
	p.core.Abandon(&core.Error{Reason: core.ReasonClosed, Message: "the producer was closed before the record was acknowledged", Outcome: core.OutcomeUnknown}, &eff)
	p.deliver(eff.Results)
	p.mu.Lock()
	pending := append(rest[:len(rest):len(rest)], p.pending...)
	p.pending = nil
	p.mu.Unlock()
	unsent := make([]core.Result, len(pending))
	for i := range pending {
		unsent[i] = core.Result{Tag: pending[i].Tag, Topic: pending[i].Topic, Partition: pending[i].Partition,
			Err: &core.Error{Reason: core.ReasonClosed, Message: "the producer was closed before the record was sent"}}
	}
	p.deliver(unsent)
}
