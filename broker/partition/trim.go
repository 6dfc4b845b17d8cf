package partition

import (
	"errors"
	"fmt"

	"lograft/raft"
	"lograft/segment"
)

// trimming is what a partition gave up, and how far that has come here (architecture D13). The log start moves in two steps. A trim
// is applied at its index: start and dropTo are replicated state. It is shown, and files go, when the journal holds a commit index at
// or above that index (storage.md "Writing 3"): from then on no crash of this replica can bring the records back.
type trimming struct {
	start  int64  // log start offset
	dropTo uint64 // whole segments that end at or before this index may go
	index  uint64 // of the last trim applied; 0: none
	stable uint64 // Invariant: the journal holds Commit >= stable, and logStart shows every trim up to it
	asked  bool   // a sync that will cover index is under way
}

// applyTrim takes a committed trim. A log start never moves back, nor behind the end.
func (r *Replica) applyTrim(index uint64, start int64, dropTo uint64) {
	t := &r.trim
	t.start = max(t.start, min(start, r.high))
	t.dropTo = max(t.dropTo, min(dropTo, index-1))
	t.index, t.asked = index, false
	if index <= r.openedAt { // it was stable before the restart
		r.showTrim(index)
	}
}

// syncTrim asks for a sync of the commit index if a trim waits for it.
func (r *Replica) syncTrim() {
	if t := &r.trim; t.index > t.stable && !t.asked && r.log.Durable() >= t.index {
		t.asked = true
		r.persist.hard, r.persist.trim = true, true
	}
}

// trimSynced takes the end of a sync that put h on stable storage.
func (r *Replica) trimSynced(env *Env, h *raft.HardState) {
	t := &r.trim
	if h == nil || t.index <= t.stable {
		return
	}
	if h.Commit < t.index {
		t.asked = false // a capture from before the trim: ask again
		return
	}
	r.showTrim(t.index)
	r.dropSegments(env)
	r.resolveOwn(env)
}

// LogStart is the first offset that this replica lets anybody read.
func (r *Replica) LogStart() int64 { return r.logStart }

// FirstIndex is the first entry of the log. Segments before it may lie beside it while somebody is sent them.
func (r *Replica) FirstIndex() uint64 { return r.log.FirstIndex() }

// showTrim makes the trims up to index visible: reads below the log start are refused from here on, also after a restart.
func (r *Replica) showTrim(index uint64) {
	r.trim.stable = index
	r.logStart = max(r.logStart, r.trim.start)
}

// dropSegments drops the files of what was given up. A segment that is not sealed yet goes when it is, the last one when no
// overwritten suffix waits for its sync.
func (r *Replica) dropSegments(env *Env) {
	if r.fatal != nil || r.trim.stable < r.trim.index || r.trim.dropTo < r.log.FirstIndex() {
		return
	}
	if err := r.log.TruncateFront(r.trim.dropTo); err != nil && !errors.Is(err, segment.ErrInvalid) {
		r.halt(env, fmt.Errorf("trim: %w", err))
	}
}
