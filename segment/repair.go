package segment

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
)

// Repair writes frames, fetched from a peer, into the place of a damaged range and syncs: the range's first entry and any number behind
// it, so that a large range is repaired in portions. What is repaired leaves Faulty at once; look there for what is left, which may be
// more than was handed in (where a segment ends, the rest of the range is the next segment's). Frames are the same bytes on every
// replica: the last portion must fill the gap to the byte and fit the entry behind it, and the hash of a sealed segment, or of the
// one before another, decides. Nothing but a range of whole lost files (FaultyRange.Lost) needs InstallSegment. It reads and writes files at once.
// Errors: ErrInvalid (nothing was changed: no such range, or the frames are others), ErrBusy, or a file error, which stops the log. If
// the bytes show that the range is larger than it was known to be, up to the whole segment where its hash is wrong in the end, it
// grows: a *FaultyError, and Faulty says what to fetch now.
func (l *Log) Repair(frames []Frame) error {
	if l.failed != nil {
		return l.failed
	}
	k, err := l.repairable(frames)
	if err != nil {
		return err
	}
	if len(l.queue) > 0 {
		return fmt.Errorf("%w: a conflict waits for its sync", ErrBusy)
	}
	r := l.faulty[k]
	if r.promised || l.unplaced && r.To == l.last.index {
		return l.repairTail(&r, frames)
	}
	i := l.segmentOf(r.From)
	if i < 0 || l.segs[i].head.base != r.Segment || l.segs[i].sealing {
		return fmt.Errorf("%w: %v has no file that frames could go to", ErrInvalid, r)
	}
	s := l.segs[i]
	frames = untilClosed(s, &r, frames)
	if err := l.checkRepair(s, &r, frames); err != nil {
		if errors.Is(err, errMisplaced) {
			return l.widen(s, k)
		}
		return err
	}
	if err := l.writeRepair(s, &r, frames); err != nil {
		return l.fail(err)
	}
	return l.reload(s, k, frames)
}

// repairable finds the damaged range that frames begin to fill.
func (l *Log) repairable(frames []Frame) (int, error) {
	if len(frames) == 0 {
		return 0, fmt.Errorf("%w: no frames", ErrInvalid)
	}
	from, to := frames[0].Index, frames[len(frames)-1].Index
	for k, r := range l.faulty {
		switch {
		case r.From != from:
			continue
		case r.To == 0:
			return 0, fmt.Errorf("%w: nothing says where %v ends: only a leader's entries, appended, can replace it", ErrInvalid, r)
		case r.Lost:
			return 0, fmt.Errorf("%w: %v is lost with its files: fetch them with Stage and InstallSegment", ErrInvalid, r)
		case to > r.To:
			return 0, fmt.Errorf("%w: entry %d is behind %v", ErrInvalid, to, r)
		}
		return k, nil
	}
	return 0, fmt.Errorf("%w: no damaged range begins with entry %d", ErrInvalid, from)
}

// untilClosed cuts frames where they close the segment: what follows belongs to the next file.
func untilClosed(s *segment, r *FaultyRange, frames []Frame) []Frame {
	size := r.Position
	for i := range frames {
		size += frames[i].encodedBytes()
		if frames[i].Kind == KindRoll || size >= s.head.limit {
			return frames[:i+1]
		}
	}
	return frames
}

// checkRepair checks that frames continue the log and stay within the gap, and fill it if they are its last. A range without End ends
// with its file.
func (l *Log) checkRepair(s *segment, r *FaultyRange, frames []Frame) error {
	p, err := l.pointBefore(s, r.From)
	if err != nil {
		return err
	}
	if err := l.checkFrames(frames, p); err != nil {
		return err
	}
	end := r.Position
	for i := range frames {
		f := &frames[i]
		if f.Kind == KindData {
			if err := checkBatch(f.Payload); err != nil {
				return fmt.Errorf("%w: entry %d: %w", ErrInvalid, f.Index, err)
			}
		}
		end += f.encodedBytes()
	}
	last := frames[len(frames)-1]
	if r.End > 0 && (end > r.End || last.Index == r.To && end != r.End) {
		return errMisplaced
	}
	if last.Index < r.To {
		return nil
	}
	if last.Index < s.last.index {
		if f, err := l.FrameAt(last.Index + 1); err == nil && (f.Offset != last.NextOffset() || f.Term < last.Term || f.AppendTime < last.AppendTime) {
			return fmt.Errorf("%w: entry %d does not continue the frames", ErrInvalid, f.Index)
		}
		return nil
	}
	if last.Index == s.last.index && !s.guessed && (last.Term != s.last.term || last.NextOffset() != s.next && (s != l.active() || !l.nextUnknown)) {
		return fmt.Errorf("%w: entry %d has term %d and next offset %d, the log says %d and %d", ErrInvalid, last.Index, last.Term, last.NextOffset(), s.last.term, s.next)
	}
	if n := l.segmentOf(last.Index + 1); n >= 0 && l.segs[n].head.base == last.Index+1 {
		if h := &l.segs[n].head; h.prev.term != last.Term || h.offset != last.NextOffset() {
			return fmt.Errorf("%w: entry %d has term %d and next offset %d, the next segment says %d and %d", ErrInvalid, last.Index, last.Term, last.NextOffset(), h.prev.term, h.offset)
		}
	}
	return nil
}

var errMisplaced = errors.New("the frames do not fit the gap")

// widen takes the frames behind range k for damage as well: they are good ones, but not where they belong.
func (l *Log) widen(s *segment, k int) error {
	r := &l.faulty[k]
	if s.sealed && r.To == s.last.index && r.End == s.size {
		if r.From == s.head.base {
			return fmt.Errorf("%w: the frames do not fit %s", ErrInvalid, segmentName(s.head.base))
		}
		return l.damagedWhole(s, r.Reason+", and other frames are out of place")
	}
	r.To, r.Term, r.End, r.Reason = s.last.index, 0, 0, r.Reason+", and what follows it is out of place"
	if s.sealed {
		r.End = s.size
	}
	n := k + 1
	for n < len(l.faulty) && l.faulty[n].From <= r.To {
		n++
	}
	l.faulty = slices.Delete(slices.Clone(l.faulty), k+1, n)
	i := 0
	for i < len(s.index) && s.index[i].index < r.From {
		i++
	}
	s.index = s.index[:i:i]
	return &FaultyError{l.faulty[k]}
}

// pointBefore is the point that entry i of s continues.
func (l *Log) pointBefore(s *segment, i uint64) (point, error) {
	if i == s.head.base {
		return point{id: s.head.prev, next: s.head.offset, time: s.head.time}, nil
	}
	f, err := l.FrameAt(i - 1)
	if err != nil {
		return point{}, fmt.Errorf("%w: entry %d before the range: %w", ErrInvalid, i-1, err)
	}
	return point{id: entryID{f.Index, f.Term}, next: f.NextOffset(), time: f.AppendTime}, nil
}

func (l *Log) writeRepair(s *segment, r *FaultyRange, frames []Frame) error {
	file, err := l.o.FS.OpenRW(l.path(segmentName(s.head.base)))
	if err != nil {
		return err
	}
	var bufs [][]byte
	end := r.Position
	for i := range frames {
		head := make([]byte, frameHeaderBytes)
		putHeader(head, &frames[i], saltOf(l.o.Group, s.head.base))
		bufs = append(bufs, head, frames[i].Payload)
		end += frames[i].encodedBytes()
	}
	last := &frames[len(frames)-1]
	_, err = file.WritevAt(bufs, r.Position)
	// Without End the rest of the file is damage, too: it goes with the last of the file's entries.
	ends := r.End == 0 && (last.Index == r.To || last.Kind == KindRoll || end >= s.head.limit)
	if err == nil && ends {
		err = file.Truncate(end)
	}
	if err == nil {
		err = file.Sync()
	}
	if ends {
		s.size, s.onFile = end, end
	}
	s.onFile = max(s.onFile, end)
	s.size = max(s.size, end)
	return errors.Join(err, file.Close())
}

// reload takes the repaired entries into memory: what is left of range k, the terms, and the end of segment and log if the damage hid
// it. A segment without damage is indexed anew.
func (l *Log) reload(s *segment, k int, frames []Frame) error {
	r := l.faulty[k]
	last := &frames[len(frames)-1]
	end := r.Position
	for i := range frames {
		end += frames[i].encodedBytes()
	}
	beyond := r.To > s.last.index // entries behind this file are lost, too
	closes := r.End == 0 && last.Index < r.To && (last.Kind == KindRoll || end >= s.head.limit)
	if last.Index == r.To {
		l.faulty = slices.Delete(slices.Clone(l.faulty), k, k+1)
	} else {
		rest := &l.faulty[k]
		rest.From, rest.Position = last.Index+1, end
	}
	if last.Index >= s.last.index || beyond || closes {
		s.last, s.next, s.time, s.guessed = entryID{last.Index, last.Term}, last.NextOffset(), last.AppendTime, false
		s.rolled = last.Kind == KindRoll
		if s == l.active() && last.Index >= l.last.index {
			l.last, l.next, l.time, l.nextUnknown = s.last, s.next, s.time, false
		}
	}
	runs := make([]termRun, len(frames))
	for i := range frames {
		runs[i] = termRun{frames[i].Index, frames[i].Term}
	}
	l.spliceRuns(frames[0].Index, last.Index, runs)
	s.stale = true
	if l.damaged(s) {
		return nil
	}
	l.placeRest(s)
	return l.reindex(s)
}

// placeRest says anew where the damage behind s goes: now it is known where s ends and whether it is closed.
func (l *Log) placeRest(s *segment) {
	for i := range l.faulty {
		rest := &l.faulty[i]
		tail := rest.promised || l.unplaced && rest.To == l.last.index // repairTail finds its place
		if rest.From != s.last.index+1 || tail || s.sealed || !rest.Lost && rest.Segment != s.head.base {
			continue
		}
		// What has no known end is no file's to bring back: a leader overwrites it.
		if rest.Segment, rest.Position, rest.Lost = s.head.base, s.size, false; s.closed() && rest.To > 0 {
			rest.Segment, rest.Position, rest.Lost = rest.From, 0, true
		}
	}
}

// spliceRuns replaces the terms of entries [from, to] by runs, in order.
func (l *Log) spliceRuns(from, to uint64, runs []termRun) {
	var out []termRun
	note := func(r termRun) {
		if len(out) == 0 || out[len(out)-1].term != r.term {
			out = append(out, r)
		}
	}
	old := l.runs
	for _, r := range old {
		if r.index < from {
			note(r)
		}
	}
	for _, r := range runs {
		note(r)
	}
	for i, r := range old {
		if r.index > to {
			note(r)
		} else if (i+1 == len(old) || old[i+1].index > to+1) && to < l.last.index {
			note(termRun{to + 1, r.term})
		}
	}
	l.runs = out
}

// repairTail appends a portion of a range that is lost at the log's end: where files begin and end follows from the bytes.
func (l *Log) repairTail(r *FaultyRange, frames []Frame) error {
	p, err := l.before(r.From)
	if err != nil {
		return err
	}
	if err := l.checkFrames(frames, p); err != nil {
		return err
	}
	for i := range frames {
		if frames[i].Kind == KindData {
			if err := checkBatch(frames[i].Payload); err != nil {
				return fmt.Errorf("%w: entry %d: %w", ErrInvalid, frames[i].Index, err)
			}
		}
	}
	end, got := l.last, frames[len(frames)-1]
	if !r.promised && got.Index == end.index && got.Term != end.term {
		return fmt.Errorf("%w: entry %d has term %d, the persist mark says %d", ErrInvalid, got.Index, got.Term, end.term)
	}
	if s := l.active(); s != nil && l.damaged(s) && l.outgrows(s, frames) {
		return fmt.Errorf("%w: %s is damaged, and the next one's header needs its hash: repair it first", ErrInvalid, segmentName(s.head.base))
	}
	l.last, l.next, l.time, l.nextUnknown, l.unplaced = p.id, p.next, p.time, false, false
	for n := len(l.runs); n > 1 && l.runs[n-1].index >= r.From; n-- {
		l.runs = l.runs[:n-1]
	}
	if err := l.writeTail(frames); err != nil {
		return l.fail(err)
	}
	if r.promised {
		l.keepPromise()
		return nil
	}
	k := len(l.faulty) - 1
	if got.Index == end.index {
		l.faulty = l.faulty[:k:k]
		l.durable = l.endMark()
		return nil
	}
	s := l.active()
	rest := &l.faulty[k]
	rest.From, rest.Segment, rest.Position, rest.End = got.Index+1, s.head.base, s.size, 0
	l.last, l.nextUnknown, l.unplaced = end, true, true
	l.noteTerm(end)
	return nil
}

// writeTail appends frames to the files and syncs them.
func (l *Log) writeTail(frames []Frame) error {
	if s := l.active(); s != nil && l.overwrite {
		if err := errors.Join(s.file.f.Truncate(s.size), s.file.f.Sync()); err != nil {
			return err
		}
		l.overwrite = false
	}
	ops, err := l.layout(frames)
	if err != nil {
		return err
	}
	for _, o := range ops {
		if err := o.run(l.o.FS); err != nil {
			return err
		}
		l.opDone(o, nil)
	}
	for _, o := range ops {
		if err := o.seg.file.f.Sync(); err != nil {
			return err
		}
	}
	l.tail.evict(l.last.index + 1)
	return l.o.FS.SyncDir(l.o.Dir)
}

// reindex reads the headers of a segment whose damage is gone: index, hash, limits. Where the hash is not what footer or next segment
// say, frames that were repaired are others, and all of it is damaged.
func (l *Log) reindex(s *segment) error {
	if _, err := l.fileOf(s); err != nil {
		return l.fail(err)
	}
	var index []indexEntry
	sum := sha256.New()
	rd := l.reader(s, segmentHeaderBytes)
	for rd.pos < rd.end {
		pos := rd.pos
		f, head, n, err := rd.nextHeader()
		if err != nil {
			return l.moreDamage(s, fmt.Sprintf("at byte %d after its repair: %v", pos, err))
		}
		hashFrame(sum, &f, head)
		index = noteIndex(index, &f, pos)
		rd.chunkBytes = scanChunkBytes
		if n > largePayloadBytes {
			rd.chunkBytes = headerChunkBytes
		}
		if f.Kind == KindConfig && !s.sealed && l.limitOfIndex(f.Index) < 0 {
			l.insertLimit(&f)
		}
	}
	got := [32]byte(sum.Sum(nil))
	k := l.segmentOf(s.last.index)
	if s.sealed {
		if got != s.sum {
			return l.damagedWhole(s, "the hash is not the footer's after a repair")
		}
		return nil
	}
	s.index, s.hash, s.stale = index, sum, false
	if k+1 < len(l.segs) && l.segs[k+1].head.prev == s.last && l.segs[k+1].head.hash != got {
		return l.damagedWhole(s, "the hash is not what the next segment says after a repair")
	}
	if s.closed() && k+1 < len(l.segs) && l.segs[k+1].sealed {
		return l.sealAgain(s)
	}
	return nil
}

// moreDamage looks for what else is bad in s, and takes all of it if that is not to be found.
func (l *Log) moreDamage(s *segment, reason string) error {
	t := l.BeginVerify(s.head.base)
	t.Do(nil)
	found, err := l.EndVerify(t)
	if err = errors.Join(err, t.Err); err != nil {
		return l.fail(err)
	}
	if len(found) == 0 {
		return l.damagedWhole(s, reason)
	}
	return &FaultyError{found[0]}
}

func (l *Log) damagedWhole(s *segment, reason string) error {
	fr := FaultyRange{From: s.head.base, To: s.last.index, Segment: s.head.base, Position: segmentHeaderBytes, Reason: reason}
	if s.sealed {
		fr.End = s.size
	}
	l.faulty = slices.DeleteFunc(l.Faulty(), func(r FaultyRange) bool { return r.From >= fr.From && r.To != 0 && r.To <= fr.To })
	l.addFaulty(fr)
	return &FaultyError{fr}
}

// addFaulty notes a damaged range, in order and as one with those of the same file that it overlaps. isNew: some of it was not known.
func (l *Log) addFaulty(fr FaultyRange) (merged FaultyRange, isNew bool) {
	isNew = true
	var out []FaultyRange
	for _, r := range l.faulty {
		if r.From > fr.To || r.To != 0 && r.To < fr.From || r.Segment != fr.Segment || r.promised {
			out = append(out, r)
			continue
		}
		isNew = isNew && (fr.From < r.From || r.To != 0 && fr.To > r.To)
		fr = merge(fr, r)
	}
	at := 0
	for at < len(out) && out[at].From < fr.From {
		at++
	}
	out = slices.Insert(out, at, fr)
	l.faulty = out[:1]
	for _, r := range out[1:] {
		// Frames out of place can make two ranges claim the same bytes.
		if last := &l.faulty[len(l.faulty)-1]; last.Segment == r.Segment && last.End > r.Position && !r.promised {
			*last = merge(*last, r)
			continue
		}
		l.faulty = append(l.faulty, r)
	}
	return fr, isNew
}

// merge is the one range that covers two of the same file.
func merge(a, b FaultyRange) FaultyRange {
	first, last := a, a
	if b.From < a.From || b.From == a.From && b.Position < a.Position {
		first = b
	}
	if a.To != 0 && (b.To == 0 || b.To > a.To) || b.To == a.To && b.End == 0 {
		last = b
	}
	first.To, first.End = last.To, last.End
	first.Term = min(a.Term, b.Term)
	return first
}

// sealAgain seals a closed segment before a sealed one at once: its checkpoint, if it lost it, is not needed any more.
func (l *Log) sealAgain(s *segment) error {
	sum, err := l.sumOf(s)
	if err != nil {
		return l.fail(err)
	}
	foot := l.footerOf(s, sum)
	b := foot.encode(l.o.Group, s.head.base)
	if _, err := s.file.f.WriteAt(b, s.size); err != nil {
		return l.fail(err)
	}
	if err := s.file.f.Sync(); err != nil {
		return l.fail(err)
	}
	l.publishSealed(s, &foot, s.size+int64(len(b)))
	return l.failed
}

func (l *Log) limitOfIndex(i uint64) int64 {
	for _, r := range l.limits {
		if r.index == i {
			return r.limit
		}
	}
	return -1
}

// insertLimit adds the limit that a repaired config frame sets, in order.
func (l *Log) insertLimit(f *Frame) {
	n := len(l.limits)
	l.noteLimit(f)
	if len(l.limits) == n {
		return
	}
	for i := n; i > 0 && l.limits[i-1].index > l.limits[i].index; i-- {
		l.limits[i-1], l.limits[i] = l.limits[i], l.limits[i-1]
	}
}
