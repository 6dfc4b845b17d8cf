package segment

import (
	"errors"
	"fmt"
	"path"
	"slices"

	"lograft/segment/vfs"
)

// Pin keeps the files of a manifest's segments until Unpin, also when a trim drops them from the log meanwhile. It holds no file open
// and does not survive a restart: Open removes what was only pinned. An install voids all pins of its log.
type Pin struct {
	fs       vfs.FS
	dir      string
	segments []SegmentSummary
}

// Pin pins the segments of m, another replica's manifest perhaps, to serve them. ErrUnavailable: this log has not sealed all of them,
// with the same bytes, or has damage in them.
func (l *Log) Pin(m *Manifest) (*Pin, error) {
	if l.failed != nil {
		return nil, l.failed
	}
	for _, want := range m.Segments {
		k := l.segmentOf(want.Base)
		if k < 0 || !l.segs[k].sealed || l.segs[k].summary() != want || l.damaged(l.segs[k]) {
			return nil, fmt.Errorf("%w: segment [%d, %d] is not held as the manifest says", ErrUnavailable, want.Base, want.Last)
		}
	}
	return l.pin(m), nil
}

func (l *Log) pin(m *Manifest) *Pin {
	p := &Pin{fs: l.o.FS, dir: l.o.Dir, segments: slices.Clone(m.Segments)}
	l.pins = append(l.pins, p)
	return p
}

// Unpin gives p up. A second time does nothing.
func (l *Log) Unpin(p *Pin) {
	i := slices.Index(l.pins, p)
	if i < 0 {
		return
	}
	l.pins = slices.Delete(l.pins, i, i+1)
	doomed := l.doomed
	l.doomed = nil
	for _, base := range doomed {
		if err := l.removeTrimmed(base); err != nil {
			l.fail(err)
		}
	}
}

// removeTrimmed removes the file of a segment that the log has dropped, now or when its last pin goes.
func (l *Log) removeTrimmed(base uint64) error {
	for _, p := range l.pins {
		if slices.ContainsFunc(p.segments, func(s SegmentSummary) bool { return s.Base == base }) {
			l.doomed = append(l.doomed, base)
			return nil
		}
	}
	return l.o.FS.Remove(l.path(segmentName(base)))
}

// RangeBytesMax bounds what one RangeTask reads.
const RangeBytesMax = 1 << 20

// RangeTask reads a part of a pinned segment's file. Do runs on any goroutine. Then Data, the caller's, or Err. The bytes are not
// checked here: the receiver checks the whole file against its hash.
type RangeTask struct {
	Data []byte
	Err  error

	fs   vfs.FS
	name string
	off  int64
	n    int
}

// Range begins a read of at most n bytes, at most RangeBytesMax, from byte off on of the pinned segment that begins at base. It may be
// called by any goroutine. The answer is shorter only at the end of the file. ErrInvalid: no such segment, or off is not in it.
func (p *Pin) Range(base uint64, off int64, n int) (*RangeTask, error) {
	for _, s := range p.segments {
		if s.Base != base {
			continue
		}
		if off < 0 || off >= s.Bytes || n <= 0 {
			break
		}
		return &RangeTask{fs: p.fs, name: path.Join(p.dir, segmentName(base)), off: off, n: int(min(int64(n), RangeBytesMax, s.Bytes-off))}, nil
	}
	return nil, fmt.Errorf("%w: no %d bytes at %d in pinned segment %d", ErrInvalid, n, off, base)
}

// Damaged reports whether the read failed because bytes of the file are gone.
func (t *RangeTask) Damaged() bool {
	return bytesGone(t.Err)
}

// bytesGone reports whether a read of a whole file failed because the disk lost some of it, not because there were no descriptors, say.
func bytesGone(err error) bool { return err != nil && (vfs.IsNotExist(err) || damageToRead(err)) }

// Do reads.
func (t *RangeTask) Do() {
	f, err := t.fs.Open(t.name)
	if err != nil {
		t.Err = err
		return
	}
	b := make([]byte, t.n)
	if err := errors.Join(readFull(f, b, t.off), f.Close()); err != nil {
		t.Err = err
		return
	}
	t.Data = b
}
