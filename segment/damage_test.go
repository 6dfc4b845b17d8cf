package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"path"
	"slices"
	"syscall"
	"testing"

	"lograft/segment/vfs"
)

// patient is a small log with sealed, closed and active segments, the twin of what it holds, and what its journal says.
type patient struct {
	o      Options
	mem    *vfs.Mem
	peer   *Log    // a healthy replica that has sealed all that is closed
	frames []Frame // from index 2 on
	floor  uint64  // entries up to here were durable
}

func newPatient(t testing.TB, rng *rand.Rand, group GroupID) *patient {
	t.Helper()
	p := &patient{mem: vfs.NewMem()}
	p.o = testOptions(p.mem)
	p.o.SegmentBytes, p.o.Group = 900, group
	p.o.LimitOf = nil
	m := newMaker(rng)
	l, _ := mustOpen(t, p.o)
	for len(l.ClosedLasts()) < 5 || l.segs[len(l.segs)-1].count() < 3 || l.LastIndex() < 20 {
		f := m.next()
		p.frames = append(p.frames, f)
		mustAppend(t, l, f)
		if rng.IntN(6) == 0 {
			m.term++
		}
	}
	mustSync(t, l)
	sealAll(t, l, l.ClosedLasts()[2])
	p.floor = l.LastIndex() - 2
	p.o.CommitFloor = p.floor - 3
	s := l.active()
	pos, err := l.positionOf(len(l.segs)-1, p.floor+1)
	if err != nil {
		t.Fatal(err)
	}
	p.o.Mark = Mark{Index: p.floor, Term: p.frames[p.floor-2].Term, Position: pos, SegmentBase: s.head.base}
	if err := l.Verify(); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	p.mem = p.mem.Clone()
	o := p.o
	o.FS, o.Mark, o.CommitFloor = p.mem.Clone(), Mark{}, 0
	p.peer, _ = mustOpen(t, o)
	sealAll(t, p.peer, p.peer.LastIndex())
	return p
}

func (p *patient) files(t testing.TB) []string {
	t.Helper()
	names, err := p.mem.List(p.o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(names, func(n string) bool { return path.Ext(n) != logSuffix && path.Ext(n) != stateSuffix })
}

// replace writes a file anew.
func replace(t testing.TB, fs vfs.FS, name string, data []byte) {
	t.Helper()
	if err := fs.Remove(name); err != nil && !vfs.IsNotExist(err) {
		t.Fatal(err)
	}
	f, err := fs.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		t.Fatal(err)
	}
}

// judge opens a damaged copy and holds it against the verdict table: what was durable is there, the same bytes, or named as
// damaged; what was not is there or cut; nothing else is ever answered. Then it repairs what it can from the twin.
func (p *patient) judge(mem *vfs.Mem) (rec Recovery, repaired bool, err error) {
	o := p.o
	o.FS = mem
	l, rec, err := Open(o)
	if err != nil {
		return rec, false, fmt.Errorf("open: %w", err)
	}
	if err := p.compare(l); err != nil {
		return rec, false, fmt.Errorf("after open: %w (%+v)", err, rec)
	}
	verifyErr := l.Verify()
	if err := p.compare(l); err != nil {
		return rec, false, fmt.Errorf("after verify: %w (%+v)", err, rec)
	}
	if (len(l.Faulty()) > 0) != errors.Is(verifyErr, ErrFaulty) {
		return rec, false, fmt.Errorf("damage %v, verify says %w", l.Faulty(), verifyErr)
	}
	if verifyErr != nil && !errors.Is(verifyErr, ErrFaulty) {
		return rec, false, fmt.Errorf("verify: %w", verifyErr)
	}
	if err := p.heal(l); errors.Is(err, errNothingNew) {
		return rec, false, l.Close()
	} else if err != nil {
		return rec, false, fmt.Errorf("repair: %w (%+v)", err, rec)
	}
	if err := l.Verify(); err != nil {
		return rec, false, fmt.Errorf("after repair: %w", err)
	}
	if err := checkLog(l, o.Start, p.frames[:l.LastIndex()-1]); err != nil {
		return rec, false, fmt.Errorf("after repair: %w", err)
	}
	if l.LastIndex() < p.floor {
		return rec, false, fmt.Errorf("after repair: it ends with entry %d, durable was %d", l.LastIndex(), p.floor)
	}
	if err := p.sameFiles(l); err != nil {
		return rec, false, fmt.Errorf("after repair: %w", err)
	}
	if err := l.Close(); err != nil {
		return rec, false, err
	}
	o.JournalDamaged = false
	l, again, err := Open(o)
	if err != nil || len(again.Faulty) > 0 || again.Last < p.floor {
		return rec, false, fmt.Errorf("opened again after repair: %w (%+v)", err, again)
	}
	return rec, true, l.Close()
}

// errNothingNew: only the next entry of a leader would end the damage, and the twin has none.
var errNothingNew = errors.New("nothing to append")

// heal repairs every damaged range of l from a healthy replica, by entries in portions and by whole files, until nothing is left.
func (p *patient) heal(l *Log) error {
	var err error
	for round := 0; len(l.Faulty()) > 0; round++ {
		if round > 200 {
			return fmt.Errorf("no end: %v: %w", l.Faulty(), err)
		}
		r := l.Faulty()[0]
		switch {
		case r.Lost:
			err = p.refetch(l, r.From)
		case r.To == 0 && int(r.From-2) >= len(p.frames):
			return errNothingNew
		case r.To == 0: // a leader overwrites what nobody knows the end of
			err = l.Append(p.frames[r.From-2:])
			if t := l.BeginSync(); err == nil && t != nil {
				err = l.EndSync(t, t.Do())
			}
		default:
			to := min(r.To, r.From+uint64(round%3))
			err = l.Repair(p.frames[r.From-2 : to-1])
		}
		if err != nil && !errors.Is(err, ErrFaulty) {
			return fmt.Errorf("%v: %w", r, err)
		}
	}
	return nil
}

// refetch brings back the lost file that begins with entry base.
func (p *patient) refetch(l *Log, base uint64) error {
	task := p.peer.BeginManifest()
	task.Do()
	if err := p.peer.EndManifest(task); err != nil {
		return err
	}
	defer p.peer.Unpin(task.Pin)
	st, err := l.Stage(task.Manifest)
	if err != nil {
		return err
	}
	st.Want(base)
	if err := st.Open(); err != nil {
		return err
	}
	if err := pull(task.Pin, st, 500, 1<<30); err != nil {
		return err
	}
	return l.InstallSegment(st, base)
}

// sameFiles compares the closed segments of l with the healthy replica's, byte by byte up to the footers.
func (p *patient) sameFiles(l *Log) error {
	for k, s := range l.segs {
		want := p.peer.segs[k]
		if want.head != s.head {
			return fmt.Errorf("%s has the header %+v, the healthy one %+v", segmentName(s.head.base), s.head, want.head)
		}
		if s.sealed && s.summary() != want.summary() {
			return fmt.Errorf("%s is %+v, the healthy one %+v", segmentName(s.head.base), s.summary(), want.summary())
		}
	}
	return nil
}

func (p *patient) compare(l *Log) error {
	faulty := l.Faulty()
	for _, want := range p.frames {
		i := want.Index
		bad := slices.ContainsFunc(faulty, func(r FaultyRange) bool { return r.contains(i) })
		if i > l.LastIndex() {
			if i <= p.floor && !bad {
				return fmt.Errorf("entry %d was durable, the log ends at %d", i, l.LastIndex())
			}
			continue
		}
		if term, err := l.Term(i); err == nil && term != want.Term || err != nil && !(bad && errors.Is(err, ErrFaulty)) {
			return fmt.Errorf("term of %d: %d %v, want %d", i, term, err, want.Term)
		}
		f, err := l.FrameAt(i)
		if err == nil && !same(f, want) {
			return fmt.Errorf("entry %d has other bytes", i)
		}
		if err != nil && !errors.Is(err, ErrFaulty) {
			return fmt.Errorf("entry %d: %w", i, err)
		}
		if err == nil && bad {
			return fmt.Errorf("entry %d is named as damaged and was read", i)
		}
	}
	return nil
}

// Every byte of a small log, flipped alone: it is repaired, cut if it was not durable, or harmless; never believed.
func TestEveryByteFlipped(t *testing.T) {
	rng := newRand(t, flagOrEnv(*crashSeed, "SEGMENT_SEED", 1))
	p := newPatient(t, rng, testGroup)
	flips, repaired, torn, faulty := 0, 0, 0, 0
	for _, name := range p.files(t) {
		name = path.Join(p.o.Dir, name)
		size := int64(len(readAll(t, p.mem, name)))
		for at := range size {
			mem := p.mem.Clone()
			mask := byte(1) << rng.IntN(8)
			if err := mem.Corrupt(name, at, mask); err != nil {
				t.Fatal(err)
			}
			rec, ok, err := p.judge(mem)
			if err != nil {
				t.Fatalf("%s byte %d mask %#x: %v", name, at, mask, err)
			}
			if len(rec.Faulty) > 1 || len(rec.Faulty) == 1 && rec.Faulty[0].From != rec.Faulty[0].To && rec.LastKnown {
				t.Fatalf("%s byte %d: one flipped byte costs %v", name, at, rec.Faulty)
			}
			if !ok {
				t.Fatalf("%s byte %d: %v was not repaired", name, at, rec.Faulty)
			}
			flips++
			if ok {
				repaired++
			}
			if rec.TornFrom > 0 {
				torn++
			}
			if len(rec.Faulty) > 0 {
				faulty++
			}
		}
	}
	t.Logf("%d flips: %d logs whole after repair, %d with a torn tail, %d with damage found at open", flips, repaired, torn, faulty)
	if torn == 0 || faulty == 0 {
		t.Fatal("the flips did not meet every verdict")
	}
}

// Every file cut to every length, and missing.
func TestEveryTruncation(t *testing.T) {
	rng := newRand(t, flagOrEnv(*crashSeed, "SEGMENT_SEED", 1))
	p := newPatient(t, rng, testGroup)
	for _, name := range p.files(t) {
		name = path.Join(p.o.Dir, name)
		whole := readAll(t, p.mem, name)
		for n := -1; n < len(whole); n++ {
			mem := p.mem.Clone()
			if n < 0 {
				if err := mem.Remove(name); err != nil {
					t.Fatal(err)
				}
			} else {
				replace(t, mem, name, whole[:n])
			}
			if _, ok, err := p.judge(mem); err != nil || !ok {
				t.Fatalf("%s cut to %d of %d: repaired %t, %v", name, n, len(whole), ok, err)
			}
		}
	}
}

// Damage that comes while the log is open: a scrub finds every flipped byte and every lost file, and after the repair the files are
// what they were, byte for byte.
func TestScrub(t *testing.T) {
	rng := newRand(t, flagOrEnv(*crashSeed, "SEGMENT_SEED", 1))
	p := newPatient(t, rng, testGroup)
	o := p.o
	mem := p.mem.Clone()
	o.FS, o.TailCacheBytes = mem, 1
	l, _ := mustOpen(t, o)
	sealAll(t, l, l.ClosedLasts()[0]) // opened and sealed ones, and two that stay unsealed
	names := slices.DeleteFunc(p.files(t), func(n string) bool { return path.Ext(n) == stateSuffix })
	verify := func() (found []FaultyRange, meta int) {
		t.Helper()
		for task := l.BeginVerify(0); task != nil; task = l.BeginVerify(task.Last + 1) {
			for !task.Step(200) {
			}
			if task.Err != nil {
				t.Fatal(task.Err)
			}
			if task.Header || task.Footer || task.State {
				meta++
			}
			new, err := l.EndVerify(task)
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, new...)
		}
		return found, meta
	}
	for _, name := range names {
		full := path.Join(p.o.Dir, name)
		base, _ := baseOfName(name, logSuffix)
		s := l.segs[l.segmentOf(base)]
		was := slices.Clone(readAll(t, mem, full))
		for at := int64(-1); at < int64(len(was)); at++ {
			switch {
			case at < 0 && !s.sealed || !s.sealed && at < segmentHeaderBytes:
				continue // the header of an open file is checked when it is opened next
			case at < 0:
				if s.file != nil {
					l.retire(s)
				}
				if err := mem.Remove(full); err != nil {
					t.Fatal(err)
				}
			default:
				if err := mem.Corrupt(full, at, 1<<rng.IntN(8)); err != nil {
					t.Fatal(err)
				}
			}
			found, meta := verify()
			if len(found)+meta != 1 || len(found) == 1 && at >= 0 && found[0].From != found[0].To {
				t.Fatalf("%s byte %d: found %v and %d headers or footers", name, at, found, meta)
			}
			if err := p.heal(l); err != nil {
				t.Fatalf("%s byte %d: %v", name, at, err)
			}
			if found, meta := verify(); len(found)+meta > 0 {
				t.Fatalf("%s byte %d: after the repair: %v, %d", name, at, found, meta)
			}
			if string(readAll(t, mem, full)) != string(was) {
				t.Fatalf("%s byte %d: the repaired file is another one", name, at)
			}
		}
	}
	if err := mem.Corrupt(l.path(stateName(l.segs[1].head.base)), 30, 1); err != nil {
		t.Fatal(err)
	}
	if _, meta := verify(); meta != 1 || l.segs[1].state {
		t.Errorf("a bad checkpoint: found %d", meta)
	}
	if err := l.Verify(); err != nil {
		t.Error(err)
	}
	mustCheck(t, l, o.Start, p.frames)
}

// A sector that can't be read costs its entries, at open and while running, and no more.
func TestUnreadableSector(t *testing.T) {
	rng := newRand(t, flagOrEnv(*crashSeed, "SEGMENT_SEED", 1))
	p := newPatient(t, rng, testGroup)
	for _, name := range p.files(t) {
		if path.Ext(name) == stateSuffix {
			continue
		}
		full := path.Join(p.o.Dir, name)
		size := int64(len(readAll(t, p.mem, full)))
		for at := int64(0); at < size; at += 97 {
			lost := true
			rot := vfs.InjectorFunc(func(c vfs.Call) vfs.Fault {
				if lost && c.Op == vfs.OpRead && c.Path == full && c.Offset <= at && c.Offset+int64(c.Bytes) > at {
					return vfs.Fault{Err: syscall.EIO}
				}
				if c.Op == vfs.OpWrite && c.Path == full && c.Offset <= at && c.Offset+int64(c.Bytes) > at {
					lost = false
				}
				return vfs.Fault{}
			})
			o := p.o
			mem := p.mem.Clone()
			o.FS = vfs.Inject(mem, rot)
			l, rec, err := Open(o)
			if err != nil {
				t.Fatalf("%s byte %d unreadable: %v", name, at, err)
			}
			if err := p.compare(l); err != nil && lost {
				t.Fatalf("%s byte %d unreadable: %v %+v", name, at, err, rec)
			}
			if err := l.Verify(); err != nil && !errors.Is(err, ErrFaulty) {
				t.Fatalf("%s byte %d unreadable: %v", name, at, err)
			}
			if err := p.heal(l); err != nil && !errors.Is(err, errNothingNew) {
				t.Fatalf("%s byte %d unreadable: %v", name, at, err)
			}
			lost = false
			if err := l.Verify(); err != nil {
				t.Fatalf("%s byte %d unreadable: after the repair: %v", name, at, err)
			}
			if err := checkLog(l, o.Start, p.frames[:l.LastIndex()-1]); err != nil || l.LastIndex() < p.floor {
				t.Fatalf("%s byte %d unreadable: after the repair: %v", name, at, err)
			}
		}
	}
}

// Zeros, garbage, older blocks, swapped files, files of another group, and lengths of 4 GiB, many at once.
func TestWildDamage(t *testing.T) {
	seed := flagOrEnv(*crashSeed, "SEGMENT_SEED", 1)
	rng := newRand(t, seed)
	p := newPatient(t, rng, testGroup)
	other := newPatient(t, rand.New(rand.NewPCG(seed, 77)), GroupID{9})
	names := p.files(t)
	runs, known := 1500, 0
	if testing.Short() {
		runs = 200
	}
	for run := range runs {
		mem := p.mem.Clone()
		var did []string
		for range 1 + rng.IntN(3) {
			did = append(did, p.harm(t, rng, mem, other, names))
		}
		o := p.o
		p.o.JournalDamaged = rng.IntN(5) == 0
		rec, _, err := p.judge(mem)
		if err != nil && !contradiction(err) {
			t.Fatalf("seed %d run %d, %v: %v", seed, run, did, err)
		}
		if rec.LastKnown {
			known++
		}
		p.o = o
	}
	if known == 0 || known == runs {
		t.Fatalf("%d of %d logs knew their end", known, runs)
	}
}

// contradiction reports whether Open refused the log as a whole, which quarantines it.
func contradiction(err error) bool {
	var oe *openError
	return errors.As(err, &oe)
}

func (p *patient) harm(t testing.TB, rng *rand.Rand, mem *vfs.Mem, other *patient, names []string) string {
	name := path.Join(p.o.Dir, names[rng.IntN(len(names))])
	if _, _, err := mem.Stat(name); err != nil {
		return "nothing"
	}
	b := slices.Clone(readAll(t, mem, name))
	if len(b) == 0 {
		return "nothing"
	}
	at := rng.IntN(len(b))
	n := min(1+rng.IntN(600), len(b)-at)
	kind := rng.IntN(7)
	switch kind {
	case 0:
		clear(b[at : at+n])
	case 1:
		for i := range b[at : at+n] {
			b[at+i] = byte(rng.Uint32())
		}
	case 2:
		from := rng.IntN(len(b) - n + 1)
		copy(b[at:at+n], b[from:from+n])
	case 3:
		second := path.Join(p.o.Dir, names[rng.IntN(len(names))])
		if _, _, err := mem.Stat(second); err != nil || path.Ext(second) != path.Ext(name) {
			return "nothing"
		}
		c := slices.Clone(readAll(t, mem, second))
		replace(t, mem, second, b)
		b = c
	case 4:
		if _, _, err := other.mem.Stat(name); err != nil {
			return "nothing"
		}
		b = readAll(t, other.mem, name)
	case 5:
		if len(b) < segmentHeaderBytes+payloadBytesLeft {
			return "nothing"
		}
		f := b[segmentHeaderBytes:]
		binary.LittleEndian.PutUint32(f[4:], ^uint32(0)-uint32(rng.IntN(1000)))
		base, _ := baseOfName(path.Base(name), logSuffix)
		binary.LittleEndian.PutUint32(f, crc32.Update(saltOf(p.o.Group, base), castagnoli, f[4:frameHeaderBytes+batchSummedFrom]))
	case 6:
		for range rng.IntN(3000) {
			b = append(b, byte(rng.Uint32()))
		}
	}
	replace(t, mem, name, b)
	return fmt.Sprintf("harm %d to %s at %d+%d", kind, name, at, n)
}
