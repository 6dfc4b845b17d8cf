package segment

import (
	"errors"
	"fmt"
	"path"
	"slices"

	"lograft/segment/vfs"
)

// KeptTask reads the file of a segment that the log has dropped and keeps for a pin. It is no part of the log, so nothing else checks it.
type KeptTask struct {
	Segment SegmentSummary
	Err     error // it could not be read, or is not what Segment says

	fs     vfs.FS
	dir    string
	check  fileCheck
	rotten bool
}

// Damaged reports whether Err means that whoever is sent the file refuses it; else it could only not be read this time.
func (t *KeptTask) Damaged() bool { return t.rotten || bytesGone(t.Err) }

// BeginKept begins a check of the file that is kept for s; nil if there is none, because s is part of the log or of no use to anybody.
func (l *Log) BeginKept(s SegmentSummary) *KeptTask {
	if !slices.Contains(l.doomed, s.Base) || !slices.ContainsFunc(l.pins, func(p *Pin) bool { return slices.Contains(p.segments, s) }) {
		return nil
	}
	t := &KeptTask{Segment: s, fs: l.o.FS, dir: l.o.Dir}
	t.check = fileCheck{group: l.o.Group, want: &t.Segment, max: l.o.PayloadBytesMax}
	return t
}

// Do reads all of the file, on any goroutine. The result is in t.Err.
func (t *KeptTask) Do() {
	c := &t.check
	if c.file, t.Err = t.fs.Open(path.Join(t.dir, segmentName(t.Segment.Base))); t.Err != nil {
		return
	}
	size, err := c.file.Size()
	whole := false
	if err == nil {
		c.size = min(size, t.Segment.Bytes)
		_, whole, err = c.run()
	}
	if t.rotten = err == nil && !whole; t.rotten {
		err = fmt.Errorf("segment [%d, %d] rotted since the log dropped it: %s", t.Segment.Base, t.Segment.Last, c.why)
	}
	t.Err = errors.Join(err, c.file.Close())
}
