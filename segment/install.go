package segment

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"lograft/segment/vfs"
)

// InstallTask replaces a whole log by a staged snapshot (storage.md "Writing 7"). The order is the caller's to keep:
//
//	t := l.BeginInstall(staging)
//	t.Prepare()              any goroutine: the staged files are durable
//	journal t.Mark(), sync   it voids the group's persist mark
//	t.Do()                   any goroutine: the files are swapped and durable
//	l.EndInstall(t, err)     the log answers as the snapshot says
//
// Between BeginInstall and EndInstall the log takes no append, sync, seal or trim. A crash before the mark is durable leaves the old log;
// after it, Open with Options.Snapshot finishes the swap.
type InstallTask struct {
	log   *Log
	st    *Staging
	file  []byte
	fresh *Log
	rec   Recovery
}

// stagedManifest is the name of the manifest that the next swap is about. It is there only while a snapshot is being installed.
const stagedManifest = "manifest" + stageSuffix

// The staged manifest file: 40 bytes that say which log it is to replace, so that no two installs share a mark (u64 last index, u64 last
// term, i64 position, u64 segment base, u64 first index), then the manifest.
const replacesBytes = 40

// BeginInstall begins to install st, which is Ready. ErrInvalid: it is not, or it would take durable state back: its end must be at or
// after the log's start. ErrBusy: a conflict waits for its sync, or a seal is under way.
func (l *Log) BeginInstall(st *Staging) (*InstallTask, error) {
	m := &st.Manifest
	switch {
	case l.failed != nil:
		return nil, l.failed
	case !st.Ready() || len(st.files) != len(m.Segments):
		return nil, fmt.Errorf("%w: the staging is not complete", ErrInvalid)
	case m.Group != l.o.Group || m.Last.Index < l.start.Index:
		return nil, fmt.Errorf("%w: a snapshot of group %x as of entry %d, the log begins after %d", ErrInvalid, m.Group, m.Last.Index, l.start.Index)
	case len(l.queue) > 0:
		return nil, fmt.Errorf("%w: a conflict waits for its sync", ErrBusy)
	}
	for _, s := range l.segs {
		if s.sealing {
			return nil, fmt.Errorf("%w: %s is being sealed", ErrBusy, segmentName(s.head.base))
		}
	}
	for _, f := range st.files {
		if !f.own {
			continue
		}
		if k := l.segmentOf(f.Base); k < 0 || !l.segs[k].sealed || l.segs[k].summary() != f.SegmentSummary || l.damaged(l.segs[k]) {
			return nil, fmt.Errorf("%w: segment %d was to be kept and is not good any more: stage again", ErrInvalid, f.Base)
		}
	}
	end := l.endMark()
	b := binary.LittleEndian.AppendUint64(nil, end.Index)
	b = binary.LittleEndian.AppendUint64(b, end.Term)
	b = binary.LittleEndian.AppendUint64(b, uint64(end.Position))
	b = binary.LittleEndian.AppendUint64(b, end.SegmentBase)
	b = binary.LittleEndian.AppendUint64(b, l.start.Index)
	return &InstallTask{log: l, st: st, file: append(b, m.Encode()...)}, nil
}

// Mark is what the journal must durably hold between Prepare and Do.
func (t *InstallTask) Mark() SnapshotMark {
	m := &t.st.Manifest
	return SnapshotMark{Index: m.Last.Index, Term: m.Last.Term, Hash: sha256.Sum256(t.file), LogStart: m.Start.Offset}
}

// Prepare makes the staged files durable. Its error is handed to EndInstall.
func (t *InstallTask) Prepare() error {
	fs := t.st.fs
	if err := t.st.Close(); err != nil {
		return err
	}
	for i := range t.st.files {
		if f := &t.st.files[i]; !f.own {
			if err := syncFile(fs, t.st.path(f.stagedName(stageSuffix))); err != nil {
				return err
			}
		}
	}
	return writeFile(fs, t.st.dir, stagedManifest, t.file) // and the directory
}

func syncFile(fs vfs.FS, name string) error {
	f, err := fs.OpenRW(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Do swaps the files and opens the new log. Its error is handed to EndInstall.
func (t *InstallTask) Do() error {
	o := t.log.o
	if err := swap(o.FS, o.Dir, &t.st.Manifest); err != nil {
		return err
	}
	o.Mark, o.CommitFloor, o.Snapshot = Mark{}, 0, t.Mark()
	var err error
	t.fresh, t.rec, err = Open(o)
	return err
}

// EndInstall makes l the installed log. err, the result of Prepare or Do, stops it.
func (l *Log) EndInstall(t *InstallTask, err error) (Recovery, error) {
	if err != nil {
		return t.rec, l.fail(err)
	}
	if l.failed != nil {
		return t.rec, errors.Join(l.failed, t.fresh.Close())
	}
	for _, s := range l.segs {
		l.retire(s)
	}
	n := t.fresh
	l.start, l.startState, l.segs, l.last, l.next, l.time = n.start, n.startState, n.segs, n.last, n.next, n.time
	l.tail.forget()
	l.runs, l.limits, l.tail, l.durable = n.runs, n.limits, n.tail, n.durable
	l.faulty, l.nextUnknown, l.unplaced, l.overwrite = n.faulty, n.nextUnknown, n.unplaced, n.overwrite
	l.checkpoint, l.pins, l.doomed = n.checkpoint, nil, nil
	l.writes++
	l.dirDirty = 0
	l.gen++
	l.shared.add(l.gen, 0)
	l.cuts = append(l.cuts, cut{l.gen, l.durable}) // an older sync round publishes nothing of the old log
	return t.rec, l.failed
}

// InstallSegment puts the staged file of the segment that begins at base, which st has whole, in the place of a lost or damaged one, and
// syncs: the range that Faulty names for it shrinks or goes. The neighbours' headers must agree with it. It reads and writes files at
// once. Errors: ErrInvalid (nothing was changed), ErrBusy, or a file error, which stops the log.
func (l *Log) InstallSegment(st *Staging, base uint64) error {
	if l.failed != nil {
		return l.failed
	}
	i := slices.IndexFunc(st.files, func(f stagedFile) bool { return f.Base == base && f.ready && !f.own })
	if i < 0 {
		return fmt.Errorf("%w: segment %d is not staged", ErrInvalid, base)
	}
	if len(l.queue) > 0 {
		return fmt.Errorf("%w: a conflict waits for its sync", ErrBusy)
	}
	want := st.files[i].SegmentSummary
	staged := l.path(want.stagedName(stageSuffix))
	s, err := l.readSealed(staged, base)
	if err != nil {
		return err
	}
	k, held, err := l.placeFor(s, &want)
	if err != nil {
		return err
	}
	if err := errors.Join(st.Close(), syncFile(l.o.FS, staged)); err != nil {
		return l.fail(err)
	}
	if err := l.o.FS.Rename(staged, l.path(segmentName(base))); err != nil {
		return l.fail(err)
	}
	if err := l.o.FS.SyncDir(l.o.Dir); err != nil {
		return l.fail(err)
	}
	if held {
		s.state = l.segs[k].state
		l.retire(l.segs[k])
		l.segs[k] = s
	} else {
		l.segs = slices.Insert(slices.Clone(l.segs), k, s)
	}
	if k == len(l.segs)-1 {
		l.limits = append(l.limits[:0], limitRun{s.last.index, s.nextLimit})
	}
	l.spliceRuns(base, s.last.index, s.runs)
	s.runs = nil
	l.healed(base, s.last.index)
	return l.failed
}

// readSealed reads header and footer of a sealed segment's file.
func (l *Log) readSealed(name string, base uint64) (*segment, error) {
	f, err := l.o.FS.Open(name)
	if err != nil {
		return nil, err
	}
	head := make([]byte, segmentHeaderBytes)
	err = readFull(f, head, 0)
	var s *segment
	if err == nil {
		var h header
		if h, err = decodeHeader(head, l.o.Group, base); err == nil {
			s, err = l.sealedSegment(f, h)
		}
	}
	return s, errors.Join(err, f.Close())
}

func (l *Log) sealedSegment(f vfs.File, h header) (*segment, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	foot, err := readFooter(f, size, l.o.Group, h.base)
	if err != nil {
		return nil, err
	}
	s := newSegment(h)
	s.takeFooter(&foot, size)
	s.runs = foot.runs
	return s, nil
}

// placeFor returns where in segs the staged segment s belongs, and whether a damaged one is there (held).
func (l *Log) placeFor(s *segment, want *SegmentSummary) (k int, held bool, err error) {
	refuse := func(why string, args ...any) (int, bool, error) {
		return 0, false, fmt.Errorf("%w: segment [%d, %d]: %s", ErrInvalid, want.Base, want.Last, fmt.Sprintf(why, args...))
	}
	r := l.faultyIn(want.Base, want.Last)
	if r == nil {
		return refuse("no damaged range needs it")
	}
	k = l.segmentOf(want.Base)
	if held = k >= 0 && l.segs[k].head.base == want.Base; held {
		old := l.segs[k]
		switch {
		case old.sealing || !old.sealed && old == l.active():
			return refuse("%s is still written", segmentName(want.Base))
		case old.last.index != want.Last || old.head != s.head || old.sealed && old.sum != want.Hash:
			return refuse("the log says that it is [%d, %d] with other bytes", old.head.base, old.last.index)
		}
		return k, true, nil
	}
	if !r.Lost || r.From > want.Base || r.To < want.Last {
		return refuse("%v is not lost with its file", *r)
	}
	if k >= 0 {
		if p := l.segs[k]; p.last.index+1 == want.Base && (p.last != s.head.prev && !p.guessed || p.next != s.head.offset || p.sealed && p.sum != s.head.hash) {
			return refuse("it does not continue %s", segmentName(p.head.base))
		}
	}
	k++
	if k < len(l.segs) {
		if n := l.segs[k]; n.head.base == want.Last+1 && (n.head.prev != s.last || n.head.offset != s.next || n.head.hash != s.sum) {
			return refuse("%s does not continue it", segmentName(n.head.base))
		}
	}
	return k, false, nil
}

// faultyIn returns a damaged range that shares an entry with [from, to].
func (l *Log) faultyIn(from, to uint64) *FaultyRange {
	for i := range l.faulty {
		if r := &l.faulty[i]; r.From <= to && (r.To == 0 || r.To >= from) {
			return r
		}
	}
	return nil
}

// healed takes entries [from, to] out of the damaged ranges.
func (l *Log) healed(from, to uint64) {
	var left []FaultyRange
	for _, r := range l.faulty {
		if r.To != 0 && r.To < from || r.From > to {
			left = append(left, r)
			continue
		}
		if r.From < from {
			before := r
			before.To, before.End = from-1, 0
			left = append(left, before)
		}
		if r.To == 0 || r.To > to {
			r.From, r.Segment, r.Position = to+1, to+1, 0
			left = append(left, r)
		}
	}
	l.faulty = left
}

// swap puts the staged files of m in the place of a log's files. It may be run again after a crash anywhere in it. Own segments that m
// lists are in place already.
func swap(fs vfs.FS, dir string, m *Manifest) error {
	keep := map[string]bool{}
	for i := range m.Segments {
		s := &m.Segments[i]
		keep[segmentName(s.Base)] = true
		err := fs.Rename(path.Join(dir, s.stagedName(stageSuffix)), path.Join(dir, segmentName(s.Base)))
		if err != nil && !vfs.IsNotExist(err) {
			return err
		}
	}
	state := stateName(m.Last.Index)
	if n := len(m.Segments); n > 0 {
		state = stateName(m.Segments[n-1].Base)
	}
	keep[state] = true
	if err := writeFile(fs, dir, state, encodePoint(stateMagic, m.Group, m.Last, m.Checkpoint)); err != nil {
		return err
	}
	if err := writeFile(fs, dir, startName, encodePoint(startMagic, m.Group, m.Start, nil)); err != nil {
		return err
	}
	if len(m.Segments) == 0 {
		// A log never is without a file: its header says once more where the log begins.
		h := header{group: m.Group, base: m.Last.Index + 1, offset: m.Last.Offset, prev: entryID{m.Last.Index, m.Last.Term}, time: m.Last.AppendTime, hash: m.Last.Hash, limit: m.Last.Limit}
		keep[segmentName(h.base)] = true
		if err := writeFile(fs, dir, segmentName(h.base), h.encode()); err != nil {
			return err
		}
	}
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		old := path.Ext(name) == logSuffix || path.Ext(name) == stateSuffix || strings.HasSuffix(name, badSuffix) || isStaged(name) && name != stagedManifest
		if old && !keep[name] {
			if err := fs.Remove(path.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	if err := fs.SyncDir(dir); err != nil {
		return err
	}
	// The manifest goes last, and durably: a later open must not swap again over what was appended since.
	if err := fs.Remove(path.Join(dir, stagedManifest)); err != nil && !vfs.IsNotExist(err) {
		return err
	}
	return fs.SyncDir(dir)
}

// finishInstall ends a swap that a crash interrupted: the journal holds the mark, and the manifest that it names is there. A manifest
// without its mark is removed; the files it lists stay as a cache.
func (r *recovery) finishInstall() error {
	o := &r.l.o
	name := r.l.path(stagedManifest)
	b, err := readWhole(r.fs, name, replacesBytes+ManifestBytesMax)
	if vfs.IsNotExist(err) {
		return nil
	}
	if err != nil && !errors.Is(err, errTooLarge) {
		return err
	}
	if o.Snapshot.Index == 0 || sha256.Sum256(b) != o.Snapshot.Hash {
		if o.Snapshot.Index > 0 {
			r.rec.StagedUnknown = true
		}
		return r.fs.Remove(name)
	}
	m, err := DecodeManifest(b[replacesBytes:], o.Group)
	if err != nil {
		return err
	}
	r.rec.InstallFinished = true
	return swap(r.fs, o.Dir, &m)
}
