package rpc

import (
	"fmt"
	"testing"

	pb "lograft/api/lograft/v1"
	"lograft/broker/cluster"
	"lograft/broker/partition"
	"lograft/record"
)

// desk is a broker of which only the sessions are real: what they ask of replicas is answered by the test.
type desk struct {
	t       *testing.T
	state   *cluster.State
	changes uint64
	now     int64
	eff     Effects
	s       Session
	caller  *Caller
}

func (d *desk) NodeID() uint64      { return 1 }
func (d *desk) View() *cluster.View { return d.state.View() }
func (d *desk) Leader(partition.GroupID) (node, replica uint64, epoch int32) {
	return 1, 1, int32(d.changes)
}
func (d *desk) Changes() uint64               { return d.changes }
func (d *desk) TakeProducerID() (int64, bool) { return 0, false }
func (d *desk) AddProducerIDs(int64, int)     {}
func (d *desk) AutoCreate() bool              { return false }

func (d *desk) env() *Env {
	return &Env{Dir: d, Caller: d.caller, Random: func() [16]byte { return [16]byte{1} }}
}

// newDesk has one topic "t" of some partitions.
func newDesk(t *testing.T, partitions int32) *desk {
	t.Helper()
	d := &desk{t: t, now: 1, state: cluster.NewState(cluster.ComputeBirth("test", []cluster.Member{{NodeID: 1, DirID: cluster.ID{1}}}))}
	d.apply(cluster.EncodeRegisterBroker(cluster.RegisterBroker{RequestID: cluster.ID{1}, NodeID: 1, DirID: cluster.ID{1}}))
	d.apply(cluster.EncodeCreateTopic(cluster.CreateTopic{RequestID: cluster.ID{2}, Seed: cluster.ID{2}, Name: "t", Partitions: partitions, ReplicationFactor: 1}))
	return d
}

var applies uint64 = 2

func (d *desk) apply(command []byte) {
	d.t.Helper()
	applies++
	if x, err := cluster.DecodeResult(d.state.Apply(applies, 0, command)); err != nil || x.Reason != cluster.ReasonNone {
		d.t.Fatalf("%+v, %v", x, err)
	}
}

func (d *desk) step(ev *Event) *Effects {
	d.eff.reset()
	d.s.Step(d.now, ev, &d.eff)
	return &d.eff
}

// batchAt is a batch of n records of size bytes each, appended at offset.
func batchAt(t *testing.T, offset int64, n, size int) []byte {
	t.Helper()
	b := record.NewBuilder(record.BuilderOptions{BytesMax: 1 << 20, ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1})
	for range n {
		if err := b.Append(record.Record{Value: make([]byte, size)}); err != nil {
			t.Fatal(err)
		}
	}
	batch, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	batch.Stamp(offset, 1)
	return batch
}

func (d *desk) answerFetch(q partition.Request, batches ...[]byte) *Effects {
	r := &partition.Reply{Token: q.Token, Batches: batches, HighWatermark: 1000, LeaderEpoch: 1}
	for _, b := range batches {
		r.Bytes += len(b)
	}
	return d.step(&Event{Reply: r})
}

func ref(n int32) *pb.PartitionRef { return &pb.PartitionRef{Topic: "t", Partition: n} }

func credit(records, bytes int64) *pb.SubscribeRequest {
	return &pb.SubscribeRequest{Kind: &pb.SubscribeRequest_Credit{Credit: &pb.SubscribeCredit{Records: records, Bytes: bytes}}}
}

func subscribe(d *desk, plain bool, c *pb.SubscribeCredit, parts ...int32) []partition.Request {
	d.s = NewSubscribe(d.env())
	m := &pb.SubscribeStart{PlainRecords: plain, Credit: c}
	for _, n := range parts {
		m.Partitions = append(m.Partitions, &pb.SubscribePartition{Partition: ref(n), Offset: 100})
	}
	return append([]partition.Request(nil), d.step(&Event{Message: &pb.SubscribeRequest{Kind: &pb.SubscribeRequest_Start{Start: m}}}).Requests...)
}

// A subscription sends no more than was granted, less than one batch over; nothing is asked of a replica without credit; new credit is
// paid against the debt first; and what comes too late for the credit is asked for again, from the same offset.
func TestSubscribeObeysCredit(t *testing.T) {
	d := newDesk(t, 2)
	asked := subscribe(d, false, &pb.SubscribeCredit{Records: 10, Bytes: 1 << 20}, 0, 1)
	if len(asked) != 2 {
		t.Fatalf("%d fetches, want one for each partition", len(asked))
	}
	eff := d.answerFetch(asked[0], batchAt(t, 100, 8, 10), batchAt(t, 108, 8, 10), batchAt(t, 116, 8, 10))
	if len(eff.Send) != 1 || len(eff.Requests) != 0 {
		t.Fatalf("%d messages, %d fetches", len(eff.Send), len(eff.Requests))
	}
	m := eff.Send[0].(*pb.SubscribeResponse)
	if n := len(m.GetResponse().GetBatches()); n != 2 || m.GetResponse().GetNextOffset() != 116 {
		t.Fatalf("%d batches up to %d, want 2 up to 116", n, m.GetResponse().GetNextOffset())
	}
	if eff = d.answerFetch(asked[1], batchAt(t, 100, 1, 10)); len(eff.Send) != 0 || len(eff.Requests) != 0 {
		t.Fatalf("without credit: %d messages, %d fetches", len(eff.Send), len(eff.Requests))
	}
	if eff = d.step(&Event{Message: credit(6, 0)}); len(eff.Requests) != 0 {
		t.Fatal("6 records pay the debt of 6, and no more")
	}
	eff = d.step(&Event{Message: credit(1, 0)})
	if len(eff.Requests) != 2 || eff.Requests[0].Offset != 116 || eff.Requests[1].Offset != 100 {
		t.Fatalf("with credit again: %+v", eff.Requests)
	}
}

// Plain records are counted one by one; bytes are counted, too; the default window is small.
func TestSubscribePlainRecords(t *testing.T) {
	d := newDesk(t, 1)
	asked := subscribe(d, true, &pb.SubscribeCredit{Records: 3, Bytes: 1000}, 0)
	got := d.answerFetch(asked[0], batchAt(t, 98, 8, 10)).Send[0].(*pb.SubscribeResponse).GetResponse()
	if len(got.Records) != 3 || got.Records[0].Offset != 100 || got.NextOffset != 103 {
		t.Fatalf("%d records from %d, next %d; want 3 from 100, next 103", len(got.Records), got.Records[0].Offset, got.NextOffset)
	}
	eff := d.step(&Event{Message: credit(100, 0)})
	if len(eff.Requests) != 1 || eff.Requests[0].Offset != 103 {
		t.Fatalf("%+v", eff.Requests)
	}
	got = d.answerFetch(eff.Requests[0], batchAt(t, 103, 5, 600)).Send[0].(*pb.SubscribeResponse).GetResponse()
	if len(got.Records) != 2 || len(d.eff.Requests) != 0 {
		t.Fatalf("%d records of 600 bytes for 970 bytes of credit, %d fetches", len(got.Records), len(d.eff.Requests))
	}
	asked = subscribe(d, true, nil, 0)
	got = d.answerFetch(asked[0], batchAt(t, 100, 1500, 10)).Send[0].(*pb.SubscribeResponse).GetResponse()
	if len(got.Records) != creditRecordsDefault {
		t.Errorf("%d records in the default window", len(got.Records))
	}
}

// The end is told once, an error stops a partition until a seek, and answers of before a seek are passed over.
func TestSubscribeSeek(t *testing.T) {
	d := newDesk(t, 1)
	asked := subscribe(d, false, nil, 0)
	eff := d.answerFetch(asked[0])
	if len(eff.Send) != 1 || len(eff.Requests) != 1 || eff.Requests[0].MinBytes != 1 {
		t.Fatalf("at the end: %d messages, %+v", len(eff.Send), eff.Requests)
	}
	waiting := eff.Requests[0]
	if eff = d.answerFetch(waiting); len(eff.Send) != 0 || len(eff.Requests) != 1 {
		t.Fatalf("at the end again: %d messages", len(eff.Send))
	}
	waiting = eff.Requests[0]
	eff = d.step(&Event{Reply: &partition.Reply{Token: waiting.Token, Err: &partition.Error{Reason: partition.ReasonOutOfRange, Message: "gone", LogStart: 500}}})
	if e := eff.Send[0].(*pb.SubscribeResponse).GetError(); e.GetReason() != "OFFSET_OUT_OF_RANGE" || e.GetLogStart() != 500 || len(eff.Requests) != 0 {
		t.Fatalf("%+v, %d fetches", e, len(eff.Requests))
	}
	seek := func(offset int64, generation uint64) partition.Request {
		eff := d.step(&Event{Message: &pb.SubscribeRequest{Kind: &pb.SubscribeRequest_Seek{Seek: &pb.SubscribeSeek{Offset: offset, Generation: generation}}}})
		if len(eff.Requests) != 1 || eff.Requests[0].Offset != offset {
			t.Fatalf("seek to %d: %+v", offset, eff.Requests)
		}
		return eff.Requests[0]
	}
	old, now := seek(500, 1), seek(600, 2)
	if eff = d.answerFetch(old, batchAt(t, 500, 1, 1)); len(eff.Send) != 0 {
		t.Error("an answer of before the seek was sent")
	}
	if m := d.answerFetch(now, batchAt(t, 600, 1, 1)).Send[0].(*pb.SubscribeResponse); m.GetGeneration() != 2 {
		t.Errorf("generation %d", m.GetGeneration())
	}
}

// That the broker has no room ends no subscription: a partition is asked again from the same offset, later each time, while the others go
// on; a seek asks at once.
func TestSubscribeWaitsForRoom(t *testing.T) {
	d := newDesk(t, 2)
	asked := subscribe(d, true, nil, 0, 1)
	full := NewBudget(1)
	full.take(1)
	s := d.s.(*Subscribe)
	s.env.Answers = full // and plain records have nothing of it
	last := int64(0)
	q := asked[0]
	for i := range 8 {
		var eff *Effects
		if i%2 == 0 {
			eff = d.answerFetch(q, batchAt(t, 100, 1, 10))
		} else {
			eff = d.step(&Event{Reply: &partition.Reply{Token: q.Token, Err: overloaded(full, "answers")}})
		}
		pause := eff.Timer - d.now
		if len(eff.Send) != 0 || len(eff.Requests) != 0 || pause < last || pause < overloadedRetryMs*1e6 || pause > subscribePauseMaxNs {
			t.Fatalf("no room, time %d: %d messages, %d fetches, again in %d ns after %d", i, len(eff.Send), len(eff.Requests), pause, last)
		}
		last, d.now = pause, eff.Timer-1
		if eff = d.step(&Event{Message: credit(1, 1)}); len(eff.Requests) != 0 || eff.Timer != d.now+1 {
			t.Fatalf("before its time: %d fetches, again at %d, want %d", len(eff.Requests), eff.Timer, d.now+1)
		}
		d.now++
		if eff = d.step(&Event{Timer: true}); len(eff.Requests) != 1 || eff.Requests[0].Offset != 100 {
			t.Fatalf("when its time has come: %+v", eff.Requests)
		}
		q = eff.Requests[0]
	}
	if last != subscribePauseMaxNs {
		t.Errorf("the last pause is %d ns", last)
	}
	s.env.Answers = nil
	if eff := d.answerFetch(asked[1], batchAt(t, 100, 1, 10)); len(eff.Send) != 1 || len(eff.Requests) != 1 {
		t.Errorf("the other partition: %d messages, %d fetches", len(eff.Send), len(eff.Requests))
	}
	if eff := d.answerFetch(q, batchAt(t, 100, 1, 10)); len(eff.Send) != 1 || len(eff.Requests) != 1 || eff.Requests[0].Offset != 101 {
		t.Fatalf("with room: %d messages, %+v", len(eff.Send), eff.Requests)
	}
	q = d.eff.Requests[0]
	if eff := d.step(&Event{Reply: &partition.Reply{Token: q.Token, Err: overloaded(full, "answers")}}); eff.Timer != d.now+overloadedRetryMs*1e6 {
		t.Errorf("the first pause after an answer is %d ns", eff.Timer-d.now)
	}
	if eff := d.step(&Event{Message: &pb.SubscribeRequest{Kind: &pb.SubscribeRequest_Seek{Seek: &pb.SubscribeSeek{Offset: 7}}}}); len(eff.Requests) != 1 || eff.Requests[0].Offset != 7 {
		t.Errorf("a seek: %+v", eff.Requests)
	}
}

// What is no subscription ends the stream with a reason.
func TestSubscribeRefuses(t *testing.T) {
	start := func(parts ...*pb.SubscribePartition) *pb.SubscribeRequest {
		return &pb.SubscribeRequest{Kind: &pb.SubscribeRequest_Start{Start: &pb.SubscribeStart{Partitions: parts}}}
	}
	good := &pb.SubscribePartition{Partition: ref(0)}
	for name, ms := range map[string][]*pb.SubscribeRequest{
		"credit first": {credit(1, 1)}, "nothing": {{}}, "no partitions": {start()}, "two starts": {start(good), start(good)}, "negative credit": {start(good), credit(-1, 0)},
		"negative offset": {start(&pb.SubscribePartition{Partition: ref(0), Offset: -1})}, "no such partition": {start(&pb.SubscribePartition{Partition: ref(9)})},
		"seek elsewhere": {start(good), {Kind: &pb.SubscribeRequest_Seek{Seek: &pb.SubscribeSeek{Index: 1}}}},
	} {
		d := newDesk(t, 1)
		d.s = NewSubscribe(d.env())
		var last *Effects
		for _, m := range ms {
			last = d.step(&Event{Message: m})
		}
		if last.Err == nil || !last.Done || last.Err.Reason != partition.ReasonInvalid {
			t.Errorf("%s: %+v", name, last.Err)
		}
	}
}

// Many partitions in one call: data anywhere ends the wait, an error of one does not spoil the others, and nobody waits if nothing is wanted.
func TestFetchPartitions(t *testing.T) {
	d := newDesk(t, 3)
	begin := func(minBytes int32) []partition.Request {
		d.s = NewFetchPartitions(d.env())
		m := &pb.FetchPartitionsRequest{MinBytes: minBytes, WaitMs: 1000}
		for _, n := range []int32{0, 1, 2, 7} {
			m.Requests = append(m.Requests, &pb.FetchRequest{Partition: ref(n), Offset: 100})
		}
		return append([]partition.Request(nil), d.step(&Event{Message: m}).Requests...)
	}
	asked := begin(1)
	if len(asked) != 3 {
		t.Fatalf("%d fetches", len(asked))
	}
	var again []partition.Request
	for _, q := range asked {
		eff := d.answerFetch(q)
		if eff.Done {
			t.Fatal("answered without data")
		}
		again = append(again, eff.Requests...)
	}
	if len(again) != 3 || again[2].MinBytes != 1 {
		t.Fatalf("waiting: %+v", again)
	}
	d.step(&Event{Reply: &partition.Reply{Token: again[0].Token, Err: &partition.Error{Reason: partition.ReasonShutdown}}})
	eff := d.answerFetch(again[1], batchAt(t, 100, 2, 10))
	if !eff.Done {
		t.Fatal("data did not end the wait")
	}
	out := eff.Send[0].(*pb.FetchPartitionsResponse).GetResults()
	shape := ""
	for _, r := range out {
		shape += fmt.Sprintf("%s%d ", r.GetError().GetReason(), len(r.GetResponse().GetBatches()))
	}
	if shape != "SHUTTING_DOWN0 1 0 INVALID_ARGUMENT0 " {
		t.Errorf("results: %s", shape)
	}
	for i, q := range begin(0) {
		if eff := d.answerFetch(q); eff.Done != (i == 2) || len(eff.Requests) > 0 {
			t.Errorf("answer %d: done %t, %d fetches", i, eff.Done, len(eff.Requests))
		}
	}
}

// A watcher gets the metadata at once, and again when it or a leader changes, not otherwise.
func TestWatchMetadata(t *testing.T) {
	d := newDesk(t, 1)
	d.s = NewWatchMetadata(d.env())
	if eff := d.step(&Event{Message: &pb.WatchMetadataRequest{AllTopics: true}}); len(eff.Send) != 1 || eff.Timer == 0 || eff.Done {
		t.Fatalf("%+v", eff)
	}
	tick := func(want int) {
		t.Helper()
		d.now += watchEveryNs
		if eff := d.step(&Event{Timer: true}); len(eff.Send) != want || eff.Timer <= d.now {
			t.Fatalf("%d messages, want %d", len(eff.Send), want)
		}
	}
	tick(0)
	d.changes++
	tick(1)
	tick(0)
	d.apply(cluster.EncodeDeleteTopic(cluster.DeleteTopic{RequestID: cluster.ID{9}, Name: "t"}))
	tick(1)
	if n := len(d.eff.Send[0].(*pb.WatchMetadataResponse).GetMetadata().GetTopics()); n != 0 {
		t.Errorf("%d topics after the deletion", n)
	}
	tick(0)
}

// Every way to fetch is paid from the caller's quota: who has gone beyond it is refused, or slowed down on a subscription until the debt is
// paid off. A subscription ends for a partition whose topic the caller may not read any more.
func TestFetchesArePaid(t *testing.T) {
	d := newDesk(t, 1)
	d.apply(cluster.EncodePutQuota(cluster.PutQuota{RequestID: cluster.ID{3}, Quota: cluster.Quota{Principal: "alice", FetchBytes: 1000}}))
	rights := NewRights(d, nil)
	d.caller = &Caller{rights: rights, principal: "alice", all: true}
	batch := batchAt(t, 100, 1, 3000)

	asked := subscribe(d, false, nil, 0)
	if eff := d.answerFetch(asked[0], batch); len(eff.Send) != 1 || len(eff.Requests) != 0 || eff.Timer <= d.now {
		t.Fatalf("beyond the quota: %d messages, %d fetches, again at %d", len(eff.Send), len(eff.Requests), eff.Timer)
	}
	d.now = d.eff.Timer + 1e6
	if eff := d.step(&Event{Timer: true}); len(eff.Requests) != 1 || eff.Requests[0].Offset != 101 {
		t.Fatalf("when the debt is paid off: %+v", eff.Requests)
	}

	many := func() *Effects {
		d.s = NewFetchPartitions(d.env())
		return d.step(&Event{Message: &pb.FetchPartitionsRequest{Requests: []*pb.FetchRequest{{Partition: ref(0), Offset: 100}}}})
	}
	d.answerFetch(many().Requests[0], batch)
	if r := many().Send[0].(*pb.FetchPartitionsResponse).Results[0]; r.GetError().GetReason() != "QUOTA" {
		t.Fatalf("FetchPartitions beyond the quota: %v", r)
	}

	d.now += 60e9
	asked = subscribe(d, false, nil, 0)
	d.caller.all = false
	if eff := d.answerFetch(asked[0], batchAt(t, 100, 1, 1)); len(eff.Requests) != 0 || eff.Send[1].(*pb.SubscribeResponse).GetError().GetReason() != "PERMISSION_DENIED" {
		t.Fatalf("without the right to read: %v, %d fetches", eff.Send, len(eff.Requests))
	}
}

// A consumer's fetches that wait for records do not keep those of its other partitions from being asked, up to the bound.
func TestFetchStreamTakesAConsumerOfManyPartitions(t *testing.T) {
	d := newDesk(t, 1)
	d.s = NewFetchStream(d.env())
	for i := range fetchInflightMax {
		if i < 1000 && d.s.Full() {
			t.Fatalf("full with %d fetches that wait", i)
		}
		d.step(&Event{Message: &pb.FetchStreamRequest{CorrelationId: uint64(i), Request: &pb.FetchRequest{Partition: ref(0), MinBytes: 1}}})
	}
	if !d.s.Full() {
		t.Error("there is no bound")
	}
}
