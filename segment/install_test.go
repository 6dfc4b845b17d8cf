package segment

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	"lograft/segment/vfs"
)

// source is a log with sealed segments, some of its front trimmed, and the twin of what it holds.
func newSource(t testing.TB, rng *rand.Rand, o Options) (*Log, []Frame) {
	t.Helper()
	o.FS = vfs.NewMem()
	l, _ := mustOpen(t, o)
	m := newMaker(rng)
	var want []Frame
	for len(l.ClosedLasts()) < 7 {
		f := m.next()
		want = append(want, f)
		mustAppend(t, l, f)
		if rng.IntN(8) == 0 {
			m.term++
		}
	}
	mustSync(t, l)
	lasts := l.ClosedLasts()
	sealAll(t, l, lasts[5])
	if rng.IntN(2) == 0 {
		if err := l.TruncateFront(lasts[rng.IntN(6)]); err != nil {
			t.Fatal(err)
		}
	}
	return l, want
}

// manifest returns the newest manifest of l, pinned.
func manifest(t testing.TB, l *Log) (Manifest, *Pin) {
	t.Helper()
	task := l.BeginManifest()
	if task == nil {
		t.Fatal("no manifest")
	}
	task.Do()
	if err := l.EndManifest(task); err != nil {
		t.Fatal(err)
	}
	m, err := DecodeManifest(task.Manifest.Encode(), l.o.Group)
	if err != nil {
		t.Fatal(err)
	}
	return m, task.Pin
}

// pull moves up to n bytes from the source's pinned files into st.
func pull(pin *Pin, st *Staging, chunk, n int) error {
	for n > 0 {
		base, off, more := st.Next()
		if !more {
			return nil
		}
		task, err := pin.Range(base, off, chunk)
		if err != nil {
			return err
		}
		task.Do()
		if task.Err != nil {
			return task.Err
		}
		if err := st.Write(base, off, task.Data); err != nil {
			return err
		}
		n -= len(task.Data)
	}
	return nil
}

func stage(l *Log, m Manifest) (*Staging, error) {
	st, err := l.Stage(m)
	if err != nil {
		return nil, err
	}
	return st, st.Open()
}

// install stages all of m in l and installs it; mark is called where the journal would sync the mark.
func install(l *Log, m Manifest, pin *Pin, mark func(SnapshotMark)) error {
	st, err := stage(l, m)
	if err != nil {
		return err
	}
	if err := pull(pin, st, 700, 1<<30); err != nil {
		return err
	}
	task, err := l.BeginInstall(st)
	if err != nil {
		return err
	}
	err = task.Prepare()
	if err == nil {
		mark(task.Mark())
		err = task.Do()
	}
	_, err = l.EndInstall(task, err)
	return err
}

// checkInstalled compares l with the source as of m, and that it goes on like the source does.
func checkInstalled(l *Log, m Manifest, want []Frame) error {
	n := int(m.Last.Index - 1)
	if err := checkLog(l, Start{Index: 1, Term: 1}, want[:n]); err != nil {
		return err
	}
	if l.FirstIndex() != m.Start.Index+1 || l.Durable() != m.Last.Index {
		return fmt.Errorf("it begins at %d, is durable up to %d", l.FirstIndex(), l.Durable())
	}
	index, state, ok := l.Checkpoint()
	if !ok || index != m.Last.Index || string(state) != string(m.Checkpoint) {
		return fmt.Errorf("checkpoint %d %q %t", index, state, ok)
	}
	if err := l.Append(want[n:]); err != nil {
		return err
	}
	t := l.BeginSync()
	if err := l.EndSync(t, t.Do()); err != nil {
		return err
	}
	if err := checkLog(l, Start{Index: 1, Term: 1}, want); err != nil {
		return err
	}
	return l.Verify()
}

// sameFiles says which segment file of two logs differs.
func sameFiles(t testing.TB, a, b *Log) {
	t.Helper()
	for _, s := range a.segs {
		if s.sealed {
			name := segmentName(s.head.base)
			if string(readAll(t, a.o.FS, a.path(name))) != string(readAll(t, b.o.FS, b.path(name))) {
				t.Errorf("%s differs", name)
			}
		}
	}
}

// receiver is a log that lags behind the source, perhaps with sealed segments of its own, perhaps with entries that were never
// committed.
func newReceiver(t testing.TB, rng *rand.Rand, o Options, want []Frame) *Log {
	t.Helper()
	l, _ := mustOpen(t, o)
	n := rng.IntN(len(want))
	if n > 0 {
		mustAppend(t, l, want[:n]...)
	}
	mustSync(t, l)
	if rng.IntN(3) > 0 {
		sealAll(t, l, l.LastIndex())
	}
	if rng.IntN(2) == 0 {
		m := &maker{rng: rng, index: l.LastIndex(), term: l.LastTerm(), offset: l.NextOffset(), time: l.LastAppendTime()}
		mustAppend(t, l, m.frames(1+rng.IntN(60))...)
		mustSync(t, l)
	}
	return l
}

// A log that lags, is empty, or holds what was never committed becomes the snapshot, file for file, and goes on from there; what it had
// sealed itself is not fetched again.
func TestInstall(t *testing.T) {
	rng := newRand(t, flagOrEnv(*crashSeed, "SEGMENT_SEED", 1))
	reused := false
	for range 60 {
		o := testOptions(nil)
		src, want := newSource(t, rng, o)
		m, pin := manifest(t, src)
		o.FS = vfs.NewMem()
		l := newReceiver(t, rng, o, want)
		st, err := stage(l, m)
		if err != nil {
			t.Fatal(err)
		}
		have, _ := st.Have()
		reused = reused || have > 0
		if m.Last.Index < l.FirstIndex()-1 {
			continue
		}
		if err := install(l, m, pin, func(SnapshotMark) {}); err != nil {
			t.Fatal(err)
		}
		if err := checkInstalled(l, m, want); err != nil {
			t.Fatalf("%v\n%+v", err, m.Last)
		}
		sealAll(t, l, src.segs[len(src.segs)-1].head.prev.index)
		sealAll(t, src, src.segs[len(src.segs)-1].head.prev.index)
		sameFiles(t, src, l)
		names, err := o.FS.List(o.Dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			if isStaged(n) {
				t.Errorf("%s was left behind", n)
			}
		}
	}
	if !reused {
		t.Error("no segment was reused")
	}
}

// A power cut at every single file change of staging and installing leaves, after recovery, the old log or the new one, whole; the new
// one always if the mark was durable; and a staging that was interrupted goes on where it was.
func TestInstallCrash(t *testing.T) {
	seed := flagOrEnv(*crashSeed, "SEGMENT_SEED", 1)
	t.Logf("seed %d", seed)
	saw := map[string]int{}
	for s := seed; s < seed+6; s++ {
		for at := 1; ; at++ {
			more, err := installCrash(t, s, at, saw)
			if err != nil {
				t.Fatalf("seed %d, crash at change %d: %v", s, at, err)
			}
			if !more {
				break
			}
		}
	}
	t.Logf("saw %v", saw)
	for _, what := range []string{"old", "new", "swap finished", "resumed"} {
		if saw[what] == 0 {
			t.Errorf("no crash saw %s", what)
		}
	}
}

func installCrash(t *testing.T, seed uint64, at int, saw map[string]int) (more bool, err error) {
	rng := rand.New(rand.NewPCG(seed, 5))
	o := testOptions(nil)
	src, want := newSource(t, rng, o)
	m, pin := manifest(t, src)
	mem := vfs.NewMem()
	o.FS = mem
	l := newReceiver(t, rng, o, want)
	old := map[uint64]Frame{}
	if err := l.Scan(l.FirstIndex(), func(f Frame) error { old[f.Index] = f; return nil }); err != nil {
		return false, err
	}
	oldLast := l.LastIndex()
	if err := l.Close(); err != nil {
		return false, err
	}
	p := &power{rng: rand.New(rand.NewPCG(seed, uint64(at)))}
	o.FS = vfs.Inject(mem, p)
	l, _ = mustOpen(t, o)
	p.mu.Lock()
	p.n, p.at = 0, at
	p.mu.Unlock()
	var mark SnapshotMark
	err = install(l, m, pin, func(k SnapshotMark) { mark = k })
	if err == nil {
		p.at = 0
		if err := checkInstalled(l, m, want); err != nil {
			return false, err
		}
		// What was appended and synced since is not swapped away by a later start that still finds the mark.
		for range 8 {
			o.FS, o.Snapshot = mem.Crash(p.rng), mark
			l, rec, err := Open(o)
			if err != nil {
				return false, err
			}
			if err := checkLog(l, Start{Index: 1, Term: 1}, want); err != nil {
				return false, fmt.Errorf("after a crash behind the install: %w %+v", err, rec)
			}
		}
		return false, nil
	}
	if !errors.Is(err, errPower) {
		return false, err
	}
	o.Snapshot = mark
	for range 2 { // the second crash is in recovery
		mem = mem.Crash(p.rng)
		p = &power{rng: p.rng, at: 1 + p.rng.IntN(12)}
		o.FS = vfs.Inject(mem, p)
		if l, _, err := Open(o); err == nil {
			if err := l.Close(); err != nil {
				return false, err
			}
		} else if !errors.Is(err, errPower) {
			return false, err
		}
	}
	mem = mem.Crash(p.rng)
	o.FS = mem
	l, rec, err := Open(o)
	if err != nil {
		return false, err
	}
	if rec.InstallFinished {
		saw["swap finished"]++
	}
	if mark.Index > 0 && l.LastIndex() == m.Last.Index && l.FirstIndex() == m.Start.Index+1 {
		saw["new"]++
		return true, checkInstalled(l, m, want)
	}
	saw["old"]++
	if mark.Index > 0 {
		return false, fmt.Errorf("the mark was durable and the log is the old one: [%d, %d], %+v", l.FirstIndex(), l.LastIndex(), rec)
	}
	if l.LastIndex() != oldLast {
		return false, fmt.Errorf("it ends at %d, the old one at %d", l.LastIndex(), oldLast)
	}
	if err := l.Scan(l.FirstIndex(), func(f Frame) error {
		if !same(f, old[f.Index]) {
			return fmt.Errorf("entry %d differs", f.Index)
		}
		return nil
	}); err != nil {
		return false, err
	}
	st, err := stage(l, m)
	if err != nil {
		return false, err
	}
	if names, _ := o.FS.List(o.Dir); strings.Contains(fmt.Sprint(names), partSuffix) || strings.Contains(fmt.Sprint(names), stageSuffix) {
		saw["resumed"]++
	}
	if err := pull(pin, st, 999, 1<<30); err != nil {
		return false, err
	}
	if err := install(l, m, pin, func(SnapshotMark) {}); err != nil {
		return false, err
	}
	return true, checkInstalled(l, m, want)
}

// What a sender sends is believed only after its last byte: a flipped one drops the file, and the next try takes it.
func TestStagingRefusesOtherBytes(t *testing.T) {
	rng := newRand(t, 3)
	o := testOptions(nil)
	src, want := newSource(t, rng, o)
	m, pin := manifest(t, src)
	if len(m.Segments) == 0 {
		t.Skip("the source was trimmed to nothing")
	}
	o.FS = vfs.NewMem()
	l, _ := mustOpen(t, o)
	st, err := stage(l, m)
	if err != nil {
		t.Fatal(err)
	}
	file := readAll(t, src.o.FS, src.path(segmentName(m.Segments[0].Base)))
	for _, at := range []int{3, 70, 126, 130, 200, len(file) / 2, len(file) - 200, len(file) - 20} {
		bad := append([]byte(nil), file...)
		bad[at] ^= 1
		if err := st.Write(m.Segments[0].Base, 0, bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("byte %d flipped: %v", at, err)
		}
	}
	if err := st.Write(m.Segments[0].Base, 10, file[10:]); !errors.Is(err, ErrInvalid) {
		t.Errorf("a gap: %v", err)
	}
	if err := st.Write(m.Segments[0].Base, 0, append(file[:len(file):len(file)], 1)); !errors.Is(err, ErrInvalid) {
		t.Errorf("a file too long: %v", err)
	}
	if err := install(l, m, pin, func(SnapshotMark) {}); err != nil {
		t.Fatal(err)
	}
	if err := checkInstalled(l, m, want); err != nil {
		t.Fatal(err)
	}
}

// A pinned segment can be read to its end after a trim dropped it; its file goes with the pin, or with the next start.
func TestPinOutlivesTrim(t *testing.T) {
	for _, restart := range []bool{false, true} {
		rng := newRand(t, 4)
		o := testOptions(nil)
		var src *Log
		var m Manifest
		var pin *Pin
		for len(m.Segments) == 0 {
			src, _ = newSource(t, rng, o)
			m, pin = manifest(t, src)
		}
		first := m.Segments[0]
		name := src.path(segmentName(first.Base))
		file := readAll(t, src.o.FS, name)
		if err := src.TruncateFront(first.Last); err != nil {
			t.Fatal(err)
		}
		task, err := pin.Range(first.Base, 0, RangeBytesMax)
		if err != nil {
			t.Fatal(err)
		}
		if task.Do(); task.Err != nil || string(task.Data) != string(file) {
			t.Fatalf("pinned file: %d bytes, %v", len(task.Data), task.Err)
		}
		if _, err := src.Pin(&m); !errors.Is(err, ErrUnavailable) {
			t.Errorf("a dropped segment was pinned anew: %v", err)
		}
		if restart {
			o = src.o
			if err := src.Close(); err != nil {
				t.Fatal(err)
			}
			src, _ = mustOpen(t, o)
		} else {
			src.Unpin(pin)
			src.Unpin(pin)
		}
		if _, _, err := src.o.FS.Stat(name); !vfs.IsNotExist(err) {
			t.Errorf("restart %t: the file is still there: %v", restart, err)
		}
		if err := src.Verify(); err != nil {
			t.Error(err)
		}
	}
}

// The checkpoint of the last dropped segment stays, and a log trimmed to nothing still gives a manifest.
func TestManifestAfterTrim(t *testing.T) {
	rng := newRand(t, 5)
	o := testOptions(vfs.NewMem())
	l, _ := mustOpen(t, o)
	if l.BeginManifest() != nil {
		t.Error("a newborn log gave a manifest: it has no checkpoint")
	}
	m := newMaker(rng)
	for len(l.ClosedLasts()) < 3 {
		mustAppend(t, l, m.next())
	}
	mustSync(t, l)
	last := l.ClosedLasts()[2]
	sealAll(t, l, last)
	if err := l.TruncateFront(last); err != nil {
		t.Fatal(err)
	}
	check := func(l *Log) {
		t.Helper()
		mf, pin := manifest(t, l)
		if len(mf.Segments) != 0 || mf.Last.Index != last || string(mf.Checkpoint) != string(stateOf(last)) {
			t.Fatalf("manifest as of %d with %d segments, checkpoint %q", mf.Last.Index, len(mf.Segments), mf.Checkpoint)
		}
		to := o
		to.FS = vfs.NewMem()
		r, _ := mustOpen(t, to)
		if err := install(r, mf, pin, func(SnapshotMark) {}); err != nil {
			t.Fatal(err)
		}
		if r.FirstIndex() != last+1 || r.NextOffset() != l.StartOffset() || r.limitAt(last+1) != l.limitAt(last+1) {
			t.Errorf("installed: first %d, offset %d", r.FirstIndex(), r.NextOffset())
		}
	}
	check(l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, _ = mustOpen(t, o)
	check(l)
	// The start file is lost: the empty first segment says the same.
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	replace(t, o.FS, path.Join(o.Dir, startName), []byte("rot"))
	l, rec := mustOpen(t, o)
	if !rec.StartDamaged {
		t.Error("nobody noticed the start file")
	}
	check(l)
}
