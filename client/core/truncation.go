package core

import (
	"errors"
	"fmt"

	pb "lograft/api/lograft/v1"
	"lograft/record"
)

// ReasonLogTruncated: the log does not hold what was read from it any more. It lost committed records (broker cluster recover, an old copy
// of a data directory put back) and may have grown past the reader since.
const ReasonLogTruncated = "LOG_TRUNCATED"

// ErrLogTruncated is what errors.Is finds in the error of a partition whose log lost records that were read. Error.Divergence is the first
// offset at which the log is another one.
var ErrLogTruncated = errors.New("the log lost records that were read from it")

// Is makes errors.Is(err, ErrLogTruncated) work.
func (e *Error) Is(target error) bool {
	return target == ErrLogTruncated && e.Reason == ReasonLogTruncated
}

// EpochAsk asks a broker where a leader epoch ended in its log.
type EpochAsk struct {
	Token   uint64
	Address string
	Request *pb.OffsetForLeaderEpochRequest
}

// EpochAnswer ends an EpochAsk.
type EpochAnswer struct {
	Token    uint64
	Response *pb.OffsetForLeaderEpochResponse
	Err      *Error
}

// lineage is how a reading knows that what it is given continues what it read (KIP-320).
//
// A batch of the same leader epoch as the one before it does: within an epoch one leader appends, and Raft's logs match up to it. At a
// batch of another epoch the replica that gave it is asked where the epoch of the last record ended; the log is another one if that is
// before the offset reached. So it costs one question per change of leader, and none per fetch.
type lineage struct {
	epoch    int32 // of the last record that was read; -1: none was
	checked  int32 // epoch of the next batch for which the question was answered; -1: none
	checking int32 // for which it is asked now
	asks     bool
	short    *Error // set: the log ends before the offset reached, says a confirmed answer
}

func newLineage() lineage { return lineage{epoch: -1, checked: -1} }

// doubts reports whether batches that begin with one of this epoch need the question first.
func (l *lineage) doubts(b record.Batch) bool {
	if l.epoch < 0 || b.LeaderEpoch() == l.epoch || b.LeaderEpoch() == l.checked {
		return false
	}
	l.asks, l.checking, l.short = true, b.LeaderEpoch(), nil
	return true
}

// ended reports whether a refusal for an offset beyond the log's end means that the log was cut: then the question says where.
func (l *lineage) ended(offset int64, err *Error, linearizable bool) bool {
	if l.epoch < 0 || err.Reason != ReasonOutOfRange || err.HighWatermark >= offset || !linearizable {
		return false
	}
	l.asks, l.checking, l.short = true, -1, err
	return true
}

// askEpoch asks the replica that raised the doubt.
func (c *Consumer) askEpoch(r *reading, ref *pb.PartitionRef, eff *ConsumerEffects) {
	eff.Epochs = append(eff.Epochs, EpochAsk{Token: r.waiting, Address: r.address, Request: &pb.OffsetForLeaderEpochRequest{Partition: ref,
		LeaderEpoch: r.lineage.epoch, Consistency: pb.Consistency_CONSISTENCY_COMMITTED, TimeoutMs: offsetsTimeout / 1e6}})
}

// epochEnd takes the answer.
func (c *Consumer) epochEnd(now int64, a *EpochAnswer, eff *ConsumerEffects) {
	r := c.take(a.Token)
	if r == nil || !r.lineage.asks {
		return
	}
	if a.Err != nil && Retriable(a.Err.Reason) {
		c.failed(now, r, a.Err) // what another replica gives is doubted anew
		return
	}
	c.succeeded(r)
	l, m := &r.lineage, a.Response
	l.asks = false
	short := l.short
	l.short = nil
	known := a.Err == nil && m.GetLeaderEpoch() >= 0 // an old broker, or one that may not answer, or an epoch that began before the log start
	switch {
	case known && (m.GetLeaderEpoch() != l.epoch || m.GetEndOffset() < r.offset):
		if short == nil && m.GetHighWatermark() <= r.offset {
			return // it has less than it gave before: not the same log any more; asked for the records again
		}
		c.end(r, eff, r.truncated(min(m.GetEndOffset(), r.offset-1), m.GetHighWatermark()))
	case short != nil:
		c.end(r, eff, short)
	default:
		l.checked = l.checking
	}
}

func (r *reading) truncated(at, high int64) *Error {
	return &Error{Reason: ReasonLogTruncated, HighWatermark: high, Divergence: at, Message: fmt.Sprintf(
		"%s/%d was read up to offset %d, and its log is another one from offset %d on: it lost committed records (broker cluster recover, or an old copy that was put back); "+
			"forget what was read from there on, and read again from offset %d", r.topic.Topic, r.number, r.offset, at, at)}
}
