package core

import (
	"math/rand/v2"
	"testing"

	pb "lograft/api/lograft/v1"
)

// Several subscriptions may name one topic, for example to begin each partition elsewhere. The topic is asked for once, and each
// partition is read once, also if an answer names the topic twice. (Four subscriptions gave every record four times.)
func TestSubscriptionsOfOneTopic(t *testing.T) {
	c := NewConsumer(ConsumerOptions{Rand: rand.New(rand.NewPCG(1, 1))})
	var subs []Subscription
	for p := range int32(4) {
		subs = append(subs, Subscription{Topic: "t", Partitions: []int32{p}, Start: Position{From: Absolute, Offset: int64(p)}})
	}
	var eff ConsumerEffects
	c.Step(1, &ConsumerEvent{Subscribe: subs}, &eff)
	if len(eff.Metadata) != 1 {
		t.Errorf("asked for %v", eff.Metadata)
	}
	topic := &pb.Topic{Name: "t", Id: make([]byte, 16)}
	for p := range int32(4) {
		topic.Partitions = append(topic.Partitions, &pb.Partition{Number: p, Replicas: []*pb.Replica{{Node: 1}}})
	}
	answer := &pb.GetMetadataResponse{Brokers: []*pb.Broker{{Node: 1, ClientAddress: "a:1"}}, Topics: []*pb.Topic{topic, topic}}
	c.Step(2, &ConsumerEvent{Metadata: &MetadataAnswer{Topics: []string{"t"}, Response: answer}}, &eff)
	seen := map[int32]int64{}
	for _, s := range eff.Send {
		q := s.Message.GetRequest()
		n := q.GetPartition().GetPartition()
		if _, twice := seen[n]; twice {
			t.Errorf("partition %d is read twice", n)
		}
		seen[n] = q.GetOffset()
	}
	for p := range int32(4) {
		if at, ok := seen[p]; !ok || at != int64(p) {
			t.Errorf("partition %d is read from %d (%t)", p, at, ok)
		}
	}
}
