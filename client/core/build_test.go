package core

import (
	"fmt"
	"math/rand/v2"
	"testing"

	pb "lograft/api/lograft/v1"
	"lograft/record"
)

// ready makes a producer that knows its topic, of one partition led by a broker at address a, and its identity.
func ready(t *testing.T, o ProducerOptions, config ...*pb.ConfigEntry) (*Producer, *ProducerEffects) {
	t.Helper()
	o.Rand = rand.New(rand.NewPCG(1, 2))
	p, eff := NewProducer(o), &ProducerEffects{}
	p.Step(1, &ProducerEvent{Records: []Record{{Topic: "t", Partition: -1, Tag: -1, Record: record.Record{Timestamp: 1, Value: []byte("first")}}}}, eff)
	if len(eff.Metadata) != 1 {
		t.Fatalf("effects %+v, want a question about the topic", eff)
	}
	p.Step(2, &ProducerEvent{Metadata: &MetadataAnswer{Topics: []string{"t"}, Response: &pb.GetMetadataResponse{
		Brokers: []*pb.Broker{{Node: 1, ClientAddress: "a"}},
		Topics: []*pb.Topic{{Name: "t", Id: make([]byte, 16), Config: config,
			Partitions: []*pb.Partition{{LeaderNode: 1, Replicas: []*pb.Replica{{Id: 1, Node: 1}}}}}}}}}, eff)
	if len(eff.Build) == 1 {
		eff.Build[0].Do()
		p.Step(2, &ProducerEvent{Built: eff.Build[0]}, eff)
	}
	p.Step(3, &ProducerEvent{Producer: &ProducerAnswer{ID: 7}}, eff)
	if len(eff.Send) != 1 {
		t.Fatalf("effects %+v, want the first batch to be sent", eff)
	}
	return p, eff
}

func numbered(from, count, size int) (out []Record) {
	for i := range count {
		out = append(out, Record{Topic: "t", Partition: -1, Tag: from + i, Record: record.Record{Timestamp: 1, Value: append([]byte(fmt.Sprint(from+i)), make([]byte, size)...)}})
	}
	return out
}

// Batches that are compressed at the same time are sent in the order in which their records came, numbered without a gap, even if the
// last one is ready first; a small batch behind a large one waits for it.
func TestBuildsEndInAnyOrder(t *testing.T) {
	p, eff := ready(t, ProducerOptions{BatchBytes: 4096, BuildBytes: 1000, LingerNs: 10})
	var builds []*Build
	p.Step(4, &ProducerEvent{Records: numbered(0, 9, 1500)}, eff)
	builds = append(builds, eff.Build...)
	p.Step(5, &ProducerEvent{Records: numbered(9, 1, 1), Flush: true}, eff) // the small one
	builds = append(builds, eff.Build...)
	if len(builds) != 3 {
		t.Fatalf("%d builds of nine records of 1.5 KB in batches of 4 KB, want 3", len(builds))
	}
	var sent []*pb.ProduceStreamRequest
	for i := len(builds) - 1; i >= 0; i-- {
		if len(sent) > 0 {
			t.Fatalf("%d batches were sent before the first was built", len(sent))
		}
		builds[i].Do()
		p.Step(6, &ProducerEvent{Built: builds[i]}, eff)
		for _, s := range eff.Send {
			sent = append(sent, s.Message)
		}
	}
	next := int32(1) // number 0 was the first record's
	for _, m := range sent {
		b := record.Batch(m.GetRequest().GetBatch())
		if b.BaseSequence() != next || b.CheckCRC() != nil {
			t.Errorf("batch with sequence %d, want %d, CRC %v", b.BaseSequence(), next, b.CheckCRC())
		}
		next += b.RecordsCount()
	}
	if len(sent) != 3 { // with the first one four are in flight
		t.Errorf("%d batches sent behind the first one, want as many as may be in flight: 3", len(sent))
	}
	p.Step(7, &ProducerEvent{Answer: &pb.ProduceStreamResponse{CorrelationId: 1, Response: &pb.ProduceResponse{}}}, eff)
	if len(eff.Send) != 1 || record.Batch(eff.Send[0].Message.GetRequest().GetBatch()).BaseSequence() != next {
		t.Errorf("the small batch is not the last: %+v", eff.Send)
	}
}

// A batch never exceeds the topic's max.message.bytes, whatever BatchBytes says.
func TestBatchesKeepTheTopicsBound(t *testing.T) {
	p, eff := ready(t, ProducerOptions{LingerNs: 10}, &pb.ConfigEntry{Key: "max.message.bytes", Value: "2000"})
	p.Step(4, &ProducerEvent{Records: numbered(0, 20, 900), Flush: true}, eff)
	sent := 0
	for id := uint64(1); p.Waiting() > 0; id++ {
		p.Step(5, &ProducerEvent{Answer: &pb.ProduceStreamResponse{CorrelationId: id, Response: &pb.ProduceResponse{}}}, eff)
		for _, s := range eff.Send {
			if n := len(s.Message.GetRequest().GetBatch()); n > 2000 {
				t.Errorf("a batch of %d bytes", n)
			}
			sent++
		}
		if id > 100 {
			t.Fatalf("%d records still wait", p.Waiting())
		}
	}
	if sent < 5 {
		t.Errorf("%d batches for 18 KB", sent)
	}
}

// A batch that was sent is never written again: what lies before a socket must not change when it gets another number.
func TestSentBytesDoNotChange(t *testing.T) {
	p, eff := ready(t, ProducerOptions{LingerNs: 10})
	p.Step(4, &ProducerEvent{Records: numbered(0, 3, 10), Flush: true}, eff)
	first := eff.Send[0].Message.GetRequest().GetBatch()
	was := string(first)
	// The broker has forgotten this producer: everything gets a new identity.
	p.Step(5, &ProducerEvent{Answer: &pb.ProduceStreamResponse{CorrelationId: 1, Response: &pb.ProduceResponse{}}}, eff)
	p.Step(6, &ProducerEvent{Answer: &pb.ProduceStreamResponse{CorrelationId: 2, Error: &pb.Error{Reason: reasonSequenceGap}}}, eff)
	if !eff.InitProducer {
		t.Fatalf("effects %+v, want a new identity", eff)
	}
	p.Step(7, &ProducerEvent{Producer: &ProducerAnswer{ID: 8}}, eff)
	if len(eff.Send) != 1 || record.Batch(eff.Send[0].Message.GetRequest().GetBatch()).ProducerID() != 8 {
		t.Fatalf("effects %+v, want the batch under its new number", eff)
	}
	if string(first) != was {
		t.Error("the bytes that were handed out first have changed")
	}
}
