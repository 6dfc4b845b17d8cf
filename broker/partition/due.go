package partition

import "lograft/raft"

// IdleTicks is how many ticks from now on do nothing but count as long as the replica is not called: its worker may keep them and hand
// them over with Skip, before any other call. Only a follower that knows its leader, and has nothing under way, is idle; what is added
// to Tick for followers belongs here too.
func (r *Replica) IdleTicks() int {
	const many = 1 << 20
	switch s := &r.scrub; {
	case r.fatal != nil:
		return many
	case r.role != raft.StateFollower || r.leader == 0,
		r.reads.waiting() > 0 || len(r.results) > 0 || len(r.transfers) > 0,
		r.fill.phase != fillNone || len(r.damage.ranges) > 0 || s.on,
		r.refill.on || r.trim.index > r.trim.stable || r.trim.dropTo >= r.log.FirstIndex():
		return 0
	case s.due == 0:
		return min(r.node.IdleTicks(), max(0, scrubFirstTicks-1-s.ticks))
	}
	return r.node.IdleTicks()
}

// Skip is that many ticks of which IdleTicks said that they only count.
func (r *Replica) Skip(ticks int) {
	if r.fatal != nil || ticks <= 0 {
		return
	}
	r.node.TickN(ticks)
	r.slow = slowDisk{}
	r.heard += ticks
	r.fill.budget = r.opts.FillBytesPerTick * r.fill.pace.factor()
	r.scrub.ticks += ticks
}

// Calm is what a worker must know of a replica to take heartbeats and their answers without calling it: the copy is good until the
// replica is called the next time. The zero value: every message is for Step.
type Calm struct {
	Role raft.StateRole
	// ID is the replica itself, Leader and Node its leader and that one's broker; a leader's Node is 0.
	ID, Leader, Node uint64
	Term, Commit     uint64
}

// Heard says that a heartbeat as c allows it came: it was answered already.
func (r *Replica) Heard(env *Env, c *Calm) {
	if r.fatal == nil {
		r.heard = 0
		env.scratch = raft.Message{Type: raft.MsgHeartbeat, From: c.Leader, To: c.ID, Term: c.Term}
		r.node.StepCalm(&env.scratch)
	}
}

// Calm gives the zero value unless a heartbeat could change nothing here but clocks and who was heard.
func (r *Replica) Calm() Calm {
	if r.fatal != nil || r.leader == 0 || r.fill.phase != fillNone || len(r.damage.ranges) > 0 || !r.node.Calm() {
		return Calm{}
	}
	c := Calm{Role: r.role, ID: r.opts.ReplicaID, Leader: r.leader, Term: r.hard.Term, Commit: r.hard.Commit}
	switch r.role {
	case raft.StateLeader:
		return c
	case raft.StateFollower:
		c.Node = r.nodeOf(r.leader)
		return c
	}
	return Calm{}
}

// StepCalm takes a heartbeat, or the answer to one, that changes nothing: nothing follows from it, EndStep included. false: nothing has
// happened, the message is for Step.
func (r *Replica) StepCalm(env *Env, from uint64, m *raft.Message) bool {
	if m.Type != raft.MsgHeartbeat && m.Type != raft.MsgHeartbeatResponse {
		return false
	}
	if r.fatal != nil || m.To != r.opts.ReplicaID || from == 0 || r.nodeOf(m.From) != from || r.fill.phase != fillNone || len(r.damage.ranges) > 0 {
		return false
	}
	var taken bool
	if env.scratch, taken = r.node.StepCalm(m); taken {
		r.heard = 0
	}
	if taken && env.scratch.To != 0 {
		r.send(env, &env.scratch)
	}
	return taken
}
