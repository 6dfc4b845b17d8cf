package raft

import "lograft/raft/quorum"

// hup begins an election, unless this node leads, or has committed a configuration change that it has not applied: it would not know
// its electorate.
func (r *raft) hup(transfer bool) bool {
	if r.state == StateLeader || !r.promotable() || r.term+1 >= termMax {
		return false
	}
	if _, ok := r.log.lastTerm(); !ok {
		return false // the last entry is damaged: what would we claim to hold?
	}
	if r.hasConfChange(r.log.applied+1, r.log.committed+1) {
		return false
	}
	if r.cfg.PreVote && !transfer {
		r.becomePreCandidate()
		r.campaign(MsgRequestPreVote, r.term+1, nil)
		return true
	}
	r.becomeCandidate()
	var context []byte
	if transfer {
		context = []byte(CampaignTransfer)
	}
	r.campaign(MsgRequestVote, r.term, context)
	return true
}

func (r *raft) becomePreCandidate() {
	for i := range r.peers {
		r.peers[i].vote = voteNone
	}
	r.state, r.leader = StatePreCandidate, 0
	r.requestSnapshot, r.requestAnyTerm = 0, false
	r.readsRoleChanged()
	r.trace("become_pre_candidate", 0, 0, "")
}

func (r *raft) becomeCandidate() {
	r.reset(r.term + 1)
	r.vote, r.state = r.id, StateCandidate
	r.requestSnapshot, r.requestAnyTerm = 0, false
	r.readsRoleChanged()
	r.trace("become_candidate", 0, 0, "")
}

// campaign votes for itself and asks the others. The requests wait for the disk (rule 2): they advertise a term and a last entry.
func (r *raft) campaign(t MessageType, term uint64, context []byte) {
	r.self().vote = voteGranted
	if r.tally() == quorum.VoteWon {
		r.won()
		return
	}
	r.request(t, term, context)
}

// request asks those for their vote who have not answered.
func (r *raft) request(t MessageType, term uint64, context []byte) {
	lastTerm, _ := r.log.lastTerm()
	commit, commitTerm := r.log.commitInfo()
	for i := range r.peers {
		if p := &r.peers[i]; p.id != r.id && p.voter() && p.vote == voteNone {
			r.send(Message{Type: t, To: p.id, Term: term, Index: r.log.last(), LogTerm: lastTerm, Commit: commit, CommitTerm: commitTerm,
				Priority: r.cfg.Priority, Context: context})
		}
	}
}

func (r *raft) won() {
	if r.state == StatePreCandidate {
		r.becomeCandidate()
		r.campaign(MsgRequestVote, r.term, nil)
		return
	}
	r.becomeLeader()
	r.bcastAppend()
}

// tally counts the votes of the current voters, in both halves of a joint configuration.
func (r *raft) tally() quorum.VoteResult {
	var in, out struct{ n, granted, rejected int }
	for i := range r.peers {
		p := &r.peers[i]
		if p.incoming {
			in.n++
		}
		if p.outgoing {
			out.n++
		}
		switch p.vote {
		case voteGranted:
			if p.incoming {
				in.granted++
			}
			if p.outgoing {
				out.granted++
			}
		case voteRejected:
			if p.incoming {
				in.rejected++
			}
			if p.outgoing {
				out.rejected++
			}
		}
	}
	return quorum.JointVote(quorum.Vote(in.n, in.granted, in.rejected), quorum.Vote(out.n, out.granted, out.rejected))
}

// stepCandidate takes what a candidate or pre-candidate reacts to.
func (r *raft) stepCandidate(m *Message) error {
	switch m.Type {
	case MsgAppend, MsgHeartbeat, MsgSnapshot:
		r.becomeFollower(m.Term, m.From) // m.Term == r.term: somebody won it
		return r.fromLeader(m)
	case MsgRequestVoteResponse, MsgRequestPreVoteResponse:
		if (m.Type == MsgRequestVoteResponse) != (r.state == StateCandidate) {
			return nil // an answer to the other kind of question
		}
		if r.state == StatePreCandidate && !m.Reject && m.Term != r.term+1 {
			return nil // a grant for a term that has come meanwhile
		}
		r.voteAnswer(m)
	}
	return nil
}

// voteAnswer takes the commit index that comes with a vote before the vote itself: whoever learns that its electorate has changed must
// not be elected by the old one.
func (r *raft) voteAnswer(m *Message) {
	state := r.state
	if r.commitByVote(m); r.state != state {
		return
	}
	if p := r.peer(m.From); p.vote == voteNone { // the first answer counts
		p.vote = voteGranted
		if m.Reject {
			p.vote = voteRejected
		}
	}
	switch r.tally() {
	case quorum.VoteWon:
		r.won()
	case quorum.VoteLost:
		r.becomeFollower(r.term, 0)
	}
}
