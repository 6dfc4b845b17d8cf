package core

import (
	"fmt"
	"math/rand/v2"
	"slices"

	pb "lograft/api/lograft/v1"
	"lograft/record"
)

// ConsumerOptions of a Consumer. Zero values take the defaults named.
type ConsumerOptions struct {
	Consistency pb.Consistency
	// Session: read only from states that include those of Tokens, one of a partition each, and of this consumer's own answers.
	Session     bool
	Tokens      [][]byte
	Replica     uint64 // read from this node only; 0: from any, another one when it fails
	FetchBytes  int    // of one answer, 1 MiB
	BufferBytes int    // fetched and not consumed yet, of all partitions, 32 MiB
	WaitNs      int64  // long poll, 5 s
	TimeoutNs   int64  // a partition that was not readable for so long is given up, 30 s
	Rand        *rand.Rand
}

const (
	fetchBytesDefault  = 1 << 20
	bufferBytesDefault = 32 << 20
	fetchWaitDefault   = int64(5e9)
	readTimeoutDefault = int64(30e9)
	fetchSlack         = int64(5e9) // beyond the long poll, before an answer counts as lost
	offsetsTimeout     = int64(4e9)
)

// Position is a place in a partition: an offset, or one relative to the log's start or end.
type Position struct {
	From   Origin
	Offset int64 // From Absolute: the offset; AtTime: ms since 1970; else added to the start or end
}

// Origin says what a Position counts from.
type Origin uint8

// Absolute counts from offset 0, FromStart from the log start offset, FromEnd from the end as it is when the consumer begins. AtTime is
// the first record appended at or after a time, the end if there is none.
const (
	Absolute Origin = iota
	FromStart
	FromEnd
	AtTime
)

// Subscription names what to read. Stop is exclusive; nil reads on for ever.
type Subscription struct {
	Topic      string
	TopicID    []byte  // nil, or the one incarnation of the topic that is meant
	Partitions []int32 // nil: all
	Start      Position
	Stop       *Position
	// Epoch is the leader epoch of the last record before an absolute Start, 0: not known. A log that does not continue that record ends
	// the partition with ReasonLogTruncated.
	Epoch int32
}

// ConsumerEvent is one thing that happened. The fields that are set say what.
type ConsumerEvent struct {
	Subscribe []Subscription
	Answer    *pb.FetchStreamResponse
	Offsets   *OffsetsAnswer
	Epoch     *EpochAnswer
	Metadata  *MetadataAnswer
	Down      string // address whose stream broke
	DownError error
	Consumed  int  // bytes of Fetched that the program is done with
	Drop      []TP // partitions that are not read any more; each was subscribed alone
	Hold      bool // nothing is asked for in this step
	Timer     bool
}

// OffsetsAsk asks a broker where a partition begins and ends.
type OffsetsAsk struct {
	Token   uint64
	Address string
	Request *pb.ListOffsetsRequest
}

// OffsetsAnswer ends an OffsetsAsk.
type OffsetsAnswer struct {
	Token    uint64
	Response *pb.ListOffsetsResponse
	Err      *Error
}

// FetchSend is a message for the fetch stream to a broker.
type FetchSend struct {
	Address string
	Message *pb.FetchStreamRequest
}

// Fetched is what came of one partition: records from From on and below Stop count, the others of its batches do not.
type Fetched struct {
	Topic         string
	Partition     int32
	Batches       [][]byte // record.Batch, CRC checked
	Bytes         int
	From, Stop    int64 // Stop -1: none
	HighWatermark int64
	LogStart      int64
	Session       []byte
}

// NextOffset is the offset after the records that count.
func (f *Fetched) NextOffset() int64 {
	next := f.From
	if n := len(f.Batches); n > 0 {
		if b, err := record.Parse(f.Batches[n-1]); err == nil {
			next = b.NextOffset()
		}
	}
	if f.Stop >= 0 {
		next = min(next, f.Stop)
	}
	return next
}

// PartitionEnd says that a partition is read up to its Stop (Err nil), or can't be read on.
type PartitionEnd struct {
	Topic     string
	Partition int32
	Offset    int64 // next to read; -1: the partition was never reached
	Err       *Error
	// GoesOn: the partition is read on from Offset, by the reset policy of the group; Err says what happened.
	GoesOn bool
}

// ConsumerEffects is what a step asks of its driver.
type ConsumerEffects struct {
	Send     []FetchSend
	Offsets  []OffsetsAsk
	Epochs   []EpochAsk
	Metadata []string
	Fetched  []Fetched
	Ended    []PartitionEnd
	Timer    int64
}

// Consumer reads partitions in order, each from one replica, and from another one when that fails.
type Consumer struct {
	opts     ConsumerOptions
	meta     Metadata
	topics   []*subscribed
	parts    []*reading
	next     uint64              // correlation ids and tokens
	asked    map[uint64]*reading // by correlation id or token
	buffered int                 // bytes fetched and not consumed
	checked  bool                // the session tokens were held against the topics
}

type subscribed struct {
	Subscription
	known    bool
	asked    bool
	stale    bool        // known, and to be looked up again: no replica that was known could be read
	id       []byte      // known: of the topic that was found
	opened   int         // known: partitions that it had then, and since
	of       *subscribed // partitions that were added to the topic of this subscription
	askAt    int64
	tries    int
	deadline int64
	last     *Error
}

type reading struct {
	topic    *subscribed
	number   int32
	topicID  []byte
	nodes    []uint64
	turn     int
	resolved bool  // offset and stop are numbers
	offset   int64 // next to read
	stop     int64 // -1: none
	waiting  uint64
	address  string // that was asked
	lateAt   int64
	retryAt  int64
	tries    int
	failing  int64 // since when it fails; 0: it does not
	last     *Error
	ended    bool
	session  []byte // Session: the newest token of this partition
	lineage  lineage
	// Positions by time are asked for one at a time; -1: not known yet.
	startAt, stopAt int64
}

// NewConsumer makes a consumer.
func NewConsumer(o ConsumerOptions) *Consumer {
	if o.FetchBytes == 0 {
		o.FetchBytes = fetchBytesDefault
	}
	if o.BufferBytes == 0 {
		o.BufferBytes = bufferBytesDefault
	}
	if o.WaitNs == 0 {
		o.WaitNs = fetchWaitDefault
	}
	if o.TimeoutNs == 0 {
		o.TimeoutNs = readTimeoutDefault
	}
	return &Consumer{opts: o, next: 1, asked: map[uint64]*reading{}}
}

// Done reports whether nothing more will come: every partition has ended.
func (c *Consumer) Done() bool {
	for _, t := range c.topics {
		if !t.known {
			return false
		}
	}
	for _, r := range c.parts {
		if !r.ended {
			return false
		}
	}
	return len(c.topics) > 0
}

// Step takes one event and does what follows from it.
func (c *Consumer) Step(now int64, ev *ConsumerEvent, eff *ConsumerEffects) {
	*eff = ConsumerEffects{Send: eff.Send[:0], Offsets: eff.Offsets[:0], Epochs: eff.Epochs[:0], Fetched: eff.Fetched[:0], Ended: eff.Ended[:0]}
	for _, s := range ev.Subscribe {
		c.topics = append(c.topics, &subscribed{Subscription: s, askAt: now, deadline: now + c.opts.TimeoutNs})
	}
	c.buffered -= ev.Consumed
	for _, tp := range ev.Drop {
		c.drop(tp)
	}
	switch {
	case ev.Answer != nil:
		c.answer(now, ev.Answer, eff)
	case ev.Offsets != nil:
		c.offsets(now, ev.Offsets, eff)
	case ev.Epoch != nil:
		c.epochEnd(now, ev.Epoch, eff)
	case ev.Metadata != nil:
		c.metadata(now, ev.Metadata, eff)
	case ev.Down != "":
		err := &Error{Reason: ReasonUnavailable, Message: fmt.Sprintf("connection to %s: %v", ev.Down, ev.DownError)}
		for _, r := range c.parts {
			if r.waiting != 0 && r.address == ev.Down {
				c.failed(now, r, err)
			}
		}
	}
	if !ev.Hold {
		c.drive(now, eff)
	}
}

// drop forgets a partition; an answer that still comes is for nobody.
func (c *Consumer) drop(tp TP) {
	c.topics = slices.DeleteFunc(c.topics, func(t *subscribed) bool {
		return t.Topic == tp.Topic && slices.Equal(t.Partitions, []int32{tp.Partition})
	})
	c.parts = slices.DeleteFunc(c.parts, func(r *reading) bool {
		gone := r.topic.Topic == tp.Topic && r.number == tp.Partition
		if gone {
			delete(c.asked, r.waiting)
		}
		return gone
	})
}

func (c *Consumer) drive(now int64, eff *ConsumerEffects) {
	at := func(t int64) {
		if t > 0 && (eff.Timer == 0 || t < eff.Timer) {
			eff.Timer = t
		}
	}
	for _, t := range c.topics {
		switch {
		case t.known && (t.asked || !t.stale):
		case t.known:
			t.asked, t.stale = true, false
			if !slices.Contains(eff.Metadata, t.Topic) {
				eff.Metadata = append(eff.Metadata, t.Topic)
			}
		case now >= t.deadline:
			c.endTopic(t, eff, c.gaveUp(t.last, fmt.Sprintf("topic %q", t.Topic)))
		case t.asked:
			at(t.deadline)
		case now >= t.askAt:
			t.asked = true
			at(t.deadline)
			if !slices.Contains(eff.Metadata, t.Topic) { // several subscriptions may name it
				eff.Metadata = append(eff.Metadata, t.Topic)
			}
		default:
			at(t.askAt)
			at(t.deadline)
		}
	}
	for _, r := range c.parts {
		if !r.ended {
			c.driveReading(now, r, eff, at)
		}
	}
}

func (c *Consumer) gaveUp(last *Error, what string) *Error {
	e := &Error{Reason: ReasonTimeout, Message: fmt.Sprintf("%s was not readable for %d s", what, c.opts.TimeoutNs/1e9)}
	if last == nil {
		last = &Error{Reason: ReasonTimeout, Message: noAnswer}
	}
	e.Reason, e.Message = last.Reason, e.Message+": "+last.Message
	return e
}

// noAnswer is the reason of a failure that no broker gave one for.
const noAnswer = "no broker answered: see whether they are up (broker cluster health), or name others with -b HOST:PORT"

func (c *Consumer) endTopic(t *subscribed, eff *ConsumerEffects, err *Error) {
	t.known = true
	eff.Ended = append(eff.Ended, PartitionEnd{Topic: t.Topic, Partition: -1, Offset: -1, Err: err})
}

func (c *Consumer) end(r *reading, eff *ConsumerEffects, err *Error) {
	r.ended = true
	delete(c.asked, r.waiting)
	r.waiting = 0
	eff.Ended = append(eff.Ended, PartitionEnd{Topic: r.topic.Topic, Partition: r.number, Offset: r.offset, Err: err})
}

func (c *Consumer) driveReading(now int64, r *reading, eff *ConsumerEffects, at func(int64)) {
	if r.resolved && r.stop >= 0 && r.offset >= r.stop {
		c.end(r, eff, nil)
		return
	}
	if r.waiting != 0 {
		if now < r.lateAt {
			at(r.lateAt)
			return
		}
		c.failed(now, r, &Error{Reason: ReasonTimeout, Message: fmt.Sprintf("no answer from %s", r.address)})
	}
	if r.failing > 0 {
		give := r.failing + c.opts.TimeoutNs
		if now >= give {
			c.end(r, eff, c.gaveUp(r.last, fmt.Sprintf("%s/%d", r.topic.Topic, r.number)))
			return
		}
		at(give)
	}
	if now < r.retryAt {
		at(r.retryAt)
		return
	}
	if r.resolved && c.buffered >= c.opts.BufferBytes {
		return // goes on when the program has consumed some
	}
	r.address = c.meta.Addresses[r.nodes[r.turn%len(r.nodes)]]
	if r.address == "" {
		c.failed(now, r, &Error{Reason: ReasonUnavailable, Message: fmt.Sprintf("node %d is not registered: start it", r.nodes[r.turn%len(r.nodes)])})
		at(r.retryAt)
		return
	}
	r.waiting = c.next
	c.next++
	c.asked[r.waiting] = r
	ref := &pb.PartitionRef{Topic: r.topic.Topic, TopicId: r.topicID, Partition: r.number}
	switch {
	case r.lineage.asks:
		r.lateAt = now + offsetsTimeout + fetchSlack
		c.askEpoch(r, ref, eff)
	case !r.resolved:
		r.lateAt = now + offsetsTimeout + fetchSlack
		eff.Offsets = append(eff.Offsets, OffsetsAsk{Token: r.waiting, Address: r.address, Request: &pb.ListOffsetsRequest{Partition: ref, Consistency: c.opts.Consistency,
			TimeoutMs: offsetsTimeout / 1e6, AtTime: r.wantsTime(), Session: r.session}})
	default:
		r.lateAt = now + c.opts.WaitNs + fetchSlack
		eff.Send = append(eff.Send, FetchSend{Address: r.address, Message: &pb.FetchStreamRequest{CorrelationId: r.waiting, Request: &pb.FetchRequest{
			Partition: ref, Offset: r.offset, MaxBytes: int32(c.opts.FetchBytes), MinBytes: 1, WaitMs: c.opts.WaitNs / 1e6, Consistency: c.opts.Consistency, Session: r.session}}})
	}
	at(r.lateAt)
}

// failed notes that a partition could not be read: it is tried again after a pause, elsewhere if it may.
func (c *Consumer) failed(now int64, r *reading, err *Error) {
	delete(c.asked, r.waiting)
	r.waiting = 0
	r.last = err
	r.lineage.asks = false
	if r.failing == 0 {
		r.failing = now
	}
	r.turn++
	if r.tries++; r.tries%len(r.nodes) == 0 { // all of them: they may have moved
		for _, t := range c.topics {
			t.stale = t.stale || t.Topic == r.topic.Topic
		}
	}
	if r.tries >= len(r.nodes) { // the first tries are elsewhere, so at once
		r.retryAt = now + Backoff(c.opts.Rand, r.tries-len(r.nodes)+1)
	}
}

func (c *Consumer) succeeded(r *reading) {
	r.failing, r.tries, r.retryAt = 0, 0, 0
}

func (c *Consumer) take(token uint64) *reading {
	r := c.asked[token]
	if r != nil {
		delete(c.asked, token)
		r.waiting = 0
	}
	return r
}

func (c *Consumer) answer(now int64, a *pb.FetchStreamResponse, eff *ConsumerEffects) {
	r := c.take(a.GetCorrelationId())
	if r == nil {
		return
	}
	if a.Error != nil {
		c.refused(now, r, fromError(a.Error), eff)
		return
	}
	m := a.GetResponse()
	c.sawSession(r, m.GetSession())
	if len(m.GetBatches()) == 0 {
		c.succeeded(r)
		return
	}
	f := Fetched{Topic: r.topic.Topic, Partition: r.number, Batches: m.GetBatches(), From: r.offset, Stop: r.stop,
		HighWatermark: m.GetHighWatermark(), LogStart: m.GetLogStart(), Session: m.GetSession()}
	for _, raw := range f.Batches {
		b, err := record.Parse(raw)
		if err == nil {
			err = b.CheckCRC()
		}
		if err != nil { // damaged on the way or there: another replica has good bytes
			c.failed(now, r, &Error{Reason: reasonCorrupt, Message: fmt.Sprintf("%s/%d at offset %d from %s: %v", f.Topic, f.Partition, f.From, r.address, err)})
			return
		}
		f.Bytes += len(raw)
	}
	c.succeeded(r)
	if first, _ := record.Parse(f.Batches[0]); r.lineage.doubts(first) {
		return // asked for again when the doubt is gone
	}
	last, _ := record.Parse(f.Batches[len(f.Batches)-1])
	r.lineage.epoch = last.LeaderEpoch()
	c.buffered += f.Bytes
	r.offset = m.GetNextOffset()
	eff.Fetched = append(eff.Fetched, f)
}

func (c *Consumer) refused(now int64, r *reading, err *Error, eff *ConsumerEffects) {
	switch {
	case Retriable(err.Reason):
		c.failed(now, r, err)
	case r.resolved && r.lineage.ended(r.offset, err, c.opts.Consistency != pb.Consistency_CONSISTENCY_COMMITTED):
	default:
		c.end(r, eff, err)
	}
}

func (c *Consumer) offsets(now int64, a *OffsetsAnswer, eff *ConsumerEffects) {
	r := c.take(a.Token)
	if r == nil {
		return
	}
	if a.Err != nil {
		c.refused(now, r, a.Err, eff)
		return
	}
	c.succeeded(r)
	c.sawSession(r, a.Response.GetSession())
	if r.takeTime(a.Response.GetOffset()) {
		return // the other end is asked for next
	}
	start, end := a.Response.GetLogStart(), a.Response.GetHighWatermark()
	r.resolved, r.stop = true, -1
	r.offset = resolve(r.topic.Start, start, end, r.startAt)
	if r.topic.Start.From != Absolute {
		r.offset = min(max(r.offset, start), end)
	}
	if r.topic.Stop != nil {
		r.stop = max(0, resolve(*r.topic.Stop, start, end, r.stopAt))
	}
	if r.offset < start || r.offset > end {
		c.end(r, eff, &Error{Reason: ReasonOutOfRange, LogStart: start, HighWatermark: end,
			Message: fmt.Sprintf("%s/%d holds offsets [%d, %d), not %d: start at one of these, or at start or end", r.topic.Topic, r.number, start, end, r.offset)})
	}
}

// resolve is the offset that p means; atTime is the answer to its time, if it has one.
func resolve(p Position, start, end, atTime int64) int64 {
	if p.From == AtTime {
		return atTime
	}
	return p.Resolve(start, end)
}

// Resolve is the offset that p, which is no time, means in a log that holds [start, end).
func (p Position) Resolve(start, end int64) int64 {
	switch p.From {
	case FromStart:
		return start + p.Offset
	case FromEnd:
		return end + p.Offset
	}
	return p.Offset
}
