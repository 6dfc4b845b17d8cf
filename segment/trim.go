package segment

import "fmt"

// TruncateFront drops the whole segments that end at or before index and returns. Before it is called, the journal must durably hold
// Commit >= index and the new log start. The checkpoint of the last dropped segment stays. Readers that hold a dropped segment read on.
// Only sealed segments are dropped. The new start is on disk before the first file goes, so a crash leaves no hole. The file of a pinned
// segment goes when its last pin does.
func (l *Log) TruncateFront(index uint64) error {
	if l.failed != nil {
		return l.failed
	}
	n := 0
	for n < len(l.segs) && l.segs[n].sealed && l.segs[n].last.index <= index {
		n++
	}
	if n == 0 {
		return nil
	}
	if n == len(l.segs) {
		// The file that the next entry would begin comes first: a log never is without one.
		if err := l.beginSegment(); err != nil {
			return err
		}
	}
	s := l.segs[n-1]
	start := Start{Index: s.last.index, Term: s.last.term, Offset: s.next, AppendTime: s.time, Hash: s.sum, Limit: s.nextLimit}
	if err := writeFile(l.o.FS, l.o.Dir, startName, encodePoint(startMagic, l.o.Group, start, nil)); err != nil {
		return l.fail(err)
	}
	for _, d := range l.segs[:n] {
		if err := l.removeTrimmed(d.head.base); err != nil {
			return l.fail(err)
		}
		l.retire(d)
	}
	if err := l.dropStates(s.head.base); err != nil {
		return l.fail(err)
	}
	l.start, l.startState = start, ""
	if s.state {
		l.startState = stateName(s.head.base)
	}
	l.segs = append([]*segment(nil), l.segs[n:]...)
	k := 0
	for k+1 < len(l.runs) && l.runs[k+1].index <= start.Index {
		k++
	}
	l.runs = append([]termRun{{start.Index, start.Term}}, l.runs[k+1:]...)
	for len(l.faulty) > 0 && l.faulty[0].To > 0 && l.faulty[0].To <= start.Index {
		l.faulty = l.faulty[1:]
	}
	return l.failed
}

// beginSegment makes the segment of the next entry, durably.
func (l *Log) beginSegment() error {
	if len(l.queue) > 0 {
		return fmt.Errorf("%w: a conflict waits for its sync", ErrInvalid)
	}
	l.writes++
	o, err := l.roll(l.next)
	if err == nil {
		err = o.run(l.o.FS)
	}
	if err == nil {
		err = o.file.f.Sync()
	}
	if err != nil {
		return l.fail(err)
	}
	l.opDone(o, nil)
	return nil
}

// dropStates removes the checkpoints of segments before base.
func (l *Log) dropStates(base uint64) error {
	names, err := l.o.FS.List(l.o.Dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if b, ok := baseOfName(name, stateSuffix); ok && b < base {
			if err := l.o.FS.Remove(l.path(name)); err != nil {
				return err
			}
		}
	}
	return nil
}
