package segment

import (
	"errors"
	"io"
	"math/rand/v2"
	"path"
	"strings"
	"testing"
	"time"

	"lograft/segment/vfs"
)

// Bytes rot anywhere, in headers, frames and footers, promised or not, and files go missing. What the plan says is kept is what the open with the loss
// accepted keeps: a prefix of what was written, without damage, of which nothing before the first bad byte is missing. It takes entries
// again, and the next open, which knows of no promise any more, finds the same. Where the plan says that nothing must be given up, a normal
// open has all that was promised. Plans change nothing.
func TestAcceptLoss(t *testing.T) {
	seed := *crashSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 3))
	refused, damaged, fine := 0, 0, 0
	for range 120 {
		p := newPatient(t, rng, testGroup)
		p.o.FS = p.mem
		least := hurt(t, rng, p)
		before := p.mem.Clone()
		plan, err := PlanCut(p.o)
		if err != nil {
			t.Fatal(err)
		}
		sameTree(t, before, p.mem, "data")
		switch {
		case !plan.Needed:
			l, rec := mustOpen(t, p.o)
			if len(rec.Faulty) > 0 || l.LastIndex() < p.floor {
				t.Fatalf("nothing is to be given up, and it ends at %d of %d: %v", l.LastIndex(), p.floor, rec.Faulty)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			fine++
			continue
		case plan.Refused != nil:
			refused++
		default:
			damaged++
		}
		if plan.KeptLast < least {
			t.Fatalf("%d entries are good, the plan keeps %d", least, plan.KeptLast)
		}
		if err := AcceptLoss(p.mem, p.o.Dir, plan.KeptLast); err != nil {
			t.Fatal(err)
		}
		o := p.o
		var is bool
		if o.AcceptedLast, is, err = LossAccepted(p.mem, o.Dir); err != nil || !is || o.AcceptedLast != plan.KeptLast {
			t.Fatalf("accepted: %d, %v, %v", o.AcceptedLast, is, err)
		}
		o.AcceptLoss = true
		l, rec := mustOpen(t, o)
		last := l.LastIndex()
		if last != plan.KeptLast || l.FirstIndex() != plan.First || l.StartOffset() != plan.Start || l.NextOffset() != plan.Next {
			t.Fatalf("the start keeps [%d, %d], the plan said %+v", l.FirstIndex(), last, plan)
		}
		holds(t, p, l, rec, least)
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
		o = p.o
		o.Mark, o.CommitFloor = Mark{}, 0
		l, rec = mustOpen(t, o)
		holds(t, p, l, rec, last)
		if l.LastIndex() != last {
			t.Fatalf("the next open ends at %d, want %d", l.LastIndex(), last)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d refused, %d damaged, %d fine", refused, damaged, fine)
	if refused == 0 || damaged == 0 || fine == 0 {
		t.Errorf("%d refused, %d damaged, %d fine: the test shows nothing", refused, damaged, fine)
	}
}

// hurt does random harm to a log and returns the last entry of the segments before the first that suffered more than its header.
func hurt(t *testing.T, rng *rand.Rand, p *patient) (least uint64) {
	t.Helper()
	o := p.o
	o.FS = p.mem.Clone()
	l, _ := mustOpen(t, o)
	segs := l.segs
	least = l.LastIndex()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	corrupt := func(name string, off int64) {
		if err := p.mem.Corrupt(name, off, 0x41); err != nil && !errors.Is(err, io.EOF) { // it is missing
			t.Fatal(err)
		}
	}
	for _, k := range rng.Perm(len(segs))[:1+rng.IntN(3)] {
		s := segs[k]
		name := path.Join(o.Dir, segmentName(s.head.base))
		size, _, err := p.mem.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		switch rng.IntN(4) {
		case 0: // the header alone: it is a function of what is before
			corrupt(name, rng.Int64N(segmentHeaderBytes))
			continue
		case 1:
			if k > 0 && rng.IntN(2) == 0 {
				continue // the first one more often
			}
			if err := p.mem.Remove(name); err != nil {
				t.Fatal(err)
			}
		default:
			corrupt(name, rng.Int64N(size-1))
			if s.sealed { // frames alone are a matter of repair; without the footer they are not
				corrupt(name, size-1)
			}
			if k+1 < len(segs) && rng.IntN(2) == 0 { // nothing says how the next one continues it
				corrupt(path.Join(o.Dir, segmentName(segs[k+1].head.base)), segmentHeaderBytes/2)
			}
		}
		least = min(least, s.head.base-1)
	}
	return least
}

// sameTree demands the same files below dir.
func sameTree(t *testing.T, want, got vfs.FS, dir string) {
	t.Helper()
	if a, b := treeOf(t, want, dir), treeOf(t, got, dir); a != b {
		t.Fatalf("%s differs:\n%.2000q\n%.2000q", dir, a, b)
	}
}

func treeOf(t *testing.T, fs vfs.FS, dir string) string {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, name := range names {
		name = path.Join(dir, name)
		if _, isDir, err := fs.Stat(name); err != nil {
			t.Fatal(err)
		} else if isDir {
			all.WriteString(name + "/" + treeOf(t, fs, name))
			continue
		}
		b, err := readWhole(fs, name, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		all.WriteString(name + "=" + string(b))
	}
	return all.String()
}

// What is there is worse than when its loss was accepted: the open is refused by name and changes nothing. The same for a note that can't be read.
func TestAcceptLossKeepsLess(t *testing.T) {
	p := newPatient(t, rand.New(rand.NewPCG(1, 2)), testGroup)
	o := p.o
	o.FS, o.AcceptLoss, o.AcceptedLast = p.mem, true, p.floor
	names := p.files(t)
	if err := p.mem.Remove(path.Join(o.Dir, names[2])); err != nil {
		t.Fatal(err)
	}
	before := p.mem.Clone()
	if _, _, err := Open(o); !errors.Is(err, ErrKeepsLess) {
		t.Fatalf("got %v", err)
	}
	sameTree(t, before, p.mem, "data")
	if err := AcceptLoss(p.mem, o.Dir, 21); err != nil {
		t.Fatal(err)
	}
	for off := range int64(len(acceptNote(21))) {
		if err := p.mem.Corrupt(path.Join(o.Dir, acceptName), off, 1); err != nil {
			t.Fatal(err)
		}
		if n, is, err := LossAccepted(p.mem, o.Dir); is || !errors.Is(err, ErrNoteBad) {
			t.Fatalf("a bit of byte %d: %d, %v, %v", off, n, is, err)
		}
		if err := p.mem.Corrupt(path.Join(o.Dir, acceptName), off, 1); err != nil {
			t.Fatal(err)
		}
	}
}

// The power fails at every change that an accepted cut makes. Opened again, it keeps what the plan said, and nothing of what was cut is gone: the
// bytes of every file are there, under their names or aside.
func TestAcceptLossCrash(t *testing.T) {
	seed := *crashSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 4))
	p := newPatient(t, rng, testGroup)
	p.o.FS = p.mem
	o := p.o
	o.FS = p.mem.Clone()
	l, _ := mustOpen(t, o)
	var logs []string // those that are cut: the first that is not sealed in its middle, all after it go whole
	for _, s := range l.segs {
		if !s.sealed {
			logs = append(logs, segmentName(s.head.base))
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	bad := logs[0]
	if err := p.mem.Corrupt(path.Join(p.o.Dir, bad), segmentHeaderBytes+20, 0x10); err != nil {
		t.Fatal(err)
	}
	plan, err := PlanCut(p.o)
	if err != nil || !plan.Needed {
		t.Fatalf("%+v, %v", plan, err)
	}
	content := map[string]string{}
	for _, name := range logs {
		b, err := readWhole(p.mem, path.Join(p.o.Dir, name), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		content[name] = string(b)
	}
	for at := 1; ; at++ {
		mem := p.mem.Clone()
		power := &power{at: at, rng: rng}
		o := p.o
		o.FS, o.AcceptLoss, o.AcceptedLast = vfs.Inject(mem, power), true, plan.KeptLast
		l, _, err := Open(o)
		if err == nil {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
		again := mem.Crash(rng)
		o.FS = again
		l, rec, err2 := Open(o)
		if err2 != nil {
			t.Fatalf("after change %d: %v", at, err2)
		}
		if l.LastIndex() != plan.KeptLast {
			t.Fatalf("after change %d: %d instead of %d", at, l.LastIndex(), plan.KeptLast)
		}
		holds(t, p, l, rec, plan.KeptLast)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		for name, want := range content {
			got, aside := readIf(t, again, path.Join(o.Dir, name)), ""
			names, err := CutAside(again, o.Dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range names {
				if strings.HasPrefix(c, name) {
					aside += readIf(t, again, path.Join(o.Dir, c))
				}
			}
			if got+aside != want {
				t.Fatalf("after change %d: %s: %d and %d bytes (%v) of %d, or others", at, name, len(got), len(aside), names, len(want))
			}
		}
		if err == nil {
			t.Logf("%d changes", at)
			return
		}
	}
}

func readIf(t *testing.T, fs vfs.FS, name string) string {
	b, err := readWhole(fs, name, 1<<20)
	if err != nil && !vfs.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(b)
}

// A note of an accepted loss that a refill overtook goes with it: it is of another log.
func TestEndRefillDropsTheNote(t *testing.T) {
	p := newPatient(t, rand.New(rand.NewPCG(1, 1)), testGroup)
	if err := errors.Join(BeginRefill(p.mem, p.o.Dir), SetAside(p.mem, p.o.Dir), AcceptLoss(p.mem, p.o.Dir, 9), EndRefill(p.mem, p.o.Dir)); err != nil {
		t.Fatal(err)
	}
	if _, is, err := LossAccepted(p.mem, p.o.Dir); is || err != nil {
		t.Fatalf("accepted: %v, %v", is, err)
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
	if err := AcceptLoss(p.mem, p.o.Dir, 9); err != nil {
		t.Fatal(err)
	}
	r, err := InspectDir(p.mem, p.o.Dir, nil)
	if err != nil || strings.Contains(strings.Join(r.Problems, " "), acceptName) {
		t.Fatalf("%v, %v", r.Problems, err)
	}
	var fs vfs.FS = p.mem
	if _, is, err := LossAccepted(fs, p.o.Dir+"/nowhere"); is || err != nil {
		t.Fatalf("nowhere: %v, %v", is, err)
	}
}
