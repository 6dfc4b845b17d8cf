package partition

import (
	"slices"

	"lograft/raft"
)

// Bounds of what a leader that is not the preferred one does about it (Kafka's auto.leader.rebalance). Windows are election timeouts.
const (
	// PreferWindowsDefault is for how many windows in a row the group must be whole before leadership is handed to the preferred leader.
	PreferWindowsDefault = 30
	// preferDoublings bounds how often that wait doubles: at each handover that did not last.
	preferDoublings = 5
	// preferForgetNs is after what time a handover counts as one that lasted.
	preferForgetNs = int64(30 * 60e9)
)

// preferring is how long the group of this leader has been whole, and how handovers to the preferred leader went before.
type preferring struct {
	term    uint64
	ticks   int    // of the window under way
	heard   bool   // all voters were active at one of them: the core forgets now and then whom it heard
	commit  uint64 // committed when it began
	whole   int    // windows in a row
	tries   int    // handovers that did not last
	triedAt int64  // of the last one, ns
}

// preferTick hands leadership to the preferred leader once every voter has been heard in each of Options.PreferWindows windows and holds
// what was committed a window ago, and no membership is under way: a broker that comes back leads again when it has caught up, and while
// a replica is behind nobody moves. A preferred leader that lost what it was handed before (its disk hangs, its log is damaged) waits twice
// as long each time. A worker hands over one group at a time (Env.Handovers). It reports whether the core was told.
func (r *Replica) preferTick(env *Env) bool {
	p, to := &r.prefer, r.members.want.Preferred
	if r.opts.PreferWindows == 0 || !r.lead.ready || to == 0 || to == r.opts.ReplicaID {
		return false
	}
	if p.term != r.hard.Term {
		*p = preferring{term: r.hard.Term, commit: r.hard.Commit, tries: p.tries, triedAt: p.triedAt}
	}
	p.heard = p.heard || r.eachVoter(func(pr *raft.Progress) bool { return pr.RecentActive })
	if p.ticks++; p.ticks < r.opts.ElectionTicks {
		return false
	}
	whole := p.heard && r.whole(p.commit) && !r.nodeFull(env, to)
	p.ticks, p.heard, p.commit = 0, false, r.hard.Commit
	if p.whole++; !whole {
		p.whole = 0
	}
	if env.Now-p.triedAt > preferForgetNs {
		p.tries = 0
	}
	if p.whole < r.opts.PreferWindows<<min(p.tries, preferDoublings) || env.Handovers == 0 {
		return false
	}
	env.Handovers--
	p.whole, p.tries, p.triedAt = 0, p.tries+1, env.Now
	r.node.TransferLeader(to)
	return true
}

// whole reports whether the configuration is the wanted one for good, and each of its voters holds what was committed up to an index.
func (r *Replica) whole(commit uint64) bool {
	c, want := &r.lead.changing, &r.members.want
	if c.settled != want.Version || c.pending > r.applied || len(r.conf.VotersOutgoing) > 0 || len(r.transfers) > 0 || !slices.Contains(r.conf.Voters, want.Preferred) {
		return false
	}
	return r.eachVoter(func(pr *raft.Progress) bool { return pr.Match >= commit })
}

// eachVoter reports whether something holds for every other voter.
func (r *Replica) eachVoter(holds func(*raft.Progress) bool) bool {
	all := true
	r.node.VisitProgress(func(id uint64, pr *raft.Progress) {
		all = all && (id == r.opts.ReplicaID || pr.IsLearner || holds(pr))
	})
	return all
}
