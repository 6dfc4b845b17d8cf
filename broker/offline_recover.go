package broker

import (
	"errors"
	"fmt"
	"path/filepath"

	"lograft/broker/datadir"
	"lograft/segment"
	"lograft/segment/journal"
	"lograft/segment/vfs"
)

// OfflineCut is what giving up the end of a group's log from its first bad byte on costs: what is kept, and what the files and the journal say was
// there.
type OfflineCut struct {
	Dir       string
	KeptLast  uint64 // entry
	KeptNext  int64  // offset: records from here on are given up
	LogStart  int64
	KnownLast uint64 // the highest entry that is known to have been there, KeptLast if nothing more is
	KnownNext int64  // the highest offset, likewise
	Problems  []string
	HasDamage bool
	Accepted  bool // the next start cuts
}

// RecoverOffline says what is lost if everything from the first bad byte on of the log in dir, DATA-DIR/groups/GROUP, is given up; accept has the
// next start of the broker do that (segment.AcceptLoss). The broker must be stopped: the data directory is locked meanwhile. What is damaged in
// sealed segments is not cut: a running broker fetches it from other replicas, or gives it up with what is before (`broker cluster recover`).
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
	if out, err = planCut(fs, data, dir); err != nil || !accept || !out.HasDamage {
		return out, err
	}
	if err := segment.AcceptLoss(fs, dir); err != nil {
		return out, err
	}
	out.Accepted = true
	return out, nil
}

// planCut reads every byte and follows the entries up to the first one that does not continue the log.
func planCut(fs vfs.FS, data, dir string) (out OfflineCut, err error) {
	out.Dir = dir
	broken := false
	r, err := segment.InspectDir(fs, dir, func(_ uint64, _ int64, f segment.Frame) error {
		if out.KnownLast == 0 {
			out.KeptLast, out.KeptNext, out.LogStart = f.Index-1, f.Offset, f.Offset
		}
		if broken = broken || f.Index != out.KeptLast+1; !broken {
			out.KeptLast, out.KeptNext = f.Index, f.NextOffset()
		}
		out.KnownLast, out.KnownNext = max(out.KnownLast, f.Index), max(out.KnownNext, f.NextOffset())
		return nil
	})
	if err != nil {
		return out, err
	}
	_, promised, err := journal.InspectWAL(filepath.Join(data, "journal"))
	if err != nil {
		return out, fmt.Errorf("journal of %s: %w", data, err)
	}
	judgeEnd(&r, promised)
	for i := range r.Segments {
		out.KnownLast = max(out.KnownLast, promised[r.Segments[i].Group])
	}
	out.Problems, out.HasDamage = r.Problems, len(r.Problems) > 0
	return out, nil
}
