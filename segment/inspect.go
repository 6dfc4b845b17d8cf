package segment

import (
	"errors"
	"io"
	"path"

	"lograft/segment/vfs"
)

// Info describes one segment file found by Inspect.
type Info struct {
	Name       string
	Group      GroupID
	Base, Last uint64 // Last is Base-1 if there is no good frame
	BaseOffset int64
	NextOffset int64
	Limit      int64
	Bytes      int64    // of the file
	Sealed     bool     // a good footer was found
	Hash       [32]byte // of the frames, from the footer
	Sum        [32]byte // of the frames, as they are
	Before     [32]byte // the hash of the segment before, as the header says
	Frames     int      // good ones
	Faulty     []FaultyRange
	Trailing   int64  // bytes after the last good frame that are neither frame nor footer
	Problem    string // why the header or the footer is no good
}

// Inspect reads the segments of a directory offline, changing nothing: frame is called with every good frame and its position, then
// info with each segment. Either may be nil; an error from them ends the walk. A payload is frame's only until it returns.
func Inspect(fs vfs.FS, dir string, frame func(base uint64, position int64, f Frame) error, info func(Info) error) error {
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		base, ok := baseOfName(name, logSuffix)
		if !ok {
			continue
		}
		i, err := inspectFile(fs, path.Join(dir, name), base, frame)
		if err != nil {
			return err
		}
		if info == nil {
			continue
		}
		if err := info(i); err != nil {
			return err
		}
	}
	return nil
}

func inspectFile(fs vfs.FS, name string, base uint64, frame func(uint64, int64, Frame) error) (i Info, err error) {
	f, err := fs.Open(name)
	if err != nil {
		return i, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	i = Info{Name: path.Base(name), Base: base, Last: base - 1}
	if i.Bytes, err = f.Size(); err != nil {
		return i, err
	}
	head := make([]byte, min(i.Bytes, segmentHeaderBytes))
	if err := readFull(f, head, 0); damageToRead(err) {
		i.Problem = err.Error()
		return i, nil
	} else if err != nil {
		return i, err
	}
	if len(head) == segmentHeaderBytes {
		copy(i.Group[:], head[16:])
	}
	h, err := decodeHeader(head, i.Group, base)
	if err != nil {
		i.Problem = err.Error()
		return i, nil
	}
	i.BaseOffset, i.NextOffset, i.Limit, i.Before = h.offset, h.offset, h.limit, h.hash
	end := i.Bytes
	foot, err := readFooter(f, i.Bytes, h.group, base)
	switch {
	case err == nil:
		i.Sealed, i.Hash, end = true, foot.hash, foot.position
	case errors.Is(err, ErrVersion):
		i.Problem = err.Error()
	case !errors.Is(err, errNoFooter) && !damageToRead(err):
		return i, err
	}
	return i, i.walk(newWalk(f, &h, PayloadBytesMaxDefault, end), h.limit, frame)
}

func (i *Info) walk(w *walk, limit int64, frame func(uint64, int64, Frame) error) error {
	defer func() { i.Sum = w.hash() }()
	for {
		pos := w.r.pos
		f, err := w.next()
		if err == io.EOF {
			return nil
		}
		var bad *frameError
		if damageToRead(err) {
			bad = &frameError{what: err.Error()}
		} else if err != nil && !errors.As(err, &bad) {
			return err
		}
		if bad != nil {
			at, g, err := resync(w.r, w.p, 0, anyFrame, limit)
			if err != nil && !damageToRead(err) {
				return err
			}
			if at == 0 {
				i.Trailing = w.r.end - pos
				return nil
			}
			i.Faulty = append(i.Faulty, FaultyRange{From: w.p.id.index + 1, To: g.Index - 1, Segment: i.Base, Position: pos, End: at, Reason: bad.what})
			w.p, w.r.pos = point{id: entryID{g.Index - 1, w.p.id.term}, next: g.Offset, time: g.AppendTime}, at
			continue
		}
		i.Frames++
		i.Last, i.NextOffset = f.Index, f.NextOffset()
		if frame == nil {
			continue
		}
		if err := frame(i.Base, pos, f); err != nil {
			return err
		}
	}
}
