package partition

import (
	"fmt"
	"slices"

	"lograft/raft"
)

// transfersWaitingMax bounds the OpTransfers that wait in one replica; more are refused with ReasonOverloaded.
const transfersWaitingMax = 64

// handover is an OpTransfer that waits until another replica leads.
type handover struct {
	waiter
	target uint64 // replica id
	any    bool   // whoever leads next is right
}

// transfer begins to hand leadership over. It is answered when another replica leads, or with why not at its deadline; until then the
// wish is repeated as often as the core gives it up.
func (r *Replica) transfer(env *Env, q *Request) {
	h := handover{waiter: waiter{q.From, q.Token, q.Deadline}, target: uint64(q.Offset), any: q.Offset == 0}
	if h.any {
		h.target, _ = r.bestFollower()
	}
	switch {
	case r.role != raft.StateLeader:
		env.fail(q, r.notLeader(OutcomeFailed))
	case h.target == 0:
		env.fail(q, &Error{Reason: ReasonUnavailable, Message: "no other voter of this group answers: start one of its brokers and retry", RetryAfterMs: 100})
	case h.target == r.opts.ReplicaID:
		env.reply(Reply{From: q.From, Token: q.Token, LeaderEpoch: int32(r.hard.Term)})
	case !slices.Contains(r.conf.Voters, h.target):
		env.fail(q, &Error{Reason: ReasonInvalid, Message: fmt.Sprintf("replica %d has no vote in this group: choose one of %v", h.target, r.conf.Voters)})
	case len(r.transfers) >= transfersWaitingMax:
		env.fail(q, &Error{Reason: ReasonOverloaded, Message: "too many transfers of this group wait: retry later", RetryAfterMs: 100})
	default:
		r.transfers = append(r.transfers, h)
		r.node.TransferLeader(h.target)
	}
}

// leaderKnown answers the transfers that another replica's leadership ends.
func (r *Replica) leaderKnown(env *Env) {
	if r.leader == 0 || r.leader == r.opts.ReplicaID {
		return
	}
	for _, h := range r.transfers {
		a := Reply{From: h.from, Token: h.token, LeaderEpoch: int32(r.hard.Term)}
		if !h.any && h.target != r.leader {
			a.Err = r.notLeader(OutcomeFailed)
			a.Err.Message += fmt.Sprintf(", not replica %d: ask it to hand over", h.target)
		}
		env.reply(a)
	}
	r.transfers = nil
}

// transferTick repeats a wish that the core has given up, and answers those whose time is over. It reports whether it told the core.
func (r *Replica) transferTick(env *Env) (asked bool) {
	if len(r.transfers) == 0 {
		return false
	}
	r.transfers = slices.DeleteFunc(r.transfers, func(h handover) bool {
		late := env.Now >= h.deadline
		if late {
			env.reply(Reply{From: h.from, Token: h.token, Err: &Error{Reason: ReasonTimeout, Outcome: OutcomeUnknown, Message: r.notMoved(h.target)}})
		}
		return late
	})
	if len(r.transfers) > 0 && r.role == raft.StateLeader && r.node.BasicStatus().LeadTransferee == 0 {
		r.node.TransferLeader(r.transfers[0].target)
		return true
	}
	return false
}

// notMoved is why a replica does not lead yet, and what to do.
func (r *Replica) notMoved(target uint64) string {
	if r.role != raft.StateLeader {
		return "leadership was given up and no new leader is known yet: see broker cluster health"
	}
	match, active := r.progressOf(target)
	switch last := r.log.LastIndex(); {
	case !active:
		return fmt.Sprintf("replica %d on node %d does not answer: start its broker, or choose another", target, r.nodeOf(target))
	case match < last:
		return fmt.Sprintf("replica %d on node %d lacks %d entries: retry when it has caught up", target, r.nodeOf(target), last-match)
	}
	return fmt.Sprintf("replica %d on node %d did not take over: it stands for no election while its log is damaged; retry, or choose another", target, r.nodeOf(target))
}

// failTransfers answers every transfer that waits: the replica stops.
func (r *Replica) failTransfers(env *Env) {
	for _, h := range r.transfers {
		env.reply(Reply{From: h.from, Token: h.token, Err: &Error{Reason: ReasonShutdown, Message: "the replica stopped: ask another", Outcome: OutcomeUnknown}})
	}
	r.transfers = nil
}

// TransferAway hands leadership to the most up-to-date follower, if this replica leads and there is one.
func (r *Replica) TransferAway() {
	if r.fatal == nil && r.role == raft.StateLeader {
		if to, _ := r.bestFollower(); to != 0 {
			r.node.TransferLeader(to)
		}
	}
}

// bestFollower is the voter, other than this replica, that is known to hold most of the log, up to match; 0 if there is none alive. One
// that shall not vote any more does not count while another would do.
func (r *Replica) bestFollower() (best, match uint64) {
	kept := false
	r.node.VisitProgress(func(id uint64, pr *raft.Progress) {
		if id == r.opts.ReplicaID || pr.IsLearner || !pr.RecentActive {
			return
		}
		stays := r.members.want.Version == 0 || slices.Contains(r.members.want.Voters, id)
		if best == 0 || stays && !kept || stays == kept && pr.Match > match {
			best, match, kept = id, pr.Match, stays
		}
	})
	return best, match
}
