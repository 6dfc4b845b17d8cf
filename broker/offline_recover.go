package broker

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"lograft/broker/cluster"
	"lograft/broker/datadir"
	"lograft/segment"
	"lograft/segment/journal"
	"lograft/segment/vfs"
)

// OfflineCut is what giving up the end of a group's log from its first bad byte on costs: what the next start keeps, found by doing on a copy in
// memory what it does, and what the files and the journal say was there.
type OfflineCut struct {
	Dir      string
	Needed   bool // a start refuses the log, or finds damage that a cut would end; else there is nothing to be given up and the rest is not set
	Refused  bool // a start refuses the log; false: the broker runs with it, and `broker cluster recover` may give up less
	KeptLast uint64
	KeptNext int64 // offset: records from here on are given up
	LogStart int64
	// KnownLast is the highest entry that is known to have been there, KeptLast if nothing more is, KnownNext the highest offset, likewise.
	KnownLast  uint64
	KnownNext  int64
	Problems   []string
	Replicated bool // other replicas may hold what is cut: this one does not vote until it has caught up
	Accepted   bool // the next start cuts
}

// RecoverOffline says what is lost if everything from the first bad byte on of the log in dir, DATA-DIR/groups/GROUP, is given up; accept has the
// next start of the broker do that (segment.AcceptLoss), unless that would keep less than is said here. The broker must be stopped: the data
// directory is locked meanwhile. What is damaged in sealed segments is not cut: a running broker fetches it from other replicas, or gives
// it up with what is before (`broker cluster recover`).
func RecoverOffline(dir string, accept bool) (out OfflineCut, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return out, err
	}
	groups, data := filepath.Dir(dir), filepath.Dir(filepath.Dir(dir))
	fs := vfs.OS()
	if is, err := segment.HasSegments(fs, dir); filepath.Base(groups) != "groups" || err != nil || !is {
		return out, errors.Join(fmt.Errorf("%s is no group's directory: give DATA-DIR/groups/GROUP, as the broker's log names it", dir), err)
	}
	unlock, err := datadir.Lock(data)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := readyToCut(fs, dir); err != nil {
		return out, err
	}
	if out, err = planCut(fs, data, dir); err != nil || !accept || !out.Needed {
		return out, err
	}
	if err := segment.AcceptLoss(fs, dir, out.KeptLast); err != nil {
		return out, err
	}
	out.Accepted = true
	return out, nil
}

// readyToCut refuses a log that is being refilled, which is another one, and a directory that holds what an earlier cut set aside: the next one
// would mix them up.
func readyToCut(fs vfs.FS, dir string) error {
	phase, err := segment.ReadRefill(fs, dir)
	if err != nil {
		return err
	}
	if phase == segment.RefillMoving || phase == segment.RefillFilling {
		return fmt.Errorf("%s: its log was set aside and is being refilled from the other replicas: start the broker", dir)
	}
	_, accepted, err := segment.LossAccepted(fs, dir)
	if err != nil && !errors.Is(err, segment.ErrNoteBad) {
		return err
	}
	names, err := segment.CutAside(fs, dir)
	if err == nil && len(names) > 0 && !accepted {
		return fmt.Errorf("%s holds what an earlier cut set aside: move these files away first: %s", dir, strings.Join(names, ", "))
	}
	return err
}

// planCut opens the log as a start would, on copies in memory, and reads every byte for what is known of the rest.
func planCut(fs vfs.FS, data, dir string) (out OfflineCut, err error) {
	out.Dir = dir
	logs, groups, err := journal.ReadWAL(filepath.Join(data, "journal"))
	if err != nil {
		return out, fmt.Errorf("journal of %s: %w", data, err)
	}
	var st *journal.GroupState
	for id, g := range groups {
		if g.HasBirth && groupDir(data, id) == dir {
			st = g
		}
	}
	if st == nil {
		return out, fmt.Errorf("%s: the broker's journal knows no such group", dir)
	}
	birth, err := birthOf(st.Birth.Settings)
	if err != nil {
		return out, fmt.Errorf("%s: birth: %w", dir, err)
	}
	damaged := st.MarksLost || slices.ContainsFunc(logs, func(l journal.LogInfo) bool { return l.Missing || l.Gaps > 0 })
	lo, _ := logOptions(&groupOptions{fs: fs, dataDir: data, segmentBytes: metaSegmentBytes}, st, damaged, birth)
	plan, err := segment.PlanCut(lo)
	if err != nil || !plan.Needed {
		return out, err
	}
	out.Needed, out.Refused, out.Replicated = true, plan.Refused != nil, len(birth.Replicas) > 1
	out.KeptLast, out.KeptNext, out.LogStart = plan.KeptLast, plan.Next, plan.Start
	out.KnownLast, out.KnownNext = max(plan.KeptLast, st.Promised()), plan.Next
	r, err := segment.InspectDir(fs, dir, func(_ uint64, _ int64, f segment.Frame) error {
		out.KnownLast, out.KnownNext = max(out.KnownLast, f.Index), max(out.KnownNext, f.NextOffset())
		return nil
	})
	if err != nil {
		return out, err
	}
	judgeEnd(&r, map[journal.GroupID]uint64{st.Birth.Group: st.Promised()})
	if out.Problems = r.Problems; plan.Refused != nil {
		out.Problems = append(out.Problems, plan.Refused.Error())
	}
	return out, nil
}

// birthOf is the birth of the partition, or of the metadata group, that the settings of a journalled one speak of.
func birthOf(settings []byte) (*cluster.PartitionBirth, error) {
	if len(settings) > 0 && settings[0] == settingsMeta {
		b, err := cluster.DecodeBirth(settings[1:])
		if err != nil {
			return nil, err
		}
		return b.Partition(), nil
	}
	return decodePartitionSettings(settings)
}
