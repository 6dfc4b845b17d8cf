package core

import (
	"math/rand/v2"
	"strings"
	"testing"

	pb "lograft/api/lograft/v1"
)

// A consumer says since when it waits for a topic, for the ends of a partition, or for a replica that fails; not while it waits for
// records, and not when it has given up. The error at the end says what to do, also if no broker ever said why it does not answer.
func TestStalledConsumer(t *testing.T) {
	c := NewConsumer(ConsumerOptions{TimeoutNs: 10e9, Rand: rand.New(rand.NewPCG(1, 1))})
	var eff ConsumerEffects
	want := func(what string, since int64, name string) {
		t.Helper()
		if s := c.Stalled(); s.Since != since || since != 0 && s.String() != name {
			t.Fatalf("%s: %+v, want %q since %d", what, s, name, since)
		}
	}
	want("not begun", 0, "")
	c.Step(5, &ConsumerEvent{Subscribe: []Subscription{{Topic: "t"}}}, &eff)
	want("asked for the topic", 5, `topic "t"`)
	c.Step(9, &ConsumerEvent{Metadata: &MetadataAnswer{Topics: []string{"t"}, Err: &Error{Reason: ReasonUnreachable, Message: "m"}}}, &eff)
	want("refused once", 5, `topic "t"`)
	if s := c.Stalled(); s.Last == nil || s.Last.Message != "m" {
		t.Fatalf("%+v", s)
	}
	topic := &pb.Topic{Name: "t", Id: make([]byte, 16), Partitions: []*pb.Partition{{Replicas: []*pb.Replica{{Node: 1}}}}}
	c.Step(20, &ConsumerEvent{Metadata: &MetadataAnswer{Topics: []string{"t"}, Response: &pb.GetMetadataResponse{Brokers: []*pb.Broker{{Node: 1, ClientAddress: "a:1"}}, Topics: []*pb.Topic{topic}}}}, &eff)
	want("position is by the start, which is asked for", 0, "")
	if len(eff.Send) != 1 {
		t.Fatalf("%+v", eff)
	}
	c.Step(1e9, &ConsumerEvent{Timer: true}, &eff)
	want("waits for records", 0, "")
	c.Step(2e9, &ConsumerEvent{Down: "a:1"}, &eff)
	want("the connection broke", 2e9, "t/0")
	c.Step(12e9, &ConsumerEvent{Timer: true}, &eff)
	if len(eff.Ended) != 1 || eff.Ended[0].Err == nil {
		t.Fatalf("%+v", eff)
	}
	want("given up", 0, "")

	c = NewConsumer(ConsumerOptions{TimeoutNs: 10e9, Rand: rand.New(rand.NewPCG(1, 1))})
	c.Step(5, &ConsumerEvent{Subscribe: []Subscription{{Topic: "t"}}}, &eff)
	if eff.Timer != 5+10e9 {
		t.Fatalf("to be stepped at %d, want when the topic is given up", eff.Timer)
	}
	c.Step(eff.Timer, &ConsumerEvent{Timer: true}, &eff) // no answer ever came
	if len(eff.Ended) != 1 || !strings.Contains(eff.Ended[0].Err.Message, "broker cluster health") || eff.Ended[0].Err.Reason != ReasonTimeout {
		t.Fatalf("%+v", eff.Ended)
	}
}
