package core

import (
	"testing"

	pb "lograft/api/lograft/v1"
)

// A leader that a broker names is asked at once, also when earlier tries have failed, as after the death of a leader; where two brokers
// name each other, every second try waits.
func TestNamedLeaderIsAskedAtOnce(t *testing.T) {
	p, eff := ready(t, ProducerOptions{})
	now := int64(10)
	for try, want := range []bool{true, false, true, false} {
		if len(eff.Send) != 1 {
			t.Fatalf("try %d: %d batches are sent, want 1", try, len(eff.Send))
		}
		hint := []string{"b", "a"}[try%2]
		now++
		p.Step(now, &ProducerEvent{Answer: &pb.ProduceStreamResponse{CorrelationId: eff.Send[0].Message.GetCorrelationId(),
			Error: &pb.Error{Reason: reasonNotLeader, LeaderAddress: hint}}}, eff)
		if atOnce := len(eff.Send) == 1; atOnce != want {
			t.Fatalf("try %d: %s is named, asked at once %t, want %t", try, hint, atOnce, want)
		}
		if !want {
			now += retryMax
			p.Step(now, &ProducerEvent{Timer: true}, eff)
		}
		if len(eff.Send) == 1 && eff.Send[0].Address != hint {
			t.Fatalf("try %d: %s is asked, %s was named", try, eff.Send[0].Address, hint)
		}
	}
}
