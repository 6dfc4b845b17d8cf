package journal

import (
	"encoding/binary"
	"errors"
	"maps"
	"os"
	"path/filepath"
)

// LogInfo is what an offline look at one of a journal's three logs found.
type LogInfo struct {
	Name     string
	Records  int
	Last     uint64 // highest sequence
	Gaps     int    // places where bytes are no record although one follows
	Trailing int    // bytes behind the last record: a torn write, or one that a running broker has not ended
	Missing  bool   // there is no such log
}

// InspectWAL reads the logs of a journal on real files and changes nothing. promised is the index up to which each group's log was once
// on stable storage: its persist mark, journalled commit or snapshot mark, whichever is highest.
func InspectWAL(dir string) (out []LogInfo, promised map[GroupID]uint64, err error) {
	out, groups, err := ReadWAL(dir)
	if err != nil {
		return out, nil, err
	}
	promised = map[GroupID]uint64{}
	for id := range groups {
		promised[id] = groups[id].Promised()
	}
	return out, promised, nil
}

// Promised is the index up to which the group's log was once on stable storage.
func (g *GroupState) Promised() uint64 {
	return max(g.Mark.Index, g.HardState.Commit, g.Snapshot.Index)
}

// ReadWAL is InspectWAL, with all that the journal says of the groups that live. It does not judge as an opening does: MarksLost is what one before
// this said, and HardStateLost is never set.
func ReadWAL(dir string) (out []LogInfo, groups map[GroupID]*GroupState, err error) {
	c := &core{table: map[GroupID]*GroupState{}}
	for _, name := range []string{"a", "b", "marks"} {
		info := LogInfo{Name: name}
		files, err := libraryFiles(filepath.Join(dir, name))
		if err != nil {
			return out, nil, err
		}
		info.Missing = len(files) == 0
		for i, f := range files {
			b, err := os.ReadFile(filepath.Join(dir, name, f))
			if errors.Is(err, os.ErrNotExist) {
				continue // a running broker has compacted it
			}
			if err != nil {
				return out, nil, err
			}
			end, _ := walkRecords(b, binary.Uvarint, func(record []byte) {
				if record == nil {
					info.Gaps++
					return
				}
				r, _ := decodeRecord(record)
				info.Records++
				info.Last = max(info.Last, r.seq)
				c.take(r)
			})
			if trailing := len(b) - end; i+1 == len(files) {
				info.Trailing = trailing
			} else if trailing > 0 {
				info.Gaps++
			}
		}
		out = append(out, info)
	}
	maps.DeleteFunc(c.table, func(_ GroupID, g *GroupState) bool { return g.Retired })
	return out, c.table, nil
}
