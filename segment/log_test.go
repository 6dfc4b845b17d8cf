package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"runtime"
	"testing"

	"lograft/segment/vfs"
)

// batch makes a data payload of n bytes whose checksum is right.
func batch(rng *rand.Rand, n int) []byte {
	b := make([]byte, max(n, batchBytesMin))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	binary.BigEndian.PutUint32(b[batchCRCAt:], crc32.Checksum(b[batchSummedFrom:], castagnoli))
	return b
}

var testGroup = GroupID{1, 2, 3, 4, 5, 6, 7, 8}

func testOptions(fs vfs.FS) Options {
	return Options{
		FS: fs, Dir: "data/g", Group: testGroup, Start: Start{Index: 1, Term: 1}, SegmentBytes: 2048, TailCacheBytes: 1500, PayloadBytesMax: 4096, SealedFilesMax: 2,
		LimitOf: func(f Frame) (int64, bool) {
			if len(f.Payload) != 4 {
				return 0, false
			}
			return int64(binary.LittleEndian.Uint32(f.Payload)), true
		},
	}
}

// maker makes frames that continue a log.
type maker struct {
	rng    *rand.Rand
	index  uint64 // last
	term   uint64
	offset int64 // next
	time   int64
}

func (m *maker) next() Frame {
	m.index++
	m.time += int64(m.rng.IntN(3))
	f := Frame{Index: m.index, Term: m.term, Offset: m.offset, AppendTime: m.time, Flags: byte(m.rng.Uint32())}
	switch k := m.rng.IntN(20); {
	case k < 14:
		f.Kind, f.Count = KindData, 1+uint32(m.rng.IntN(5))
		f.Payload = batch(m.rng, 61+m.rng.IntN(400))
	case k < 16:
		f.Kind = KindRaft
	case k < 18:
		f.Kind, f.Payload = KindCommand, batch(m.rng, 61+m.rng.IntN(80))
	case k == 18:
		f.Kind = KindRoll
	default:
		f.Kind, f.Payload = KindConfig, binary.LittleEndian.AppendUint32(nil, 1024+uint32(m.rng.IntN(2048)))
	}
	m.offset = f.NextOffset()
	return f
}

func (m *maker) frames(n int) []Frame {
	fs := make([]Frame, n)
	for i := range fs {
		fs[i] = m.next()
	}
	return fs
}

func newMaker(rng *rand.Rand) *maker { return &maker{rng: rng, index: 1, term: 1, time: 1000} }

func mustOpen(t testing.TB, o Options) (*Log, Recovery) {
	t.Helper()
	l, rec, err := Open(o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return l, rec
}

func mustAppend(t testing.TB, l *Log, frames ...Frame) {
	t.Helper()
	if err := l.Append(frames); err != nil {
		t.Fatalf("append [%d,...]: %v", frames[0].Index, err)
	}
}

func mustSync(t testing.TB, l *Log) {
	t.Helper()
	task := l.BeginSync()
	if task == nil {
		return
	}
	if err := l.EndSync(task, task.Do()); err != nil {
		t.Fatalf("sync: %v", err)
	}
}

func same(a, b Frame) bool {
	return a.EntryType == b.EntryType && a.Kind == b.Kind && a.Flags == b.Flags && a.Count == b.Count && a.Index == b.Index && a.Term == b.Term &&
		a.Offset == b.Offset && a.AppendTime == b.AppendTime && string(a.Payload) == string(b.Payload)
}

// checkLog compares everything that a log answers with want, a slice of all entries after start.
func checkLog(l *Log, start Start, want []Frame) error {
	last := start.Index + uint64(len(want))
	if l.LastIndex() != last {
		return fmt.Errorf("last index %d, want %d", l.LastIndex(), last)
	}
	skip := l.FirstIndex() - start.Index - 1
	i := 0
	err := l.Scan(l.FirstIndex(), func(f Frame) error {
		if k := int(skip) + i; k >= len(want) || !same(f, want[k]) {
			return fmt.Errorf("entry %d differs", f.Index)
		}
		i++
		return nil
	})
	if err != nil {
		return err
	}
	if int(skip)+i != len(want) {
		return fmt.Errorf("scan gave %d entries, want %d", i, len(want)-int(skip))
	}
	for k := int(skip); k < len(want); k++ {
		if term, err := l.Term(want[k].Index); err != nil || term != want[k].Term {
			return fmt.Errorf("term of %d is %d %v, want %d", want[k].Index, term, err, want[k].Term)
		}
	}
	if len(want) > 0 && (l.NextOffset() != want[len(want)-1].NextOffset() || l.LastAppendTime() != want[len(want)-1].AppendTime) {
		return fmt.Errorf("next offset %d, time %d", l.NextOffset(), l.LastAppendTime())
	}
	return nil
}

func mustCheck(t testing.TB, l *Log, start Start, want []Frame) {
	t.Helper()
	if err := checkLog(l, start, want); err != nil {
		t.Fatal(err)
	}
}

func newRand(t testing.TB, seed uint64) *rand.Rand {
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// Frames come back as they were appended, from memory, from files, and after the log was closed and opened again.
func TestAppendReadReopen(t *testing.T) {
	rng := newRand(t, 1)
	fs := vfs.NewMem()
	o := testOptions(fs)
	l, rec := mustOpen(t, o)
	if !rec.Created || !rec.LastKnown {
		t.Fatalf("recovery of nothing: %+v", rec)
	}
	m := newMaker(rng)
	var want []Frame
	for range 60 {
		fs := m.frames(1 + rng.IntN(4))
		want = append(want, fs...)
		mustAppend(t, l, fs...)
		if rng.IntN(3) == 0 {
			mustSync(t, l)
		}
	}
	mustCheck(t, l, o.Start, want)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, rec = mustOpen(t, o)
	mustCheck(t, l, o.Start, want)
	if rec.SegmentsScanned < 5 || rec.TornFrom != 0 || len(rec.Faulty) > 0 {
		t.Fatalf("recovery %+v", rec)
	}
	if l.Durable() != l.LastIndex() {
		t.Fatalf("durable %d of %d after open", l.Durable(), l.LastIndex())
	}
}

// Every offset is found in the batch that contains it, whether the batch is in memory or on file.
func TestReadOffset(t *testing.T) {
	rng := newRand(t, 2)
	o := testOptions(vfs.NewMem())
	l, _ := mustOpen(t, o)
	m := newMaker(rng)
	want := m.frames(120)
	mustAppend(t, l, want...)
	cold := 0
	for off := int64(0); off <= m.offset; off++ {
		limit := off + int64(rng.IntN(40))
		var twin []Frame
		for _, f := range want {
			if f.Kind == KindData && f.NextOffset() > off && f.Offset < limit && limit > off {
				twin = append(twin, f)
			}
		}
		bytesMax := rng.IntN(3000)
		got, err := l.ReadOffset(nil, off, limit, bytesMax)
		if errors.Is(err, ErrCold) {
			cold++
			task := l.ColdRead(off, limit, bytesMax)
			task.Do()
			got, err = task.Frames, task.Err
		}
		if err != nil {
			t.Fatalf("offset %d: %v", off, err)
		}
		if (len(got) == 0) != (len(twin) == 0) || len(got) > len(twin) {
			t.Fatalf("offset %d limit %d: %d frames, twin %d", off, limit, len(got), len(twin))
		}
		size := 0
		for i := range got {
			size += len(got[i].Payload)
			if !same(got[i], twin[i]) {
				t.Fatalf("offset %d: frame %d differs", off, i)
			}
		}
		if len(got) > 1 && size > bytesMax {
			t.Fatalf("offset %d: %d bytes for at most %d", off, size, bytesMax)
		}
	}
	if cold == 0 {
		t.Fatal("no read was cold")
	}
	var oor *OutOfRangeError
	if _, err := l.ReadOffset(nil, m.offset+1, m.offset+2, 1); !errors.As(err, &oor) || oor.End != m.offset {
		t.Fatalf("beyond the end: %v", err)
	}
	for ms := int64(999); ms < m.time+2; ms++ {
		twin := int64(-1)
		for _, f := range want {
			if f.Kind == KindData && f.AppendTime >= ms {
				twin = f.Offset
				break
			}
		}
		task := l.SeekTime(ms)
		task.Do()
		if task.Err != nil || task.Offset != twin {
			t.Fatalf("time %d: offset %d %v, want %d", ms, task.Offset, task.Err, twin)
		}
	}
}

// A conflicting suffix is replaced at once for readers, and on file by the next sync, which names the marks to write first.
func TestConflict(t *testing.T) {
	rng := newRand(t, 3)
	fs := vfs.NewMem()
	o := testOptions(fs)
	l, _ := mustOpen(t, o)
	m := newMaker(rng)
	want := m.frames(40)
	mustAppend(t, l, want...)
	mustSync(t, l)
	durable := l.DurableMark()
	if durable.Index != 41 {
		t.Fatalf("durable %+v", durable)
	}
	stale := l.BeginSync()
	if stale != nil {
		t.Fatal("nothing is dirty")
	}
	mustAppend(t, l, m.frames(1)...)
	stale = l.BeginSync()
	if marks := stale.Marks(); len(marks) != 0 {
		t.Fatalf("a task that cuts nothing wants marks before its data: %+v", marks)
	}
	c := 20
	fork := &maker{rng: rng, index: uint64(c + 1), term: 2, offset: want[c-1].NextOffset(), time: want[c-1].AppendTime}
	want = append(want[:c:c], fork.frames(10)...)
	mustAppend(t, l, want[c:]...)
	if l.Durable() != uint64(c)+1 {
		t.Fatalf("durable %d after a conflict at %d", l.Durable(), c+2)
	}
	mustCheck(t, l, o.Start, want)
	if err := l.EndSync(stale, stale.Do()); err != nil {
		t.Fatal(err)
	}
	if l.Durable() != uint64(c)+1 {
		t.Fatalf("a stale task published %d", l.Durable())
	}
	task := l.BeginSync()
	if marks := task.Marks(); len(marks) != 1 || marks[0].Index != uint64(c)+1 || marks[0].Position >= durable.Position && marks[0].SegmentBase >= durable.SegmentBase {
		t.Fatalf("marks %+v, was %+v", marks, durable)
	}
	more := fork.frames(3)
	want = append(want, more...)
	mustAppend(t, l, more...)
	if err := l.EndSync(task, task.Do()); err != nil {
		t.Fatal(err)
	}
	if l.Durable() != want[len(want)-4].Index {
		t.Fatalf("durable %d", l.Durable())
	}
	mustCheck(t, l, o.Start, want)
	mustSync(t, l)
	l2, _ := mustOpen(t, Options{FS: fs.Synced(), Dir: o.Dir, Group: o.Group, Start: o.Start, SegmentBytes: o.SegmentBytes, LimitOf: o.LimitOf, PayloadBytesMax: o.PayloadBytesMax})
	mustCheck(t, l2, o.Start, want)
}

// A log that is closed while tasks run: no task fails for it, none is left with a closed file, and nothing more counts as durable. The
// directory may be gone by then: its group was deleted. Found by TestThreeBrokers: fdatasync: bad file descriptor.
func TestCloseDuringTasks(t *testing.T) {
	rng := newRand(t, 1)
	for range 50 {
		o := testOptions(vfs.OS())
		o.Dir = t.TempDir() + "/g"
		l, _ := mustOpen(t, o)
		m := newMaker(rng)
		for len(l.ClosedLasts()) < 2 {
			mustAppend(t, l, m.next())
		}
		mustSync(t, l)
		l.SealNext(l.LastIndex())
		seal := l.BeginSeal(l.ClosedLasts()[0], stateOf(2))
		mustAppend(t, l, m.frames(3)...)
		m.index, m.term = l.LastIndex()-2, m.term+1
		f, err := l.FrameAt(m.index)
		if err != nil {
			t.Fatal(err)
		}
		m.offset = f.NextOffset()
		mustAppend(t, l, m.next()) // a conflict: cuts wait for the task
		sync := l.BeginSync()
		done := make(chan error, 2)
		go func() { done <- sync.Do() }()
		go func() { done <- seal.Do() }()
		if rng.IntN(2) == 0 {
			runtime.Gosched()
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		for o.FS.RemoveAll(o.Dir) != nil { // a task may be making a file in it
			runtime.Gosched()
		}
		for range 2 {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		if err := l.EndSync(sync, nil); !errors.Is(err, ErrClosed) {
			t.Errorf("EndSync: %v", err)
		}
		if err := l.EndSeal(seal, nil); !errors.Is(err, ErrClosed) {
			t.Errorf("EndSeal: %v", err)
		}
	}
}
