package engine

import (
	"slices"

	"lograft/broker/partition"
	"lograft/raft"
)

// GroupID names a Raft group.
type GroupID = partition.GroupID

// Message is one Raft message of one group.
type Message struct {
	From  uint64 // node id of the broker that sent it, as its connection proved
	Group GroupID
	Raft  raft.Message
}

// Lost names a message that the mesh dropped on its way out.
type Lost struct {
	Group    GroupID
	To       uint64 // replica id
	Snapshot bool
}

// Event is one thing that happened to a worker. The fields that are set say what.
type Event struct {
	Messages []Message           // from peers
	Requests []partition.Request // from sessions
	Synced   *Completion         // a sync round with items of this worker ended
	Cold     *partition.ColdRead // a cold read is done
	Seal     *SealJob            // a segment was sealed (or failed to be: SealJob.Err)
	Adopt    *partition.Replica  // a new replica for this worker
	Remove   *GroupID            // the group is deleted: close its replica
	Config   *GroupConfig        // the settings of a partition's topic
	Members  *GroupMembers       // who shall be in a group
	Lost     []Lost              // dropped by the mesh
	Cancel   uint64              // session id whose waiting requests are forgotten
	Clock    *PeerClock          // a peer said what its clock shows, and how its disk is
	Space    *partition.Disk     // this worker's share of the room on the disk, as of now
	Drain    bool                // leadership away from here
	Tick     bool                // one Raft tick passed
}

// GroupConfig is what a data partition shall be configured as.
type GroupConfig struct {
	Group  GroupID
	Config partition.Config
}

// GroupMembers is who shall be in a group.
type GroupMembers struct {
	Group   GroupID
	Members partition.Membership
}

// PeerClock is what a peer's clock showed when its heartbeat arrived.
type PeerClock struct {
	Node uint64
	Wall int64 // ms
	Full bool  // its disk is at its reserve
	At   int64 // monotonic, ns: when it arrived here
}

// Effects is what a step leaves for the driver. Slices are reused by the next Step of the same worker, their elements are not.
type Effects struct {
	Replies []partition.Reply
	Cold    []*partition.ColdRead
	Leads   []partition.LeaderChange
	Seals   []*SealJob
	Sync    SyncRequest // empty: nothing became dirty
	Halted  []error     // replicas that stopped for good in this step
	Removed []GroupID   // replicas closed on Event.Remove
	Notes   []partition.Note
	Settled []partition.Settled // groups whose wanted members are in effect
}

func (e *Effects) reset() {
	clear(e.Replies)
	q := SyncRequest{Items: e.Sync.Items[:0], Marks: e.Sync.Marks[:0], Lazy: e.Sync.Lazy[:0]}
	*e = Effects{Sync: q, Replies: e.Replies[:0], Cold: e.Cold[:0], Leads: e.Leads[:0], Seals: e.Seals[:0], Halted: e.Halted[:0], Removed: e.Removed[:0], Notes: e.Notes[:0], Settled: e.Settled[:0]}
}

// slot is a replica and what the worker knows about it. What a heartbeat needs stands first.
type slot struct {
	calm partition.Calm // zero while touched
	// heardAt is the tick in which the leader was heard last, of what the replica was not told yet; 0: never. answers are those to its own
	// heartbeats that it was not told of.
	heardAt  int
	answered uint8
	touched  bool
	sealing  bool
	halted   bool
	answers  [4]answer

	replica *partition.Replica
	// ticked is how many of the worker's ticks the replica was handed; due is the tick for which it is queued,
	// negated while that tick is handed out.
	ticked, due int
	// As counted by share.
	filling, scrubbing, lazy bool
	// capture is the number of the last capture that the syncer has and did not end, 0 if none.
	capture uint64
}

// answer is the answer of a replica on a node to a heartbeat.
type answer struct{ node, from, commit uint64 }

// busy reports whether somebody else works on the replica's files: they must stay open, and where they are.
func (s *slot) busy() bool { return s.sealing || s.capture > 0 || s.replica.Reading() > 0 }

// Worker owns replicas. Every method is called by one goroutine.
type Worker struct {
	id    int
	slots map[GroupID]*slot
	order []*slot // by group id: what is done to all is done in this order
	// Invariant: touched holds the slots with slot.touched, in the order in which they were touched.
	touched []*slot
	// removed are out of slots and order; each is closed when it is no longer busy.
	removed []*slot
	clocks  []PeerClock // sorted by node
	node    uint64
	env     partition.Env
	wheel   wheel
	// filling and scrubbing count the replicas that fetch files and read a segment for a check; lazy are those whose commit index waits
	// for the journal.
	filling, scrubbing int
	lazy               []*slot
	answer             raft.Message // scratch
}

// lazyTicks is how often commit indexes that only moved are handed to the journal, and one group may be handed to its preferred leader.
const lazyTicks = 10

// NewWorker makes worker number id of broker node. Messages of its replicas go to out.
func NewWorker(id int, node uint64, out partition.Sender) *Worker {
	w := &Worker{id: id, node: node, slots: map[GroupID]*slot{}}
	w.wheel.ticks = 1 // 0 is never
	w.env.Out = out
	w.env.Clocks = w.clockMedian
	w.env.Full = w.peerFull
	return w
}

// Step takes everything that arrived since the last step and does all that follows from it, in one order: deliver every event, then
// for each replica touched carry out what its core has ready, then capture what must be synced. now is monotonic ns, wall is ms.
func (w *Worker) Step(now, wall int64, events []Event, eff *Effects) {
	eff.reset()
	w.env.Now, w.env.Wall = now, wall
	w.env.Replies, w.env.Cold, w.env.Leads, w.env.Notes, w.env.Settled = eff.Replies, eff.Cold, eff.Leads, eff.Notes, eff.Settled
	for i := range events {
		w.deliver(&events[i], eff)
	}
	for i := 0; i < len(w.touched); i++ {
		w.finish(w.touched[i], eff)
	}
	w.touched = w.touched[:0]
	eff.Replies, eff.Cold, eff.Leads, eff.Notes, eff.Settled = w.env.Replies, w.env.Cold, w.env.Leads, w.env.Notes, w.env.Settled
	eff.Sync.Worker = w.id
}

func (w *Worker) deliver(ev *Event, eff *Effects) {
	for i := range ev.Messages {
		m := &ev.Messages[i]
		s := w.slots[m.Group]
		if s == nil || w.take(s, m) {
			continue
		}
		if !w.current(s).replica.StepCalm(&w.env, m.From, &m.Raft) {
			s.replica.Step(&w.env, m.From, m.Raft)
			w.touch(s)
		}
	}
	for i := range ev.Requests {
		w.request(&ev.Requests[i])
	}
	if ev.Synced != nil {
		w.synced(ev.Synced, eff)
	}
	if ev.Cold != nil {
		if s := w.at(ev.Cold.Group); s != nil && s.replica == ev.Cold.Owner() {
			s.replica.ReadDone(&w.env, ev.Cold)
			w.touch(s)
		} else {
			w.released(ev.Cold.Owner(), eff, func(s *slot) { s.replica.ReadDone(&w.env, ev.Cold) })
		}
	}
	if ev.Seal != nil {
		w.sealed(ev.Seal, eff)
	}
	for _, l := range ev.Lost {
		if s := w.at(l.Group); s != nil {
			s.replica.Dropped(l.To, l.Snapshot)
			w.touch(s)
		}
	}
	if ev.Cancel != 0 {
		for _, s := range w.order {
			s.replica.Cancel(ev.Cancel)
		}
	}
	if ev.Clock != nil {
		w.setClock(*ev.Clock)
	}
	if ev.Space != nil {
		w.env.Disk = *ev.Space
	}
	if ev.Adopt != nil {
		w.adopt(ev.Adopt)
	}
	if ev.Config != nil {
		if s := w.at(ev.Config.Group); s != nil {
			s.replica.Configure(ev.Config.Config)
			w.touch(s)
		}
	}
	if ev.Members != nil {
		if s := w.at(ev.Members.Group); s != nil {
			s.replica.SetMembership(&w.env, ev.Members.Members)
			w.touch(s)
		}
	}
	if ev.Remove != nil {
		w.remove(*ev.Remove, eff)
	}
	if ev.Drain {
		for _, s := range w.order {
			w.current(s).replica.TransferAway()
			w.touch(s)
		}
	}
	if ev.Tick {
		w.tick(eff)
	}
}

func (w *Worker) request(q *partition.Request) {
	s := w.at(q.Group)
	if s == nil {
		w.env.Replies = append(w.env.Replies, partition.Reply{From: q.From, Token: q.Token, Err: &partition.Error{
			Reason: partition.ReasonUnknownGroup, Message: "this broker has no replica of the partition (yet): refresh metadata and retry", RetryAfterMs: 20}})
		return
	}
	s.replica.Do(&w.env, q)
	w.touch(s)
}

func (w *Worker) synced(c *Completion, eff *Effects) {
	for i := range c.Items {
		item := &c.Items[i]
		s := w.at(item.Replica.Group())
		if s == nil || s.replica != item.Replica {
			w.released(item.Replica, eff, func(s *slot) { s.ended(item.Number) })
			continue
		}
		s.ended(item.Number)
		if mark, ok := s.replica.Synced(&w.env, *item, c.Err); ok {
			eff.Sync.Marks = append(eff.Sync.Marks, GroupMark{Group: s.replica.Group(), Mark: mark})
		}
		w.touch(s)
	}
}

func (s *slot) ended(capture uint64) {
	if capture >= s.capture {
		s.capture = 0
	}
}

// released notes that somebody is done with the files of a removed replica, and closes it if nobody else has them.
func (w *Worker) released(r *partition.Replica, eff *Effects, done func(*slot)) {
	for i, s := range w.removed {
		if s.replica != r {
			continue
		}
		if done(s); !s.busy() {
			w.removed = slices.Delete(w.removed, i, i+1)
			w.closeRemoved(s, eff)
		}
		return
	}
}

func (w *Worker) closeRemoved(s *slot, eff *Effects) {
	if err := s.replica.Close(&w.env); err != nil {
		eff.Halted = append(eff.Halted, err)
	}
	eff.Removed = append(eff.Removed, s.replica.Group())
}

func (w *Worker) sealed(j *SealJob, eff *Effects) {
	s := w.at(j.Replica.Group())
	if s == nil || s.replica != j.Replica {
		w.released(j.Replica, eff, func(s *slot) {
			s.sealing = false
			s.replica.EndSeal(&w.env, j.Task, j.Err) // it holds the file
		})
		return
	}
	s.sealing = false
	s.replica.EndSeal(&w.env, j.Task, j.Err)
	w.touch(s)
}

func (w *Worker) touch(s *slot) {
	if !s.touched {
		s.touched, s.calm = true, partition.Calm{}
		w.touched = append(w.touched, s)
	}
}

// finish ends a replica's step and captures what it left to be synced and sealed.
func (w *Worker) finish(s *slot, eff *Effects) {
	s.touched = false
	r := s.replica
	r.EndStep(&w.env)
	if item, ok := r.Sync(); ok {
		s.capture = item.Number
		eff.Sync.Items = append(eff.Sync.Items, item)
	}
	if !s.sealing {
		if task := r.BeginSeal(); task != nil {
			s.sealing = true
			eff.Seals = append(eff.Seals, &SealJob{Replica: r, Task: task})
		}
	}
	if err := r.Err(); err != nil && !s.halted {
		s.halted = true
		eff.Halted = append(eff.Halted, err)
	}
	w.schedule(s)
}

func (w *Worker) tick(eff *Effects) {
	w.env.Fills, w.env.Scrubs = w.filling, w.scrubbing
	w.env.ScrubBytes = min(w.env.ScrubBytes+partition.ScrubBytesPerTickDefault, partition.ScrubBytesPerTickDefault)
	for _, s := range w.nextTick() {
		w.bring(s, w.wheel.ticks-1)
		s.ticked = w.wheel.ticks
		if s.replica.Tick(&w.env) {
			w.touch(s)
		}
		w.schedule(s)
	}
	if w.wheel.ticks%lazyTicks == 0 {
		w.journal(eff)
		w.env.Handovers = 1
	}
	eff.Sync.Idle = true
}

func (w *Worker) adopt(r *partition.Replica) {
	g := r.Group()
	if w.slots[g] != nil {
		return
	}
	s := &slot{replica: r, ticked: w.wheel.ticks}
	w.slots[g] = s
	at, _ := slices.BinarySearchFunc(w.order, s, byGroup)
	w.order = slices.Insert(w.order, at, s)
	w.touch(s)
}

func (w *Worker) remove(g GroupID, eff *Effects) {
	s := w.slots[g]
	if s == nil { // quarantined: it was never opened, and is as gone as a closed one
		eff.Removed = append(eff.Removed, g)
		return
	}
	delete(w.slots, g)
	w.order = slices.DeleteFunc(w.order, func(o *slot) bool { return o == s })
	w.touched = slices.DeleteFunc(w.touched, func(o *slot) bool { return o == s })
	w.forget(s)
	if s.busy() {
		w.removed = append(w.removed, s)
		return
	}
	w.closeRemoved(s, eff)
}

// Close closes every replica; what still waits is answered ReasonShutdown. The final hard states are in eff.Sync.Lazy.
func (w *Worker) Close(eff *Effects) {
	eff.reset()
	w.env.Replies = eff.Replies
	for _, s := range w.order {
		if h, ok := s.replica.LazyHardState(); ok {
			eff.Sync.Lazy = append(eff.Sync.Lazy, GroupHardState{Group: s.replica.Group(), Hard: h})
		}
		if err := s.replica.Close(&w.env); err != nil {
			eff.Halted = append(eff.Halted, err)
		}
	}
	for _, s := range w.removed {
		if err := s.replica.Close(&w.env); err != nil {
			eff.Halted = append(eff.Halted, err)
		}
	}
	w.slots, w.order, w.touched, w.removed = map[GroupID]*slot{}, nil, nil, nil
	eff.Replies = w.env.Replies
}

// Stats counts what the replicas here did.
func (w *Worker) Stats() partition.Stats { return w.env.Stats }

// Replicas visits every replica in order of group id.
func (w *Worker) Replicas(visit func(*partition.Replica)) {
	for _, s := range w.order {
		visit(s.replica)
	}
}
