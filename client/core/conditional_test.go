package core

import (
	"math/rand/v2"
	"testing"

	pb "lograft/api/lograft/v1"
)

// Batches of a conditional producer expect to follow each other; the first that does not ends the partition, and everything behind it
// has certainly failed, whatever was in flight.
func TestConditional(t *testing.T) {
	p, eff := ready(t, ProducerOptions{Conditional: true, Expected: 40, BatchBytes: 100, LingerNs: 1})
	var sent []*pb.ProduceStreamRequest
	take := func() {
		for _, s := range eff.Send {
			sent = append(sent, s.Message)
		}
	}
	take()
	for range 3 {
		p.Step(1, &ProducerEvent{Records: []Record{{Topic: "t", Partition: 0, Tag: 1}, {Topic: "t", Partition: 0, Tag: 2}}}, eff)
		take()
		p.Step(1, &ProducerEvent{Flush: true}, eff)
		take()
	}
	if len(sent) < 2 {
		t.Fatalf("%d batches were sent", len(sent))
	}
	at := int64(40)
	for _, m := range sent {
		if got := m.GetRequest().ExpectedOffset; got == nil || *got != at {
			t.Fatalf("expected offset %v, want %d", got, at)
		}
		at += int64(countOf(t, m))
	}
	p.Step(2, &ProducerEvent{Answer: &pb.ProduceStreamResponse{CorrelationId: sent[0].GetCorrelationId(), Response: &pb.ProduceResponse{BaseOffset: 40}}}, eff)
	acknowledged := len(eff.Results)
	take()
	p.Step(3, &ProducerEvent{Answer: &pb.ProduceStreamResponse{CorrelationId: sent[1].GetCorrelationId(), Error: &pb.Error{Reason: ReasonExpectedOffset, HighWatermark: 77}}}, eff)
	if p.Waiting() != 0 || acknowledged+len(eff.Results) != 7 {
		t.Fatalf("%d records wait, %d+%d of 7 results", p.Waiting(), acknowledged, len(eff.Results))
	}
	for _, r := range eff.Results {
		if r.Err == nil || r.Err.Reason != ReasonExpectedOffset || r.Err.Outcome != OutcomeFailed {
			t.Errorf("%+v", r.Err)
		}
	}
	p.Step(4, &ProducerEvent{Records: []Record{{Topic: "t", Partition: 0, Tag: 9}}}, eff)
	if len(eff.Results) != 1 || eff.Results[0].Err == nil || len(eff.Send) != 0 {
		t.Error("a record behind the refusal was taken")
	}
	if len(p.Identities()) != 0 {
		t.Error("a broken partition's id is released")
	}
}

func countOf(t *testing.T, m *pb.ProduceStreamRequest) int {
	t.Helper()
	b := m.GetRequest().GetBatch()
	return int(b[60]) | int(b[59])<<8
}

// The newest token of a partition goes with every read; one of another partition or an older one changes nothing.
func TestSessionTokens(t *testing.T) {
	token := func(group, applied byte) []byte {
		b := make([]byte, 24)
		b[0], b[23] = group, applied
		return b
	}
	c := NewConsumer(ConsumerOptions{Session: true, Tokens: [][]byte{token(1, 3), token(2, 9), token(1, 5), []byte("short")}})
	r := &reading{session: c.tokenOf(token(1, 0)[:16])}
	for _, step := range []struct{ saw, want byte }{{4, 5}, {7, 7}, {6, 7}} {
		if c.sawSession(r, token(1, step.saw)); r.session[23] != step.want {
			t.Errorf("after %d: %d, want %d", step.saw, r.session[23], step.want)
		}
	}
	if NewConsumer(ConsumerOptions{Tokens: [][]byte{token(1, 3)}}).tokenOf(token(1, 0)[:16]) != nil {
		t.Error("a token counts without a session")
	}
}

// A token of a topic that is not read, or of one that was created again, is refused: what it promises could not be kept. One of a
// partition of the topic that is not read says nothing.
func TestStraySessionToken(t *testing.T) {
	group := func(n byte) []byte { return append([]byte{n}, make([]byte, 15)...) }
	topic := &pb.Topic{Name: "t", Id: make([]byte, 16), Partitions: []*pb.Partition{
		{Number: 0, Group: group(1), Replicas: []*pb.Replica{{Id: 1, Node: 1}}}, {Number: 1, Group: group(2), Replicas: []*pb.Replica{{Id: 2, Node: 1}}}}}
	for stray, token := range map[bool][]byte{false: append(group(2), make([]byte, 8)...), true: append(group(3), make([]byte, 8)...)} {
		c := NewConsumer(ConsumerOptions{Session: true, Tokens: [][]byte{token}, Rand: rand.New(rand.NewPCG(1, 2))})
		var eff ConsumerEffects
		c.Step(1, &ConsumerEvent{Subscribe: []Subscription{{Topic: "t", Partitions: []int32{0}}}}, &eff)
		c.Step(2, &ConsumerEvent{Metadata: &MetadataAnswer{Topics: []string{"t"}, Response: &pb.GetMetadataResponse{Brokers: []*pb.Broker{{Node: 1, ClientAddress: "one:1"}}, Topics: []*pb.Topic{topic}}}}, &eff)
		if refused := len(eff.Ended) == 1 && eff.Ended[0].Err.Reason == ReasonInvalid; refused != stray || c.Done() != stray || len(eff.Send) > 0 == stray {
			t.Errorf("stray %t: ended %+v, done %t, %d fetches", stray, eff.Ended, c.Done(), len(eff.Send))
		}
	}
}
