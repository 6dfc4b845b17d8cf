package segment

import (
	"errors"
	"fmt"
	"io"
	"math"
	"sort"

	"lograft/internal/buffers"
)

const (
	// readChunkBytes bounds one read of a file, unless a single frame is larger.
	readChunkBytes = 1 << 20
	// spansMax bounds the segments that one ReadTask holds open.
	spansMax = 64
)

// Entries appends to dst the frames [lo, hi) that are in memory, at least one, at most bytesMax payload bytes unless the first alone
// is larger. The payloads are the log's: nobody changes them.
// Errors: ErrCompacted, ErrUnavailable, ErrFaulty, ErrCold (use ColdEntries).
func (l *Log) Entries(dst []Frame, lo, hi, bytesMax uint64) ([]Frame, error) {
	if err := l.checkEntries(lo, hi); err != nil || lo >= hi {
		return dst, err
	}
	live, ok := l.tail.from(lo)
	if !ok {
		return dst, ErrCold
	}
	live = live[:min(uint64(len(live)), hi-lo)]
	var size uint64
	for i := range live {
		size += uint64(len(live[i].Payload))
		if i > 0 && size > bytesMax {
			break
		}
		dst = append(dst, live[i])
	}
	return dst, nil
}

func (l *Log) checkEntries(lo, hi uint64) error {
	switch {
	case errors.Is(l.failed, ErrClosed):
		return ErrClosed
	case lo <= l.start.Index:
		return ErrCompacted
	case hi > l.last.index+1:
		return ErrUnavailable
	}
	if lo < hi {
		if r := l.faultyAt(lo); r != nil {
			return &FaultyError{*r}
		}
	}
	return nil
}

// ReadOffset appends to dst the data frames from the one that contains offset from on, as long as they begin before limit and are in
// memory; at least one if there is one, at most bytesMax payload bytes unless the first alone is larger. from may be inside a batch
// and may be NextOffset, which gives none. Frames without records are left out.
// Errors: *OutOfRangeError, ErrFaulty, ErrCold (use ColdRead).
func (l *Log) ReadOffset(dst []Frame, from, limit int64, bytesMax int) ([]Frame, error) {
	if err := l.checkOffset(from); err != nil {
		return dst, err
	}
	if from >= limit || from >= l.next && !l.nextUnknown {
		return dst, nil
	}
	live, ok := l.tail.fromOffset(from)
	if !ok {
		return dst, ErrCold
	}
	size, n := 0, len(dst)
	for i := range live {
		f := &live[i]
		if f.Offset >= limit {
			break
		}
		if f.Kind != KindData {
			continue
		}
		size += len(f.Payload)
		if len(dst) > n && size > bytesMax {
			break
		}
		dst = append(dst, *f)
	}
	return dst, nil
}

func (l *Log) checkOffset(from int64) error {
	if errors.Is(l.failed, ErrClosed) {
		return ErrClosed
	}
	if from < l.start.Offset || from > l.next && !l.nextUnknown {
		return &OutOfRangeError{Offset: from, Start: l.start.Offset, End: l.next}
	}
	return nil
}

// FrameAt returns entry i, from memory or by reading the file at once, for i in [FirstIndex-1, LastIndex]; the entry before the
// first has no payload. Errors as Entries.
func (l *Log) FrameAt(i uint64) (Frame, error) {
	if i == l.start.Index {
		return Frame{Index: i, Term: l.start.Term, Offset: l.start.Offset, AppendTime: l.start.AppendTime}, nil
	}
	if err := l.checkEntries(i, i+1); err != nil {
		return Frame{}, err
	}
	if live, ok := l.tail.from(i); ok {
		return live[0], nil
	}
	t := l.ColdEntries(i, i+1, 0)
	t.Do()
	if t.Err != nil {
		return Frame{}, t.Err
	}
	return t.Frames[0], nil
}

// ReadTask reads files. Do runs on any goroutine, once; it holds its files, so a trim does not disturb it, and never blocks the
// log's owner. After Do, Frames (whose payloads the caller may keep) or Err say what was found; a task for a time sets Offset.
type ReadTask struct {
	Frames []Frame
	Offset int64
	Err    error

	// Buffers, if set before Do, lends the memory of the payloads: then they are the caller's until it frees Lent, which it has to
	// do once after Do, whatever was found. nil: Lent is nil and the payloads belong to the garbage collector.
	Buffers *buffers.Pool
	Lent    *buffers.Loan

	wants      wants
	spans      []span
	shared     *cutLog
	gen        uint64
	salt       func(base uint64) uint32
	payloadMax int
	bytesMax   int
	bytes      int
}

// wants says which frames a task looks for.
type wants struct {
	lo, hi      uint64 // indexes, if hi > 0
	from, limit int64  // offsets, if limit > 0
	time        int64  // append time, if byTime
	byTime      bool
}

// span is a part of one segment's file. A sealed segment's start is looked up in its footer by Do.
type span struct {
	seg    *segment
	file   *handle
	base   uint64
	index  []indexEntry // nil: in the footer
	sealed bool
	end    int64
	faulty []FaultyRange
}

func (l *Log) newRead(w wants, bytesMax int) *ReadTask {
	t := &ReadTask{wants: w, shared: l.shared, gen: l.gen, payloadMax: l.o.PayloadBytesMax, bytesMax: bytesMax, Offset: -1}
	group := l.o.Group
	t.salt = func(base uint64) uint32 { return saltOf(group, base) }
	return t
}

// addSpan adds segment k to t.
func (l *Log) addSpan(t *ReadTask, k int) bool {
	s := l.segs[k]
	if s.onFile == 0 {
		return true
	}
	h, err := l.fileOf(s)
	if err != nil {
		t.Err = err
		return false
	}
	sp := span{seg: s, file: h.acquire(), base: s.head.base, index: s.index, sealed: s.sealed, end: min(s.onFile, s.size)}
	for _, r := range l.faulty {
		if r.From <= s.last.index && (r.To == 0 || r.To >= s.head.base) {
			sp.faulty = append(sp.faulty, r)
		}
	}
	t.spans = append(t.spans, sp)
	return true
}

// holeBefore is the damaged range of files that are missing between segment k and the one before it, or the log's start; nil if none is.
// No read goes over it.
func (l *Log) holeBefore(k int) *FaultyRange {
	end := l.start.Index
	if k > 0 {
		end = l.segs[k-1].last.index
	}
	if l.segs[k].head.base == end+1 {
		return nil
	}
	return l.faultyAt(l.segs[k].head.base - 1)
}

// fileOf returns the open file of s, opening that of a sealed segment and closing the one that was not used for longest.
func (l *Log) fileOf(s *segment) (*handle, error) {
	l.uses++
	s.used = l.uses
	if s.file != nil {
		return s.file, nil
	}
	f, err := l.o.FS.Open(l.path(segmentName(s.head.base)))
	if err != nil {
		return nil, err
	}
	s.file = newHandle(f, l.o.Files)
	l.closeSealed(s)
	return s.file, nil
}

// closeSealed keeps the open files of sealed segments within their bounds, the log's and the shared one; keep stays open.
func (l *Log) closeSealed(keep *segment) {
	for {
		open := 0
		var oldest *segment
		for _, s := range l.segs {
			if !s.sealed || s.file == nil {
				continue
			}
			open++
			if s != keep && (oldest == nil || s.used < oldest.used) {
				oldest = s
			}
		}
		if oldest == nil || open <= l.o.SealedFilesMax && !l.o.Files.over() {
			return
		}
		l.retire(oldest)
		oldest.cold.Store(nil)
	}
}

// ColdEntries is Entries as a task that reads files. It may give fewer frames than asked for, but at least one, or Err.
func (l *Log) ColdEntries(lo, hi, bytesMax uint64) *ReadTask {
	t := l.newRead(wants{lo: lo, hi: hi}, int(min(bytesMax, math.MaxInt32)))
	if err := l.checkEntries(lo, hi); err != nil || lo >= hi {
		t.Err = err
		return t
	}
	for k, size := l.segmentOf(lo), int64(0); k < len(l.segs) && l.segs[k].head.base < hi && size <= int64(t.bytesMax); k++ {
		if len(t.spans) > 0 && l.holeBefore(k) != nil {
			break
		}
		if !l.addSpan(t, k) || len(t.spans) == spansMax {
			break
		}
		if len(t.spans) > 1 {
			size += l.segs[k].size
		}
	}
	return t
}

// ColdRead is ReadOffset as a task that reads files. It may give fewer frames than asked for, but at least one if there is one.
func (l *Log) ColdRead(from, limit int64, bytesMax int) *ReadTask {
	t := l.newRead(wants{from: from, limit: limit}, bytesMax)
	if t.Err = l.checkOffset(from); t.Err != nil || from >= limit {
		return t
	}
	k := max(0, sort.Search(len(l.segs), func(k int) bool { return l.segs[k].head.offset > from })-1)
	for size := int64(0); k < len(l.segs) && size <= int64(bytesMax); k++ {
		s := l.segs[k]
		if hole := l.holeBefore(k); hole != nil && s.head.offset > from {
			if len(t.spans) == 0 {
				t.Err = &FaultyError{*hole}
			}
			break
		}
		if s.head.offset >= limit {
			break
		}
		if (s.next <= from || s.next == s.head.offset) && !l.damaged(s) {
			continue
		}
		if !l.addSpan(t, k) || len(t.spans) == spansMax {
			break
		}
		if len(t.spans) > 1 {
			size += s.size
		}
	}
	return t
}

// SeekTime is a task that finds the first record batch appended at or after ms: Offset is its first offset, or -1 if there is none
// among the entries on file and in memory when the task was made.
func (l *Log) SeekTime(ms int64) *ReadTask {
	t := l.newRead(wants{time: ms, byTime: true}, 0)
	k := sort.Search(len(l.segs), func(k int) bool { return l.segs[k].time >= ms })
	for ; k < len(l.segs) && len(t.spans) < spansMax; k++ {
		if hole := l.holeBefore(k); hole != nil {
			if len(t.spans) == 0 {
				t.Err = &FaultyError{*hole} // what was looked for may be in it
			}
			return t
		}
		if l.segs[k].next == l.segs[k].head.offset {
			continue // no data in it
		}
		if !l.addSpan(t, k) {
			return t
		}
	}
	for _, f := range l.tail.live() {
		if f.Kind == KindData && f.AppendTime >= ms {
			t.Frames = append(t.Frames, f)
			break
		}
	}
	return t
}

// Do reads. See ReadTask.
func (t *ReadTask) Do() {
	fallback := t.Frames
	t.Frames = nil
	if t.Buffers != nil {
		t.Lent = t.Buffers.Lend()
	}
	if t.Err == nil {
		t.Err = t.read()
	}
	for i := range t.spans {
		if err := t.spans[i].file.release(); t.Err == nil && err != nil {
			t.Err = err
		}
	}
	t.spans = nil
	t.judge()
	if t.wants.byTime && t.Err == nil {
		if len(t.Frames) == 0 {
			t.Frames = fallback
		}
		if len(t.Frames) > 0 {
			t.Offset = t.Frames[0].Offset
		}
		t.Frames = nil
	}
}

// judge drops what a conflict overtook while it was read.
func (t *ReadTask) judge() {
	if len(t.Frames) > 0 && t.Err != nil {
		t.Err = nil // the good beginning is an answer; the next read meets the error first
	}
	c := t.shared.since(t.gen)
	if c == math.MaxUint64 {
		return
	}
	n := len(t.Frames)
	for n > 0 && t.Frames[n-1].Index >= c {
		n--
	}
	if n == 0 && (t.Err != nil || len(t.Frames) > 0) {
		t.Err = ErrStale
	}
	t.Frames = t.Frames[:n]
}

func (t *ReadTask) read() error {
	next := t.wants.lo
	for i := range t.spans {
		done, err := t.readSpan(&t.spans[i], &next)
		if done || err != nil {
			return err
		}
	}
	if t.wants.hi > 0 && len(t.Frames) == 0 && t.wants.lo < t.wants.hi {
		return fmt.Errorf("segment: entry %d is not on file", t.wants.lo)
	}
	return nil
}

// readSpan collects the frames of one segment. done says that no later one is needed.
func (t *ReadTask) readSpan(sp *span, next *uint64) (done bool, err error) {
	index := sp.index
	if sp.sealed {
		if index, err = sp.seg.coldIndex(sp.file.f); err != nil {
			return false, &FaultyError{FaultyRange{From: sp.base, Segment: sp.base, Reason: err.Error()}}
		}
	}
	pos := int64(segmentHeaderBytes)
	switch {
	case t.wants.byTime:
		pos = seekTime(index, t.wants.time)
	case t.wants.hi > 0:
		_, pos = seekIndex(index, max(*next, sp.base))
	default:
		pos = seekOffset(index, t.wants.from)
	}
	r := &frameReader{f: sp.file.f, salt: t.salt(sp.base), payloadMax: t.payloadMax, pos: pos, end: sp.end, fresh: true, lent: t.Lent}
	for i := indexAt(index, pos, sp.base); ; i++ {
		// What is wanted yet and its headers in one read, not the same amount again for a frame that the first one cut.
		want := max(0, min(readChunkBytes, t.bytesMax-t.bytes))
		r.chunkBytes = want + want/64 + sparseBytes
		at := r.pos
		f, err := r.next()
		if err == io.EOF {
			return false, nil
		}
		if err == nil && f.Index != i {
			r.pos, err = at, errDiscontinued // a good frame of this segment where another one was: a write that went astray
		}
		if err != nil {
			return t.skipFaulty(sp, r, err, *next)
		}
		done, stop := t.take(&f, next)
		if done || stop {
			return true, nil
		}
	}
}

// skipFaulty answers a bad frame: a read by time goes on behind a known damage, every other ends.
func (t *ReadTask) skipFaulty(sp *span, r *frameReader, err error, next uint64) (bool, error) {
	for _, k := range sp.faulty {
		if k.Segment == sp.base && r.pos >= k.Position && (k.End == 0 || r.pos < k.End) {
			return false, &FaultyError{k}
		}
	}
	var fe *frameError
	if errors.As(err, &fe) || damageToRead(err) {
		return false, &FaultyError{FaultyRange{From: next, Segment: sp.base, Position: r.pos, Reason: err.Error()}}
	}
	return false, fmt.Errorf("segment: read %s at byte %d: %w", segmentName(sp.base), r.pos, err)
}

// take adds f if it is wanted. done: it was the last one wanted; stop: it does not fit any more.
func (t *ReadTask) take(f *Frame, next *uint64) (done, stop bool) {
	w := &t.wants
	before := f.Index < *next
	*next = f.Index + 1
	switch {
	case w.byTime:
		if f.Kind != KindData || f.AppendTime < w.time {
			return false, false
		}
		t.Frames = append(t.Frames, *f)
		return true, false
	case w.hi > 0:
		if before || f.Index < w.lo {
			*next = max(*next, w.lo)
			return false, false
		}
		if f.Index >= w.hi {
			return true, false
		}
	default:
		if f.Offset >= w.limit {
			return true, false
		}
		if f.Kind != KindData || f.NextOffset() <= w.from {
			return false, false
		}
	}
	t.bytes += len(f.Payload)
	if len(t.Frames) > 0 && t.bytes > t.bytesMax {
		return false, true
	}
	t.Frames = append(t.Frames, *f)
	return w.hi > 0 && f.Index+1 == w.hi || t.bytes >= t.bytesMax, false
}

// Scan calls fn with every entry from index from on, in order, until fn returns an error, which Scan returns. Files are read at once;
// a payload is fn's only until it returns. Errors as Entries.
func (l *Log) Scan(from uint64, fn func(Frame) error) error {
	for from <= l.last.index {
		if err := l.checkEntries(from, from+1); err != nil {
			return err
		}
		frames, cached := l.tail.from(from)
		if !cached {
			t := l.ColdEntries(from, l.last.index+1, readChunkBytes)
			t.Do()
			if t.Err != nil {
				return t.Err
			}
			frames = t.Frames
		}
		for _, f := range frames {
			if err := fn(f); err != nil {
				return err
			}
		}
		from = frames[len(frames)-1].Index + 1
	}
	return nil
}
