package core

import (
	"errors"
	"math/rand/v2"
	"testing"

	pb "lograft/api/lograft/v1"
	"lograft/record"
)

// lectern is a consumer of t/0, which is on nodes 1 and 2, and the test is its brokers.
type lectern struct {
	t   *testing.T
	c   *Consumer
	now int64
	eff ConsumerEffects
}

func newLectern(t *testing.T, o ConsumerOptions) *lectern {
	o.Rand = rand.New(rand.NewPCG(1, 1))
	l := &lectern{t: t, c: NewConsumer(o), now: 1}
	l.step(&ConsumerEvent{Subscribe: []Subscription{{Topic: "t"}}})
	l.step(&ConsumerEvent{Metadata: &MetadataAnswer{Topics: []string{"t"}, Response: &pb.GetMetadataResponse{
		Brokers: []*pb.Broker{{Node: 1, ClientAddress: "a:1"}, {Node: 2, ClientAddress: "b:1"}},
		Topics:  []*pb.Topic{{Name: "t", Id: make([]byte, 16), Partitions: []*pb.Partition{{Replicas: []*pb.Replica{{Node: 1}, {Node: 2}}}}}}}}})
	return l
}

func (l *lectern) step(ev *ConsumerEvent) {
	l.now++
	l.c.Step(l.now, ev, &l.eff)
}

// fetch is the one fetch that was sent in the last step.
func (l *lectern) fetch() *pb.FetchStreamRequest {
	l.t.Helper()
	if len(l.eff.Send) != 1 || len(l.eff.Epochs) > 0 {
		l.t.Fatalf("%d fetches, %d questions; want a fetch", len(l.eff.Send), len(l.eff.Epochs))
	}
	return l.eff.Send[0].Message
}

// ask is the one question about an epoch that was asked in the last step.
func (l *lectern) ask(epoch int32) EpochAsk {
	l.t.Helper()
	if len(l.eff.Epochs) != 1 || len(l.eff.Send) > 0 || len(l.eff.Fetched) > 0 || l.eff.Epochs[0].Request.GetLeaderEpoch() != epoch {
		l.t.Fatalf("questions %+v, fetches %v, records %d; want a question about epoch %d", l.eff.Epochs, l.eff.Send, len(l.eff.Fetched), epoch)
	}
	return l.eff.Epochs[0]
}

// give answers the fetch with three records of an epoch.
func (l *lectern) give(epoch int32) {
	l.t.Helper()
	q := l.fetch()
	b := record.NewBuilder(record.BuilderOptions{BytesMax: 1 << 20, ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1})
	for range 3 {
		if err := b.Append(record.Record{Value: []byte("v")}); err != nil {
			l.t.Fatal(err)
		}
	}
	batch, err := b.Build()
	if err != nil {
		l.t.Fatal(err)
	}
	batch.Stamp(q.GetRequest().GetOffset(), epoch)
	l.step(&ConsumerEvent{Answer: &pb.FetchStreamResponse{CorrelationId: q.GetCorrelationId(), Response: &pb.FetchResponse{Batches: [][]byte{batch}, NextOffset: batch.NextOffset(), HighWatermark: 100}}})
}

func (l *lectern) answer(ask EpochAsk, epoch int32, end, high int64) {
	l.step(&ConsumerEvent{Epoch: &EpochAnswer{Token: ask.Token, Response: &pb.OffsetForLeaderEpochResponse{LeaderEpoch: epoch, EndOffset: end, HighWatermark: high}}})
}

// reading gives a consumer that has read offsets 0 to 2 of epoch 4, then 3 to 5 of it, without a question.
func reading4(t *testing.T, o ConsumerOptions) *lectern {
	t.Helper()
	l := newLectern(t, o)
	for range 2 {
		l.give(4)
		if len(l.eff.Fetched) != 1 {
			t.Fatal("records of one epoch are doubted")
		}
	}
	return l
}

// At records of another epoch the consumer asks, once, where the last one ended. The log that continues what was read is read on; one that
// does not ends the partition with the first offset that differs, and gives nothing of it.
func TestConsumerNoticesTruncation(t *testing.T) {
	for _, c := range []struct {
		name          string
		epoch         int32
		end, high, at int64 // of the answer; at: where it diverges, -1: nowhere
	}{
		{"the leader changed", 4, 6, 100, -1},
		{"the leader changed later", 4, 8, 100, -1},
		{"not known: it began before the log start", -1, -1, 100, -1},
		{"the last records are gone", 4, 4, 100, 4},
		{"the whole epoch is gone", 3, 2, 100, 2},
		{"the whole epoch is gone, another one has its offsets", 3, 9, 100, 5},
	} {
		l := reading4(t, ConsumerOptions{})
		l.give(7)
		l.answer(l.ask(4), c.epoch, c.end, c.high)
		if c.at < 0 {
			l.give(7)
			if len(l.eff.Fetched) != 1 || l.eff.Fetched[0].From != 6 {
				t.Errorf("%s: %+v", c.name, l.eff.Fetched)
			}
			l.give(7)
			if len(l.eff.Fetched) != 1 || len(l.eff.Epochs) > 0 {
				t.Errorf("%s: asked again", c.name)
			}
			continue
		}
		if len(l.eff.Ended) != 1 || len(l.eff.Fetched) > 0 {
			t.Fatalf("%s: %+v", c.name, l.eff)
		}
		if e := l.eff.Ended[0].Err; !errors.Is(e, ErrLogTruncated) || e.Divergence != c.at || e.Reason != ReasonLogTruncated {
			t.Errorf("%s: %+v, want a divergence at %d", c.name, e, c.at)
		}
	}
}

// A broker that can't be asked leaves the doubt to the next replica; one that may not, or can't, answer is believed, as before there was the
// question. A replica that has less than it gave a moment ago is no proof.
func TestTruncationNotKnown(t *testing.T) {
	l := reading4(t, ConsumerOptions{})
	l.give(7)
	ask := l.ask(4)
	l.step(&ConsumerEvent{Epoch: &EpochAnswer{Token: ask.Token, Err: &Error{Reason: ReasonUnreachable, Message: "m"}}})
	l.give(7) // of the other replica
	if second := l.ask(4); second.Address == ask.Address {
		t.Errorf("asked %s again", ask.Address)
	}
	l.answer(l.eff.Epochs[0], 4, 3, 3)
	l.give(7)
	ask = l.ask(4)
	l.step(&ConsumerEvent{Epoch: &EpochAnswer{Token: ask.Token, Err: &Error{Reason: reasonDenied, Message: "m"}}})
	l.give(7)
	if len(l.eff.Fetched) != 1 {
		t.Errorf("not read on: %+v", l.eff)
	}
}

// A log that ends before what was read of it was cut, if the end is confirmed; without that, and before anything was read, it is out of
// range as before.
func TestLogShorterThanRead(t *testing.T) {
	refuse := func(l *lectern) {
		l.step(&ConsumerEvent{Answer: &pb.FetchStreamResponse{CorrelationId: l.fetch().GetCorrelationId(), Error: &pb.Error{Reason: ReasonOutOfRange, LogStart: 0, HighWatermark: 5}}})
	}
	l := reading4(t, ConsumerOptions{})
	refuse(l)
	l.answer(l.ask(4), 4, 5, 5)
	if len(l.eff.Ended) != 1 || !errors.Is(l.eff.Ended[0].Err, ErrLogTruncated) || l.eff.Ended[0].Err.Divergence != 5 {
		t.Errorf("cut: %+v", l.eff.Ended)
	}
	l = reading4(t, ConsumerOptions{Consistency: pb.Consistency_CONSISTENCY_COMMITTED})
	refuse(l)
	if len(l.eff.Ended) != 1 || l.eff.Ended[0].Err.Reason != ReasonOutOfRange {
		t.Errorf("not confirmed: %+v", l.eff.Ended)
	}
	l = newLectern(t, ConsumerOptions{})
	refuse(l)
	if len(l.eff.Ended) != 1 || l.eff.Ended[0].Err.Reason != ReasonOutOfRange {
		t.Errorf("nothing was read yet: %+v", l.eff.Ended)
	}
}

// A member of a group goes on where the log became another one, and says so, if there is a reset policy; without one it fails.
func TestGroupAfterTruncation(t *testing.T) {
	for _, reset := range []Reset{ResetStart, ResetEnd, ResetNone} {
		d := newDesk(t, GroupOptions{AutoMark: true, Reset: reset})
		d.assign(1, 0, "0:1:10")
		d.epoch = 4
		d.poll()
		d.records(0, 5)
		d.poll() // done with [10, 15)
		d.records(0, 5)
		d.want("read", "join resume=false; ack 1: 0; commit 1: 0=15@4; ")
		d.epoch = 7
		d.records(0, 5) // doubted
		if len(d.epochs) != 1 {
			t.Fatalf("questions: %+v", d.epochs)
		}
		d.got = nil
		d.poll()
		d.step(&GroupEvent{Consumer: &ConsumerEvent{Epoch: &EpochAnswer{Token: d.epochs[0].Token, Response: &pb.OffsetForLeaderEpochResponse{LeaderEpoch: 4, EndOffset: 12, HighWatermark: 50}}}})
		if len(d.got) != 1 {
			t.Fatalf("delivered %+v", d.got)
		}
		if reset == ResetNone {
			if !errors.Is(d.got[0].Err, ErrLogTruncated) {
				t.Errorf("without a policy: %+v", d.got[0])
			}
			continue
		}
		e := d.got[0].Ended
		if len(e) != 1 || !e[0].GoesOn || e[0].Offset != 12 || !errors.Is(e[0].Err, ErrLogTruncated) {
			t.Fatalf("policy %d: %+v", reset, d.got[0])
		}
		d.pass(100, true)
		if q := d.fetch[TP{"t", 0}]; q == nil || q.GetRequest().GetOffset() != 12 {
			t.Errorf("policy %d: goes on at %v, want 12", reset, q.GetRequest())
		}
		d.said = nil
		d.poll()
		d.records(0, 2)
		d.poll() // done with [12, 14) of the new log: by its epoch the group takes it although 15 is committed
		d.pass(6_000, true)
		d.want("read on", "commit 1: 0=14@7; ")
	}
}

// A member that begins at a committed offset with a leader epoch doubts records of another one before it gives any: the log that continues
// the committed record is read on; of one that lost it the member goes on where it became another one, and asks no more. Without an
// epoch nothing is asked.
func TestGroupBeginsAtCommittedEpoch(t *testing.T) {
	for _, c := range []struct {
		name      string
		committed int32
		first     int32 // epoch of the records at the committed offset
		asks      bool
		end       int64 // of epoch 4, as it is answered
		goesOn    int64 // offset of the records that are given first
	}{
		{"the same epoch", 4, 4, false, 0, 10},
		{"the leader changed", 4, 7, true, 10, 10},
		{"the committed record is lost", 4, 7, true, 8, 8},
		{"committed without an epoch", 0, 7, false, 0, 10},
	} {
		d := newDesk(t, GroupOptions{AutoMark: true})
		d.hear(&pb.JoinResponse{Message: &pb.JoinResponse_Assignment{Assignment: &pb.Assignment{Generation: 1, Partitions: []*pb.AssignedPartition{
			{Topic: "t", TopicId: deskTopic.Id, Since: 1, Committed: 10, CommittedEpoch: c.committed}}}}})
		d.epoch = c.first
		d.poll()
		d.records(0, 5)
		if asks := len(d.epochs) == 1; asks != c.asks || asks && d.epochs[0].Request.GetLeaderEpoch() != 4 {
			t.Fatalf("%s: questions %+v", c.name, d.epochs)
		}
		if c.asks {
			d.step(&GroupEvent{Consumer: &ConsumerEvent{Epoch: &EpochAnswer{Token: d.epochs[0].Token, Response: &pb.OffsetForLeaderEpochResponse{LeaderEpoch: 4, EndOffset: c.end, HighWatermark: 50}}}})
			d.pass(100, true)
			d.records(0, 5)
		}
		if lost := c.goesOn < 10; lost {
			if len(d.got) != 1 || len(d.got[0].Ended) != 1 || !errors.Is(d.got[0].Ended[0].Err, ErrLogTruncated) || d.got[0].Ended[0].Offset != c.goesOn {
				t.Fatalf("%s: told %+v", c.name, d.got)
			}
			d.got = nil
			d.poll()
		}
		if len(d.got) != 1 || d.got[0].Fetched == nil || d.got[0].Fetched.From != c.goesOn {
			t.Fatalf("%s: got %+v, want records from offset %d", c.name, d.got, c.goesOn)
		}
		if asked := len(d.epochs); c.asks && asked != 1 || !c.asks && asked != 0 {
			t.Errorf("%s: asked %d times", c.name, asked)
		}
	}
}

// What is committed carries the epoch of the last record before it, whichever of those that were given; where a reset jumps over records,
// none, until records are read there.
func TestGroupCommitsEpochs(t *testing.T) {
	d := newDesk(t, GroupOptions{Reset: ResetEnd})
	d.assign(1, 0, "0:1:10")
	for _, epoch := range []int32{4, 5} {
		d.epoch = epoch
		d.poll()
		d.records(0, 5)
		if len(d.epochs) > 0 { // at [15, 20)
			a := d.epochs[0]
			d.epochs = nil
			d.step(&GroupEvent{Consumer: &ConsumerEvent{Epoch: &EpochAnswer{Token: a.Token, Response: &pb.OffsetForLeaderEpochResponse{LeaderEpoch: 4, EndOffset: 15, HighWatermark: 50}}}})
			d.pass(100, true)
			d.records(0, 5)
		}
	}
	d.poll()
	d.take()
	for _, x := range []struct {
		offset int64
		says   string
	}{{12, "commit 1: 0=12@4; "}, {15, "commit 1: 0=15@4; "}, {16, "commit 1: 0=16@5; "}, {20, "commit 1: 0=20@5; "}} {
		d.step(&GroupEvent{Mark: &Mark{TP{"t", 0}, x.offset}})
		d.pass(1500, true)
		d.want("marked", x.says)
	}
	d.step(&GroupEvent{Consumer: &ConsumerEvent{Answer: &pb.FetchStreamResponse{CorrelationId: d.fetch[TP{"t", 0}].GetCorrelationId(), Error: &pb.Error{Reason: ReasonOutOfRange, LogStart: 30, HighWatermark: 40}}}})
	d.step(&GroupEvent{Timer: true})
	d.step(&GroupEvent{Consumer: &ConsumerEvent{Offsets: &OffsetsAnswer{Token: d.offs[len(d.offs)-1].Token, Response: &pb.ListOffsetsResponse{HighWatermark: 40}}}})
	d.pass(1500, true)
	d.want("begun anew at the end", "commit 1: 0=40; ")
}
