package broker

import (
	"errors"
	"fmt"

	"lograft/broker/cluster"
	"lograft/broker/partition"
	"lograft/segment"
	"lograft/segment/journal"
)

// lost reports whether err of openGroup says that a replica's log can't be used, and neither cut nor repaired entry by entry, although
// the disk reads: its files contradict each other or are all gone, or the state that it continues is gone.
func lost(err error) bool {
	return errors.Is(err, segment.ErrContradiction) || errors.Is(err, partition.ErrStateLost) || errors.Is(err, errVanished)
}

// errVanished is why a log is refilled of which no file is left.
var errVanished = errors.New("no file of the log is left, although the journal says that it held entries")

// openOrRefill opens a group's replica. Where its log is lost and other replicas exist, the files are set aside and the replica is opened
// with nothing, to be refilled from the others under its own id (partition.Refilling); Recovered.Lost says so. The order survives a
// crash anywhere: mark of the refill, journal (its marks and commit index speak of the old log), files, mark. A log that only lost its
// end, nobody knows how much of it, stays, and is refilled from there.
func (p *Parts) openOrRefill(o groupOptions, j journal.Journal, st journal.GroupState, damaged bool, birth *cluster.PartitionBirth, machine func() partition.Machine) (*partition.Replica, Recovered, error) {
	rec := Recovered{Group: st.Birth.Group}
	dir := groupDir(o.dataDir, st.Birth.Group)
	phase, err := segment.ReadRefill(o.fs, dir)
	if err != nil {
		return nil, rec, fmt.Errorf("group %x: %w", st.Birth.Group, err)
	}
	accepted, err := segment.LossAccepted(o.fs, dir)
	if err != nil {
		return nil, rec, fmt.Errorf("group %x: %w", st.Birth.Group, err)
	}
	if accepted && (phase == segment.RefillNone || phase == segment.RefillEnd) {
		r, rec, err := p.openCut(o, j, st, birth, machine)
		if !lost(err) || len(birth.Replicas) < 2 {
			return r, rec, err
		}
	}
	open := func() (r *partition.Replica, err error) {
		o.refill, o.endLost = phase == segment.RefillMoving || phase == segment.RefillFilling, phase == segment.RefillEnd
		r, rec.Recovery, err = openGroup(o, st, damaged, birth, machine())
		return r, err
	}
	if phase != segment.RefillMoving {
		r, err := open()
		if err == nil && rec.Recovery.Created && (st.Mark.Index > 0 || st.HardState.Commit > birthStart.Index) {
			err = errors.Join(errVanished, r.Close(new(partition.Env)))
		}
		if !lost(err) || len(birth.Replicas) < 2 {
			rec.Refilling = err == nil && r.Refilling()
			return r, rec, err
		}
		rec.Lost = err
		if err := segment.BeginRefill(o.fs, dir); err != nil {
			return nil, rec, fmt.Errorf("group %x: %w", st.Birth.Group, err)
		}
	}
	st.HardState.Commit, st.Mark, st.Snapshot = 0, journal.Mark{}, journal.SnapshotMark{}
	err = p.void(j, st)
	if err == nil {
		err = segment.SetAside(o.fs, dir)
	}
	if err != nil {
		return nil, rec, fmt.Errorf("group %x: set its lost log aside: %w", st.Birth.Group, err)
	}
	phase, rec.Refilling = segment.RefillFilling, true
	r, err := open()
	return r, rec, err
}

// void has the journal forget what it says of a log that is another one from here on: its persist marks, its commit index and its snapshot.
// Term and vote stay.
func (p *Parts) void(j journal.Journal, st journal.GroupState) error {
	p.journal.Lock()
	defer p.journal.Unlock()
	st.HardState.Commit = 0
	j.PutSnapshotMark(st.Birth.Group, journal.SnapshotMark{})
	j.PutHardState(st.Birth.Group, st.HardState)
	return syncJournal(j, journal.Hard)
}

// openCut opens a replica of whose log an operator gave up everything from the first bad byte on (`broker log recover`). The mark that says so
// goes only when the journal has forgotten the promises about what was cut: a crash before that does it once more.
func (p *Parts) openCut(o groupOptions, j journal.Journal, st journal.GroupState, birth *cluster.PartitionBirth, machine func() partition.Machine) (*partition.Replica, Recovered, error) {
	rec := Recovered{Group: st.Birth.Group}
	o.acceptLoss = true
	st.HardState.Commit, st.Mark = 0, journal.Mark{}
	r, recovery, err := openGroup(o, st, false, birth, machine())
	if err != nil {
		return nil, rec, fmt.Errorf("%w, although everything from the first bad byte on was given up", err)
	}
	rec.Recovery, rec.GivenUp = recovery, true
	if err = p.void(j, st); err == nil {
		err = segment.EndAcceptLoss(o.fs, groupDir(o.dataDir, st.Birth.Group))
	}
	if err != nil {
		return nil, rec, errors.Join(err, r.Close(new(partition.Env)))
	}
	return r, rec, nil
}
