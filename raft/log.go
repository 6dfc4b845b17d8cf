package raft

import (
	"errors"
	"fmt"
)

// raftLog is the log as the core sees it: what Storage holds, then the entries that the app was not yet given to append.
//
//	first ........ offset-1 | offset ........ last
//	       Storage          |   unstable
//
// Invariants: applied <= handed <= committed <= last; persisted <= last; applied <= persisted + the apply-unpersisted limit.
type raftLog struct {
	unstable  []Entry   // unstable[i].Index == offset+i; emptied when the app has appended them
	snapshot  *Snapshot // restored and not yet handed over; the log is empty up to its index then
	committed uint64
	persisted uint64 // entries up to here are on stable storage and are what the log holds
	handed    uint64 // entries up to here were handed out to be applied
	applied   uint64

	st     Storage
	offset uint64
	first  uint64 // first index that Storage (or the snapshot) lets us read; refreshed on ErrCompacted

	beforeOffset uint64 // term of entry offset-1, so that the tail's term needs no Storage
	termUnknown  bool   // that entry is damaged and its term can't be told

	// cut is the lowest index that was overwritten since the records of Readys were last told, noLimit if none was.
	cut uint64
}

func (l *raftLog) open(st Storage, hs HardState, applied uint64) error {
	first, err := st.FirstIndex()
	if err != nil {
		return &FatalError{Op: "first index", Err: err}
	}
	last, err := st.LastIndex()
	if err != nil {
		return &FatalError{Op: "last index", Err: err}
	}
	if first == 0 || last >= indexMax || last+1 < first {
		return &FatalError{Op: "open log", Index: last, Err: fmt.Errorf("indexes from %d to %d are no log", first, last)}
	}
	applied = max(applied, first-1)
	*l = raftLog{st: st, offset: last + 1, first: first, cut: noLimit, persisted: last, applied: applied, handed: applied, committed: max(hs.Commit, applied)}
	if l.committed > last {
		return &FatalError{Op: "open log", Index: l.committed, Term: hs.Term, Err: errors.New("committed or applied entries are missing")}
	}
	if l.beforeOffset, err = st.Term(last); errors.Is(err, ErrEntryFaulty) {
		l.termUnknown = true
	} else if err != nil {
		return &FatalError{Op: "term of the last entry", Index: last, Err: err}
	}
	return nil
}

func (l *raftLog) last() uint64 { return l.offset + uint64(len(l.unstable)) - 1 }

// lastTerm is the term of the last entry; ok is false if that entry is damaged. A repair shows: else a group whose members all woke up
// with damaged tails would never elect anyone again.
func (l *raftLog) lastTerm() (term uint64, ok bool) {
	if n := len(l.unstable); n > 0 {
		return l.unstable[n-1].Term, true
	}
	if l.termUnknown {
		if t, err := l.st.Term(l.offset - 1); err == nil {
			l.beforeOffset, l.termUnknown = t, false
		}
	}
	return l.beforeOffset, !l.termUnknown
}

// term is valid in [first-1, last]: ErrCompacted below, ErrUnavailable above, ErrEntryFaulty where Storage says so.
func (l *raftLog) term(i uint64) (uint64, error) {
	switch {
	case i >= l.offset+uint64(len(l.unstable)):
		return 0, ErrUnavailable
	case i >= l.offset:
		return l.unstable[i-l.offset].Term, nil
	case i == l.offset-1 && !l.termUnknown:
		return l.beforeOffset, nil
	case l.snapshot != nil:
		return 0, ErrCompacted
	}
	t, err := l.st.Term(i)
	if errors.Is(err, ErrUnavailable) {
		return 0, &FatalError{Op: "storage term", Index: i, Err: fmt.Errorf("an entry that it was given is missing: %w", err)}
	}
	return t, err
}

// matches reports whether the log holds exactly this entry. A damaged one is an error: neither held nor missing.
func (l *raftLog) matches(i, term uint64) (bool, error) {
	t, err := l.term(i)
	switch {
	case errors.Is(err, ErrCompacted) || errors.Is(err, ErrUnavailable):
		return false, nil
	case err != nil:
		return false, err
	}
	return t == term, nil
}

func (l *raftLog) firstIndex() uint64 {
	if l.snapshot == nil {
		if f, err := l.st.FirstIndex(); err == nil {
			l.first = f
		}
	}
	return l.first
}

// append adds entries after entries[0].Index-1, cutting a conflicting suffix. The caller has checked that nothing committed is cut.
// The array that readers of earlier entries may share is never overwritten: a cut makes a new one.
func (l *raftLog) append(entries []Entry) {
	from := entries[0].Index
	if from <= l.last() {
		l.cut = min(l.cut, from)
	}
	switch {
	case from == l.last()+1:
		l.unstable = append(l.unstable, entries...)
	case from > l.offset:
		keep := from - l.offset
		l.unstable = append(append(make([]Entry, 0, keep+uint64(len(entries))), l.unstable[:keep]...), entries...)
	default: // Storage holds a suffix that the app is about to overwrite
		if t, err := l.term(from - 1); err == nil {
			l.beforeOffset, l.termUnknown = t, false
		} else {
			l.termUnknown = true
		}
		l.offset = from
		l.unstable = append(make([]Entry, 0, len(entries)), entries...)
	}
	l.persisted = min(l.persisted, from-1)
}

// findConflict is the index of the first entry that the log does not hold like this: 0 if it holds all of them.
func (l *raftLog) findConflict(entries []Entry) (uint64, error) {
	for i := range entries {
		if ok, err := l.matches(entries[i].Index, entries[i].Term); err != nil {
			return 0, err
		} else if !ok {
			return entries[i].Index, nil
		}
	}
	return 0, nil
}

// conflictByTerm is an index <= index whose term is <= term while the entry after it has a higher one, and its term: where logs that
// differ can still agree (Raft dissertation §4.4, the fast backtracking). An entry that can't be read ends the search, with term 0. Terms
// never fall, so a log of any length takes a handful of look-ups: down in steps that double, then by halves.
func (l *raftLog) conflictByTerm(index, term uint64) (uint64, uint64) {
	agrees := func(i uint64) bool {
		t, err := l.term(i)
		return i == 0 || err != nil || t <= term
	}
	low, high := index, index+1
	for step := uint64(1); !agrees(low); step *= 2 {
		low, high = low-min(step, low), low
	}
	for high-low > 1 {
		if mid := low + (high-low)/2; agrees(mid) {
			low = mid
		} else {
			high = mid
		}
	}
	t, err := l.term(low)
	if err != nil {
		t = 0
	}
	return low, t
}

// commitTo moves the commit index forward; it reports whether it moved. The caller guarantees index <= last.
func (l *raftLog) commitTo(index uint64) bool {
	if index <= l.committed {
		return false
	}
	l.committed = index
	return true
}

// commitInfo is the pair that votes and answers carry.
func (l *raftLog) commitInfo() (index, term uint64) {
	t, err := l.term(l.committed)
	if err != nil {
		return 0, 0
	}
	return l.committed, t
}

// fastForward commits up to index if the log holds that very entry: somebody knew that it is committed.
func (l *raftLog) fastForward(index, term uint64) bool {
	if index <= l.committed || term == 0 {
		return false
	}
	if ok, err := l.matches(index, term); err != nil || !ok {
		return false
	}
	return l.commitTo(index)
}

// slice appends the entries [lo, hi), lo < hi, to dst: at least one, limited by maxBytes.
func (l *raftLog) slice(dst []Entry, lo, hi, maxBytes uint64, c EntriesContext) ([]Entry, error) {
	if lo >= l.offset {
		return appendWithin(dst, l.unstable[lo-l.offset:hi-l.offset], maxBytes), nil
	}
	start := len(dst)
	mid := min(hi, l.offset)
	dst, err := l.st.Entries(dst, lo, mid, maxBytes, c)
	if err != nil {
		return dst[:start], err
	}
	got := dst[start:]
	if err := l.checkStored(got, lo, mid); err != nil {
		return dst[:start], err
	}
	if lo+uint64(len(got)) < mid || hi == mid { // Storage cut it short: what follows must not be joined to it
		return dst, nil
	}
	size := sizeOf(got)
	for i := range l.unstable[:hi-l.offset] {
		if size += l.unstable[i].size(); size > maxBytes {
			break
		}
		dst = append(dst, l.unstable[i])
	}
	return dst, nil
}

// checkStored holds Storage to its contract: a run of entries from lo on, terms never falling, the last one as Term has it.
func (l *raftLog) checkStored(got []Entry, lo, hi uint64) error {
	if len(got) == 0 || uint64(len(got)) > hi-lo {
		return &FatalError{Op: "storage entries", Index: lo, Err: fmt.Errorf("%d entries in answer to [%d, %d)", len(got), lo, hi)}
	}
	for i := range got {
		if got[i].Index != lo+uint64(i) || i > 0 && got[i].Term < got[i-1].Term {
			return &FatalError{Op: "storage entries", Index: lo + uint64(i), Term: got[i].Term, Err: errors.New("entries are not contiguous")}
		}
	}
	last := &got[len(got)-1]
	if t, err := l.term(last.Index); err == nil && t != last.Term {
		return &FatalError{Op: "storage entries", Index: last.Index, Term: last.Term, Err: fmt.Errorf("Term says that its term is %d", t)}
	}
	return nil
}

// restore replaces the log by a snapshot. Of what was persisted only the committed part is known to agree with it.
func (l *raftLog) restore(s *Snapshot) {
	l.persisted = min(l.persisted, l.committed)
	l.committed = s.Metadata.Index
	l.snapshot = s
	l.unstable = nil
	l.offset, l.first = s.Metadata.Index+1, s.Metadata.Index+1
	l.beforeOffset, l.termUnknown = s.Metadata.Term, false
}

// unstableCapMax is how many entries the unstable log keeps room for after a burst.
const unstableCapMax = 1024

// appended forgets the entries up to last, which the app has appended to Storage, and the snapshot, if it was handed over with them.
func (l *raftLog) appended(last uint64, snapshot bool) {
	if snapshot {
		l.snapshot = nil
	}
	if last < l.offset || len(l.unstable) == 0 {
		return
	}
	n := last - l.offset + 1
	l.beforeOffset, l.termUnknown = l.unstable[n-1].Term, false
	l.offset += n
	rest := l.unstable[n:]
	switch {
	case len(rest) > 0: // a tick added entries meanwhile
		l.unstable = append([]Entry(nil), rest...)
	case cap(l.unstable) > unstableCapMax:
		l.unstable = nil
	default:
		clear(l.unstable)
		l.unstable = l.unstable[:0]
	}
}

// persist notes that id and everything before it is on stable storage. It is ignored if the log no longer holds id: an entry that
// was overwritten and its number given to another.
func (l *raftLog) persist(id entryID) bool {
	if id.index <= l.persisted || id.index >= l.offset {
		return false
	}
	if t, err := l.term(id.index); err != nil || t != id.term {
		return false
	}
	l.persisted = id.index
	return true
}

// persistSnapshot notes that the snapshot at index is on stable storage.
func (l *raftLog) persistSnapshot(index uint64) {
	if index > l.persisted && index <= l.committed && index < l.offset {
		l.persisted = index
	}
}

// applicable is the last index that may be handed out to be applied.
func (l *raftLog) applicable(unpersistedLimit uint64) uint64 {
	bound := l.persisted + unpersistedLimit
	if bound < l.persisted {
		bound = noLimit
	}
	return min(l.committed, bound)
}
