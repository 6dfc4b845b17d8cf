package segment

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"

	"lograft/segment/vfs"
)

// VerifyTask reads one segment and checks every byte of it against its checksums, hash and neighbours, and a sealed one's checkpoint
// file. Do, or Step after Step, runs on any goroutine; then EndVerify.
type VerifyTask struct {
	Base, Last uint64   // the segment's entries; go on with BeginVerify(Last+1)
	Bytes      int64    // read
	Hash       [32]byte // of all frames; meaningful if Faulty is empty
	Faulty     []FaultyRange
	// Header, Footer and State say that these parts of a sealed segment are bad. EndVerify writes header and footer anew, they follow
	// from the frames; a bad checkpoint is not used any more, and the next sealed segment brings another one.
	Header, Footer, State bool
	Err                   error // of the file: nothing is known

	fs         vfs.FS
	dir        string
	file       *handle
	head       header
	payloadMax int
	end        int64
	sum        [32]byte // expected, if sealed
	nextLimit  int64
	fileBytes  int64
	sealed     bool
	state      bool
	group      GroupID
	shared     *cutLog
	gen        uint64
	w          *walk
	foot       []byte // that should be there
	done       bool
}

// BeginVerify begins a check of the first segment that holds an entry at or after from, as far as it is on file; nil if there is none.
func (l *Log) BeginVerify(from uint64) *VerifyTask {
	for _, s := range l.segs {
		if s.last.index < from || s.count() == 0 || s.onFile <= segmentHeaderBytes {
			continue
		}
		last := s.last.index
		if len(l.queue) > 0 {
			last = min(last, l.firstQueued()-1)
		}
		if last < s.head.base {
			continue
		}
		t := &VerifyTask{Base: s.head.base, Last: last, fs: l.o.FS, dir: l.o.Dir, head: s.head, payloadMax: l.o.PayloadBytesMax, shared: l.shared, gen: l.gen}
		t.end, t.sum, t.sealed, t.state, t.group = min(s.onFile, s.size), s.sum, s.sealed, s.state, l.o.Group
		t.nextLimit, t.fileBytes = s.nextLimit, s.fileBytes
		h, err := l.fileOf(s)
		switch {
		case vfs.IsNotExist(err):
			t.Faulty = []FaultyRange{{From: t.Base, To: t.Last, Segment: t.Base, Lost: true, Reason: "file is missing"}}
			t.done = true
		case err != nil:
			t.Err, t.done = err, true
		default:
			t.file = h.acquire()
		}
		return t
	}
	return nil
}

// Do reads and checks everything. pace, if not nil, is called with the bytes of each read done and may wait.
func (t *VerifyTask) Do(pace func(bytes int)) {
	for done := t.done; !done; {
		before := t.Bytes
		done = t.Step(scanChunkBytes)
		if pace != nil {
			pace(int(t.Bytes - before))
		}
	}
}

// Step reads and checks about bytesMax bytes more, one frame at least. done: that was the end.
func (t *VerifyTask) Step(bytesMax int64) (done bool) {
	if t.done {
		return true
	}
	if t.Err = t.step(bytesMax); t.Err != nil {
		t.done = true
	}
	if t.done {
		t.Err = errors.Join(t.Err, t.file.release())
	}
	return t.done
}

func (t *VerifyTask) step(bytesMax int64) error {
	if t.w == nil {
		t.w = newWalk(t.file.f, &t.head, t.payloadMax, t.end)
		b := make([]byte, segmentHeaderBytes)
		if err := readFull(t.file.f, b, 0); err != nil && !damageToRead(err) {
			return err
		}
		h, err := decodeHeader(b, t.group, t.Base)
		t.Header = err != nil || h != t.head
	}
	for until := t.Bytes + bytesMax; t.Bytes < until; {
		pos := t.w.r.pos
		_, err := t.w.next()
		if err == io.EOF {
			t.done = true
			return t.finish()
		}
		var bad *frameError
		switch {
		case err == nil:
		case errors.As(err, &bad):
			if err := t.skip(bad); err != nil {
				return err
			}
		case damageToRead(err):
			if err := t.skip(&frameError{what: err.Error()}); err != nil {
				return err
			}
		default:
			return err
		}
		t.Bytes += t.w.r.pos - pos
	}
	return nil
}

// damageToRead reports whether a failed read means that bytes are gone: the file is too short, or its sectors can't be read.
func damageToRead(err error) bool {
	return errors.Is(err, io.ErrUnexpectedEOF) || vfs.IsUnreadable(err)
}

// note adds the damage at r.pos.
func (t *VerifyTask) note(fr FaultyRange) {
	if t.w.p.id.index >= t.Last {
		t.whole("its last entry ends before its frames do: some are not where they belong")
		return
	}
	fr.From, fr.Segment, fr.Position = t.w.p.id.index+1, t.Base, t.w.r.pos
	if fr.To == 0 {
		fr.To = t.Last
	}
	if fr.To == t.Last && fr.End == 0 && t.sealed {
		fr.End = t.end
	}
	t.Faulty = append(t.Faulty, fr)
}

// whole takes all of the segment for damage.
func (t *VerifyTask) whole(reason string) {
	t.Faulty = []FaultyRange{{From: t.Base, To: t.Last, Segment: t.Base, Position: segmentHeaderBytes, End: t.end, Reason: reason}}
}

// skip notes the damage at r.pos and moves behind it.
func (t *VerifyTask) skip(bad *frameError) error {
	r, p := t.w.r, t.w.p
	pos, f, err := resync(r, p, t.Last, anyFrame, t.head.limit)
	if err != nil && !damageToRead(err) {
		return err
	}
	if pos == 0 {
		t.note(FaultyRange{End: t.end, Reason: bad.what})
		r.pos = r.end
		return nil
	}
	fr := FaultyRange{To: f.Index - 1, End: pos, Reason: bad.what}
	if f.Term == p.id.term {
		fr.Term = f.Term
	}
	t.note(fr)
	r.pos = pos
	t.w.p = point{id: entryID{fr.To, p.id.term}, next: f.Offset, time: f.AppendTime}
	return nil
}

// finish checks what the frames add up to.
func (t *VerifyTask) finish() error {
	t.Hash = t.w.hash()
	if !t.sealed {
		return nil
	}
	if len(t.Faulty) == 0 && t.Hash != t.sum {
		t.whole("the frames are others than the ones that were sealed")
	}
	if len(t.Faulty) == 0 {
		foot := footer{last: t.w.p.id, next: t.w.p.next, time: t.w.p.time, position: t.end, hash: t.sum, nextLimit: t.nextLimit, index: t.w.index, runs: t.w.runs}
		t.foot = foot.encode(t.group, t.Base)
		got := make([]byte, len(t.foot))
		size, err := t.file.f.Size()
		if err == nil {
			err = readFull(t.file.f, got, t.end)
		}
		if err != nil && !damageToRead(err) {
			return err
		}
		t.Footer = size != t.fileBytes || !bytes.Equal(got, t.foot)
	}
	if !t.state {
		return nil
	}
	b, err := readWhole(t.fs, path.Join(t.dir, stateName(t.Base)), checkpointBytesMax)
	if err != nil && !vfs.IsNotExist(err) && !errors.Is(err, errTooLarge) && !damageToRead(err) {
		return err
	}
	at, _, err := decodePoint(b, stateMagic, t.group)
	t.State = err != nil || at.Index != t.Last || at.Hash != t.sum
	return nil
}

// EndVerify takes t's findings: damaged ranges go to Faulty, and the new ones are returned; a bad header or footer of a sealed segment
// without them is written anew and synced. Findings that a conflict, trim or install has overtaken are dropped. The error is a file
// error, which stops the log.
func (l *Log) EndVerify(t *VerifyTask) ([]FaultyRange, error) {
	c := t.shared.since(t.gen)
	var added []FaultyRange
	for _, fr := range t.Faulty {
		if fr.From <= l.start.Index || fr.To >= c {
			continue
		}
		if fr, isNew := l.addFaulty(fr); isNew {
			added = append(added, fr)
		}
	}
	k := l.segmentOf(t.Last)
	if k < 0 || l.segs[k].head != t.head || !l.segs[k].sealed || l.segs[k].sum != t.sum {
		return added, nil
	}
	s := l.segs[k]
	s.state = s.state && !t.State
	if len(added) > 0 {
		s.cold.Store(nil)
	}
	if len(t.Faulty) == 0 && t.Err == nil && (t.Header || t.Footer) {
		if err := l.mend(s, t.foot); err != nil {
			return added, l.fail(err)
		}
	}
	return added, nil
}

// mend writes header and footer of a sealed segment whose frames are good.
func (l *Log) mend(s *segment, foot []byte) error {
	f, err := l.o.FS.OpenRW(l.path(segmentName(s.head.base)))
	if err != nil {
		return err
	}
	_, err = f.WriteAt(s.head.encode(), 0)
	if err == nil {
		_, err = f.WriteAt(foot, s.size)
	}
	if err == nil {
		err = f.Truncate(s.size + int64(len(foot)))
	}
	if err == nil {
		err = f.Sync()
	}
	s.fileBytes = s.size + int64(len(foot))
	s.cold.Store(nil)
	return errors.Join(err, f.Close())
}

// Verify checks all segments at once: every byte on file, the hashes, and that each segment continues the one before. New damage is
// added to Faulty; the error names all of it.
func (l *Log) Verify() error {
	var errs []error
	var hash [32]byte
	next := uint64(0)
	for t := l.BeginVerify(l.FirstIndex()); t != nil; t = l.BeginVerify(t.Last + 1) {
		t.Do(nil)
		_, err := l.EndVerify(t)
		errs = append(errs, t.Err, err)
		if len(t.Faulty) == 0 && t.Err == nil && next == t.Base && t.head.hash != hash {
			errs = append(errs, fmt.Errorf("%s: the hash in its header is not that of the segment before", segmentName(t.Base)))
		}
		hash, next = t.Hash, t.Last+1
		if s := l.segs[max(0, l.segmentOf(t.Last))]; len(t.Faulty) > 0 || t.end != s.size {
			next = 0
		}
	}
	for _, r := range l.faulty {
		errs = append(errs, &FaultyError{r})
	}
	return errors.Join(errs...)
}
