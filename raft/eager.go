package raft

// What Config.EagerElections adds. An election that did not end at its first try costs a whole election timeout in the Raft paper and in
// its known implementations: a request was lost or came to a voter that had heard the leader an instant later (rule 1, it says nothing),
// the voter's log was better, the votes were split. Here it costs a tick or two. Nothing of this grants a vote that was refused before, and
// nobody stands who has heard a leader within ElectionTick ticks.

// eagerTicks is how long who has reason to stand early waits: a vote given meanwhile should get the time to make a leader.
const eagerTicks = 2

// askAgain repeats a candidate's or pre-candidate's request of a round to those who have not answered, 1, 2, 4, 8, ... ticks after it began.
func (r *raft) askAgain() {
	if r.electionElapsed&(r.electionElapsed-1) != 0 {
		return
	}
	if r.state == StatePreCandidate {
		r.request(MsgRequestPreVote, r.term+1, nil)
	} else {
		r.request(MsgRequestVote, r.term, nil)
	}
}

// refused is told of a vote or pre-vote that we did not grant. If it stands behind us, we are the one to stand.
func (r *raft) refused(m *Message) {
	split := r.split(m)
	if split || !r.upToDate(m) {
		r.hasten(split)
	}
}

// split reports whether a candidate with our log has taken votes from us in this term, and we stand before it by priority or id. Two such
// must not both stand again at once.
func (r *raft) split(m *Message) bool {
	term, _ := r.log.lastTerm()
	same := r.state == StateCandidate && m.Type == MsgRequestVote && m.LogTerm == term && m.Index == r.log.last()
	return same && (m.Priority < r.cfg.Priority || m.Priority == r.cfg.Priority && m.From < r.id)
}

// hasten makes the next election due in eagerTicks, if no leader was heard for an election timeout. A vote that we gave in this term, and
// a round of ours that is open, get half an election timeout first: the answers may be on their way, or on a slow disk, and to stand
// again throws them away. A split round has no time: its other half waits for us.
func (r *raft) hasten(split bool) {
	if !r.cfg.EagerElections || r.state == StateLeader || r.contact < r.cfg.ElectionTick {
		return
	}
	due := r.electionElapsed + eagerTicks
	if open := r.state != StateFollower || r.vote != 0 && r.vote != r.id; open && !split {
		due = max(due, r.cfg.ElectionTick/2)
	}
	r.electionTimeout = min(r.electionTimeout, due)
}
