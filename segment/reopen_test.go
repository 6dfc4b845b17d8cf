package segment

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path"
	"slices"
	"testing"

	"lograft/segment/vfs"
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

// A frame of the segment's own salt lies where none can begin, behind the limit that closes it, and the frames before it are damaged. It
// is no witness of how far the damage reaches: it was never part of this log, and it would be cut as what follows a closed segment, so that
// a second open would come to another verdict. Found by FuzzOpen.
func TestVerdictNeedsNoFrameBehindTheLimit(t *testing.T) {
	p := newPatient(t, rand.New(rand.NewPCG(2, 2)), testGroup)
	o := p.o
	o.FS = p.mem
	l, _ := mustOpen(t, o)
	s := l.active()
	bad := p.floor // the last entry that was promised, and all behind it
	at, err := l.positionOf(len(l.segs)-1, bad)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	name := path.Join(o.Dir, segmentName(s.head.base))
	far := p.frames[len(p.frames)-1]
	if far.Index < bad+2 || far.Term == p.frames[bad-3].Term {
		t.Fatalf("the last entry is %d of term %d, take another seed", far.Index, far.Term)
	}
	b := readAll(t, p.mem, name)[:at]
	for int64(len(b)) < s.head.limit {
		b = append(b, 0xaa)
	}
	head := make([]byte, frameHeaderBytes)
	putHeader(head, &far, saltOf(o.Group, s.head.base))
	b = append(append(b, head...), far.Payload...)
	replace(t, p.mem, name, b)
	var first Recovery
	for _, opened := range []string{"first", "second"} {
		l, rec := mustOpen(t, o)
		if opened == "first" {
			first = rec
		}
		if f := rec.Faulty; rec.FootersCut != 0 || rec.TornFrom != 0 || len(f) != 1 || f[0].From != bad || rec.Last != first.Last || rec.LastKnown != first.LastKnown {
			t.Errorf("%s open: %+v, want damage from entry %d and no cut; the first: %+v", opened, rec, bad, first)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// forgets says what a later Open knows less of than one before it, which may have changed files: "" if nothing. Entries may turn out to be
// damaged, or good, as headers are rebuilt and files set aside; but the log may not end before what was held, and its end may not be known
// where it was hidden. durable is the least that must be left of the first one's verdict.
func forgets(later, first Recovery, durable uint64) string {
	least := min(extent(first), durable)
	if extent(later) < least {
		return fmt.Sprintf("it ends at %d, entries up to %d were there", extent(later), least)
	}
	if later.LastKnown && later.Last < least {
		return fmt.Sprintf("it knows that it ends at %d, entries up to %d were there", later.Last, least)
	}
	return ""
}

// extent is the last entry that is held, damaged or known to be missing.
func extent(rec Recovery) uint64 {
	last := rec.Last
	for _, r := range rec.Faulty {
		if r.To == 0 {
			return math.MaxUint64
		}
		last = max(last, r.To)
	}
	return last
}

// Open changes files: it cuts, renames, rebuilds headers and seals again. Killed between any two of its steps, or struck by a power cut
// there, the next Open knows all that was durable, and after one that ended all that it said: nothing that was taken away was what a
// verdict stood on.
func TestOpenKilledAnywhere(t *testing.T) {
	seed := flagOrEnv(*crashSeed, "SEGMENT_SEED", 1)
	rng := newRand(t, seed)
	p := newPatient(t, rng, testGroup)
	other := newPatient(t, rand.New(rand.NewPCG(seed, 77)), GroupID{9})
	names := p.files(t)
	runs, kills := 400, 0
	if testing.Short() {
		runs = 60
	}
	for run := range runs {
		mem := p.mem.Clone()
		what := fmt.Sprintf("seed %d run %d", seed, run)
		for range 1 + rng.IntN(3) {
			what += ", " + p.harm(t, rng, mem, other, names)
		}
		o := p.o
		o.JournalDamaged = rng.IntN(5) == 0
		if rng.IntN(4) == 0 {
			o.Mark, o.CommitFloor = Mark{}, 0 // young marks, or none: the files alone say what was durable
		}
		for at := 0; at >= 0; at++ {
			at = p.openStopped(t, o, mem, rng, at, what)
			kills++
		}
	}
	if kills < 2*runs {
		t.Errorf("%d runs, %d kills: the damage asks Open to change nothing", runs, kills)
	}
}

// openStopped opens a copy of mem as o says and stops it before its change number at (0: never), then opens what is left. It returns at, or
// -2 if the Open has no such change.
func (p *patient) openStopped(t *testing.T, o Options, mem *vfs.Mem, rng *rand.Rand, at int, what string) int {
	t.Helper()
	o.FS = mem.Clone()
	first, rec, err := Open(o)
	if contradiction(err) {
		return -2
	}
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	floor := max(first.o.CommitFloor, o.Mark.Index)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	after, next := mem.Clone(), at
	power := &power{at: at, rng: rng}
	o.FS = vfs.Inject(after, power)
	if l, _, err := Open(o); err == nil {
		floor = math.MaxUint64
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if at > 0 {
			next = -2
		}
	} else if rng.IntN(2) == 0 {
		after = after.Crash(rng)
	}
	o.FS = after
	l, later, err := Open(o)
	if err != nil {
		t.Fatalf("%s, stopped at change %d: %v, the first open said %+v", what, at, err, rec)
	}
	if extent(later) > extent(rec) {
		t.Errorf("%s, stopped at change %d: what was torn is held:\n%+v\nthe first open said\n%+v", what, at, later, rec)
	}
	if less := forgets(later, rec, floor); less != "" {
		t.Errorf("%s, stopped at change %d: %s\n%+v\nthe first open said\n%+v", what, at, less, later, rec)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return next
}

// No mark, no journalled commit: the files alone say what was durable. What a footer or a checkpoint says outlives the file that held its
// entries: a newest segment whose header is damaged behind a missing file, and one that lost its last frame before its footer was written.
func TestFilesSayWhatWasDurable(t *testing.T) {
	p := newPatient(t, rand.New(rand.NewPCG(3, 3)), testGroup)
	o := p.o
	o.Mark, o.CommitFloor = Mark{}, 0
	o.FS = p.mem
	l, _ := mustOpen(t, o)
	sealed := slices.DeleteFunc(slices.Clone(l.segs), func(s *segment) bool { return !s.sealed })
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	newest := sealed[len(sealed)-1]
	name := path.Join(o.Dir, segmentName(newest.head.base))
	for _, c := range []struct {
		what string
		harm func(mem *vfs.Mem) error
	}{
		{"footer without its header, behind a missing file", func(mem *vfs.Mem) error {
			before := path.Join(o.Dir, segmentName(sealed[len(sealed)-2].head.base))
			return errors.Join(mem.Remove(before), mem.Remove(path.Join(o.Dir, stateName(newest.head.base))), mem.Corrupt(name, 20, 1))
		}},
		{"checkpoint without a footer", func(mem *vfs.Mem) error {
			replace(t, mem, name, readAll(t, mem, name)[:newest.size-1])
			return nil
		}},
	} {
		mem := p.mem.Clone()
		for _, n := range p.files(t) {
			if base, ok := baseOfName(n, logSuffix); ok && base > newest.head.base {
				if err := mem.Remove(path.Join(o.Dir, n)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := c.harm(mem); err != nil {
			t.Fatal(err)
		}
		o.FS = mem
		for _, opened := range []string{"first", "second"} {
			l, rec := mustOpen(t, o)
			if extent(rec) != newest.last.index || rec.TornFrom != 0 {
				t.Errorf("%s, %s open: %+v, want damage up to entry %d", c.what, opened, rec, newest.last.index)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// The power goes right after a trim: checkpoints that it removed are there again, and the next start removes them, so that every replica
// has the same files.
func TestTrimmedStatesStayAway(t *testing.T) {
	rng := newRand(t, 9)
	fs := vfs.NewMem()
	o := testOptions(fs)
	l, _ := mustOpen(t, o)
	m := newMaker(rng)
	for len(l.ClosedLasts()) < 5 {
		mustAppend(t, l, m.next())
	}
	mustSync(t, l)
	lasts := l.ClosedLasts()
	sealAll(t, l, lasts[3])
	if err := errors.Join(fs.SyncDir(o.Dir), l.TruncateFront(lasts[3])); err != nil {
		t.Fatal(err)
	}
	states := func(fs *vfs.Mem) (names []string) {
		all, err := fs.List(o.Dir)
		if err != nil {
			t.Fatal(err)
		}
		return slices.DeleteFunc(all, func(name string) bool { return path.Ext(name) != stateSuffix })
	}
	want := states(fs)
	cut := fs.Synced()
	if back := states(cut); len(back) <= len(want) {
		t.Fatalf("the power cut brought nothing back: %q", back)
	}
	o.FS = cut
	l, rec := mustOpen(t, o)
	if got := states(cut); !slices.Equal(got, want) || rec.StatesBad != 0 {
		t.Errorf("checkpoints %q, before the power cut %q", got, want)
	}
	if err := l.Verify(); err != nil {
		t.Error(err)
	}
}
