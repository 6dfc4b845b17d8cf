package core

import (
	"math/rand/v2"
	"testing"

	pb "lograft/api/lograft/v1"
	"lograft/record"
)

// A broker that takes a batch and never answers, with a connection that does not break, holds a producer up for the time of one
// answer: the step that sends also asks to be stepped when the answer is late.
func TestSilentBrokerIsGivenUp(t *testing.T) {
	p := NewProducer(ProducerOptions{Rand: rand.New(rand.NewPCG(1, 1))})
	var eff ProducerEffects
	step := func(now int64, ev *ProducerEvent) {
		p.Step(now, ev, &eff)
		for len(eff.Build) > 0 {
			b := eff.Build[0]
			b.Do()
			p.Step(now, &ProducerEvent{Built: b}, &eff)
		}
	}
	step(1, &ProducerEvent{Records: []Record{{Topic: "t", Partition: 0, Record: record.Record{Value: []byte("v")}}}})
	step(2, &ProducerEvent{Metadata: &MetadataAnswer{Topics: []string{"t"}, Response: &pb.GetMetadataResponse{
		Brokers: []*pb.Broker{{Node: 1, ClientAddress: "one"}},
		Topics:  []*pb.Topic{{Name: "t", Id: make([]byte, 16), Partitions: []*pb.Partition{{Replicas: []*pb.Replica{{Id: 1, Node: 1}}, LeaderNode: 1}}}}}}})
	step(3, &ProducerEvent{Producer: &ProducerAnswer{ID: 7}})
	now := int64(4)
	for len(eff.Send) == 0 {
		if now > 1e9 {
			t.Fatal("nothing was sent within a second")
		}
		now += 1e6
		step(now, &ProducerEvent{Timer: true})
	}
	if eff.Timer == 0 || eff.Timer > now+answerTimeout {
		t.Fatalf("sent at %d; the next step is at %d, the answer is late at %d", now, eff.Timer, now+answerTimeout)
	}
	now = eff.Timer
	for range 10 {
		step(now, &ProducerEvent{Timer: true})
		if len(eff.Send) > 0 {
			return
		}
		now = eff.Timer
	}
	t.Fatal("not sent again")
}
