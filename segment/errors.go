package segment

import (
	"errors"
	"fmt"

	"lograft/segment/vfs"
)

// What a call may answer besides errors of the file system, which are fatal: the log takes no further write after one.
var (
	// ErrCompacted: the index is before the log's first.
	ErrCompacted = errors.New("segment: entry is before the log's start")
	// ErrUnavailable: the index is after the log's last.
	ErrUnavailable = errors.New("segment: entry is after the log's end")
	// ErrFaulty: the entry is held but its bytes are damaged; errors.As finds a *FaultyError.
	ErrFaulty = errors.New("segment: entry is damaged")
	// ErrCold: not in memory; use ColdEntries or ColdRead.
	ErrCold = errors.New("segment: entry is not in memory")
	// ErrStale: the entries were overwritten while they were being read; ask again.
	ErrStale = errors.New("segment: entries were overwritten while they were read")
	// ErrInvalid: the caller broke the contract; nothing was changed.
	ErrInvalid = errors.New("segment: invalid argument")
	// ErrSealed: a conflict reaches into a sealed segment, whose entries were applied.
	ErrSealed = errors.New("segment: entries are sealed")
	// ErrBusy: not now; nothing was changed. Ask again after the sync or seal that the text names.
	ErrBusy = errors.New("segment: busy")
	// ErrNoSpace: the disk is full, and nothing that was acknowledged or promised is touched by it.
	ErrNoSpace = errors.New("segment: no space left")
	// ErrClosed: the log was closed.
	ErrClosed = errors.New("segment: closed")
)

// noSpace marks an error of a full disk as one.
func noSpace(err error) error {
	if vfs.IsNoSpace(err) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}

// OutOfRangeError says that an offset is outside the log.
type OutOfRangeError struct {
	Offset     int64
	Start, End int64 // the log holds [Start, End)
}

func (e *OutOfRangeError) Error() string {
	return fmt.Sprintf("segment: offset %d is outside [%d, %d)", e.Offset, e.Start, e.End)
}

// FaultyRange is a range of entries that the log holds but cannot read: neither missing nor torn. It is repaired from a peer
// (Repair) or overwritten by a leader, never dropped here.
type FaultyRange struct {
	From, To uint64 // entries, inclusive; To == 0: unknown
	Term     uint64 // of every entry in it; 0: unknown
	Segment  uint64 // base of the segment where the damage begins
	Position int64  // of the damage in that segment's file
	End      int64  // where the next good frame begins; 0: unknown, or in another segment
	Lost     bool   // the files are gone: InstallSegment, not Repair, brings them back
	Reason   string

	promised bool // behind the log's last entry, yet known to be committed
}

func (r FaultyRange) String() string {
	to := "unknown"
	if r.To > 0 {
		to = fmt.Sprint(r.To)
	}
	return fmt.Sprintf("entries [%d, %s] in %s at byte %d: %s", r.From, to, segmentName(r.Segment), r.Position, r.Reason)
}

func (r *FaultyRange) contains(i uint64) bool { return i >= r.From && (r.To == 0 || i <= r.To) }

// FaultyError is an ErrFaulty with the range.
type FaultyError struct{ FaultyRange }

func (e *FaultyError) Error() string { return "segment: damaged " + e.FaultyRange.String() }

// Is makes errors.Is(err, ErrFaulty) true.
func (e *FaultyError) Is(target error) bool { return target == ErrFaulty }
