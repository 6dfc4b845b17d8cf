package engine

import (
	"errors"
	"fmt"

	"lograft/broker/partition"
	"lograft/raft"
	"lograft/segment"
	"lograft/segment/journal"
)

// SyncRequest is what one step of a worker, or the controller, hands to the Syncer.
type SyncRequest struct {
	Worker int
	Items  []partition.SyncItem
	Marks  []GroupMark
	Lazy   []GroupHardState
	Births []Birth
	Retire []GroupID
	Idle   bool // a tick passed: what waits only for company may go alone
}

// Empty reports whether there is nothing for the Syncer.
func (q *SyncRequest) Empty() bool {
	return len(q.Items) == 0 && len(q.Marks) == 0 && len(q.Lazy) == 0 && len(q.Births) == 0 && len(q.Retire) == 0 && !q.Idle
}

// GroupMark is a group's persist mark (storage.md "Writing 2").
type GroupMark struct {
	Group GroupID
	Mark  segment.Mark
}

// GroupHardState is a hard state whose commit index moved.
type GroupHardState struct {
	Group GroupID
	Hard  raft.HardState
}

// Birth asks that a group's birth be on stable storage; Completion.Births names it then, as Completion.Retired does for retirements.
type Birth struct {
	journal.Birth
	Hard raft.HardState
}

// SealJob is a segment being sealed: the driver runs Task.Do anywhere and gives the job back with Err.
type SealJob struct {
	Replica *partition.Replica
	Task    *segment.SealTask
	Err     error
}

// Completion is a worker's part of a finished round. Err is fatal for the data directory: nothing of the round may be acknowledged.
type Completion struct {
	Worker  int
	Items   []partition.SyncItem
	Births  []GroupID
	Retired []GroupID
	Err     error
}

// Syncer gathers what became dirty and makes rounds of it: one round is under way at a time, the next takes everything that came
// meanwhile (group commit). It is a step machine; Round.Do does the I/O wherever the driver wants.
type Syncer struct {
	journal journal.Journal
	items   []waitingItem
	births  []waitingBirth
	marks   bool // persist marks were put since the last round that synced them
	lazy    bool // hard states were put that need no sync of their own
	idle    bool
	running bool
	// cutsRunning: the round under way writes marks itself.
	cutsRunning bool
	marking     bool // a task of NextMarks is under way
	failed      error
	rounds      uint64
	synced      uint64
}

type waitingItem struct {
	worker int
	partition.SyncItem
}

// waitingBirth is a birth, or a retirement, that someone waits for.
type waitingBirth struct {
	worker  int
	group   GroupID
	retired bool
}

// NewSyncer makes the syncer of one data directory. The journal is used by it alone.
func NewSyncer(j journal.Journal) *Syncer { return &Syncer{journal: j} }

// Rounds counts finished rounds, and the logs and hard states that they made stable.
func (s *Syncer) Rounds() (rounds, items uint64) { return s.rounds, s.synced }

// Add takes a request, which is the caller's again when it returns. A later capture of a replica replaces one that has not started yet, because it covers it.
func (s *Syncer) Add(q *SyncRequest) {
	for _, it := range q.Items {
		s.addItem(q.Worker, it)
	}
	for _, m := range q.Marks {
		s.journal.PutMark(m.Group, journal.Mark(m.Mark))
		s.marks = true
	}
	for _, h := range q.Lazy {
		s.journal.PutHardState(h.Group, journal.HardState(h.Hard))
		s.lazy = true
	}
	for _, b := range q.Births {
		s.journal.PutBirth(b.Birth)
		s.journal.PutHardState(b.Group, journal.HardState(b.Hard))
		s.births = append(s.births, waitingBirth{worker: q.Worker, group: b.Group})
	}
	for _, g := range q.Retire {
		s.journal.Retire(g)
		s.births = append(s.births, waitingBirth{worker: q.Worker, group: g, retired: true})
	}
	s.idle = s.idle || q.Idle
}

func (s *Syncer) addItem(worker int, it partition.SyncItem) {
	for i := range s.items {
		w := &s.items[i]
		if w.Replica != it.Replica {
			continue
		}
		if it.Hard == nil {
			it.Hard = w.Hard
		}
		if it.Log == nil {
			it.Log = w.Log
		}
		if it.Snapshot == nil {
			it.Snapshot = w.Snapshot
		}
		w.SyncItem = it
		return
	}
	s.items = append(s.items, waitingItem{worker, it})
}

// logsClosed forgets the logs of what waits: they are closed, and nobody was promised anything. Their hard states stay.
func (s *Syncer) logsClosed() {
	for i := range s.items {
		s.items[i].Log = nil
	}
}

// Round is one round of syncs. Do may run on any goroutine, once.
type Round struct {
	items  []waitingItem
	births []waitingBirth

	cuts *journal.Task // marks that a conflict replaced: before the logs
	hard *journal.Task // hard states and births: before the logs
}

// Next starts a round if none is under way and something waits: appended data, hard states and births at once, commit indexes
// together with them or alone when idle. It returns nil otherwise.
func (s *Syncer) Next() *Round {
	if s.running || s.failed != nil {
		return nil
	}
	urgent := len(s.items) > 0 || len(s.births) > 0
	if !urgent && !(s.idle && s.lazy) {
		return nil
	}
	if s.marking && s.cutting() {
		return nil // the marks of the cut must follow the marks under way
	}
	r := &Round{items: s.items, births: s.births}
	s.items, s.births, s.running = nil, nil, true
	hard, cut := len(r.births) > 0 || (s.idle && s.lazy) || s.journal.Owes(), false
	for i := range r.items {
		it := &r.items[i]
		if it.Hard != nil {
			s.journal.PutHardState(it.Replica.Group(), journal.HardState(*it.Hard))
			hard = true
		}
		if it.Snapshot != nil {
			s.journal.PutSnapshotMark(it.Replica.Group(), journal.SnapshotMark(*it.Snapshot))
			hard = true
		}
		if it.Log == nil {
			continue
		}
		for _, m := range it.Log.Marks() {
			s.journal.PutMark(it.Replica.Group(), journal.Mark(m))
			cut = true
		}
	}
	if hard {
		r.hard = s.journal.BeginSync(journal.Hard)
		s.lazy = false
	}
	if cut {
		r.cuts = s.journal.BeginSync(journal.Marks)
		s.marks = false
	}
	s.cutsRunning = cut
	return r
}

// cutting reports whether a waiting capture begins with replaced marks.
func (s *Syncer) cutting() bool {
	for i := range s.items {
		if t := s.items[i].Log; t != nil && len(t.Marks()) > 0 {
			return true
		}
	}
	return false
}

// NextMarks starts the sync of the persist marks of earlier rounds, beside the round under way or alone when idle: a mark never
// precedes its data and never delays an answer (storage.md "Writing 2"). It returns nil if there is none, or one is under way.
func (s *Syncer) NextMarks() *journal.Task {
	cuts := s.running && s.cutsRunning
	if s.failed != nil || s.marking || cuts || !s.marks || !(s.running || s.idle) {
		s.idle = false
		return nil
	}
	t := s.journal.BeginSync(journal.Marks) // nil: a snapshot mark has voided the only one that waited
	s.marks, s.idle, s.marking = false, false, t != nil
	return t
}

// DoneMarks takes the task of NextMarks back.
func (s *Syncer) DoneMarks(t *journal.Task, err error) {
	s.marking = false
	s.journal.EndSync(t, err)
	if err != nil {
		s.failed = fmt.Errorf("journal marks: %w", err)
	}
}

// Do puts everything of the round on stable storage, in the order of storage.md "Writing 3" and "Writing 6": replaced marks, hard
// states, then the logs. The first error ends it.
func (r *Round) Do() error {
	if r.cuts != nil {
		if err := r.cuts.Do(); err != nil {
			return fmt.Errorf("journal marks: %w", err)
		}
	}
	if r.hard != nil {
		if err := r.hard.Do(); err != nil {
			return fmt.Errorf("journal hard states: %w", err)
		}
	}
	for i := range r.items {
		if t := r.items[i].Log; t != nil {
			if err := t.Do(); err != nil {
				return err
			}
		}
	}
	return nil
}

// ErrSyncFailed is the reason of every round after one that failed: an error of write or sync is never retried.
var ErrSyncFailed = errors.New("an earlier sync failed: the data directory is stopped; restart the broker, recovery decides from disk")

// Done takes the round under way back and tells each worker what became stable, in the order in which workers asked.
func (s *Syncer) Done(r *Round, err error) []Completion {
	s.running = false
	s.rounds++
	for _, t := range []*journal.Task{r.cuts, r.hard} {
		if t != nil {
			s.journal.EndSync(t, err)
		}
	}
	if err != nil {
		s.failed = err
	}
	var done []Completion
	at := func(worker int) *Completion {
		for i := range done {
			if done[i].Worker == worker {
				return &done[i]
			}
		}
		done = append(done, Completion{Worker: worker, Err: err})
		return &done[len(done)-1]
	}
	for i := range r.items {
		c := at(r.items[i].worker)
		c.Items = append(c.Items, r.items[i].SyncItem)
		s.synced++
	}
	for _, b := range r.births {
		c := at(b.worker)
		if b.retired {
			c.Retired = append(c.Retired, b.group)
		} else {
			c.Births = append(c.Births, b.group)
		}
	}
	return done
}

// Err is the error of the round that failed, nil while the disk is well.
func (s *Syncer) Err() error { return s.failed }
