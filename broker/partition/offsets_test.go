package partition

import (
	"encoding/binary"
	"testing"
)

// The first offset appended at or after a time, wherever its segment is; before the log it is the log start, after it the end.
func TestOffsetAtTime(t *testing.T) {
	s := newSolo(t, Config{RetentionMs: -1, RetentionBytes: -1})
	var times []int64
	for range 20 {
		s.env.Wall += 1000
		times = append(times, s.mustDo(Request{Op: OpProduce, Batch: sized(t, -1, -1, -1, int(s.limit/5))}).AppendTime)
	}
	ask := func(ms int64) int64 {
		t.Helper()
		return s.mustDo(Request{Op: OpListOffset, Which: OffsetAtTime, Offset: ms}).BaseOffset
	}
	for i, ms := range times {
		if got := ask(ms); got != int64(i) {
			t.Errorf("at the time of record %d: %d", i, got)
		}
		if got := ask(ms + 1); got != int64(i)+1 {
			t.Errorf("just after record %d: %d", i, got)
		}
	}
	if got := ask(0); got != 0 {
		t.Errorf("before the log: %d", got)
	}
	s.mustDo(Request{Op: OpTrim, Offset: 11})
	for _, ms := range []int64{0, times[3], times[11]} {
		if got := ask(ms); got != 11 {
			t.Errorf("at %d after a trim to 11: %d", ms, got)
		}
	}
}

// Each leader epoch ended where the next one's first entry is; the current one ends at the high watermark; one that is trimmed away, or
// never was, is not known.
func TestEpochEnds(t *testing.T) {
	s := newSolo(t, Config{RetentionMs: -1, RetentionBytes: -1})
	type epoch struct{ number, end int64 }
	var epochs []epoch
	for i := range 4 {
		if i > 0 {
			s.crash(uint64(i))
			s.until(func() bool { return s.r.IsLeader() })
		}
		s.fill(3)
		epochs = append(epochs, epoch{int64(s.describe().Term), s.r.high})
	}
	ask := func(n int64) (int32, int64) {
		t.Helper()
		a := s.mustDo(Request{Op: OpEpochEnd, Offset: n})
		return a.Epoch, a.BaseOffset
	}
	for _, e := range epochs {
		if found, end := ask(e.number); int64(found) != e.number || end != e.end {
			t.Errorf("epoch %d ended at %d by epoch %d, want %d", e.number, end, found, e.end)
		}
	}
	if found, end := ask(1000); int64(found) != epochs[3].number || end != epochs[3].end {
		t.Errorf("a later epoch: %d, %d", found, end)
	}
	if found, end := ask(0); found != -1 || end != -1 {
		t.Errorf("an epoch before all: %d, %d", found, end)
	}
	s.mustDo(Request{Op: OpTrim, Offset: TrimAll})
	s.until(func() bool { return s.describe().SizeBytes < 1000 })
	if found, end := ask(epochs[0].number); found != -1 || end != -1 {
		t.Errorf("a trimmed epoch: %d, %d", found, end)
	}
}

// counter is a machine that sums its commands.
type counter struct{ sum, commands uint64 }

func (c *counter) Apply(_ uint64, _ int64, command []byte) []byte {
	c.sum += uint64(command[16])
	c.commands++
	return binary.BigEndian.AppendUint64(nil, c.sum)
}
func (c *counter) RequestID(command []byte) (id [16]byte, ok bool) {
	copy(id[:], command)
	return id, len(command) > 16
}
func (c *counter) Snapshot() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, c.sum), c.commands)
}
func (c *counter) Restore(b []byte) error {
	c.sum, c.commands = binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
	return nil
}

// A group with a state machine drops the segments whose effect is in a later checkpoint, and its state is the same after a power cut.
func TestMachineLogIsCompacted(t *testing.T) {
	m := &counter{}
	s := newSoloMachine(t, m)
	propose := func(n int) {
		for i := range n {
			command := make([]byte, 400)
			s.env.Wall++
			binary.BigEndian.PutUint64(command, uint64(s.env.Wall)<<20|uint64(i))
			command[16] = byte(i)
			s.mustDo(Request{Op: OpPropose, Command: command})
		}
	}
	propose(200)
	s.until(func() bool { return s.r.log.FirstIndex() > 100 })
	if n := s.r.log.SizeBytes(); n > 6*s.limit {
		t.Errorf("%d bytes are kept", n)
	}
	for i := range 5 {
		want := *m
		*m = counter{}
		s.crash(uint64(i))
		s.until(func() bool { return s.r.IsLeader() })
		if *m != want {
			t.Fatalf("after a power cut: %+v, before: %+v", *m, want)
		}
		propose(30)
	}
}
