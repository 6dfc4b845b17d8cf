package core

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"

	pb "lograft/api/lograft/v1"
	"lograft/record"
)

// ProducerOptions of a Producer. Zero values take the defaults named.
type ProducerOptions struct {
	Codec      record.Codec
	LingerNs   int64 // how long a batch waits for company while another is in flight
	BatchBytes int   // 1 MiB; a batch is closed at this size, before compression, and at the topic's max.message.bytes
	BuildBytes int   // 32 KiB; a batch from this size on is built by the driver (ProducerEffects.Build)
	TimeoutNs  int64 // 120 s: delivery timeout of a record
	Create     bool  // create topics that do not exist
	// Conditional: the first record of each partition is appended only at offset Expected, and every later one only right behind the
	// one before it. The first refusal ends the partition: nothing of what follows is appended.
	Conditional bool
	Expected    int64
	Rand        *rand.Rand
}

const (
	batchBytesDefault = 1 << 20
	buildBytesDefault = 32 << 10
	buildersSpareMax  = 9 // kept for the next batches
	timeoutDefault    = int64(120e9)
	inflightMax       = 4 // batches per partition; a broker remembers 5
	answerTimeout     = int64(10e9)
	recordBytesMax    = 1<<20 + 12

	configMessageBytes = "max.message.bytes"
)

// Record is what the program wants to append.
type Record struct {
	record.Record
	Topic     string
	Partition int32 // -1: by key, or any
	Tag       any   // comes back in Result
}

// Result is the end of one record.
type Result struct {
	Tag       any
	Topic     string
	Partition int32
	Offset    int64
	Timestamp int64 // append time, ms
	Session   []byte
	Err       *Error // nil: acknowledged
}

// ProducerEvent is one thing that happened. The fields that are set say what.
type ProducerEvent struct {
	Records   []Record
	Flush     bool // close every open batch now
	Answer    *pb.ProduceStreamResponse
	Down      string // address whose stream broke; everything in flight there is open
	DownError error
	Metadata  *MetadataAnswer
	Created   *CreateAnswer
	Producer  *ProducerAnswer
	Built     *Build
	Timer     bool
}

// MetadataAnswer ends Effects.Metadata.
type MetadataAnswer struct {
	// Watched: nobody asked; a broker told what it has applied. It may be behind others, so what it does not name proves nothing.
	Watched  bool
	Topics   []string // that were asked for
	Response *pb.GetMetadataResponse
	Err      *Error
}

// CreateAnswer ends one of Effects.Create.
type CreateAnswer struct {
	Topic string
	Err   *Error
}

// ProducerAnswer ends Effects.InitProducer.
type ProducerAnswer struct {
	ID    int64
	Epoch int16
	Err   *Error
}

// Send is a message for the produce stream to a broker.
type Send struct {
	Address string
	Message *pb.ProduceStreamRequest
}

// ProducerEffects is what a step asks of its driver.
type ProducerEffects struct {
	Send         []Send
	Metadata     []string // ask for these topics, linearizably
	Create       []string // create these topics
	InitProducer bool
	Build        []*Build // compress these, in this order where not all at once
	Results      []Result
	Timer        int64 // step again at this time; 0: no timer is needed
}

// Producer numbers, batches, sends and sends again, until each record has exactly one Result. Records of a partition are appended in
// the order given; a retry never makes a duplicate (architecture D15).
type Producer struct {
	opts   ProducerOptions
	meta   Metadata
	topics map[string]*topic
	order  []*topic // in order of first use

	nextCorrelation uint64
	inflight        map[uint64]*batch // by correlation id

	identities   []ProducerAnswer // fetched, not yet used
	identityAsks bool
	identityAt   int64 // not before
	identityTry  int
	waiting      int // records without a result
	spare        []*record.Builder
	builds       []*Build // closed in this step
	building     int
}

type topic struct {
	name       string
	pending    []Record // until the metadata is known
	partitions []*partition
	id         []byte
	bytesMax   int // max.message.bytes; 0: not known
	sticky     int32
	asked      bool  // a metadata request is under way
	askAt      int64 // ask (again) at this time; 0: no need
	tries      int
	deadline   int64 // of the oldest pending record
	last       *Error
}

type partition struct {
	topic  *topic
	number int32
	nodes  []uint64
	target string // address of the leader as far as known
	turn   int    // which replica to try when no leader is known

	id      int64 // producer id; -1: needs one
	epoch   int16
	nextSeq int32

	builder  *record.Builder
	open     *batch // being built; nil if empty
	openedAt int64
	// batches are closed and in order; the first sent are numbered, the first flying are in flight in this round.
	batches  []*batch
	sent     int
	flying   int
	retryAt  int64
	tries    int
	hopped   bool   // the newest try went to a named leader without a pause
	broken   *Error // set: nothing more can be appended here
	expected int64  // Conditional: offset of the next batch that gets its place
	hole     bool   // a number of this identity belongs to a batch that was refused
}

type batch struct {
	partition   *partition
	tags        []any
	bytes       record.Batch // nil while it is being built
	correlation uint64       // of the newest try; 0: not in flight
	address     string
	sentAt      int64
	deadline    int64
	everSent    bool
	shared      bool // bytes were handed out in a Send
	tries       int  // under its number
	done        *pb.ProduceResponse
	expected    *int64 // Conditional: kept through every try, under any number
}

// NewProducer makes a producer.
func NewProducer(o ProducerOptions) *Producer {
	if o.BatchBytes == 0 {
		o.BatchBytes = batchBytesDefault
	}
	if o.BuildBytes == 0 {
		o.BuildBytes = buildBytesDefault
	}
	if o.TimeoutNs == 0 {
		o.TimeoutNs = timeoutDefault
	}
	return &Producer{opts: o, topics: map[string]*topic{}, inflight: map[uint64]*batch{}, nextCorrelation: 1}
}

// Waiting is the number of records without a result.
func (p *Producer) Waiting() int { return p.waiting }

// Step takes one event and does what follows from it.
func (p *Producer) Step(now int64, ev *ProducerEvent, eff *ProducerEffects) {
	*eff = ProducerEffects{Send: eff.Send[:0], Results: eff.Results[:0]}
	p.waiting += len(ev.Records)
	for i := range ev.Records {
		p.append(now, &ev.Records[i], eff)
	}
	switch {
	case ev.Answer != nil:
		p.answer(now, ev.Answer, eff)
	case ev.Down != "":
		p.down(now, ev.Down)
	case ev.Metadata != nil:
		p.metadata(now, ev.Metadata, eff)
	case ev.Created != nil:
		p.created(now, ev.Created, eff)
	case ev.Producer != nil:
		p.identity(now, ev.Producer)
	case ev.Built != nil:
		p.built(ev.Built)
	case ev.Flush:
		p.flush()
	}
	p.drive(now, eff)
	eff.Build, p.builds = p.builds, nil
}

func (p *Producer) result(eff *ProducerEffects, r Result) {
	p.waiting--
	eff.Results = append(eff.Results, r)
}

// append puts a record into its partition's open batch, or to the side until the topic is known.
func (p *Producer) append(now int64, r *Record, eff *ProducerEffects) {
	t := p.topics[r.Topic]
	if t == nil {
		t = &topic{name: r.Topic, askAt: now, deadline: now + p.opts.TimeoutNs}
		p.topics[r.Topic] = t
		p.order = append(p.order, t)
	}
	if t.partitions == nil {
		if len(t.pending) == 0 {
			t.deadline = now + p.opts.TimeoutNs
			if t.askAt == 0 && !t.asked {
				t.askAt = now
			}
		}
		t.pending = append(t.pending, *r)
		return
	}
	n := int32(len(t.partitions))
	number := r.Partition
	switch {
	case number >= n:
		p.result(eff, Result{Tag: r.Tag, Topic: r.Topic, Partition: number, Err: &Error{Reason: ReasonInvalid, Message: fmt.Sprintf("topic %q has partitions 0 to %d: there is no partition %d", t.name, n-1, number)}})
		return
	case number < 0 && p.opts.Conditional && n > 1:
		p.result(eff, Result{Tag: r.Tag, Topic: r.Topic, Partition: -1, Err: &Error{Reason: ReasonInvalid, Message: fmt.Sprintf("an expected offset is that of one partition, and topic %q has %d: say which (-p)", t.name, n)}})
		return
	case number < 0 && r.Key != nil:
		number = PartitionOf(r.Key, int(n))
	case number < 0:
		number = t.sticky % n
	}
	t.partitions[number].append(now, p, r, eff)
}

func (q *partition) append(now int64, p *Producer, r *Record, eff *ProducerEffects) {
	fail := func(err *Error) {
		p.result(eff, Result{Tag: r.Tag, Topic: r.Topic, Partition: q.number, Err: err})
	}
	if q.broken != nil {
		fail(q.broken)
		return
	}
	if q.open != nil && q.builder.EstimatedBytes() >= p.opts.BatchBytes {
		p.closeOpen(q)
	}
	if q.builder == nil {
		q.builder = p.newBuilder(q)
	}
	err := q.builder.Append(r.Record)
	if errors.Is(err, record.ErrFull) {
		p.closeOpen(q)
		q.builder = p.newBuilder(q)
		err = q.builder.Append(r.Record)
	}
	if err != nil {
		fail(&Error{Reason: ReasonTooLarge, Message: fmt.Sprintf("a record of %d bytes and what goes around it: max.message.bytes of topic %q is %d, before compression: split it, or: broker topic alter %s -c max.message.bytes=N",
			len(r.Key)+len(r.Value), q.topic.name, q.topic.batchBytesMax(), q.topic.name)})
		return
	}
	if q.open == nil {
		q.open = &batch{partition: q, deadline: now + p.opts.TimeoutNs}
		q.openedAt = now
	}
	q.open.tags = append(q.open.tags, r.Tag)
}

func (p *Producer) flush() {
	p.each(func(q *partition) {
		if q.open != nil {
			p.closeOpen(q)
		}
	})
}

func (p *Producer) each(visit func(*partition)) {
	for _, t := range p.order {
		for _, q := range t.partitions {
			visit(q)
		}
	}
}

// drive does everything that is due: asks, sends, gives up; and says when it must be called again.
func (p *Producer) drive(now int64, eff *ProducerEffects) {
	at := func(t int64) {
		if t > 0 && (eff.Timer == 0 || t < eff.Timer) {
			eff.Timer = t
		}
	}
	needsIdentity := false
	for _, t := range p.order {
		p.driveTopic(now, t, eff, at)
		for _, q := range t.partitions {
			p.drivePartition(now, q, eff, at)
			needsIdentity = needsIdentity || q.id < 0 && len(q.batches) > 0
		}
	}
	if needsIdentity && !p.identityAsks {
		if now >= p.identityAt {
			p.identityAsks = true
			eff.InitProducer = true
		} else {
			at(p.identityAt)
		}
	}
}

func (p *Producer) driveTopic(now int64, t *topic, eff *ProducerEffects, at func(int64)) {
	if len(t.pending) > 0 {
		if now >= t.deadline {
			p.failPending(t, eff, gaveUp(t.last, fmt.Sprintf("topic %q was not reachable", t.name), OutcomeFailed))
		} else {
			at(t.deadline)
		}
	}
	if t.askAt > 0 && !t.asked {
		if now >= t.askAt {
			t.asked, t.askAt = true, 0
			eff.Metadata = append(eff.Metadata, t.name)
		} else {
			at(t.askAt)
		}
	}
}

func (p *Producer) failPending(t *topic, eff *ProducerEffects, err *Error) {
	pending := t.pending
	t.pending = nil
	for i := range pending {
		p.result(eff, Result{Tag: pending[i].Tag, Topic: t.name, Partition: pending[i].Partition, Err: err})
	}
}

func gaveUp(last *Error, what string, o Outcome) *Error {
	e := &Error{Reason: ReasonTimeout, Message: what + " within the delivery timeout", Outcome: o}
	if last == nil {
		last = &Error{Reason: ReasonTimeout, Message: noAnswer}
	}
	e.Reason, e.Message = last.Reason, e.Message+": "+last.Message
	return e
}

func (p *Producer) drivePartition(now int64, q *partition, eff *ProducerEffects, at func(int64)) {
	if q.open != nil {
		// A batch goes at once if nothing is in flight; else it waits for company.
		due := q.openedAt + p.opts.LingerNs
		if q.builder.EstimatedBytes() >= p.opts.BatchBytes || now >= due || len(q.batches) == 0 {
			p.closeOpen(q)
		} else {
			at(due)
		}
	}
	if len(q.batches) == 0 {
		return
	}
	if first := q.batches[0]; now >= first.deadline {
		p.giveUp(q, eff)
		if len(q.batches) == 0 {
			return
		}
	}
	at(q.batches[0].deadline)
	if q.flying > 0 { // an answer that does not come is like a broken stream
		if late := q.batches[0].sentAt + answerTimeout; now >= late {
			q.rewind(now, p)
		} else {
			at(late)
		}
	}
	if q.id < 0 && len(p.identities) > 0 {
		q.id, q.epoch, q.nextSeq = p.identities[0].ID, p.identities[0].Epoch, 0
		if p.identities = p.identities[1:]; len(p.identities) == 0 {
			p.identities = nil
		}
	}
	if q.id < 0 {
		return
	}
	if q.retryAt > now {
		at(q.retryAt)
		return
	}
	for q.flying < len(q.batches) && q.flying < inflightMax && q.batches[q.flying].ready() {
		if !p.send(now, q, q.batches[q.flying], eff) {
			break
		}
		q.flying++
	}
	if q.flying > 0 {
		at(q.batches[0].sentAt + answerTimeout)
	}
}

// ready reports whether nothing more than a place among those in flight is missing.
func (b *batch) ready() bool { return b.bytes != nil || b.done != nil }

func (p *Producer) send(now int64, q *partition, b *batch, eff *ProducerEffects) bool {
	if b.done != nil {
		return true // acknowledged in an earlier round, behind one that was not
	}
	if q.target == "" && len(q.nodes) > 0 {
		q.target = p.meta.Addresses[q.nodes[q.turn%len(q.nodes)]]
		q.turn++
	}
	if q.target == "" {
		q.retryAt = now + retryMax
		q.topic.wantMetadata(now)
		return false
	}
	if !b.everSent {
		b.everSent = true
		if b.shared { // an earlier send may still lie before a socket: nobody changes its bytes
			b.bytes = slices.Clone(b.bytes)
		}
		b.shared = true
		b.bytes.SetProducer(q.id, q.epoch, q.nextSeq)
		q.nextSeq = record.IncrementSequence(q.nextSeq, int32(len(b.tags)))
		q.sent++
	}
	if p.opts.Conditional && b.expected == nil {
		at := q.expected
		b.expected, q.expected = &at, at+int64(len(b.tags))
	}
	b.tries++
	b.correlation, b.address, b.sentAt = p.nextCorrelation, q.target, now
	p.nextCorrelation++
	p.inflight[b.correlation] = b
	eff.Send = append(eff.Send, Send{Address: q.target, Message: &pb.ProduceStreamRequest{CorrelationId: b.correlation, Request: &pb.ProduceRequest{
		Partition: &pb.PartitionRef{Topic: q.topic.name, TopicId: q.topic.id, Partition: q.number}, Batch: b.bytes, ExpectedOffset: b.expected, TimeoutMs: answerTimeout / 1e6}}})
	return true
}

func (t *topic) wantMetadata(now int64) {
	if !t.asked && t.askAt == 0 {
		t.askAt = now
	}
}

// rewind makes everything that is not acknowledged be sent again, in order, after a pause.
func (q *partition) rewind(now int64, p *Producer) {
	for _, b := range q.batches[:q.flying] {
		delete(p.inflight, b.correlation)
		b.correlation = 0
	}
	q.flying = 0
	q.tries++
	q.retryAt = now + Backoff(p.opts.Rand, q.tries)
	q.target = ""
	q.topic.wantMetadata(now)
}

// answer takes a broker's answer to a try that is still in flight. Answers to earlier tries are passed over: the newest one gets the
// same answer, because the broker knows the batch by its number.
func (p *Producer) answer(now int64, a *pb.ProduceStreamResponse, eff *ProducerEffects) {
	b := p.inflight[a.GetCorrelationId()]
	if b == nil {
		return
	}
	q := b.partition
	delete(p.inflight, a.GetCorrelationId())
	b.correlation = 0
	if a.Error == nil {
		b.done = a.GetResponse()
		q.tries, q.hopped = 0, false
		p.finish(q, eff)
		return
	}
	err := fromError(a.Error)
	q.topic.last = err
	first := q.firstOpen()
	switch {
	case Retriable(err.Reason), err.Reason == reasonSequenceGap && b != first:
		hint := a.Error.GetLeaderAddress()
		q.rewind(now, p)
		if hint != "" && hint != b.address {
			q.target = hint
			if q.hopped = !q.hopped; q.hopped {
				q.retryAt = now // a named leader is asked at once, but no second one before a pause: brokers may name each other
			}
		} else {
			q.hopped = false
		}
		if ms := a.Error.GetRetryAfterMs(); ms > 0 {
			q.retryAt = now + ms*1e6
			if hint == b.address || err.Reason == reasonNotReady || err.Reason == reasonOverloaded {
				q.target = b.address
			}
		}
	case err.Reason == reasonSequenceGap && (q.hole || b.tries == 1 && b.bytes.BaseSequence() != 0):
		// Certainly not appended: a number is missing before it because we left a hole, or the broker has forgotten an idle producer.
		p.renumber(q)
	case err.Reason == ReasonInvalid || err.Reason == ReasonTooLarge:
		p.refuse(b, err, eff)
	case err.Reason == ReasonExpectedOffset && b == first:
		p.missed(q, err, eff)
	case err.Reason == ReasonExpectedOffset: // one before it is open: it decides
		q.rewind(now, p)
	default: // SEQUENCE_GAP at the first open batch, PRODUCER_FENCED, PERMISSION_DENIED, ...: no try again changes that
		p.breakOff(q, b, err, eff)
	}
}

func (q *partition) firstOpen() *batch {
	for _, b := range q.batches {
		if b.done == nil {
			return b
		}
	}
	return nil
}

// down says that a stream broke: what was in flight on it is sent again.
func (p *Producer) down(now int64, address string) {
	p.each(func(q *partition) {
		for _, b := range q.batches[:q.flying] {
			if b.address == address && b.correlation != 0 {
				q.rewind(now, p)
				q.hopped = false
				return
			}
		}
		if q.target == address {
			q.target = ""
		}
	})
}

// metadata takes the answer to a metadata request.
func (p *Producer) metadata(now int64, a *MetadataAnswer, eff *ProducerEffects) {
	if a.Response != nil {
		p.meta.merge(a.Response)
	}
	for _, name := range a.Topics {
		t := p.topics[name]
		if t == nil {
			continue
		}
		t.asked = false
		if a.Err != nil && Refused(a.Err.Reason) {
			p.lost(t, a.Err, eff)
			continue
		}
		if a.Err != nil {
			t.last = a.Err
			t.tries++
			t.askAt = now + Backoff(p.opts.Rand, t.tries)
			continue
		}
		t.tries = 0
		found := p.lookup(a.Response, name)
		switch {
		case found != nil:
			p.adopt(now, t, found, eff)
		case p.opts.Create || a.Response.GetAutoCreate():
			t.asked = true // until it is created
			eff.Create = append(eff.Create, name)
		default:
			p.lost(t, TopicNotFound(name), eff)
		}
	}
}

func (p *Producer) lookup(r *pb.GetMetadataResponse, name string) *pb.Topic {
	for _, t := range r.GetTopics() {
		if t.GetName() == name {
			return t
		}
	}
	return nil
}

// adopt takes a topic's partitions and leaders.
func (p *Producer) adopt(now int64, t *topic, m *pb.Topic, eff *ProducerEffects) {
	if t.partitions != nil && string(t.id) != string(m.GetId()) {
		p.lost(t, &Error{Reason: ReasonTopicNotFound, Message: fmt.Sprintf("topic %q was deleted and created again: open a new producer", t.name)}, eff)
		return
	}
	t.id = m.GetId()
	for _, c := range m.GetConfig() {
		if n, err := strconv.Atoi(c.GetValue()); c.GetKey() == configMessageBytes && err == nil {
			t.bytesMax = n
		}
	}
	for i, mp := range m.GetPartitions() {
		if i == len(t.partitions) {
			t.partitions = append(t.partitions, &partition{topic: t, number: int32(i), id: -1, expected: p.opts.Expected})
		}
		q := t.partitions[i]
		q.nodes = replicaNodes(mp)
		if q.flying == 0 {
			if a := p.meta.Addresses[mp.GetLeaderNode()]; a != "" {
				q.target = a
			}
		}
	}
	if t.sticky == 0 && len(t.partitions) > 0 {
		t.sticky = int32(p.opts.Rand.IntN(len(t.partitions)))
	}
	pending := t.pending
	t.pending = nil
	for i := range pending {
		p.append(now, &pending[i], eff)
	}
}

// lost ends everything of a topic that is not there.
func (p *Producer) lost(t *topic, err *Error, eff *ProducerEffects) {
	p.failPending(t, eff, err)
	for _, q := range t.partitions {
		p.breakOff(q, nil, err, eff)
	}
}

func (p *Producer) created(now int64, a *CreateAnswer, eff *ProducerEffects) {
	t := p.topics[a.Topic]
	if t == nil {
		return
	}
	t.asked, t.askAt = false, now
	switch {
	case a.Err == nil || a.Err.Reason == ReasonTopicExists:
	case Retriable(a.Err.Reason):
		t.last = a.Err
		t.tries++
		t.askAt = now + Backoff(p.opts.Rand, t.tries)
	default:
		t.askAt = 0
		p.failPending(t, eff, a.Err)
	}
}

func (p *Producer) identity(now int64, a *ProducerAnswer) {
	p.identityAsks = false
	if a.Err != nil {
		p.identityTry++
		p.identityAt = now + Backoff(p.opts.Rand, p.identityTry)
		p.each(func(q *partition) { q.topic.last = a.Err })
		return
	}
	p.identityTry = 0
	p.identities = append(p.identities, *a)
}

// Abandon ends everything: records that were sent get err, which says unknown, those that never were sent say failed.
func (p *Producer) Abandon(err *Error, eff *ProducerEffects) {
	failed := *err
	failed.Outcome = OutcomeFailed
	for _, t := range p.order {
		p.failPending(t, eff, &failed)
		for _, q := range t.partitions {
			p.breakOff(q, nil, &failed, eff)
		}
	}
}
