package partition

import "testing"

func (s *solo) produceAs(id int64, sequence int32) Reply {
	return s.do(Request{Op: OpProduce, Batch: sized(s.t, id, 0, sequence, 10)})
}

// minutes lets so many pass.
func (s *solo) minutes(n int) {
	s.t.Helper()
	s.env.Now += int64(n) * 60e9
	s.env.Wall += int64(n) * 60e3
	for range 2 * expiryTicks {
		s.tick()
	}
}

// A released producer is known a little longer, so that a copy of its batch is no new record, and is then forgotten; the same id goes on
// if it comes back before.
func TestRelease(t *testing.T) {
	s := newSolo(t, Config{RetentionMs: -1, RetentionBytes: -1})
	first := s.produceAs(7, 0)
	s.produceAs(8, 0)
	s.mustDo(Request{Op: OpRelease, ProducerID: 7})
	s.mustDo(Request{Op: OpRelease, ProducerID: 8})
	s.mustDo(Request{Op: OpRelease, ProducerID: 9}) // nobody knows it
	if a := s.produceAs(7, 0); !a.Duplicate || a.BaseOffset != first.BaseOffset {
		t.Errorf("a copy that came late: %+v", a)
	}
	if a := s.produceAs(8, 1); a.Err != nil {
		t.Errorf("a released producer that goes on: %v", a.Err)
	}
	s.minutes(5)
	if s.r.producers[7] != nil || s.r.lead.known[7] != nil {
		t.Error("the released producer is still known after 5 minutes")
	}
	if s.r.producers[8] == nil {
		t.Error("the producer that went on is forgotten")
	}
	s.crash(1)
	s.until(func() bool { return s.r.IsLeader() })
	if s.r.producers[7] != nil || s.r.producers[8] == nil {
		t.Error("the table is another one after a power cut")
	}
}

// An idle producer is forgotten after a day by its last append time; without a majority's clocks nobody is.
func TestExpiryOfIdleProducers(t *testing.T) {
	s := newSolo(t, Config{RetentionMs: -1, RetentionBytes: -1})
	s.produceAs(1, 0)
	s.minutes(23 * 60)
	s.produceAs(2, 0)
	if s.r.producers[1] == nil {
		t.Fatal("forgotten after 23 hours")
	}
	clocks := s.env.Clocks
	s.env.Clocks = func([]uint64) (int64, int64, int) { return s.env.Wall, s.env.Wall, 0 }
	s.minutes(120)
	if s.r.producers[1] == nil {
		t.Fatal("forgotten while no majority of clocks is heard")
	}
	s.env.Clocks = clocks
	s.minutes(1)
	if s.r.producers[1] != nil || s.r.producers[2] == nil {
		t.Error("the one that was idle for a day is known, or the other is not")
	}
	if a := s.produceAs(1, 1); a.Err == nil || a.Err.Reason != ReasonSequenceGap {
		t.Errorf("the forgotten producer goes on with %+v, want a gap: its client takes a new id", a)
	}
}

// A full table refuses new producers with a reason that is tried again, and makes room: those that were idle for a quarter of an hour go.
func TestFullTable(t *testing.T) {
	s := newSolo(t, Config{RetentionMs: -1, RetentionBytes: -1, SegmentBytes: 1 << 20})
	for id := range int64(producersMax) {
		s.begin(Request{Op: OpProduce, Batch: sized(t, id, 0, 0, 1)})
		if id%500 == 499 {
			s.settle()
		}
		if id == producersMax*3/4 {
			s.settle()
			s.env.Now, s.env.Wall = s.env.Now+20*60e9, s.env.Wall+20*60e3
		}
	}
	s.settle()
	if len(s.r.producers) != producersMax {
		t.Fatalf("%d producers", len(s.r.producers))
	}
	if a := s.produceAs(producersMax+1, 0); a.Err == nil || a.Err.Reason != ReasonProducerTableFull || a.Err.RetryAfterMs == 0 || a.Err.Outcome != OutcomeFailed {
		t.Fatalf("%+v", a)
	}
	s.until(func() bool { return len(s.r.producers) < producersMax/2 })
	if a := s.produceAs(producersMax+1, 0); a.Err != nil {
		t.Errorf("after room was made: %v", a.Err)
	}
	if a := s.produceAs(producersMax-1, 1); a.Err != nil {
		t.Errorf("a producer that was busy a moment ago: %v", a.Err)
	}
	if got, _, err := decodeProducers(s.r.producers.encode(nil)); err != nil || len(got) != len(s.r.producers) {
		t.Errorf("the table does not decode: %v", err)
	}
}
