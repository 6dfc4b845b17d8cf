package partition

import (
	"testing"

	"lograft/raft"
)

// Questions and answers survive their encoding; what is cut, longer or senseless is refused.
func TestRepairWire(t *testing.T) {
	ask := repairAsk{token: 1, from: 20, to: 30, proof: entryRef{31, 4}}
	b := ask.encode()
	if got, ok := decodeRepairAsk(b); !ok || got != ask {
		t.Errorf("question %+v: %+v %t", ask, got, ok)
	}
	answer := repairAnswer{token: 9, verdict: repairUnknown, sum: 77}
	c := answer.encode()
	if got, ok := decodeRepairAnswer(c); !ok || got != answer {
		t.Errorf("answer %+v: %+v %t", answer, got, ok)
	}
	for n := range len(b) {
		if _, ok := decodeRepairAsk(b[:n]); ok {
			t.Errorf("a question of %d bytes is taken", n)
		}
		if _, ok := decodeRepairAnswer(b[:n]); ok && n != repairAnswerBytes {
			t.Errorf("an answer of %d bytes is taken", n)
		}
	}
	for _, bad := range []repairAsk{{from: 0, to: 3, proof: entryRef{3, 1}}, {from: 4, to: 3, proof: entryRef{4, 1}}, {from: 4, to: 5, proof: entryRef{4, 1}}} {
		if _, ok := decodeRepairAsk(bad.encode()); ok {
			t.Errorf("senseless question %+v is taken", bad)
		}
	}
	entries := []raft.Entry{{Context: []byte("a"), Data: []byte("bc")}}
	sum := sumOfEntries(entries)
	entries[0].Context[0]++
	if sumOfEntries(entries) == sum {
		t.Error("the sum does not cover an envelope")
	}
}
