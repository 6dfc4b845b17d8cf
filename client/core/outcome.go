package core

import (
	"fmt"

	pb "lograft/api/lograft/v1"
)

// How a batch ends: acknowledged, certainly not there (failed), or not known (unknown).

// finish gives the results of acknowledged batches at the front.
func (p *Producer) finish(q *partition, eff *ProducerEffects) {
	for len(q.batches) > 0 && q.batches[0].done != nil {
		b := q.batches[0]
		for i, tag := range b.tags {
			p.result(eff, Result{Tag: tag, Topic: q.topic.name, Partition: q.number, Offset: b.done.GetBaseOffset() + int64(i), Timestamp: b.done.GetAppendTime(), Session: b.done.GetSession()})
		}
		q.drop(1)
	}
}

// drop forgets the first n batches.
func (q *partition) drop(n int) {
	clear(q.batches[:n])
	q.batches = q.batches[n:]
	q.sent, q.flying = max(0, q.sent-n), max(0, q.flying-n)
	if len(q.batches) == 0 {
		q.batches = nil
	}
}

// fail ends a batch with an error.
func (p *Producer) fail(b *batch, err *Error, eff *ProducerEffects) {
	delete(p.inflight, b.correlation)
	for _, tag := range b.tags {
		p.result(eff, Result{Tag: tag, Topic: b.partition.topic.name, Partition: b.partition.number, Err: err})
	}
}

// refuse ends a batch that the broker will never take. What was sent behind it may be answered SEQUENCE_GAP now: that is no
// contradiction, and certainly not appended.
func (p *Producer) refuse(b *batch, err *Error, eff *ProducerEffects) {
	p.fail(b, err, eff)
	b.tags, b.done = nil, &pb.ProduceResponse{}
	b.partition.hole = true
	p.finish(b.partition, eff)
}

// missed ends a conditional partition. The broker denies only what is certain: this batch is not there, and none behind it can be, because
// this one's number is missing before them.
func (p *Producer) missed(q *partition, err *Error, eff *ProducerEffects) {
	if q.open != nil {
		p.closeOpen(q)
	}
	q.broken = err
	for _, b := range q.batches {
		p.fail(b, err, eff)
	}
	q.batches, q.sent, q.flying = nil, 0, 0
}

// renumber gives a partition a new identity; batches that are certainly not appended are numbered again under it.
func (p *Producer) renumber(q *partition) {
	for _, b := range q.batches[:q.sent] {
		delete(p.inflight, b.correlation)
		b.correlation, b.everSent, b.tries = 0, false, 0
	}
	q.sent, q.flying, q.id, q.hole = 0, 0, -1, false
}

// abandon ends everything that was sent: whether it was appended will never be known here.
func (p *Producer) abandon(q *partition, eff *ProducerEffects, cause *Error) {
	for q.sent > 0 {
		e := *cause
		e.Outcome = OutcomeUnknown
		p.fail(q.batches[0], &e, eff)
		q.drop(1)
	}
	p.renumber(q)
}

// giveUp ends the first batch, whose delivery timeout is over, and everything sent behind it.
func (p *Producer) giveUp(q *partition, eff *ProducerEffects) {
	b := q.batches[0]
	o := OutcomeFailed
	if b.everSent {
		o = OutcomeUnknown
	}
	err := gaveUp(q.topic.last, fmt.Sprintf("no acknowledgement of %s/%d", q.topic.name, q.number), o)
	p.fail(b, err, eff)
	q.drop(1)
	if o == OutcomeUnknown {
		p.abandon(q, eff, err)
	}
}

// breakOff ends everything of a partition: nothing more can be appended here. answered is the batch that a broker refused so, nil if none
// was. If that was its only try it is certainly not there, and nothing sent behind it can be: its number is missing before them.
func (p *Producer) breakOff(q *partition, answered *batch, err *Error, eff *ProducerEffects) {
	if q.open != nil {
		p.closeOpen(q)
	}
	failed, unknown := *err, *err
	failed.Outcome, unknown.Outcome = OutcomeFailed, OutcomeUnknown
	q.broken = &failed
	certain := false
	for _, b := range q.batches {
		certain = certain || b == answered && b.tries == 1 && err.Outcome == OutcomeFailed
		e := failed
		if b.everSent && !certain {
			e = unknown
		}
		if b.done == nil {
			p.fail(b, &e, eff)
			continue
		}
		for i, tag := range b.tags {
			p.result(eff, Result{Tag: tag, Topic: q.topic.name, Partition: q.number, Offset: b.done.GetBaseOffset() + int64(i), Timestamp: b.done.GetAppendTime(), Session: b.done.GetSession()})
		}
	}
	q.batches, q.sent, q.flying = nil, 0, 0
}
