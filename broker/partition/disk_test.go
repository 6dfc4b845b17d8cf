package partition

import "testing"

// A leader whose room is used up takes no new batch, says how to go on, and takes the next one when there is room again; a retry of what it
// holds gets the original answer, reads and trims go on.
func TestLeaderWithoutRoom(t *testing.T) {
	s := newSolo(t, Config{RetentionMs: -1, RetentionBytes: -1})
	first := s.mustDo(Request{Op: OpProduce, Batch: sized(t, 7, 0, 0, 100)})
	for _, full := range []Disk{{Bounded: true, Room: 0, Spare: 1 << 20}, {Bounded: true, Full: true, Room: 1 << 20, Spare: 1 << 20}} {
		s.env.Disk = full
		err := s.wants(Request{Op: OpProduce, Batch: sized(t, 7, 0, 1, 100)}, ReasonDiskFull)
		if err.RetryAfterMs == 0 || err.Outcome != OutcomeFailed {
			t.Errorf("%+v: want a hint when to try again, and a certain failure", err)
		}
		if again := s.mustDo(Request{Op: OpProduce, Batch: sized(t, 7, 0, 0, 100)}); !again.Duplicate || again.BaseOffset != first.BaseOffset {
			t.Errorf("a retry: %+v", again)
		}
		if read := s.mustDo(Request{Op: OpFetch, Offset: 0, MaxBytes: 1 << 20}); len(read.Batches) != 1 {
			t.Errorf("a read: %+v", read)
		}
	}
	s.mustDo(Request{Op: OpTrim, Offset: 1})
	s.env.Disk = Disk{Bounded: true, Room: 10, Spare: 1 << 20}
	if a := s.mustDo(Request{Op: OpProduce, Batch: sized(t, 7, 0, 1, 100)}); a.BaseOffset != 1 {
		t.Errorf("with room again: offset %d, want 1", a.BaseOffset)
	}
	if s.env.Disk.Room != 0 || s.env.Disk.Spare >= 1<<20 {
		t.Errorf("what is left of the room: %+v", s.env.Disk)
	}
	s.wants(Request{Op: OpProduce, Batch: sized(t, 7, 0, 2, 100)}, ReasonDiskFull)
}
