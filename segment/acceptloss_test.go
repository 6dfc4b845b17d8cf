package segment

import (
	"math/rand/v2"
	"path"
	"strings"
	"testing"
	"time"

	"lograft/segment/vfs"
)

// Bytes rot anywhere in the newest segments, headers too, promised or not. With the loss accepted the log opens without damage, as a prefix of what
// was written, of which nothing before the first bad byte is missing; it takes entries again, and the next open, which knows of no promise
// any more, finds the same.
func TestAcceptLoss(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 3))
	refused := 0
	for range 60 {
		p := newPatient(t, rng, testGroup)
		o := p.o
		o.FS = p.mem
		l, _ := mustOpen(t, o)
		type place struct {
			base   uint64
			sealed bool
		}
		var places []place
		for _, s := range l.segs {
			places = append(places, place{s.head.base, s.sealed})
		}
		hurt := map[uint64]bool{}
		least := l.LastIndex() // nothing before the first segment that is hurt may be missing
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		for range 1 + rng.IntN(4) {
			at := places[rng.IntN(len(places))]
			name := path.Join(o.Dir, segmentName(at.base))
			size, _, err := p.mem.Stat(name)
			if err != nil {
				t.Fatal(err)
			}
			off := rng.Int64N(size - 1)
			if hurt[at.base] {
				continue // twice the same byte would be none
			}
			hurt[at.base] = true
			if at.sealed { // frames alone are a matter of repair; without the footer they are not
				if err := p.mem.Corrupt(name, size-1, 0x41); err != nil {
					t.Fatal(err)
				}
			}
			least = min(least, at.base-1)
			if err := p.mem.Corrupt(name, off, 0x41); err != nil {
				t.Fatal(err)
			}
		}
		first := o // on a copy: it seals again what has lost its footer, also with a payload that is a matter of repair
		first.FS = p.mem.Clone()
		if l, rec, err := Open(first); err != nil || len(rec.Faulty) > 0 {
			refused++
			if err == nil {
				err = l.Close()
			} else {
				err = nil
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := AcceptLoss(p.mem, o.Dir); err != nil {
			t.Fatal(err)
		}
		if is, err := LossAccepted(p.mem, o.Dir); err != nil || !is {
			t.Fatalf("accepted: %v, %v", is, err)
		}
		o.AcceptLoss = true
		l, rec := mustOpen(t, o)
		holds(t, p, l, rec, least)
		last := l.LastIndex()
		if err := EndAcceptLoss(p.mem, o.Dir); err != nil {
			t.Fatal(err)
		}
		if last < p.frames[len(p.frames)-1].Index {
			mustAppend(t, l, p.frames[last-1])
			mustSync(t, l)
			last++
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		o.AcceptLoss, o.Mark, o.CommitFloor = false, Mark{}, 0
		l, rec = mustOpen(t, o)
		holds(t, p, l, rec, last)
		if l.LastIndex() != last {
			t.Fatalf("the next open ends at %d, want %d", l.LastIndex(), last)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if refused == 0 {
		t.Error("no damage needed an operator: the test shows nothing")
	}
}

// holds demands a log without damage that is a prefix of what was written, at least up to entry least.
func holds(t *testing.T, p *patient, l *Log, rec Recovery, least uint64) {
	t.Helper()
	if len(rec.Faulty) > 0 || l.LastIndex() < least {
		t.Fatalf("last %d, want at least %d; %v", l.LastIndex(), least, rec.Faulty)
	}
	if err := l.Verify(); err != nil {
		t.Fatal(err)
	}
	for i := l.FirstIndex(); i <= l.LastIndex(); i++ {
		f, err := l.FrameAt(i)
		want := p.frames[i-2]
		if err != nil || f.Index != want.Index || f.Term != want.Term || f.Offset != want.Offset || f.Kind != want.Kind {
			t.Fatalf("entry %d: %+v, %v", i, f, err)
		}
	}
}

// The note of an operator is no file of the log, for recovery and for those who look.
func TestAcceptLossNoteIsNoFileOfTheLog(t *testing.T) {
	p := newPatient(t, rand.New(rand.NewPCG(1, 1)), testGroup)
	if err := AcceptLoss(p.mem, p.o.Dir); err != nil {
		t.Fatal(err)
	}
	r, err := InspectDir(p.mem, p.o.Dir, nil)
	if err != nil || strings.Contains(strings.Join(r.Problems, " "), acceptName) {
		t.Fatalf("%v, %v", r.Problems, err)
	}
	var fs vfs.FS = p.mem
	if is, err := LossAccepted(fs, p.o.Dir+"/nowhere"); is || err != nil {
		t.Fatalf("nowhere: %v, %v", is, err)
	}
}
