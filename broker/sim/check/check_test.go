package check

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// sent makes an append of the test's one client.
func sent(h *History, value string, call int64) *Append {
	return h.Begin(Append{Client: "c", Seq: int(call), Value: value, Expected: -1, Call: call})
}

func copyOf(node uint64, values ...string) Copy {
	c := Copy{Node: node}
	for i, v := range values {
		c.Records = append(c.Records, Record{int64(i), v})
	}
	return c
}

// expect holds a judgement against the one word that it must contain; "" is a clean history.
func expect(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("a good history is blamed: %v", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("blamed with %v, want %q", err, want)
	}
}

// A history with everything in it that is allowed: an open append that is there, one that is not, a failed one, a refused condition.
func TestGoodHistory(t *testing.T) {
	h := NewHistory()
	sent(h, "a", 1).Ack(2, 0)
	sent(h, "open and there", 3)
	sent(h, "open and nowhere", 3)
	sent(h, "failed", 4).Fail(5, -1)
	h.Begin(Append{Value: "refused", Expected: 1, Call: 6}).Fail(7, 2)
	h.Begin(Append{Value: "taken", Expected: 2, Call: 8}).Ack(9, 2)
	h.ReadEnd(1, 0, 3, 10, 11)
	h.ReadAt(2, 0, 0, "a", 10, 11)
	h.Session(2, 0, 3, 3)
	expect(t, h.Check([]Copy{copyOf(1, "a", "open and there", "taken"), copyOf(2, "a", "open and there", "taken")}), "")
}

// Each check finds the one thing that it is for.
func TestEachCheckIsRed(t *testing.T) {
	for _, c := range []struct {
		name, want string
		history    func(*History) []Copy
	}{
		{"lost at the end", "C1: \"b\", acknowledged at 0:1, is lost at the end", func(h *History) []Copy {
			sent(h, "a", 1).Ack(2, 0)
			sent(h, "b", 3).Ack(4, 1)
			return []Copy{copyOf(1, "a")}
		}},
		{"lost in the middle", "in the middle", func(h *History) []Copy {
			for i, v := range []string{"a", "b", "c"} {
				sent(h, v, int64(i+1)).Ack(int64(i+2), int64(i))
			}
			return []Copy{{Node: 1, Records: []Record{{0, "a"}, {2, "c"}}}}
		}},
		{"lost at the front", "at the front", func(h *History) []Copy {
			sent(h, "a", 1).Ack(2, 0)
			sent(h, "b", 3).Ack(4, 1)
			return []Copy{{Node: 1, Records: []Record{{1, "b"}}}}
		}},
		{"phantom", "C2: \"x\"", func(h *History) []Copy { return []Copy{copyOf(1, "x")} }},
		{"duplicate", "C2: \"a\" is at 0:0 and at 0:1", func(h *History) []Copy {
			sent(h, "a", 1).Ack(2, 0)
			return []Copy{copyOf(1, "a", "a")}
		}},
		{"two values", "C3", func(h *History) []Copy {
			sent(h, "a", 1)
			sent(h, "b", 1)
			return []Copy{copyOf(1, "a"), copyOf(2, "b")}
		}},
		{"another value before", "C3", func(h *History) []Copy {
			sent(h, "a", 1)
			sent(h, "b", 1)
			h.Saw(3, 0, 0, "b")
			return []Copy{copyOf(1, "a")}
		}},
		{"order", "C4", func(h *History) []Copy {
			sent(h, "a", 1).Ack(9, 1)
			sent(h, "b", 2).Ack(9, 0)
			return []Copy{copyOf(1, "b", "a")}
		}},
		{"gap", "C4", func(h *History) []Copy {
			sent(h, "a", 1)
			sent(h, "b", 1)
			return []Copy{{Node: 1, Records: []Record{{0, "a"}, {2, "b"}}}}
		}},
		{"stale end", "C5", func(h *History) []Copy {
			sent(h, "a", 1).Ack(2, 0)
			h.ReadEnd(2, 0, 0, 3, 4)
			return []Copy{copyOf(1, "a")}
		}},
		{"end goes back", "C5", func(h *History) []Copy {
			sent(h, "a", 1)
			h.ReadEnd(1, 0, 1, 2, 3)
			h.ReadEnd(2, 0, 0, 4, 5)
			return []Copy{copyOf(1, "a")}
		}},
		{"condition ignored", "C5", func(h *History) []Copy {
			sent(h, "a", 1).Ack(2, 0)
			h.Begin(Append{Value: "b", Expected: 0, Call: 3}).Ack(4, 1)
			return []Copy{copyOf(1, "a", "b")}
		}},
		{"refused for a wrong end", "C5", func(h *History) []Copy {
			sent(h, "a", 1).Ack(2, 0)
			h.Begin(Append{Value: "b", Expected: 0, Call: 3}).Fail(4, 7)
			return []Copy{copyOf(1, "a")}
		}},
		{"acknowledged before it was sent", "C5", func(h *History) []Copy {
			sent(h, "a", 1).Ack(2, 1)
			sent(h, "b", 3).Ack(4, 0)
			h.Appends()[0].Seq, h.Appends()[1].Seq = 0, 0
			return []Copy{copyOf(1, "b", "a")}
		}},
		{"failed and there", "C6", func(h *History) []Copy {
			sent(h, "a", 1).Fail(2, -1)
			return []Copy{copyOf(1, "a")}
		}},
		{"session", "session", func(h *History) []Copy {
			sent(h, "a", 1).Ack(2, 0)
			h.Session(1, 0, 1, 0)
			return []Copy{copyOf(1, "a")}
		}},
		{"begins behind its log start", "C4", func(h *History) []Copy {
			for i, v := range []string{"a", "b", "c"} {
				sent(h, v, int64(i+1)).Ack(int64(i+2), int64(i))
			}
			h.Asked(0, 1)
			h.Start(1, 0, 1, 0)
			return []Copy{{Node: 1, Start: 1, Records: []Record{{2, "c"}}}}
		}},
		{"given up unasked", "C1", func(h *History) []Copy {
			h.Asked(0, 4)
			h.Start(1, 0, 5, 0)
			return nil
		}},
		{"trim comes back", "trim", func(h *History) []Copy {
			h.Asked(0, 5)
			h.Start(1, 0, 5, 0)
			h.Start(1, 0, 4, h.Shown(1, 0))
			return nil
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := NewHistory()
			expect(t, h.Check(c.history(h)), c.want)
		})
	}
}

// What was trimmed away may be missing, and an open append may hide in it.
func TestTrimmed(t *testing.T) {
	h := NewHistory()
	sent(h, "a", 1).Ack(2, 0)
	sent(h, "open", 3)
	sent(h, "b", 4).Ack(5, 2)
	h.Asked(0, 2)
	h.Start(1, 0, 2, 0)
	expect(t, h.Check([]Copy{{Node: 1, Start: 2, Records: []Record{{2, "b"}}}}), "")
}

// Replicas are compared byte by byte.
func TestIdentical(t *testing.T) {
	same := Files{"1.log": []byte("abc"), "2.log": []byte("d")}
	expect(t, Identical("g", map[uint64]Files{1: same, 2: same}), "")
	expect(t, Identical("g", map[uint64]Files{1: same, 2: {"2.log": []byte("d")}}), "")
	expect(t, Identical("g", map[uint64]Files{1: same, 2: {"1.log": []byte("abX"), "2.log": []byte("d")}}), "from byte 2")
	expect(t, Identical("g", map[uint64]Files{1: same, 2: {"1.log": []byte("abc")}}), "C7")
	expect(t, Identical("g", map[uint64]Files{1: {"1.log": nil, "2.log": nil, "3.log": nil}, 2: {"1.log": nil, "3.log": nil}}), "2.log is on node 1 and not on node 2")
}

// The longest pause after each event counts up to the next event.
func TestGaps(t *testing.T) {
	gaps := Gaps([]int64{10, 50}, []int64{5, 11, 30, 31, 60, 61})
	if gaps[0] != 29 || gaps[1] != 10 { // 31 to 60 runs over the second event
		t.Errorf("gaps %v", gaps)
	}
	if s := Statistic(gaps, 10); s.Events != 2 || s.Median != 2.9 || s.Max != 2.9 {
		t.Errorf("statistic %+v", s)
	}
}

// Narrowing intervals changes no judgement: on thousands of small random histories, right and wrong ones, porcupine says the same
// with it and without.
func TestNarrowJudgesTheSame(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	verdicts := map[bool]int{}
	for range 3000 {
		h := randomHistory(rng)
		ops := h.operations(0)
		plain := make([]porcupine.Operation, len(ops))
		for i, o := range ops {
			plain[i] = porcupine.Operation{ClientId: i, Input: o.input, Call: o.from, Return: o.to}
		}
		model := porcupine.Model{Init: func() any { return &log{} }, Step: stepLog, Equal: sameLog}
		want := porcupine.CheckOperations(model, plain)
		if err := h.Linearizable(0); (err == nil) != want {
			t.Fatalf("without narrowing %t, with it: %v\n%v", want, err, ops)
		}
		verdicts[want]++
	}
	if verdicts[true] < 300 || verdicts[false] < 300 {
		t.Errorf("one-sided sample: %v", verdicts)
	}
}

// randomHistory happens at single points, is seen as intervals around them, and is sometimes falsified.
func randomHistory(rng *rand.Rand) *History {
	h := NewHistory()
	var values []string
	for at := int64(100); at < int64(100+20*(3+rng.IntN(6))); at += 10 {
		from, to := at-rng.Int64N(40), at+rng.Int64N(40)
		end := int64(len(values))
		if rng.IntN(6) == 0 {
			from, to = from-40, to-40 // seen before it happened
		}
		switch rng.IntN(5) {
		case 0, 1:
			value := string(rune('a' + len(values)))
			values = append(values, value)
			a := h.Begin(Append{Value: value, Expected: -1, Call: from})
			h.Saw(1, 0, end, value)
			if rng.IntN(4) > 0 {
				a.Ack(to, end)
			}
		case 2:
			h.Begin(Append{Value: fmt.Sprint("refused", at), Expected: end + 1, Call: from}).Fail(to, end)
		case 3:
			if end > 0 {
				o := rng.Int64N(end)
				h.ReadAt(1, 0, o, values[o], from, to)
			}
		case 4:
			h.ReadEnd(1, 0, end, from, to)
		}
	}
	return h
}
