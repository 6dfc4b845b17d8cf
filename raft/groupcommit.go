package raft

import "lograft/raft/quorum"

// groupScratch is a voter's index and commit group, for counting.
type groupScratch = quorum.Acked

// groupIndex is the commit index under group commit, and whether two groups hold it in both halves.
func (r *raft) groupIndex() (index uint64, grouped bool) {
	half := func(in func(*peer) bool) (uint64, bool) {
		r.groups = r.groups[:0]
		for i := range r.peers {
			if p := &r.peers[i]; in(p) {
				r.groups = append(r.groups, groupScratch{Index: p.match, Group: p.group})
			}
		}
		return quorum.GroupCommitted(r.groups)
	}
	a, ga := half(func(p *peer) bool { return p.incoming })
	b, gb := half(func(p *peer) bool { return p.outgoing })
	return min(a, b), ga && gb
}

func (r *raft) enableGroupCommit(on bool) {
	r.groupCommit = on
	if r.state == StateLeader && !on && r.maybeCommit() {
		r.commitTold()
	}
}

func (r *raft) assignCommitGroups(groups []CommitGroup) {
	for _, g := range groups {
		if p := r.peer(g.PeerID); p != nil {
			p.group = g.GroupID
		}
	}
	if r.state == StateLeader && r.groupCommit && r.maybeCommit() {
		r.commitTold()
	}
}

// groupCommitConsistent reports whether what is committed is held by two commit groups; known is false where that can't be told: not
// a leader, or one that has not applied an entry of its term.
func (r *raft) groupCommitConsistent() (ok, known bool) {
	if r.state != StateLeader {
		return false, false
	}
	if t, err := r.log.term(r.log.applied); err != nil || t != r.term {
		return false, false
	}
	index, grouped := r.groupIndex()
	return r.groupCommit && grouped && index == r.log.committed, true
}
