package segment

import (
	"fmt"
	"path"

	"lograft/segment/vfs"
)

// Report is what an offline look at one group's directory found.
type Report struct {
	Dir      string
	Segments []Info   // by base index
	Other    []string // files beside the segments that are of interest, with what they are
	Problems []string // what does not fit; empty: everything that is there is good
}

// InspectDir reads all of a group's directory offline and changes nothing: every byte of every segment, whether each continues the one
// before, the checkpoints and where the log begins. frame, if not nil, is called as by Inspect. What a running broker has not synced
// yet shows as bytes behind the last frame of the newest segment, which is no problem.
func InspectDir(fs vfs.FS, dir string, frame func(base uint64, position int64, f Frame) error) (Report, error) {
	r := Report{Dir: dir}
	err := Inspect(fs, dir, frame, func(i Info) error {
		r.Segments = append(r.Segments, i)
		return nil
	})
	if err != nil {
		return r, err
	}
	for k := range r.Segments {
		r.judge(k)
	}
	names, err := fs.List(dir)
	if err != nil {
		return r, err
	}
	for _, name := range names {
		r.otherFile(fs, name)
	}
	return r, nil
}

func (r *Report) problem(name, format string, args ...any) {
	r.Problems = append(r.Problems, name+": "+fmt.Sprintf(format, args...))
}

// judge holds segment k against itself and the one before.
func (r *Report) judge(k int) {
	i := &r.Segments[k]
	newest := k == len(r.Segments)-1
	if i.Problem != "" {
		r.problem(i.Name, "%s", i.Problem)
	}
	for _, f := range i.Faulty {
		r.problem(i.Name, "entries %d to %d at byte %d: %s", f.From, f.To, f.Position, f.Reason)
	}
	if i.Trailing > 0 && (!newest || i.Sealed) {
		r.problem(i.Name, "%d bytes behind entry %d are no frames", i.Trailing, i.Last)
	}
	if i.Sealed && i.Sum != i.Hash && len(i.Faulty) == 0 && i.Trailing == 0 {
		r.problem(i.Name, "the frames are others than the footer says")
	}
	if k == 0 || i.Problem != "" {
		return
	}
	before := &r.Segments[k-1]
	switch {
	case i.Group != before.Group:
		r.problem(i.Name, "it is of group %x, the one before of %x", i.Group, before.Group)
	case i.Base != before.Last+1:
		r.problem(i.Name, "entries %d to %d before it are missing", before.Last+1, i.Base-1)
	case before.Problem == "" && len(before.Faulty) == 0 && i.Before != before.Sum:
		r.problem(i.Name, "the hash of the segment before it is another one")
	}
}

func (r *Report) otherFile(fs vfs.FS, name string) {
	full := path.Join(r.Dir, name)
	group := GroupID{}
	if len(r.Segments) > 0 {
		group = r.Segments[0].Group
	}
	point := func(magic string, bytesMax int64) (Start, bool) {
		b, err := readWhole(fs, full, bytesMax)
		var at Start
		if err == nil {
			at, _, err = decodePoint(b, magic, group)
		}
		if err != nil {
			r.problem(name, "%v", err)
		}
		return at, err == nil
	}
	switch _, isState := baseOfName(name, stateSuffix); {
	case isState:
		if at, ok := point(stateMagic, checkpointBytesMax); ok {
			r.Other = append(r.Other, fmt.Sprintf("%s: checkpoint as of entry %d", name, at.Index))
		}
	case name == startName:
		if at, ok := point(startMagic, pointBytes); ok {
			r.Other = append(r.Other, fmt.Sprintf("%s: the log begins after entry %d, offset %d", name, at.Index, at.Offset))
			if len(r.Segments) > 0 && r.Segments[0].Base > at.Index+1 {
				r.problem(r.Segments[0].Name, "entries %d to %d before it are missing", at.Index+1, r.Segments[0].Base-1)
			}
		}
	case name == stagedManifest:
		r.Other = append(r.Other, name+": a snapshot is being installed; the next start finishes or drops it")
	case isStaged(name):
		r.Other = append(r.Other, name+": part of a snapshot that is being received")
	case path.Ext(name) == badSuffix:
		r.Other = append(r.Other, name+": recovery could not place it")
	case name == asideDir:
		r.Other = append(r.Other, name+"/: what recovery cut off the last time")
	}
}

// HasSegments reports whether dir is a group's directory.
func HasSegments(fs vfs.FS, dir string) (bool, error) {
	names, err := fs.List(dir)
	if err != nil {
		return false, err
	}
	for _, name := range names {
		if _, ok := baseOfName(name, logSuffix); ok {
			return true, nil
		}
	}
	return false, nil
}
