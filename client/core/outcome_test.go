package core

import (
	"fmt"
	"testing"

	pb "lograft/api/lograft/v1"
)

// outcomes are the results of a step in words.
func outcomes(eff *ProducerEffects) (out []string) {
	for _, r := range eff.Results {
		out = append(out, fmt.Sprintf("%v %v", r.Tag, r.Err.Outcome))
	}
	return out
}

// A batch that a broker refuses for good at its only try is certainly not there, nor is anything sent behind it. What was tried before may
// be there, from that try.
func TestOutcomeOfARefusedBatch(t *testing.T) {
	denied := &pb.Error{Reason: reasonDenied}
	for _, again := range []bool{false, true} {
		p, eff := ready(t, ProducerOptions{})
		first := eff.Send[0].Message.GetCorrelationId()
		p.Step(4, &ProducerEvent{Records: []Record{{Topic: "t", Tag: 1}}}, eff)
		want := "[-1 failed 1 failed]"
		if again {
			want = "[-1 unknown 1 unknown]"
			p.Step(5, &ProducerEvent{Down: "a"}, eff)
			p.Step(5, &ProducerEvent{Metadata: &MetadataAnswer{Topics: []string{"t"}, Response: &pb.GetMetadataResponse{Topics: []*pb.Topic{
				{Name: "t", Id: make([]byte, 16), Partitions: []*pb.Partition{{LeaderNode: 1, Replicas: []*pb.Replica{{Id: 1, Node: 1}}}}}}}}}, eff)
			p.Step(5+retryMax, &ProducerEvent{Timer: true}, eff)
			if len(eff.Send) != 2 {
				t.Fatalf("%d batches are sent again, want 2", len(eff.Send))
			}
			first = eff.Send[0].Message.GetCorrelationId()
		}
		p.Step(6+retryMax, &ProducerEvent{Answer: &pb.ProduceStreamResponse{CorrelationId: first, Error: denied}}, eff)
		if got := fmt.Sprint(outcomes(eff)); got != want || p.Waiting() != 0 {
			t.Errorf("again %t: %s, want %s; %d records wait", again, got, want, p.Waiting())
		}
		p.Step(7+retryMax, &ProducerEvent{Records: []Record{{Topic: "t", Tag: 2}}}, eff)
		if got := fmt.Sprint(outcomes(eff)); got != "[2 failed]" {
			t.Errorf("again %t: a record that came later: %s", again, got)
		}
	}
}

// The second batch is refused while the first one's answer is still to come: the first may be there.
func TestOutcomeBeforeARefusedBatch(t *testing.T) {
	p, eff := ready(t, ProducerOptions{})
	p.Step(4, &ProducerEvent{Records: []Record{{Topic: "t", Tag: 1}}}, eff)
	if len(eff.Send) != 1 {
		t.Fatalf("%d batches are sent, want 1", len(eff.Send))
	}
	p.Step(5, &ProducerEvent{Answer: &pb.ProduceStreamResponse{CorrelationId: eff.Send[0].Message.GetCorrelationId(), Error: &pb.Error{Reason: reasonDenied}}}, eff)
	if got := fmt.Sprint(outcomes(eff)); got != "[-1 unknown 1 failed]" {
		t.Errorf("%s", got)
	}
}
