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
	if phase == segment.RefillNone || phase == segment.RefillEnd {
		kept, accepted, err := segment.LossAccepted(o.fs, dir)
		if err != nil {
			return nil, rec, fmt.Errorf("group %x: %w", st.Birth.Group, err)
		}
		if accepted {
			cut := o
			cut.acceptLoss, cut.acceptedLast, cut.endLost = true, kept, phase == segment.RefillEnd
			r, rec, err := p.openCut(cut, j, st, birth, machine)
			if !lost(err) || len(birth.Replicas) < 2 {
				return r, rec, err
			}
			phase = segment.RefillEnd // as openCut has noted
		}
	}
	open := func() (r *partition.Replica, err error) {
		o.refill, o.endLost = phase == segment.RefillMoving || phase == segment.RefillFilling, phase == segment.RefillEnd
		r, rec.Recovery, err = openGroup(o, st, damaged, birth, machine())
		return r, err
	}
	if phase != segment.RefillMoving {
		r, err := open()
		if first := rec.Recovery; err == nil && phase == segment.RefillNone && segment.EndLost(&first) && !r.Alone() {
			phase = segment.RefillEnd
			if err = errors.Join(r.Close(new(partition.Env)), segment.BeginRefillEnd(o.fs, dir)); err == nil {
				r, err = open()
			}
			rec.Recovery = first
		}
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

// void has the journal forget what it says of a log that is another one from here on: its persist marks and its snapshot, and its commit index but
// for st's. Term and vote stay.
func (p *Parts) void(j journal.Journal, st journal.GroupState) error {
	p.journal.Lock()
	defer p.journal.Unlock()
	j.PutSnapshotMark(st.Birth.Group, journal.SnapshotMark{})
	j.PutHardState(st.Birth.Group, st.HardState)
	return syncJournal(j, journal.Hard)
}

// openCut opens a replica of whose log an operator gave up everything from the first bad byte on (`broker log recover`). One of several replicas may
// have acknowledged what was cut: it neither votes nor serves until it has caught up with a leader, or an operator says so (partition.Refilling).
// The note that says what was accepted goes last, when that is durable and the journal has forgotten the promises about what was cut: a
// crash before that does it all once more. Nothing is cut, and the note stays, if less would be kept than was said.
func (p *Parts) openCut(o groupOptions, j journal.Journal, st journal.GroupState, birth *cluster.PartitionBirth, machine func() partition.Machine) (*partition.Replica, Recovered, error) {
	rec := Recovered{Group: st.Birth.Group}
	dir := groupDir(o.dataDir, st.Birth.Group)
	fail := func(r *partition.Replica, err error) (*partition.Replica, Recovered, error) {
		if r != nil {
			err = errors.Join(err, r.Close(new(partition.Env)))
		}
		return nil, rec, fmt.Errorf("%w; the loss of its end was accepted (accept-loss in %s)", err, dir)
	}
	mute := func() error {
		if o.endLost {
			return nil
		}
		o.endLost = true
		return segment.BeginRefillEnd(o.fs, dir)
	}
	if len(birth.Replicas) > 1 {
		if err := mute(); err != nil {
			return fail(nil, err)
		}
	}
	st.Mark = journal.Mark{}
	r, recovery, err := openGroup(o, st, false, birth, machine())
	if err != nil {
		return fail(nil, err)
	}
	if !r.Alone() && !o.endLost { // it has got company since it was born
		if err := errors.Join(r.Close(new(partition.Env)), mute()); err != nil {
			return fail(nil, err)
		}
		if r, _, err = openGroup(o, st, false, birth, machine()); err != nil {
			return fail(nil, err)
		}
	}
	rec.Recovery, rec.GivenUp, rec.Refilling = recovery, true, o.endLost
	st.HardState.Commit = min(st.HardState.Commit, recovery.Last)
	if err = p.void(j, st); err == nil {
		err = segment.EndAcceptLoss(o.fs, dir)
	}
	if err != nil {
		return fail(r, err)
	}
	return r, rec, nil
}
