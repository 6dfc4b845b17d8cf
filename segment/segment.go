package segment

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"sort"
	"sync/atomic"

	"lograft/internal/buffers"
	"lograft/segment/vfs"
)

// handle is an open file that its users share; the last one closes it.
type handle struct {
	f      vfs.File
	refs   atomic.Int32
	budget *FileBudget
}

func newHandle(f vfs.File, budget *FileBudget) *handle {
	h := &handle{f: f, budget: budget}
	h.refs.Store(1)
	budget.opened(1)
	return h
}

// FileBudget bounds the open files of all logs of a broker together. When more are open, a log that opens a sealed segment's file closes
// all other sealed ones of its own: so at most as many stay open as the budget says, and one sealed file and the unsealed ones of each
// log. It may be used by several goroutines; nil has no bound.
type FileBudget struct {
	max  int64
	open atomic.Int64
}

// NewFileBudget makes a budget of so many files.
func NewFileBudget(files int) *FileBudget { return &FileBudget{max: int64(files)} }

// Open is how many files of logs are open.
func (b *FileBudget) Open() int64 { return b.open.Load() }

func (b *FileBudget) opened(n int64) {
	if b != nil {
		b.open.Add(n)
	}
}

func (b *FileBudget) over() bool { return b != nil && b.open.Load() > b.max }

func (h *handle) acquire() *handle {
	h.refs.Add(1)
	return h
}

// tryAcquire is acquire for a task that holds no reference: false if the file was closed.
func (h *handle) tryAcquire() bool {
	for {
		n := h.refs.Load()
		if n <= 0 {
			return false
		}
		if h.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release gives one reference up. The error is that of closing the file, if this was the last.
func (h *handle) release() error {
	if h.refs.Add(-1) > 0 {
		return nil
	}
	h.budget.opened(-1)
	if h.f == nil {
		return nil
	}
	return h.f.Close()
}

// segment is one file of the log as its owner sees it. Fields are touched by the owner only, except cold and file.f.
type segment struct {
	head header
	last entryID // head.prev if empty
	next int64   // offset
	time int64   // append time of last
	size int64   // header and frames: where the next frame goes
	// onFile bytes of size are known to be written: a read of the file must not go beyond.
	// Invariant: frames beyond onFile are in the tail cache.
	onFile int64

	rolled    bool  // the last frame ends the segment
	guessed   bool  // damage hides last's term: it is at least last.term
	nextLimit int64 // of a sealed segment: limit of the next one
	sealed    bool
	sealing   bool
	state     bool      // a checkpoint file, not known to be bad, lies beside it
	runs      []termRun // between reading a staged segment's footer and taking it into the log
	fileBytes int64     // of a sealed segment: with its footer

	index []indexEntry // sparse; nil once sealed
	cold  atomic.Pointer[[]indexEntry]

	// hash sums all frames unless a cut or damage made it stale; sumOf makes it anew.
	hash  hash.Hash
	stale bool
	sum   [32]byte // of a sealed segment

	file  *handle // nil: a sealed segment whose file is closed
	dirty uint64  // number of the write that last touched it; 0: nothing unsynced
	used  uint64  // when a sealed segment's file was last asked for
}

func newSegment(head header) *segment {
	return &segment{
		head: head, last: head.prev, next: head.offset, time: head.time, size: segmentHeaderBytes,
		hash: sha256.New(),
	}
}

// takeFooter makes s the sealed segment that its footer describes.
func (s *segment) takeFooter(f *footer, fileBytes int64) {
	s.last, s.next, s.time, s.size, s.onFile = f.last, f.next, f.time, f.position, f.position
	s.nextLimit, s.sealed, s.sum, s.hash, s.fileBytes = f.nextLimit, true, f.hash, nil, fileBytes
}

func (s *segment) count() uint64 { return s.last.index - s.head.prev.index }

// noteIndex adds a sparse index entry for f at position if the last one is far enough behind.
func noteIndex(index []indexEntry, f *Frame, position int64) []indexEntry {
	if n := len(index); n > 0 && position < index[n-1].position+sparseBytes {
		return index
	}
	return append(index, indexEntry{f.Index, f.Offset, position, f.AppendTime})
}

// add appends f, whose encoded header is head and which takes n bytes, at the segment's end. Of a data payload only the first 21
// bytes are looked at.
func (s *segment) add(f *Frame, head []byte, n int64) {
	s.index = noteIndex(s.index, f, s.size)
	if !s.stale {
		hashFrame(s.hash, f, head)
	}
	s.last = entryID{f.Index, f.Term}
	s.next, s.time = f.NextOffset(), f.AppendTime
	s.size += n
	s.rolled, s.guessed = f.Kind == KindRoll, false
}

func hashFrame(h hash.Hash, f *Frame, head []byte) {
	h.Write(head[:frameHeaderBytes])
	if f.Kind == KindData {
		h.Write(f.Payload[:batchSummedFrom])
	}
}

// closed reports whether the segment takes no more frames: after a roll frame, or when it has reached its limit. That depends on its
// own bytes only, so nothing that follows, and may yet be replaced, can change it.
func (s *segment) closed() bool {
	return s.sealed || s.rolled || s.count() > 0 && s.size >= s.head.limit
}

// seekIndex returns the last entry at or before index i, or the segment's first frame.
func seekIndex(index []indexEntry, i uint64) (uint64, int64) {
	k := sort.Search(len(index), func(k int) bool { return index[k].index > i })
	if k == 0 {
		return 0, segmentHeaderBytes
	}
	return index[k-1].index, index[k-1].position
}

// indexAt is the index of the frame at a position that one of the seeks gave, in the segment that begins at base.
func indexAt(index []indexEntry, position int64, base uint64) uint64 {
	k := sort.Search(len(index), func(k int) bool { return index[k].position >= position })
	if k < len(index) && index[k].position == position {
		return index[k].index
	}
	return base
}

// seekOffset returns the position of the last entry whose offset is at or before off.
func seekOffset(index []indexEntry, off int64) int64 {
	k := sort.Search(len(index), func(k int) bool { return index[k].offset > off })
	if k == 0 {
		return segmentHeaderBytes
	}
	return index[k-1].position
}

// seekTime returns the position of the last entry appended before ms.
func seekTime(index []indexEntry, ms int64) int64 {
	k := sort.Search(len(index), func(k int) bool { return index[k].time >= ms })
	if k == 0 {
		return segmentHeaderBytes
	}
	return index[k-1].position
}

// coldIndex returns the sparse index of a sealed segment, from its footer the first time. Any goroutine that holds h may call it.
func (s *segment) coldIndex(f vfs.File) ([]indexEntry, error) {
	if p := s.cold.Load(); p != nil {
		return *p, nil
	}
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	foot, err := readFooter(f, size, s.head.group, s.head.base)
	if err != nil {
		return nil, fmt.Errorf("%s: footer: %w", segmentName(s.head.base), err)
	}
	s.cold.Store(&foot.index)
	return foot.index, nil
}

// readFooter reads the footer at the end of a file of size bytes. errNoFooter: there is none, or a bad one.
func readFooter(f vfs.File, size int64, group GroupID, base uint64) (footer, error) {
	if size < segmentHeaderBytes+trailerBytes {
		return footer{}, errNoFooter
	}
	t := make([]byte, trailerBytes)
	if err := readFull(f, t, size-trailerBytes); err != nil {
		return footer{}, err
	}
	n, err := footerBytes(t, size)
	if err != nil {
		return footer{}, err
	}
	b := make([]byte, n)
	if err := readFull(f, b, size-n); err != nil {
		return footer{}, err
	}
	return decodeFooter(b, group, base)
}

// readFull reads len(b) bytes; a file that ends before is io.ErrUnexpectedEOF.
func readFull(f vfs.File, b []byte, off int64) error {
	n, err := f.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// frameReader walks the frames of one file region, [pos, end).
type frameReader struct {
	f          vfs.File
	salt       uint32
	payloadMax int
	pos, end   int64
	chunkBytes int           // read at once
	fresh      bool          // each chunk is memory of its own that the frames may keep
	lent       *buffers.Loan // that memory's; nil: allocated

	buf   []byte
	bufAt int64
}

// next returns the frame at pos, fully verified, and moves behind it. At end it returns io.EOF. A bad frame answers a *frameError
// and leaves pos; other errors are the file's.
func (r *frameReader) next() (Frame, error) {
	if r.pos >= r.end {
		return Frame{}, io.EOF
	}
	for need := int64(frameHeaderBytes); ; {
		b, err := r.window(need)
		if err != nil {
			return Frame{}, err
		}
		f, n, err := decodeFrame(b, r.salt, r.payloadMax)
		var fe *frameError
		if errors.As(err, &fe) && fe.need > 0 && r.pos+fe.need <= r.end && int64(len(b)) < fe.need {
			need = fe.need
			continue
		}
		if err != nil {
			return Frame{}, err
		}
		r.pos += n
		return f, nil
	}
}

// nextHeader is next without a look at the bytes that only a batch's own sum covers: the payload of a data frame is its first 21
// bytes. n is the length of the whole frame, which lies within the region; head is its header, valid until the next call.
func (r *frameReader) nextHeader() (f Frame, head []byte, n int64, err error) {
	if r.pos >= r.end {
		return Frame{}, nil, 0, io.EOF
	}
	b, err := r.window(payloadBytesLeft)
	if err != nil {
		return Frame{}, nil, 0, err
	}
	if len(b) < frameHeaderBytes {
		return Frame{}, nil, 0, errFrameCut
	}
	f, payload, err := parseHeader(b, r.payloadMax)
	if err != nil {
		return Frame{}, nil, 0, err
	}
	n = frameHeaderBytes + int64(payload)
	if r.pos+n > r.end {
		return Frame{}, nil, 0, errFrameCut
	}
	covered := payload
	if f.Kind == KindData {
		covered = batchSummedFrom
	}
	if b, err = r.window(frameHeaderBytes + int64(covered)); err != nil {
		return Frame{}, nil, 0, err
	}
	if err := checkHeader(b, f.Kind, payload, r.salt); err != nil {
		return Frame{}, nil, 0, err
	}
	f.Payload = b[frameHeaderBytes : frameHeaderBytes+covered]
	r.pos += n
	return f, b[:frameHeaderBytes], n, nil
}

// window returns the bytes from pos on that are buffered, at least need of them unless the region ends before.
func (r *frameReader) window(need int64) ([]byte, error) {
	need = min(need, r.end-r.pos)
	if r.pos >= r.bufAt && r.pos+need <= r.bufAt+int64(len(r.buf)) {
		return r.buf[r.pos-r.bufAt:], nil
	}
	n := min(max(need, int64(r.chunkBytes)), r.end-r.pos)
	switch {
	case r.lent != nil:
		r.buf = r.lent.Get(int(n))
	case r.fresh || int64(cap(r.buf)) < n:
		r.buf = make([]byte, n)
	}
	r.buf, r.bufAt = r.buf[:n], r.pos
	err := readFull(r.f, r.buf, r.pos)
	if n > need && vfs.IsUnreadable(err) {
		// The bad sector may be one that nobody needs yet.
		r.buf = r.buf[:need]
		err = readFull(r.f, r.buf, r.pos)
	}
	if err != nil {
		r.buf = r.buf[:0]
		return nil, err
	}
	return r.buf, nil
}
