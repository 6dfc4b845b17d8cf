package segment

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"lograft/segment/vfs"
)

// A segment's file is missing in the middle of a log. Reads by index and by offset give what is before it, and what is behind it when they
// begin there; none goes over the hole as if it were not there, and one that begins in it names it.
func TestReadsStopBeforeAHole(t *testing.T) {
	fs := vfs.NewMem()
	o := testOptions(fs)
	l, _ := mustOpen(t, o)
	m := newMaker(rand.New(rand.NewPCG(3, 4)))
	for range 20 {
		mustAppend(t, l, m.frames(10)...)
		mustSync(t, l)
		sealAll(t, l, l.LastIndex())
	}
	x := l.Extents(nil)
	at := 2
	for x[at].BaseOffset == x[at].NextOffset || x[at-1].BaseOffset == x[at-1].NextOffset {
		at++
	}
	gone, mark := x[at], l.DurableMark()
	if err := errors.Join(l.Close(), fs.Remove(l.path(segmentName(gone.Base)))); err != nil {
		t.Fatal(err)
	}
	o.Mark = mark
	l, rec := mustOpen(t, o)
	defer l.Close()
	if len(rec.Faulty) != 1 || !rec.Faulty[0].Lost || rec.Faulty[0].From != gone.Base || rec.Faulty[0].To != gone.Last {
		t.Fatalf("faulty: %v, want [%d, %d]", rec.Faulty, gone.Base, gone.Last)
	}
	read := l.ColdEntries(gone.Base-1, gone.Last+5, 1<<30)
	if read.Do(); read.Err != nil || len(read.Frames) != 1 {
		t.Errorf("entries over the hole: %d, %v", len(read.Frames), read.Err)
	}
	for _, from := range []int64{gone.BaseOffset - 1, gone.BaseOffset, gone.NextOffset - 1, gone.NextOffset} {
		read := l.ColdRead(from, l.NextOffset(), 1<<30)
		read.Do()
		switch {
		case from >= gone.BaseOffset && from < gone.NextOffset:
			if !errors.Is(read.Err, ErrFaulty) {
				t.Errorf("offset %d is in the hole [%d, %d): %d frames, %v", from, gone.BaseOffset, gone.NextOffset, len(read.Frames), read.Err)
			}
		case read.Err != nil || len(read.Frames) == 0 || read.Frames[0].Offset > from:
			t.Errorf("offset %d: %v", from, read.Err)
		case from < gone.BaseOffset && read.Frames[len(read.Frames)-1].Offset >= gone.BaseOffset:
			t.Errorf("a read from %d goes over the hole to %d", from, read.Frames[len(read.Frames)-1].Offset)
		}
	}
}

// A write went astray within its own segment: a later frame's good bytes stand where another frame was. Reads stop before it and name it;
// none takes it for the entry that was asked for, or goes over those between. Found by TestWildDamage, seed 27.
func TestReadsStopBeforeAFrameAstray(t *testing.T) {
	p := newPatient(t, rand.New(rand.NewPCG(5, 6)), testGroup)
	o := p.o
	o.FS, o.TailCacheBytes = p.mem, 1
	l, _ := mustOpen(t, o)
	defer l.Close()
	for _, s := range l.segs {
		if s.count() < 3 {
			continue
		}
		first := s.head.base + 1
		to := segmentHeaderBytes + p.frames[s.head.base-2].encodedBytes()
		name := l.path(segmentName(s.head.base))
		b := slices.Clone(readAll(t, p.mem, name))
		copy(b[to:], b[s.size-p.frames[s.last.index-2].encodedBytes():s.size])
		replace(t, p.mem, name, b)
		if s.file != nil {
			l.retire(s)
		}
		if f, err := l.FrameAt(first); !errors.Is(err, ErrFaulty) {
			t.Errorf("segment %d: entry %d is read as %d: %v", s.head.base, first, f.Index, err)
		}
		read := l.ColdEntries(s.head.base, s.last.index+1, 1<<30)
		if read.Do(); len(read.Frames) != 1 || read.Frames[0].Index != s.head.base {
			t.Errorf("segment %d: entries over the stray frame: %d, %v", s.head.base, len(read.Frames), read.Err)
		}
		if at := p.frames[first-2].Offset; p.frames[first-2].Kind == KindData {
			read := l.ColdRead(at, l.NextOffset(), 1<<30)
			if read.Do(); !errors.Is(read.Err, ErrFaulty) {
				t.Errorf("segment %d: offset %d: %d frames, %v", s.head.base, at, len(read.Frames), read.Err)
			}
		}
	}
}
