package partition

import "lograft/raft"

// Coordinator is a Machine that, while its replica leads, answers sessions from memory that is not replicated and acts by time:
// consumer groups (architecture D17). Every method is called by the replica's worker.
type Coordinator interface {
	Machine
	// Query reads the replicated state. The answer is immutable: sessions on other goroutines read it.
	Query(ask any) (answer any)
	// Lead says that the replica leads in a new term and has applied everything before it; Rest that it leads no more. What waited
	// at Rest is answered by the replica.
	Lead(now int64)
	Rest()
	// Ask takes a session's question; its answer comes out of Take now or later.
	Ask(now int64, from, token uint64, ask any)
	// Forget drops what waits for a session that is gone.
	Forget(from uint64)
	// Tick lets time pass while the replica leads. appendTime (ms) is what a command proposed now would carry.
	Tick(now, appendTime int64)
	// Take gives the answers that are due and the commands to propose. A command that can't be proposed is dropped: who needs it
	// proposes it again at a later tick. The slices are the caller's until the next call.
	Take() (answers []Answer, commands [][]byte)
}

// Answer is a Coordinator's answer to one Ask.
type Answer struct {
	From, Token uint64
	Value       any
}

// asking is who waits for a Coordinator's answer; the replica answers them when its leadership ends.
type asking struct {
	coordinator Coordinator // nil: the group's machine is none, or this is a data partition
	leads       bool        // the coordinator was told that it leads, in term
	term        uint64
	waiting     []waiter // in the order of asking
}

// asksWaitingMax bounds the questions that wait in one replica; more are refused with ReasonOverloaded.
const asksWaitingMax = 100_000

// ask hands a question to the coordinator if this replica leads and has applied its own no-op.
func (r *Replica) ask(env *Env, q *Request) {
	switch a := &r.asks; {
	case a.coordinator == nil:
		env.fail(q, &Error{Reason: ReasonInvalid, Message: "this group coordinates nothing"})
	case r.role != raft.StateLeader:
		env.fail(q, r.notLeader(OutcomeFailed))
	case !r.lead.ready:
		env.fail(q, &Error{Reason: ReasonNotReady, Message: "the new coordinator has not applied its log yet: retry", RetryAfterMs: 10})
	case len(a.waiting) >= asksWaitingMax:
		env.fail(q, &Error{Reason: ReasonOverloaded, Message: "too many members wait at this coordinator: retry later", RetryAfterMs: 100})
	default:
		r.followLead(env)
		a.waiting = append(a.waiting, waiter{from: q.From, token: q.Token})
		a.coordinator.Ask(env.Now, q.From, q.Token, q.Ask)
	}
}

// followLead tells the coordinator whether it leads.
func (r *Replica) followLead(env *Env) {
	a := &r.asks
	if a.leads && (!r.lead.ready || r.lead.term != a.term) {
		r.rest(env, r.notLeader(OutcomeFailed))
	}
	if !a.leads && r.lead.ready {
		a.leads, a.term = true, r.lead.term
		a.coordinator.Lead(env.Now)
	}
}

// rest ends the coordinator's lead: everything that waits for it is answered with err.
func (r *Replica) rest(env *Env, err *Error) {
	a := &r.asks
	if a.coordinator == nil || !a.leads {
		return
	}
	a.leads = false
	a.coordinator.Rest()
	for _, w := range a.waiting {
		env.reply(Reply{From: w.from, Token: w.token, Err: err})
	}
	a.waiting = nil
}

// coordinate delivers what the coordinator has to say and proposes what it decided. It reports whether it proposed something.
func (r *Replica) coordinate(env *Env) (proposed bool) {
	a := &r.asks
	if a.coordinator == nil {
		return false
	}
	r.followLead(env)
	if !a.leads {
		return false
	}
	answers, commands := a.coordinator.Take()
	for _, x := range answers {
		for i := len(a.waiting) - 1; i >= 0; i-- { // most are answered soon after they came
			if a.waiting[i].from == x.From && a.waiting[i].token == x.Token {
				a.waiting = append(a.waiting[:i], a.waiting[i+1:]...)
				env.reply(Reply{From: x.From, Token: x.Token, Answer: x.Value, Applied: r.applied, LeaderEpoch: int32(r.hard.Term)})
				break
			}
		}
	}
	for _, c := range commands {
		proposed = r.proposeCommand(env, c) == nil || proposed
	}
	return proposed
}

func (r *Replica) forgetAsks(from uint64) {
	a := &r.asks
	if a.coordinator == nil {
		return
	}
	kept := a.waiting[:0]
	for _, w := range a.waiting {
		if w.from != from {
			kept = append(kept, w)
		}
	}
	a.waiting = kept
	a.coordinator.Forget(from)
}

// tickCoordinator reports whether the coordinator may have something to take.
func (r *Replica) tickCoordinator(env *Env) bool {
	if !r.asks.leads || !r.lead.ready {
		return false
	}
	r.asks.coordinator.Tick(env.Now, r.appendTimeNow(env))
	return true
}
