package engine

import (
	"slices"

	"lograft/raft"
)

// wheelTicks is how many ticks ahead a replica may be queued at most, and one more.
const wheelTicks = 64

// wheel is when which replica is ticked (architecture D7: ticks touch groups that are due). A replica that says that its next n ticks
// only count is queued for the one after them; whoever touches it before hands over the ticks that passed first (Worker.current). So all
// happens in the tick in which it would if each replica were ticked each time.
type wheel struct {
	ticks   int // passed since the worker was made
	buckets [wheelTicks][]*slot
	due     []*slot // scratch
}

// current hands over to a replica what it is owed: the ticks that passed, and the heartbeats that were taken for it. Everything that
// calls into a replica does this first.
func (w *Worker) current(s *slot) *slot {
	w.bring(s, w.wheel.ticks)
	return s
}

// bring is current up to a tick, which is no earlier than what was taken.
func (w *Worker) bring(s *slot, to int) {
	if s.heardAt > 0 {
		s.replica.Skip(s.heardAt - s.ticked)
		s.replica.Heard(&w.env, &s.calm)
		s.ticked, s.heardAt = s.heardAt, 0
	}
	for _, a := range s.answers[:s.answered] {
		w.answer = raft.Message{Type: raft.MsgHeartbeatResponse, From: a.from, To: s.calm.ID, Term: s.calm.Term, Commit: a.commit}
		s.replica.StepCalm(&w.env, a.node, &w.answer)
	}
	s.answered = 0
	s.replica.Skip(to - s.ticked)
	s.ticked = to
}

// take takes a heartbeat, or the answer to one, that changes nothing in its replica, without calling it: with a thousand groups the wait
// for each replica's memory is what heartbeats cost. bring hands over what was taken. false: nothing was done, the message is for Step.
func (w *Worker) take(s *slot, m *Message) bool {
	c, r := &s.calm, &m.Raft
	if c.Term == 0 || r.Term != c.Term || r.To != c.ID || len(r.Context) != 0 {
		return false
	}
	switch {
	case r.Type == raft.MsgHeartbeat && c.Role == raft.StateFollower && r.From == c.Leader && m.From == c.Node && r.Commit <= c.Commit:
		s.heardAt = w.wheel.ticks
		w.answer = raft.Message{Type: raft.MsgHeartbeatResponse, To: c.Leader, From: c.ID, Term: c.Term, Commit: c.Commit}
		w.env.Out.Send(c.Node, m.Group, &w.answer)
		return true
	case r.Type == raft.MsgHeartbeatResponse && c.Role == raft.StateLeader && int(s.answered) < len(s.answers):
		s.answers[s.answered] = answer{node: m.From, from: r.From, commit: r.Commit}
		s.answered++
		return true
	}
	return false
}

// at is the slot of a group, current; nil if there is none.
func (w *Worker) at(g GroupID) *slot {
	s := w.slots[g]
	if s == nil {
		return nil
	}
	return w.current(s)
}

// schedule queues a current replica for the next tick that does more than count, unless it is queued for an earlier one: then it is
// looked at again. It also keeps count of what the replicas of a worker share.
func (w *Worker) schedule(s *slot) {
	w.share(s)
	s.calm = s.replica.Calm()
	t := &w.wheel
	due := t.ticks + 1 + min(s.replica.IdleTicks(), wheelTicks-2)
	if s.due > t.ticks && s.due <= due {
		return
	}
	s.due = due
	t.buckets[due%wheelTicks] = append(t.buckets[due%wheelTicks], s)
}

// nextTick begins a tick and gives the replicas that are due, those touched in this step included, by group id. The slice is good
// until the next call.
func (w *Worker) nextTick() []*slot {
	t := &w.wheel
	t.ticks++
	bucket := t.buckets[t.ticks%wheelTicks]
	t.due = t.due[:0]
	for _, s := range bucket {
		if s.due == t.ticks { // else it was queued anew, or is gone
			s.due = -t.ticks
			t.due = append(t.due, s)
		}
	}
	clear(bucket)
	t.buckets[t.ticks%wheelTicks] = bucket[:0]
	for _, s := range w.touched {
		if s.due != -t.ticks {
			s.due = -t.ticks
			t.due = append(t.due, s)
		}
	}
	slices.SortFunc(t.due, byGroup)
	return t.due
}

func byGroup(a, b *slot) int {
	x, y := a.replica.Group(), b.replica.Group()
	return slices.Compare(x[:], y[:])
}

// share notes whether a replica fetches files, reads a segment for a check, or has a commit index that the journal lacks.
func (w *Worker) share(s *slot) {
	count := func(is bool, was *bool, n *int) {
		if is != *was {
			*was = is
			if is {
				*n++
			} else {
				*n--
			}
		}
	}
	count(s.replica.Filling(), &s.filling, &w.filling)
	count(s.replica.Scrubbing(), &s.scrubbing, &w.scrubbing)
	if !s.lazy && s.replica.HardStateWaits() {
		s.lazy = true
		w.lazy = append(w.lazy, s)
	}
}

// forget takes a removed replica out of everything that schedule knows.
func (w *Worker) forget(s *slot) {
	s.due = 0
	if s.filling {
		w.filling--
	}
	if s.scrubbing {
		w.scrubbing--
	}
	w.lazy = slices.DeleteFunc(w.lazy, func(o *slot) bool { return o == s })
}

// journal hands the commit indexes that only moved to the syncer, in order of group id.
func (w *Worker) journal(eff *Effects) {
	slices.SortFunc(w.lazy, byGroup)
	kept := w.lazy[:0]
	for _, s := range w.lazy {
		if h, ok := s.replica.LazyHardState(); ok {
			eff.Sync.Lazy = append(eff.Sync.Lazy, GroupHardState{Group: s.replica.Group(), Hard: h})
		}
		if s.lazy = s.replica.HardStateWaits(); s.lazy {
			kept = append(kept, s)
		}
	}
	clear(w.lazy[len(kept):])
	w.lazy = kept
}
