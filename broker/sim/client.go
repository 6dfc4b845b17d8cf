package sim

import (
	"fmt"
	"math/rand/v2"

	"google.golang.org/protobuf/proto"

	pb "lograft/api/lograft/v1"
	"lograft/broker/partition"
	"lograft/broker/rpc"
	"lograft/client/core"
	"lograft/record"
)

// A client of the simulation is the real client's core (client/core), its streams are queues with delays that keep their order, and
// what it talks to are the broker's real sessions. A stream breaks when its broker dies, and now and then by chance.

// address is where a broker registers itself to be found.
func address(node uint64) string { return fmt.Sprintf("sim:%d", node) }

func (w *World) nodeAt(address string) *Node {
	for _, n := range w.nodes {
		if address == fmt.Sprintf("sim:%d", n.id) {
			return n
		}
	}
	return nil
}

func unreachable(address string) *core.Error {
	return &core.Error{Reason: core.ReasonUnreachable, Message: address + " does not answer"}
}

// call carries out a unary call on the broker at an address and gives exactly one answer.
func (w *World) call(at string, in proto.Message, begin func(*rpc.Env) rpc.Session, done func(proto.Message, *core.Error)) {
	finished := false
	finish := func(out proto.Message, err *core.Error) {
		if !finished {
			finished = true
			done(out, err)
		}
	}
	w.After(callTimeout, func() { finish(nil, unreachable(at)) })
	w.After(w.netDelay(), func() {
		n := w.nodeAt(at)
		if n == nil || !n.up || w.percent(w.opts.LossPercent) {
			w.After(w.netDelay(), func() { finish(nil, unreachable(at)) })
			return
		}
		var out proto.Message
		n.wake(n.incarnation, func() {
			x := n.open(begin(n.env()), func(m proto.Message) { out = proto.Clone(m) }, func(e *partition.Error) {
				w.After(w.netDelay(), func() {
					if e != nil {
						finish(nil, &core.Error{Reason: string(e.Reason), Message: e.Message})
						return
					}
					finish(out, nil)
				})
			})
			x.message(proto.Clone(in))
		})
	})
}

const callTimeout = int64(8e9)

func (w *World) netDelay() int64 { return w.between(w.opts.NetDelayMin, w.opts.NetDelayMax) }

func (w *World) anyAddress() string { return address(uint64(1 + w.rng.IntN(len(w.nodes)))) }

// stream is one bidirectional stream of a client. Both directions keep their order.
type stream struct {
	w       *World
	at      string
	begin   func(*rpc.Env) rpc.Session
	got     func(proto.Message)
	down    func(error)
	x       *session
	dead    bool
	ended   bool  // the broker ended it: what it sent before still comes
	outLast int64 // when the last message sent arrives
	inLast  int64
}

var errStream = fmt.Errorf("the stream broke")

func (s *stream) breakOff() {
	if s.dead {
		return
	}
	s.dead = true
	if s.x != nil {
		s.x.close()
	}
	s.w.After(s.w.netDelay(), func() { s.down(errStream) })
}

// end is the broker's end of the stream.
func (s *stream) end() {
	s.ended = true
	s.w.After(s.later(&s.inLast), func() {
		if !s.dead {
			s.dead = true
			s.down(errStream)
		}
	})
}

// later is a delivery time after all earlier ones.
func (s *stream) later(last *int64) int64 {
	*last = max(*last, s.w.now+s.w.netDelay())
	return *last - s.w.now
}

func (s *stream) sendMessage(m proto.Message) {
	m = proto.Clone(m)
	s.w.After(s.later(&s.outLast), func() {
		if s.dead || s.ended {
			return
		}
		n := s.w.nodeAt(s.at)
		if n == nil || !n.up || s.x != nil && !s.x.alive() || s.w.rng.IntN(1000) < s.w.opts.StreamBreakPermille {
			s.breakOff()
			return
		}
		n.wake(n.incarnation, func() {
			if s.dead || s.ended {
				return
			}
			if s.x == nil {
				s.x = n.open(s.begin(n.env()), s.receive, func(*partition.Error) { s.end() })
				s.watch(n, n.incarnation)
			}
			s.x.message(m)
		})
	})
}

// watch breaks the stream when its broker dies.
func (s *stream) watch(n *Node, incarnation int) {
	s.w.After(200e6, func() {
		switch {
		case s.dead, s.ended:
		case !n.up || n.incarnation != incarnation:
			s.breakOff()
		default:
			s.watch(n, incarnation)
		}
	})
}

func (s *stream) receive(m proto.Message) {
	m = proto.Clone(m)
	s.w.After(s.later(&s.inLast), func() {
		if s.dead {
			return
		}
		if a, ok := m.(*pb.ProduceStreamResponse); ok && a.GetResponse() != nil && s.w.percent(s.w.opts.AnswerLossPercent) {
			s.w.Counts.Faults["acknowledgement lost"]++
			s.breakOff() // a stream that loses a message has ended
			return
		}
		s.got(m)
	})
}

// Sent is a record that a Producer was given and what became of it.
type Sent struct {
	Key, Value string
	Result     core.Result
	Done       bool
}

// Producer is a client that produces.
type Producer struct {
	gone    bool
	w       *World
	core    *core.Producer
	streams map[string]*stream
	timerAt int64
	Sent    []*Sent
	waiting int
	ended   func(*Sent) // called with each result; nil: none
}

// NewProducer makes a producer.
func (w *World) NewProducer() *Producer {
	return &Producer{w: w, streams: map[string]*stream{}, core: core.NewProducer(core.ProducerOptions{Codec: record.CodecSnappy, LingerNs: 5e6, BatchBytes: 2048, BuildBytes: 512, TimeoutNs: 600e9,
		Rand: rand.New(rand.NewPCG(w.rng.Uint64(), w.rng.Uint64()))})}
}

// Waiting is the number of records without a result.
func (p *Producer) Waiting() int { return p.waiting }

// Produce hands records to the producer, which chooses partitions by their keys.
func (p *Producer) Produce(topic string, records ...*Sent) { p.ProduceTo(topic, -1, records...) }

// ProduceTo hands records for one partition to the producer.
func (p *Producer) ProduceTo(topic string, part int32, records ...*Sent) {
	ev := &core.ProducerEvent{}
	for _, s := range records {
		p.Sent = append(p.Sent, s)
		p.waiting++
		ev.Records = append(ev.Records, core.Record{Topic: topic, Partition: part, Tag: s, Record: record.Record{Timestamp: p.w.now / 1e6, Key: []byte(s.Key), Value: []byte(s.Value)}})
	}
	p.step(ev)
}

// Quit ends the program at once: its connections break.
func (p *Producer) Quit() {
	p.gone = true
	breakAll(p.streams)
}

// breakAll breaks the streams of a program that ends.
func breakAll(streams map[string]*stream) {
	for _, at := range sortedKeys(streams) {
		streams[at].breakOff()
	}
}

func (p *Producer) step(ev *core.ProducerEvent) {
	if p.gone {
		return
	}
	var eff core.ProducerEffects
	if ev.Down != "" {
		delete(p.streams, ev.Down)
	}
	p.core.Step(p.w.now, ev, &eff)
	for _, b := range eff.Build {
		p.w.After(p.w.between(1e3, 2e6), func() { // a busy core: builds end in any order
			b.Do()
			p.step(&core.ProducerEvent{Built: b})
		})
	}
	for i := range eff.Send {
		p.streamTo(eff.Send[i].Address).sendMessage(eff.Send[i].Message)
	}
	if len(eff.Metadata) > 0 {
		names := eff.Metadata
		p.w.call(p.w.anyAddress(), &pb.GetMetadataRequest{Topics: names}, func(e *rpc.Env) rpc.Session { return rpc.NewGetMetadata(e) }, func(out proto.Message, err *core.Error) {
			answer := &core.MetadataAnswer{Topics: names, Err: err}
			answer.Response, _ = out.(*pb.GetMetadataResponse)
			p.step(&core.ProducerEvent{Metadata: answer})
		})
	}
	if eff.InitProducer {
		p.w.call(p.w.anyAddress(), &pb.InitProducerIdRequest{}, func(e *rpc.Env) rpc.Session { return rpc.NewInitProducerID(e) }, func(out proto.Message, err *core.Error) {
			answer := &core.ProducerAnswer{Err: err}
			if m, ok := out.(*pb.InitProducerIdResponse); ok {
				answer.ID, answer.Epoch = m.GetProducerId(), int16(m.GetProducerEpoch())
			}
			p.step(&core.ProducerEvent{Producer: answer})
		})
	}
	for _, r := range eff.Results {
		s := r.Tag.(*Sent)
		if s.Done {
			panic(fmt.Sprintf("record %s has two results", s.Value))
		}
		s.Done, s.Result = true, r
		p.waiting--
		p.w.Note("client: %s at %s/%d:%d %v", s.Value, r.Topic, r.Partition, r.Offset, r.Err)
		if p.ended != nil {
			p.ended(s)
		}
	}
	if eff.Timer > 0 {
		p.timerAt = eff.Timer
		p.w.After(max(eff.Timer-p.w.now, 0), func() {
			if p.timerAt == eff.Timer {
				p.step(&core.ProducerEvent{Timer: true})
			}
		})
	}
}

func (p *Producer) streamTo(at string) *stream {
	s := p.streams[at]
	if s == nil {
		s = &stream{w: p.w, at: at, begin: func(e *rpc.Env) rpc.Session { return rpc.NewProduceStream(e) },
			got:  func(m proto.Message) { p.step(&core.ProducerEvent{Answer: m.(*pb.ProduceStreamResponse)}) },
			down: func(err error) { p.step(&core.ProducerEvent{Down: at, DownError: err}) }}
		p.streams[at] = s
	}
	return s
}

// Read is a record as a Consumer saw it.
type Read struct {
	Partition  int32
	Offset     int64
	Key, Value string
}

// Consumer is a client that reads a topic to the end as it is when it begins.
type Consumer struct {
	gone    bool
	w       *World
	core    *core.Consumer
	streams map[string]*stream
	timerAt int64
	Read    []Read
	Err     error
	took    func(Read) // takes each record instead of Read
}

// NewConsumer begins to read a topic, from one replica or from any (0).
func (w *World) NewConsumer(topic string, replica uint64) *Consumer {
	return w.newConsumer(core.ConsumerOptions{Replica: replica, FetchBytes: 4096, BufferBytes: 16 << 10, WaitNs: 2e9, TimeoutNs: 120e9},
		core.Subscription{Topic: topic, Start: core.Position{From: core.FromStart}, Stop: &core.Position{From: core.FromEnd}})
}

func (w *World) newConsumer(o core.ConsumerOptions, s core.Subscription) *Consumer {
	o.Rand = rand.New(rand.NewPCG(w.rng.Uint64(), w.rng.Uint64()))
	c := &Consumer{w: w, streams: map[string]*stream{}, core: core.NewConsumer(o)}
	c.step(&core.ConsumerEvent{Subscribe: []core.Subscription{s}})
	return c
}

// Done reports whether everything was read, or Err says why not.
func (c *Consumer) Done() bool { return c.Err != nil || c.core.Done() }

// Quit ends the program at once: its connections break.
func (c *Consumer) Quit() {
	c.gone = true
	breakAll(c.streams)
}

func (c *Consumer) step(ev *core.ConsumerEvent) {
	if c.gone {
		return
	}
	var eff core.ConsumerEffects
	if ev.Down != "" {
		delete(c.streams, ev.Down)
	}
	c.core.Step(c.w.now, ev, &eff)
	for _, e := range eff.Ended {
		if e.Err != nil && c.Err == nil {
			c.Err = e.Err
		}
	}
	for _, f := range eff.Fetched {
		c.take(&f)
	}
	for i := range eff.Send {
		c.streamTo(eff.Send[i].Address).sendMessage(eff.Send[i].Message)
	}
	for _, ask := range eff.Epochs {
		c.w.call(ask.Address, ask.Request, func(e *rpc.Env) rpc.Session { return rpc.NewOffsetForLeaderEpoch(e) }, func(out proto.Message, err *core.Error) {
			answer := &core.EpochAnswer{Token: ask.Token, Err: err}
			answer.Response, _ = out.(*pb.OffsetForLeaderEpochResponse)
			c.step(&core.ConsumerEvent{Epoch: answer})
		})
	}
	for _, ask := range eff.Offsets {
		c.w.call(ask.Address, ask.Request, func(e *rpc.Env) rpc.Session { return rpc.NewListOffsets(e) }, func(out proto.Message, err *core.Error) {
			answer := &core.OffsetsAnswer{Token: ask.Token, Err: err}
			answer.Response, _ = out.(*pb.ListOffsetsResponse)
			c.step(&core.ConsumerEvent{Offsets: answer})
		})
	}
	if len(eff.Metadata) > 0 {
		names := eff.Metadata
		c.w.call(c.w.anyAddress(), &pb.GetMetadataRequest{Topics: names}, func(e *rpc.Env) rpc.Session { return rpc.NewGetMetadata(e) }, func(out proto.Message, err *core.Error) {
			answer := &core.MetadataAnswer{Topics: names, Err: err}
			answer.Response, _ = out.(*pb.GetMetadataResponse)
			c.step(&core.ConsumerEvent{Metadata: answer})
		})
	}
	if eff.Timer > 0 {
		c.timerAt = eff.Timer
		c.w.After(max(eff.Timer-c.w.now, 0), func() {
			if c.timerAt == eff.Timer {
				c.step(&core.ConsumerEvent{Timer: true})
			}
		})
	}
}

// take notes records and gives the buffer back a little later, as a program does that works on them.
func (c *Consumer) take(f *core.Fetched) {
	for _, raw := range f.Batches {
		for r, err := range record.Batch(raw).Iterate(record.Limits{}) {
			if err != nil {
				c.Err = err
				return
			}
			if r.Offset >= f.From && (f.Stop < 0 || r.Offset < f.Stop) {
				got := Read{f.Partition, r.Offset, string(r.Key), string(r.Value)}
				if c.took != nil {
					c.took(got)
				} else {
					c.Read = append(c.Read, got)
				}
			}
		}
	}
	bytes := f.Bytes
	c.w.After(c.w.between(0, 1e6), func() { c.step(&core.ConsumerEvent{Consumed: bytes}) })
}

func (c *Consumer) streamTo(at string) *stream {
	s := c.streams[at]
	if s == nil {
		s = &stream{w: c.w, at: at, begin: func(e *rpc.Env) rpc.Session { return rpc.NewFetchStream(e) },
			got:  func(m proto.Message) { c.step(&core.ConsumerEvent{Answer: m.(*pb.FetchStreamResponse)}) },
			down: func(err error) { c.step(&core.ConsumerEvent{Down: at, DownError: err}) }}
		c.streams[at] = s
	}
	return s
}
