package broker

import (
	"fmt"
	"path"

	"lograft/segment"
	"lograft/segment/journal"
	"lograft/segment/vfs"
)

// OfflineReport is what lies in a data directory or in one group's directory of it.
type OfflineReport struct {
	Groups  []segment.Report
	Journal []journal.LogInfo // nil: dir is one group's directory
}

// InspectOffline reads a data directory, its groups directory, or one group's, and changes nothing; a broker may be running on it.
// frame, if not nil, is called with every good entry.
func InspectOffline(dir string, frame func(group string, base uint64, position int64, f segment.Frame) error) (OfflineReport, error) {
	var out OfflineReport
	fs := vfs.OS()
	var promised map[journal.GroupID]uint64
	one := func(dir string) error {
		var each func(uint64, int64, segment.Frame) error
		if frame != nil {
			each = func(base uint64, position int64, f segment.Frame) error {
				return frame(path.Base(dir), base, position, f)
			}
		}
		r, err := segment.InspectDir(fs, dir, each)
		if err == nil {
			judgeEnd(&r, promised)
			out.Groups = append(out.Groups, r)
		}
		return err
	}
	if is, err := segment.HasSegments(fs, dir); err != nil {
		return out, err
	} else if is {
		return out, one(dir)
	}
	groups := dir
	if _, isDir, err := fs.Stat(path.Join(dir, "groups")); err == nil && isDir {
		groups = path.Join(dir, "groups")
		if out.Journal, promised, err = journal.InspectWAL(path.Join(dir, "journal")); err != nil {
			return out, err
		}
	}
	names, err := fs.List(groups)
	if err != nil {
		return out, err
	}
	for _, name := range names {
		sub := path.Join(groups, name)
		if _, isDir, err := fs.Stat(sub); err != nil || !isDir {
			continue
		}
		if is, err := segment.HasSegments(fs, sub); err != nil {
			return out, err
		} else if is {
			if err := one(sub); err != nil {
				return out, err
			}
		}
	}
	if len(out.Groups) == 0 && out.Journal == nil {
		return out, fmt.Errorf("%s holds no segments and no groups directory: give a broker's --data-dir, or one directory below its groups/", dir)
	}
	return out, nil
}

// judgeEnd says what the bytes behind a log's last good entry are: the journal knows what was once on stable storage.
func judgeEnd(r *segment.Report, promised map[journal.GroupID]uint64) {
	if len(r.Segments) == 0 {
		return
	}
	s := &r.Segments[len(r.Segments)-1]
	p := promised[s.Group]
	switch {
	case s.Problem == "" && s.Last < p:
		r.Problems = append(r.Problems, fmt.Sprintf("%s: entries %d to %d were on stable storage once and can't be read (%d bytes that are no entries)", s.Name, s.Last+1, p, s.Trailing))
	case s.Trailing > 0 && promised == nil:
		r.Other = append(r.Other, fmt.Sprintf("%s: %d bytes behind entry %d are none: a torn write or damage; with the whole data directory the journal tells which", s.Name, s.Trailing, s.Last))
	case s.Trailing > 0:
		r.Other = append(r.Other, fmt.Sprintf("%s: %d bytes behind entry %d are none: a torn write, which the next start cuts off", s.Name, s.Trailing, s.Last))
	}
}
