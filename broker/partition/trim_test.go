package partition

import (
	"testing"

	"lograft/record"
	"lograft/segment"
)

// A trim moves the log start to the very offset and drops the whole segments before it; twice the same is no error, back is no
// effect, beyond the end is refused with the range.
func TestTrim(t *testing.T) {
	s := newSolo(t, Config{RetentionMs: -1, RetentionBytes: -1})
	s.fill(23)
	if a := s.mustDo(Request{Op: OpTrim, Offset: 12}); a.LogStart != 12 {
		t.Fatalf("log start %d, want 12", a.LogStart)
	}
	if x := s.r.log.Extents(nil)[0]; x.NextOffset <= 12 {
		t.Errorf("segments %s: the first lies wholly below 12", s.segments())
	}
	if x := s.r.log.Extents(nil)[0]; x.BaseOffset < 8 {
		t.Errorf("segments %s: files below 8 are kept", s.segments())
	}
	for _, before := range []int64{12, 3} {
		if a := s.mustDo(Request{Op: OpTrim, Offset: before}); a.LogStart != 12 {
			t.Errorf("trim to %d: log start %d, want 12", before, a.LogStart)
		}
	}
	if err := s.wants(Request{Op: OpTrim, Offset: 24}, ReasonOutOfRange); err.LogStart != 12 || err.HighWatermark != 23 {
		t.Errorf("range [%d, %d), want [12, 23)", err.LogStart, err.HighWatermark)
	}
	err := s.wants(Request{Op: OpFetch, Offset: 11, MaxBytes: 1}, ReasonOutOfRange)
	if err.LogStart != 12 || err.HighWatermark != 23 {
		t.Errorf("range [%d, %d), want [12, 23)", err.LogStart, err.HighWatermark)
	}
	if a := s.mustDo(Request{Op: OpFetch, Offset: 12, MaxBytes: 1}); len(a.Batches) != 1 || record.Batch(a.Batches[0]).BaseOffset() != 12 {
		t.Errorf("fetch at the log start: %d batches", len(a.Batches))
	}
}

// Everything can be given up; the open segment ends then, so that its file goes too, and the offsets go on.
func TestTrimAll(t *testing.T) {
	s := newSolo(t, Config{RetentionMs: -1, RetentionBytes: -1})
	s.fill(12)
	if a := s.mustDo(Request{Op: OpTrim, Offset: TrimAll}); a.LogStart != 12 {
		t.Fatalf("log start %d, want 12", a.LogStart)
	}
	s.until(func() bool { return s.describe().SizeBytes < 1000 })
	for i := range 3 {
		s.crash(uint64(i))
		s.until(func() bool { return s.r.IsLeader() })
		if d := s.describe(); d.LogStart != 12 || d.HighWatermark != 12+int64(i) {
			t.Fatalf("after a power cut: log [%d, %d), want [12, %d)", d.LogStart, d.HighWatermark, 12+i)
		}
		if a := s.mustDo(Request{Op: OpProduce, Batch: sized(t, -1, -1, -1, 10)}); a.BaseOffset != 12+int64(i) {
			t.Fatalf("offset %d, want %d", a.BaseOffset, 12+i)
		}
	}
}

// After a power cut a replica shows no record below a log start that it had shown, not even to a read that asks for what it knows
// before it has applied its log again.
func TestTrimHoldsAcrossRestart(t *testing.T) {
	s := newSolo(t, Config{RetentionMs: -1, RetentionBytes: -1, SegmentBytes: 1 << 20})
	for range 10 {
		s.mustDo(Request{Op: OpProduce, Batch: sized(t, -1, -1, -1, 10)})
	}
	s.mustDo(Request{Op: OpTrim, Offset: 7}) // no segment is closed: nothing but the log and the journal knows of it
	s.crash(1)
	token := s.begin(Request{Op: OpFetch, Offset: 2, MaxBytes: 1, Consistency: Committed})
	earliest := s.begin(Request{Op: OpListOffset, Which: EarliestOffset, Consistency: Committed})
	s.until(func() bool { return len(s.replies[token].Batches) > 0 || s.replies[token].Err != nil })
	if a := s.replies[token]; a.Err == nil || a.Err.Reason != ReasonOutOfRange {
		t.Errorf("a fetch below the log start got %d batches, error %v", len(a.Batches), a.Err)
	}
	if a := s.replies[earliest]; a.BaseOffset != 7 {
		t.Errorf("the log begins at %d, want 7", a.BaseOffset)
	}
}

// Retention by bytes keeps at least as many; by time it goes by append time, also for records whose segment would never fill, and does
// nothing while the majority's clocks are not heard.
func TestRetention(t *testing.T) {
	s := newSolo(t, Config{RetentionMs: -1, RetentionBytes: 10_000})
	s.fill(50)
	s.until(func() bool { return s.r.logStart > 0 })
	for range 30 {
		s.tick()
	}
	if n := s.describe().SizeBytes; n < 10_000 || n > 10_000+2*s.limit {
		t.Errorf("%d bytes are kept, want 10000 and at most two segments more", n)
	}

	s = newSolo(t, Config{RetentionMs: 60_000, RetentionBytes: -1})
	s.fill(12)
	clocks := s.env.Clocks
	s.env.Clocks = func(n []uint64) (int64, int64, int) { return s.env.Wall, s.env.Wall, 0 }
	for range 1200 {
		s.tick()
	}
	if s.r.logStart != 0 {
		t.Fatalf("log start %d while no majority of clocks is heard", s.r.logStart)
	}
	s.env.Clocks = clocks
	s.until(func() bool { return s.r.logStart == 12 })
	s.fill(1)
	began := s.env.Wall
	s.until(func() bool { return s.r.logStart == 13 })
	if took := s.env.Wall - began; took < 60_000 || took > 70_000 {
		t.Errorf("one record in an open segment went after %d ms, want 60000 and a little", took)
	}
}

// A steady trickle into one open segment does not keep its first record for ever: at the latest after twice the time.
func TestRetentionOfATrickle(t *testing.T) {
	s := newSolo(t, Config{RetentionMs: 60_000, RetentionBytes: -1, SegmentBytes: 1 << 20})
	began := s.env.Wall
	for s.r.logStart == 0 {
		s.mustDo(Request{Op: OpProduce, Batch: sized(t, -1, -1, -1, 10)})
		for range 50 {
			s.tick()
		}
		if s.env.Wall-began > 150_000 {
			t.Fatal("the first record is still there after 150 s")
		}
	}
}

// Settings change at their entry: the limit of later segments, the largest batch, the timestamps; older settings never come back, and
// all of it survives a power cut, also when every segment that said so is trimmed away.
func TestConfigTravelsInTheLog(t *testing.T) {
	s := newSolo(t, Config{RetentionMs: -1, RetentionBytes: -1, Version: 3, MessageBytes: 3000})
	s.wants(Request{Op: OpProduce, Batch: sized(t, -1, -1, -1, 3000)}, ReasonTooLarge)
	now := Config{RetentionMs: -1, RetentionBytes: -1, SegmentBytes: 16384, MessageBytes: 5000, LogAppendTime: true, Version: 9}
	s.r.Configure(now)
	s.settle()
	s.r.Configure(Config{Version: 8})
	a := s.mustDo(Request{Op: OpProduce, Batch: sized(t, -1, -1, -1, 4000)})
	if s.r.config != now {
		t.Fatalf("configured as %+v", s.r.config)
	}
	b := record.Batch(s.mustDo(Request{Op: OpFetch, Offset: a.BaseOffset, MaxBytes: 1}).Batches[0])
	if err := b.CheckCRC(); err != nil || b.MaxTimestamp() != a.AppendTime || b.TimestampType() != 1 {
		t.Errorf("timestamp %d of type %d, append time %d, %v", b.MaxTimestamp(), b.TimestampType(), a.AppendTime, err)
	}
	for rec, err := range b.Iterate(record.Limits{}) {
		if err != nil || rec.Timestamp != a.AppendTime {
			t.Errorf("a record's timestamp is %d, want the append time %d (%v)", rec.Timestamp, a.AppendTime, err)
		}
	}
	for range 30 {
		s.mustDo(Request{Op: OpProduce, Batch: sized(t, -1, -1, -1, 2000)})
	}
	s.mustDo(Request{Op: OpTrim, Offset: TrimAll})
	s.until(func() bool { return s.describe().SizeBytes < 1000 })
	s.crash(3)
	s.until(func() bool { return s.r.IsLeader() })
	if s.r.config != now {
		t.Fatalf("configured as %+v after the power cut", s.r.config)
	}
	for range 20 {
		s.mustDo(Request{Op: OpProduce, Batch: sized(t, -1, -1, -1, 2000)})
	}
	for _, x := range s.r.log.Extents(nil) {
		if x.Closed && x.NextOffset > x.BaseOffset && x.Bytes < 16384 {
			t.Errorf("a segment ended at %d bytes, the limit is 16384", x.Bytes)
		}
	}
}

// A leader brings the log up to what its broker knows when it begins to lead.
func TestNewLeaderConfigures(t *testing.T) {
	s := newSolo(t, Config{Version: 1})
	s.crash(1)
	s.r.Configure(Config{RetentionMs: 5000, RetentionBytes: -1, SegmentBytes: 8192, Version: 2})
	s.until(func() bool { return s.r.config.Version == 2 })
	if limit, ok := SegmentLimit(segment.Frame{Payload: s.r.config.encode(nil)}); !ok || limit != 8192 {
		t.Errorf("limit %d, %t", limit, ok)
	}
}

// A snapshot's sender has dropped files for a trim that the snapshot does not know of yet: the receiver's log begins where its files do,
// or it would refuse reads of offsets that it says it holds.
func TestRestoredLogBeginsWithItsFiles(t *testing.T) {
	s := newSolo(t, Config{RetentionMs: -1, RetentionBytes: -1})
	s.fill(23)
	s.mustDo(Request{Op: OpTrim, Offset: 12})
	log, _, err := segment.Open(segment.Options{FS: s.fs, Dir: "g", Group: segment.GroupID{1}, Start: segment.Start{Index: 1, Term: 1}, SegmentBytes: s.limit, LimitOf: SegmentLimit})
	if err != nil {
		t.Fatal(err)
	}
	start := log.StartOffset()
	if start == 0 {
		t.Fatal("no file was dropped")
	}
	r := &Replica{opts: s.r.opts, log: log} // it knew of no trim before its files were swapped
	if err := r.restore(); err != nil {
		t.Fatal(err)
	}
	if got := r.LogStart(); r.trim.start != 0 || got != start {
		t.Errorf("log start %d, the files begin at %d and the checkpoint at %d", got, start, r.trim.start)
	}
}

// A cold read whose entries were replaced while it was under way is done again: nothing is wrong with what was asked.
func TestStaleReadIsReadAgain(t *testing.T) {
	s := newSolo(t, Config{RetentionMs: -1, RetentionBytes: -1})
	s.fill(23)
	q := Request{Op: OpFetch, Offset: 3, MaxBytes: 1, Consistency: Committed, Token: 77}
	s.r.reads.cold++
	s.r.ReadDone(&s.env, &ColdRead{Group: s.r.Group(), Task: &segment.ReadTask{Err: segment.ErrStale}, fetch: &q})
	s.settle()
	if a, ok := s.replies[77]; !ok || a.Err != nil || len(a.Batches) != 1 || record.Batch(a.Batches[0]).BaseOffset() > 3 {
		t.Errorf("answer %+v (%t), want the batch with offset 3", a, ok)
	}
}
