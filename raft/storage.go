package raft

// Storage is the log and the state that the app keeps. The core calls it from within its own methods, never beside them. Entries that
// it returns are immutable from then on: both sides may keep them.
type Storage interface {
	// InitialState returns the hard state and the configuration as of Config.Applied.
	InitialState() (HardState, ConfState, error)
	// Entries appends the entries [lo, hi) to dst: at least one if lo < hi, no more than maxBytes of Data and Context beyond the first.
	// ErrCompacted, ErrUnavailable, ErrEntryFaulty; ErrLogTemporarilyUnavailable only if c.CanAsync(): the app then fetches them and
	// calls OnEntriesFetched(c).
	Entries(dst []Entry, lo, hi, maxBytes uint64, c EntriesContext) ([]Entry, error)
	// Term is the term of entry i, valid in [FirstIndex-1, LastIndex].
	Term(i uint64) (uint64, error)
	// FirstIndex is the first entry that Entries can return; LastIndex the last one.
	FirstIndex() (uint64, error)
	LastIndex() (uint64, error)
	// Snapshot returns a snapshot for peer to with an index >= requestIndex, or ErrSnapshotTemporarilyUnavailable.
	Snapshot(requestIndex, to uint64) (Snapshot, error)
}

// fetchReason is why entries are asked.
type fetchReason uint8

const (
	fetchApply fetchReason = iota
	fetchSend
	fetchScan
)

// EntriesContext says why entries are asked. It is comparable; the app gives it back to OnEntriesFetched.
type EntriesContext struct {
	reason   fetchReason
	to, term uint64
}

// CanAsync reports whether Storage may answer ErrLogTemporarilyUnavailable.
func (c EntriesContext) CanAsync() bool { return c.reason == fetchSend }

// To is the follower that an append is for, else 0.
func (c EntriesContext) To() uint64 { return c.to }
