package segment

import (
	"fmt"
	"hash"
	"io"

	"lograft/segment/vfs"
)

// Append adds frames after the last entry. If the first one's index is at or below LastIndex, the entries from there on are
// replaced: Durable drops at once, the files follow in the next sync task. Otherwise the bytes are handed to the file before Append
// returns. Either way the frames can be read at once; they are durable after a sync task. Payloads are kept by reference.
//
// Frames must continue the log: consecutive indexes, terms that do not fall, offset = next offset, append times that do not fall.
// Errors: ErrInvalid, ErrSealed, ErrFaulty (nothing changed); anything else is a file error and stops the log.
func (l *Log) Append(frames []Frame) error {
	if l.failed != nil {
		return l.failed
	}
	if len(frames) == 0 {
		return nil
	}
	before, err := l.before(frames[0].Index)
	if err != nil {
		return err
	}
	if err := l.checkFrames(frames, before); err != nil {
		return err
	}
	if err := l.mayGrow(frames); err != nil {
		return err
	}
	if c := frames[0].Index; c <= l.last.index || l.overwrite {
		if err := l.cutFrom(c, before); err != nil {
			return err
		}
	}
	ops, err := l.layout(frames)
	if err != nil {
		return l.fail(err)
	}
	l.keepPromise()
	if len(l.queue) > 0 {
		l.queue = append(l.queue, ops...)
		l.tail.evict(l.firstQueued())
		return nil
	}
	for _, o := range ops {
		if err := o.run(l.o.FS); err != nil {
			return l.fail(err)
		}
		l.opDone(o, nil)
	}
	l.tail.evict(l.last.index + 1)
	return nil
}

// mayGrow refuses what damage makes impossible: a frame whose place is hidden, and a new segment after a damaged one, whose hash its
// header would need.
func (l *Log) mayGrow(frames []Frame) error {
	if len(l.faulty) == 0 || frames[0].Index <= l.last.index {
		return nil
	}
	newest := l.faulty[len(l.faulty)-1]
	if l.unplaced {
		return &FaultyError{newest}
	}
	s := l.active()
	if s == nil || !l.damaged(s) {
		return nil
	}
	if l.outgrows(s, frames) {
		return &FaultyError{newest}
	}
	return nil
}

// keepPromise takes what was appended out of a damaged range that was behind the log's end: committed entries that were lost and that
// nobody may forget before they are back.
func (l *Log) keepPromise() {
	k := len(l.faulty) - 1
	if k < 0 || !l.faulty[k].promised || l.faulty[k].From > l.last.index {
		return
	}
	r := &l.faulty[k]
	if r.From = l.last.index + 1; r.From > r.To {
		l.faulty = l.faulty[:k:k]
	}
}

// outgrows reports whether frames, appended to s, begin another segment.
func (l *Log) outgrows(s *segment, frames []Frame) bool {
	size, closed := s.size, s.closed()
	for i := range frames {
		if closed {
			return true
		}
		size += frames[i].encodedBytes()
		closed = size >= s.head.limit || frames[i].Kind == KindRoll
	}
	return false
}

// point is the state of the log after an entry.
type point struct {
	id          entryID
	next, time  int64
	nextUnknown bool
}

// before returns the point that a frame of index c continues.
func (l *Log) before(c uint64) (point, error) {
	switch {
	case c == l.last.index+1:
		return point{l.last, l.next, l.time, l.nextUnknown}, nil
	case c > l.last.index:
		return point{}, fmt.Errorf("%w: entry %d leaves a gap after %d", ErrInvalid, c, l.last.index)
	case c <= l.start.Index:
		return point{}, fmt.Errorf("%w: entry %d is before the log's start %d", ErrInvalid, c, l.start.Index+1)
	case l.faultyAt(c-1) != nil && c > l.start.Index+1:
		return point{}, &FaultyError{*l.faultyAt(c - 1)}
	}
	f, err := l.FrameAt(c - 1)
	if err != nil {
		return point{}, err
	}
	return point{id: entryID{f.Index, f.Term}, next: f.NextOffset(), time: f.AppendTime}, nil
}

func (l *Log) checkFrames(frames []Frame, p point) error {
	for i := range frames {
		f := &frames[i]
		switch {
		case f.Index != p.id.index+1:
			return fmt.Errorf("%w: entry %d after entry %d", ErrInvalid, f.Index, p.id.index)
		case f.Term < p.id.term:
			return fmt.Errorf("%w: entry %d has term %d after term %d", ErrInvalid, f.Index, f.Term, p.id.term)
		case !p.nextUnknown && f.Offset != p.next || f.Offset < 0 || f.Offset > offsetMax:
			return fmt.Errorf("%w: entry %d has offset %d, the next offset is %d", ErrInvalid, f.Index, f.Offset, p.next)
		case f.AppendTime < p.time:
			return fmt.Errorf("%w: entry %d has append time %d after %d", ErrInvalid, f.Index, f.AppendTime, p.time)
		case len(f.Payload) > l.o.PayloadBytesMax:
			return fmt.Errorf("%w: entry %d has %d payload bytes, most is %d", ErrInvalid, f.Index, len(f.Payload), l.o.PayloadBytesMax)
		case int(f.Kind) >= len(kindNames):
			return fmt.Errorf("%w: entry %d has unknown kind %d", ErrInvalid, f.Index, f.Kind)
		case f.Kind == KindData && (len(f.Payload) < batchBytesMin || f.Count == 0):
			return fmt.Errorf("%w: entry %d is data of %d bytes and %d records", ErrInvalid, f.Index, len(f.Payload), f.Count)
		case f.Kind != KindData && f.Count != 0:
			return fmt.Errorf("%w: entry %d is no data but has %d records", ErrInvalid, f.Index, f.Count)
		}
		p = point{id: entryID{f.Index, f.Term}, next: f.NextOffset(), time: f.AppendTime}
	}
	return nil
}

// layout gives every frame its segment and position, in memory, and returns the file changes that this takes, in order.
func (l *Log) layout(frames []Frame) ([]*op, error) {
	l.writes++
	heads := make([]byte, len(frames)*frameHeaderBytes)
	var ops []*op
	var w *op // the write that frames are being gathered into
	for i := range frames {
		f := &frames[i]
		s := l.active()
		if s == nil || s.closed() {
			create, err := l.roll(f.Offset)
			if err != nil {
				return nil, err
			}
			ops = append(ops, create)
			s, w = create.seg, nil
		}
		if w == nil {
			w = &op{kind: opWrite, seg: s, file: s.file, position: s.size, first: f.Index}
			ops = append(ops, w)
		}
		head := heads[i*frameHeaderBytes : (i+1)*frameHeaderBytes]
		putHeader(head, f, saltOf(l.o.Group, s.head.base))
		w.bufs = append(w.bufs, head)
		if len(f.Payload) > 0 {
			w.bufs = append(w.bufs, f.Payload)
		}
		w.bytes += f.encodedBytes()
		s.add(f, head, f.encodedBytes())
		s.dirty = l.writes
		l.note(f)
		l.tail.add(f)
	}
	return ops, nil
}

// note moves the log's end behind f.
func (l *Log) note(f *Frame) {
	l.last = entryID{f.Index, f.Term}
	l.next, l.time, l.nextUnknown = f.NextOffset(), f.AppendTime, false
	l.noteTerm(l.last)
	l.noteLimit(f)
}

func (l *Log) active() *segment {
	if n := len(l.segs); n > 0 {
		return l.segs[n-1]
	}
	return nil
}

// nextHeader is the header of the segment that follows the log's last one; offset is where it begins.
func (l *Log) nextHeader(offset int64) (header, error) {
	h := header{group: l.o.Group, base: l.last.index + 1, offset: offset, prev: l.last, time: l.time, hash: l.start.Hash}
	h.limit = l.limitAt(h.base)
	if s := l.active(); s != nil {
		sum, err := l.sumOf(s)
		if err != nil {
			return h, err
		}
		h.hash = sum
		if s.sealed {
			h.limit = s.nextLimit
		}
	}
	return h, nil
}

// roll ends the last segment and begins one for the next entry.
func (l *Log) roll(offset int64) (*op, error) {
	h, err := l.nextHeader(offset)
	if err != nil {
		return nil, err
	}
	s := newSegment(h)
	s.file = newHandle(nil, l.o.Files)
	s.dirty = l.writes
	l.dirDirty = l.writes
	l.segs = append(l.segs, s)
	return &op{kind: opCreate, seg: s, file: s.file, path: l.path(segmentName(h.base)), bufs: [][]byte{h.encode()}, bytes: segmentHeaderBytes, first: h.base}, nil
}

// sumOf is the hash of all frames of s. After a cut the frames are read once more.
func (l *Log) sumOf(s *segment) ([32]byte, error) {
	if s.sealed {
		return s.sum, nil
	}
	if s.stale {
		s.hash.Reset()
		if err := l.rehash(s, s.hash); err != nil {
			return [32]byte{}, fmt.Errorf("hash of %s: %w", segmentName(s.head.base), err)
		}
		s.stale = false
	}
	var sum [32]byte
	s.hash.Sum(sum[:0])
	return sum, nil
}

// rehash sums the frames of s, from the file and, where they are not on file, from memory.
func (l *Log) rehash(s *segment, h hash.Hash) error {
	salt := saltOf(l.o.Group, s.head.base)
	head := make([]byte, frameHeaderBytes)
	next := s.head.base
	if s.onFile > segmentHeaderBytes {
		r := l.reader(s, segmentHeaderBytes)
		for {
			f, err := r.next()
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
			putHeader(head, &f, salt)
			hashFrame(h, &f, head)
			next = f.Index + 1
		}
	}
	if next > s.last.index {
		return nil
	}
	rest, ok := l.tail.from(next)
	if !ok {
		return fmt.Errorf("entries from %d on are neither on file nor in memory", next)
	}
	for i := range rest {
		if rest[i].Index > s.last.index {
			break
		}
		putHeader(head, &rest[i], salt)
		hashFrame(h, &rest[i], head)
	}
	return nil
}

const scanChunkBytes = 256 << 10

// reader walks the frames of s that are on file, from pos on.
func (l *Log) reader(s *segment, pos int64) *frameReader {
	return &frameReader{
		f: s.file.f, salt: saltOf(l.o.Group, s.head.base), payloadMax: l.o.PayloadBytesMax, pos: pos, end: min(s.onFile, s.size), chunkBytes: scanChunkBytes,
	}
}

// opKind is a kind of file change.
type opKind uint8

const (
	opCreate   opKind = iota // make the file and write its header
	opWrite                  // write frames
	opTruncate               // cut the file and sync
	opRemove                 // remove the file
	opSyncDir                // sync the directory
)

// op is one file change. It is run once, by the owner or by a sync task.
type op struct {
	kind     opKind
	seg      *segment
	file     *handle
	path     string
	bufs     [][]byte
	position int64
	bytes    int64
	first    uint64 // first index it concerns; 0: none
	done     doneFlag
}

func (o *op) run(fs vfs.FS) error {
	var err error
	switch o.kind {
	case opCreate:
		if o.file.f, err = fs.Create(o.path); err != nil {
			return err
		}
		_, err = o.file.f.WritevAt(o.bufs, 0)
	case opWrite:
		_, err = o.file.f.WritevAt(o.bufs, o.position)
	case opTruncate:
		if err = o.file.f.Truncate(o.position); err == nil {
			err = o.file.f.Sync()
		}
	case opRemove:
		err = fs.Remove(o.path)
	case opSyncDir:
		err = fs.SyncDir(o.path)
	}
	if err != nil {
		return err
	}
	o.bufs = nil
	o.done.set()
	return nil
}
