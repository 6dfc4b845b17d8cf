package segment

import (
	"math/rand/v2"
	"path"
	"testing"
)

// The last promised frame is damaged together with the one after it, and the third is torn: its header alone must not say how far the
// damage reaches, because it is cut. A second open comes to the same verdict as the first.
func TestVerdictOutlivesItsTornWitness(t *testing.T) {
	p := newPatient(t, rand.New(rand.NewPCG(7, 7)), testGroup)
	o := p.o
	o.FS = p.mem
	l, _ := mustOpen(t, o)
	s := l.active()
	var at [3]int64 // of three frames in the active segment, the first of them a promised one
	first := max(p.floor, s.head.base)
	for i := range at {
		pos, err := l.positionOf(len(l.segs)-1, first+uint64(i))
		if err != nil {
			t.Fatal(err)
		}
		at[i] = pos
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	o.Mark.Index, o.Mark.Position, o.Mark.Term = first, at[1], p.frames[first-2].Term
	name := path.Join(o.Dir, segmentName(s.head.base))
	b := readAll(t, p.mem, name)
	b[at[0]+20] ^= 1
	b[at[1]+20] ^= 1
	third := p.frames[first]
	if third.Kind != KindData {
		t.Fatalf("entry %d is of kind %d, take another seed", third.Index, third.Kind)
	}
	b[at[2]+third.encodedBytes()-1] ^= 1
	replace(t, p.mem, name, b)
	for _, opened := range []string{"first", "second"} {
		l, rec := mustOpen(t, o)
		if f := rec.Faulty; rec.Last != first || rec.TornFrom != 0 || len(f) != 1 || f[0].From != first || f[0].To != first {
			t.Errorf("%s open: last %d, torn from %d, damaged %v; want %d, 0, only entry %d", opened, rec.Last, rec.TornFrom, f, first, first)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
