package segment

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"sort"
	"sync/atomic"
)

// Log is one group's log. All methods but Do of the tasks are called by one goroutine, its owner.
type Log struct {
	o      Options
	start  Start // the entry before the first
	segs   []*segment
	last   entryID
	next   int64 // offset; meaningful unless nextUnknown
	time   int64
	runs   []termRun  // of [start.Index, last]
	limits []limitRun // of the unsealed part
	tail   tail

	// durable is the end of what is known to be on stable storage.
	durable Mark

	// writes counts changes of files; a task knows by it what it covers.
	writes   uint64
	dirDirty uint64 // number of the last change of the directory; 0: nothing unsynced
	queue    []*op  // file changes that wait for a sync task, in order
	cuts     []cut  // conflicts that an unfinished task may not know
	gen      uint64 // raised by each conflict
	shared   *cutLog
	captures uint64 // tasks begun
	ended    uint64 // number of the last task ended
	retired  []retired

	faulty      []FaultyRange
	nextUnknown bool   // damage hides the next offset
	unplaced    bool   // damage hides where the next frame goes
	overwrite   bool   // bytes that are no good frames lie behind the last one: the next append cuts them
	applied     uint64 // highest index that SealNext was told
	uses        uint64
	checkpoint  *checkpoint
	startState  string // name of the file that may hold the checkpoint as of start; "": none
	pins        []*Pin
	doomed      []uint64    // bases of trimmed segments whose files stay for a pin
	failed      error       // a file error, or ErrClosed: nothing is written any more
	closed      atomic.Bool // Close was called: read by tasks
}

// limitRun says that segments whose base is above index have limit.
type limitRun struct {
	index uint64
	limit int64
}

// retired is a file that tasks up to number may still use.
type retired struct {
	number uint64
	file   *handle
}

type checkpoint struct {
	index uint64
	data  []byte
}

// FirstIndex is the index of the first entry held, or where the first will be.
func (l *Log) FirstIndex() uint64 { return l.start.Index + 1 }

// LastIndex is the index of the last entry held; FirstIndex-1 if there is none. Damaged entries are held.
func (l *Log) LastIndex() uint64 { return l.last.index }

// LastTerm is the term of the last entry; at least that much while damage hides it (Recovery.LastKnown).
func (l *Log) LastTerm() uint64 { return l.last.term }

// NextOffset is the offset that the next record gets. It is -1 while damage hides it.
func (l *Log) NextOffset() int64 {
	if l.nextUnknown {
		return -1
	}
	return l.next
}

// StartOffset is the first offset that the files may hold.
func (l *Log) StartOffset() int64 { return l.start.Offset }

// LastAppendTime is the append time of the last entry, in ms.
func (l *Log) LastAppendTime() int64 { return l.time }

// Durable is the last index on stable storage: what EndSync has published.
func (l *Log) Durable() uint64 { return l.durable.Index }

// DurableMark is Durable as a persist mark.
func (l *Log) DurableMark() Mark { return l.durable }

// SizeBytes is the size of all segments without footers.
func (l *Log) SizeBytes() int64 {
	var n int64
	for _, s := range l.segs {
		n += s.size
	}
	return n
}

// Faulty returns the damaged ranges, oldest first. The slice is the caller's.
func (l *Log) Faulty() []FaultyRange { return slices.Clone(l.faulty) }

// Err is the file error that stopped the log, or nil.
func (l *Log) Err() error { return l.failed }

func (l *Log) fail(err error) error {
	if l.failed == nil {
		l.failed = fmt.Errorf("log %s is stopped, restart to recover from disk: %w", l.o.Dir, err)
	}
	return l.failed
}

func (l *Log) path(name string) string { return path.Join(l.o.Dir, name) }

// Term returns the term of entry i, for i in [FirstIndex-1, LastIndex].
// Errors: ErrCompacted, ErrUnavailable, ErrFaulty (within damage whose term is not known).
func (l *Log) Term(i uint64) (uint64, error) {
	if i < l.start.Index {
		return 0, ErrCompacted
	}
	if i > l.last.index {
		return 0, ErrUnavailable
	}
	if i == l.last.index && !l.lastGuessed() {
		return l.last.term, nil
	}
	if r := l.faultyAt(i); r != nil && i > l.start.Index {
		if r.Term == 0 {
			return 0, &FaultyError{*r}
		}
		return r.Term, nil
	}
	k := sort.Search(len(l.runs), func(k int) bool { return l.runs[k].index > i })
	return l.runs[k-1].term, nil
}

// lastGuessed reports whether damage hides the last entry's term.
func (l *Log) lastGuessed() bool {
	s := l.active()
	return s != nil && s.guessed && s.last.index == l.last.index
}

func (l *Log) faultyAt(i uint64) *FaultyRange {
	for k := range l.faulty {
		if l.faulty[k].contains(i) {
			return &l.faulty[k]
		}
	}
	return nil
}

func (l *Log) noteTerm(id entryID) {
	if n := len(l.runs); n == 0 || l.runs[n-1].term != id.term {
		l.runs = append(l.runs, termRun(id))
	}
}

// noteLimit keeps the limit that a config frame sets.
func (l *Log) noteLimit(f *Frame) {
	if f.Kind != KindConfig {
		return
	}
	if limit, ok := l.o.LimitOf(*f); ok && limit >= segmentHeaderBytes {
		l.limits = append(l.limits, limitRun{f.Index, limit})
	}
}

// limitAt is the limit of a segment that begins at base.
func (l *Log) limitAt(base uint64) int64 {
	for k := len(l.limits) - 1; k >= 0; k-- {
		if l.limits[k].index < base {
			return l.limits[k].limit
		}
	}
	if l.start.Limit > 0 {
		return l.start.Limit
	}
	return l.o.SegmentBytes
}

// endMark is the end of the log as a persist mark.
func (l *Log) endMark() Mark {
	m := Mark{Index: l.last.index, Term: l.last.term}
	if n := len(l.segs); n > 0 {
		m.Position, m.SegmentBase = l.segs[n-1].size, l.segs[n-1].head.base
	}
	return m
}

// segmentOf returns the position in segs of the segment that holds entry i, which is in [FirstIndex, LastIndex].
func (l *Log) segmentOf(i uint64) int {
	return sort.Search(len(l.segs), func(k int) bool { return l.segs[k].head.base > i }) - 1
}

// Close closes the files. Unsynced frames may be lost; running tasks keep what they need.
func (l *Log) Close() error {
	if errors.Is(l.failed, ErrClosed) {
		return nil
	}
	l.closed.Store(true)
	l.tail.forget()
	var errs []error
	for _, s := range l.segs {
		if s.file != nil {
			errs = append(errs, s.file.release())
			s.file = nil
		}
	}
	for _, r := range l.retired {
		errs = append(errs, r.file.release())
	}
	l.retired, l.segs = nil, nil
	l.failed = ErrClosed
	return errors.Join(errs...)
}
