package segment

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"lograft/segment/vfs"
)

// A frame header is damaged, which Open sees, and a payload below the persist mark of the same unsealed segment, which it does not. The
// repair of the first does not stop the log over the second, which a scrub names. Found by broker/sim, TestSimDamageOneBroker.
func TestRepairFindsMoreDamage(t *testing.T) {
	p := newPatient(t, rand.New(rand.NewPCG(1, 2)), GroupID{7})
	l, _ := mustOpen(t, withFS(p.o, p.mem.Clone()))
	k := 0
	for l.segs[k].sealed {
		k++
	}
	s := l.segs[k]
	first, second := s.head.base, s.last.index
	for p.frames[second-2].Kind != KindData {
		second--
	}
	if second == first {
		t.Fatal("no second entry with a batch in the segment")
	}
	behind, err := l.positionOf(k, second+1)
	if err != nil {
		t.Fatal(err)
	}
	atFirst, err := l.positionOf(k, first)
	if err != nil {
		t.Fatal(err)
	}
	mem := p.mem.Clone()
	name := l.path(segmentName(s.head.base))
	for _, off := range []int64{atFirst + 4, behind - 1} {
		if err := mem.Corrupt(name, off, 1); err != nil {
			t.Fatal(err)
		}
	}
	l, rec := mustOpen(t, withFS(p.o, mem))
	if len(rec.Faulty) != 1 || rec.Faulty[0].From != first {
		t.Fatalf("open found %v, want entry %d", rec.Faulty, first)
	}
	if err := l.Repair(p.frames[first-2 : first-1]); err != nil {
		t.Fatal(err)
	}
	err = l.Verify()
	if f := l.Faulty(); !errors.Is(err, ErrFaulty) || l.Err() != nil || len(f) != 1 || f[0].From != second {
		t.Fatalf("repair: %v (log %v), now damaged: %v, want entry %d", err, l.Err(), f, second)
	}
	if err := l.Repair(p.frames[second-2 : second-1]); err != nil {
		t.Fatal(err)
	}
	if err := l.Verify(); err != nil {
		t.Fatal(err)
	}
}

// A sealed segment whose footer was lost is sealed again without a checkpoint of its own: the one beside it stays as it was.
func TestSealAgainKeepsCheckpoint(t *testing.T) {
	p := newPatient(t, rand.New(rand.NewPCG(1, 2)), GroupID{7})
	l, _ := mustOpen(t, withFS(p.o, p.mem.Clone()))
	name, state := l.path(segmentName(l.segs[0].head.base)), l.path(stateName(l.segs[0].head.base))
	mem := p.mem.Clone()
	file, before := readAll(t, mem, name), readAll(t, mem, state)
	if err := mem.Corrupt(name, int64(len(file)-1), 1); err != nil {
		t.Fatal(err)
	}
	_, rec := mustOpen(t, withFS(p.o, mem))
	if rec.FootersCut != 1 || rec.Resealed != 1 {
		t.Fatalf("%d footers cut, %d segments sealed again", rec.FootersCut, rec.Resealed)
	}
	if after := readAll(t, mem, state); string(after) != string(before) || strings.Compare(string(readAll(t, mem, name)), string(file)) != 0 {
		t.Error("segment or checkpoint are not what they were")
	}
}

func withFS(o Options, fs vfs.FS) Options {
	o.FS = fs
	return o
}
