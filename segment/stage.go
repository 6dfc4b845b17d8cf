package segment

import (
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"lograft/segment/vfs"
)

// Staging collects the files of a manifest beside a log until they are installed. Files are named by base index and hash, so what one
// leader sent half of, another one completes, also after a restart. Its methods do their I/O at once and are called by one goroutine at
// a time, any; they touch nothing of the log. Nothing staged is part of the log: after a crash it is a cache.
type Staging struct {
	Manifest Manifest

	fs         vfs.FS
	dir        string
	payloadMax int
	files      []stagedFile
	part       vfs.File // of the file being received
	partBase   uint64
}

type stagedFile struct {
	SegmentSummary
	own   bool  // the log's own sealed segment is this file
	ready bool  // whole and verified
	have  int64 // bytes received
}

// Stage begins to collect the files of m. Segments that the log has sealed with the same bytes, and no known damage, are taken from it.
// Call Open next.
func (l *Log) Stage(m Manifest) (*Staging, error) {
	if l.failed != nil {
		return nil, l.failed
	}
	if m.Group != l.o.Group {
		return nil, fmt.Errorf("%w: the manifest is of group %x", ErrInvalid, m.Group)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("%w: manifest: %w", ErrInvalid, err)
	}
	st := &Staging{Manifest: m, fs: l.o.FS, dir: l.o.Dir, payloadMax: l.o.PayloadBytesMax}
	for _, s := range m.Segments {
		f := stagedFile{SegmentSummary: s}
		if k := l.segmentOf(s.Base); k >= 0 && l.segs[k].sealed && l.segs[k].summary() == s && !l.damaged(l.segs[k]) {
			f.own, f.ready, f.have = true, true, s.Bytes
		}
		st.files = append(st.files, f)
	}
	return st, nil
}

func (s *SegmentSummary) stagedName(suffix string) string {
	return fmt.Sprintf("%0*d-%s%s", baseDigits, s.Base, hex.EncodeToString(s.Hash[:]), suffix)
}

func isStaged(name string) bool {
	return strings.HasSuffix(name, stageSuffix) || strings.HasSuffix(name, partSuffix)
}

// Open looks at what is staged already: whole files count, of a half one its good frames, and files that the manifest does not list go.
func (st *Staging) Open() error {
	names, err := st.fs.List(st.dir)
	if err != nil {
		return err
	}
	// Whole files first: a half one of the same name is not needed then, and never takes the place of what was looked at.
	slices.SortStableFunc(names, func(a, b string) int {
		return strings.Compare(path.Ext(b), path.Ext(a))
	})
	for _, name := range names {
		if !isStaged(name) {
			continue
		}
		i := slices.IndexFunc(st.files, func(f stagedFile) bool {
			return !f.own && (f.stagedName(stageSuffix) == name || f.stagedName(partSuffix) == name)
		})
		keep := false
		if i >= 0 {
			if keep, err = st.resume(&st.files[i], name); err != nil {
				return err
			}
		}
		if !keep {
			if err := st.fs.Remove(st.path(name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (st *Staging) path(name string) string { return path.Join(st.dir, name) }

// resume counts what of f an earlier staging left in the file called name. keep is false if that is of no use. A crash may leave both
// names of one file; the list gives the received one before the verified one.
func (st *Staging) resume(f *stagedFile, name string) (keep bool, err error) {
	file, err := st.fs.OpenRW(st.path(name))
	if err != nil {
		return false, err
	}
	size, err := file.Size()
	if err != nil {
		return false, errors.Join(err, file.Close())
	}
	verified := strings.HasSuffix(name, stageSuffix)
	good, whole, err := st.check(file, &f.SegmentSummary, min(size, f.Bytes)).run()
	if err == nil && !whole && !verified && good < size {
		err = file.Truncate(good)
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return false, err
	}
	switch {
	case f.ready || verified && !whole || good == 0:
		return false, nil
	case whole && !verified:
		err = st.fs.Rename(st.path(name), st.path(f.stagedName(stageSuffix)))
	}
	f.have, f.ready = good, whole
	return true, err
}

// Next returns the next bytes to fetch: from byte off on of the segment that begins at base. ok is false if everything is there.
func (st *Staging) Next() (base uint64, off int64, ok bool) {
	for i := range st.files {
		if f := &st.files[i]; !f.ready {
			return f.Base, f.have, true
		}
	}
	return 0, 0, false
}

// Want limits what Next asks for to the segment that begins at base: enough to repair one lost file with InstallSegment.
func (st *Staging) Want(base uint64) {
	st.files = slices.DeleteFunc(st.files, func(f stagedFile) bool { return f.Base != base })
}

// Have returns the bytes that are there, the log's own files included, and those of the whole manifest.
func (st *Staging) Have() (have, of int64) {
	for _, f := range st.files {
		have += f.have
		of += f.Bytes
	}
	return have, of
}

// Write adds b, which begins at byte off of the segment that begins at base: where Next said. A file that is whole by then is checked to
// the last byte and against its hash; ErrInvalid: it is another one, and what was received of it is dropped. An error that
// errors.Is(err, ErrNoSpace) leaves what was there; any other is a file error that ends the use of this data directory.
func (st *Staging) Write(base uint64, off int64, b []byte) error {
	i := slices.IndexFunc(st.files, func(f stagedFile) bool { return f.Base == base })
	if i < 0 || st.files[i].ready || st.files[i].have != off || off+int64(len(b)) > st.files[i].Bytes || len(b) == 0 {
		return fmt.Errorf("%w: %d bytes at %d of segment %d are not what the staging waits for", ErrInvalid, len(b), off, base)
	}
	f := &st.files[i]
	if err := st.openPart(f); err != nil {
		return noSpace(err)
	}
	if _, err := st.part.WriteAt(b, off); err != nil {
		return noSpace(err)
	}
	f.have += int64(len(b))
	if f.have < f.Bytes {
		return nil
	}
	return st.finish(f)
}

func (st *Staging) openPart(f *stagedFile) (err error) {
	if st.part != nil && st.partBase == f.Base {
		return nil
	}
	if err := st.Close(); err != nil {
		return err
	}
	name := st.path(f.stagedName(partSuffix))
	if f.have > 0 {
		st.part, err = st.fs.OpenRW(name)
	} else {
		st.part, err = st.fs.Create(name)
	}
	st.partBase = f.Base
	return err
}

// finish checks a received file and gives it its staged name.
func (st *Staging) finish(f *stagedFile) error {
	check := st.check(st.part, &f.SegmentSummary, f.Bytes)
	_, whole, err := check.run()
	if err := errors.Join(err, st.Close()); err != nil {
		return err
	}
	name := st.path(f.stagedName(partSuffix))
	if !whole {
		f.have = 0
		return errors.Join(fmt.Errorf("%w: what was received as segment %d is not what its hash says: %s", ErrInvalid, f.Base, check.why), st.fs.Remove(name))
	}
	f.ready = true
	return st.fs.Rename(name, st.path(f.stagedName(stageSuffix)))
}

// Ready reports whether every file is there and verified.
func (st *Staging) Ready() bool {
	_, _, more := st.Next()
	return !more
}

// Close closes the file being received. What is staged stays.
func (st *Staging) Close() error {
	if st.part == nil {
		return nil
	}
	f := st.part
	st.part = nil
	return f.Close()
}

// Drop removes everything that is staged.
func (st *Staging) Drop() error {
	if err := st.Close(); err != nil {
		return err
	}
	names, err := st.fs.List(st.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if isStaged(name) {
			if err := st.fs.Remove(st.path(name)); err != nil {
				return err
			}
		}
	}
	for i := range st.files {
		if f := &st.files[i]; !f.own {
			f.ready, f.have = false, 0
		}
	}
	return nil
}

// fileCheck verifies a sealed segment's file that nothing is known of but its summary.
type fileCheck struct {
	file  vfs.File
	group GroupID
	want  *SegmentSummary
	size  int64
	max   int
	head  header
	foot  footer
	why   string // it is not whole
}

func (st *Staging) check(f vfs.File, want *SegmentSummary, size int64) *fileCheck {
	return &fileCheck{file: f, group: st.Manifest.Group, want: want, size: size, max: st.payloadMax}
}

// run reads size bytes of the file. good is the length of the header and good frames at its start, whole says that it is all of the
// wanted segment. The error is the file's.
func (c *fileCheck) run() (good int64, whole bool, err error) {
	if c.size < segmentHeaderBytes {
		c.why = "it is too short"
		return 0, false, nil
	}
	head := make([]byte, segmentHeaderBytes)
	if err := readFull(c.file, head, 0); err != nil {
		return 0, false, err
	}
	if c.head, err = decodeHeader(head, c.group, c.want.Base); err != nil {
		c.why = err.Error()
		return 0, false, nil
	}
	end := c.size
	if c.size == c.want.Bytes {
		if c.foot, err = readFooter(c.file, c.size, c.group, c.want.Base); err == nil {
			end = c.foot.position
		} else if !errors.Is(err, errNoFooter) && !errors.Is(err, ErrVersion) {
			return 0, false, err
		}
	}
	w := newWalk(c.file, &c.head, c.max, end)
	if err := w.all(); err != nil {
		var bad *frameError
		if !errors.As(err, &bad) {
			return 0, false, err
		}
		c.why = fmt.Sprintf("at byte %d: %s", w.r.pos, bad.what)
		return w.r.pos, false, nil
	}
	switch sum := w.hash(); {
	case c.size != c.want.Bytes || c.foot.position == 0:
		c.why = "it has no footer"
	case sum != c.want.Hash || c.foot.hash != sum || w.p.id.index != c.want.Last || c.foot.last != w.p.id || c.foot.next != w.p.next ||
		c.foot.time != w.p.time || !slices.Equal(c.foot.index, w.index) || !slices.Equal(c.foot.runs, w.runs):
		c.why = fmt.Sprintf("its frames end with entry %d and hash %x", w.p.id.index, sum[:4])
	default:
		return c.size, true, nil
	}
	return 0, false, nil
}
