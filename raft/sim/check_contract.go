package sim

import (
	"lograft/raft"
)

// ready checks what a Ready promises by its shape.
func (k *checker) ready(n *node, rd *raft.Ready) {
	v := &n.view
	switch {
	case rd.Number <= v.number:
		k.fail("contract", "node %d: Ready %d after %d", n.id, rd.Number, v.number)
	case rd.Snapshot != nil && len(rd.CommittedEntries) > 0:
		k.fail("contract", "node %d: Ready %d has a snapshot and committed entries", n.id, rd.Number)
	case rd.Snapshot != nil && (!rd.HasHardState || rd.HardState.Commit < rd.Snapshot.Metadata.Index):
		k.fail("contract", "node %d: Ready %d: snapshot %d with HardState %+v (%t)", n.id, rd.Number, rd.Snapshot.Metadata.Index, rd.HardState, rd.HasHardState)
	case (len(rd.Entries) > 0 || rd.Snapshot != nil) && !rd.MustSync:
		k.fail("contract", "node %d: Ready %d holds entries or a snapshot without MustSync", n.id, rd.Number)
	case rd.HasHardState && (rd.HardState.Term != v.ready.Term || rd.HardState.Vote != v.ready.Vote) && !rd.MustSync:
		k.fail("contract", "node %d: Ready %d changes term or vote without MustSync", n.id, rd.Number)
	case rd.HasHardState && rd.HardState.Term < v.ready.Term:
		k.fail("contract", "node %d: Ready %d: term %d after %d", n.id, rd.Number, rd.HardState.Term, v.ready.Term)
	}
	v.number = rd.Number
	if rd.HasHardState {
		v.ready = rd.HardState
	}
	for i := range rd.Entries {
		e := &rd.Entries[i]
		if e.Type != raft.EntryNormal && !rd.HasHardState {
			k.fail("contract", "node %d: Ready %d holds a conf change without a HardState", n.id, rd.Number)
		}
		if e.Index <= k.top() && e.Index <= n.view.commit && k.committed[e.Index-1].term != e.Term {
			k.fail("committed", "node %d: Ready %d writes term %d over committed index %d", n.id, rd.Number, e.Term, e.Index)
		}
	}
	for i := range rd.Messages {
		k.sentNow(n, &rd.Messages[i])
	}
	if rd.Snapshot != nil {
		v.handed = rd.Snapshot.Metadata.Index
	}
	k.handedOut(n, rd.CommittedEntries)
}

func (k *checker) light(n *node, lr *raft.LightReady) {
	for i := range lr.Messages {
		k.sentNow(n, &lr.Messages[i])
	}
	k.handedOut(n, lr.CommittedEntries)
	if lr.HasCommitIndex && lr.CommitIndex > n.view.commit {
		k.fail("contract", "node %d: LightReady commits %d, status %d", n.id, lr.CommitIndex, n.view.commit)
	}
}

// sentNow: what advertises durable state is never among the Messages.
func (k *checker) sentNow(n *node, m *raft.Message) {
	switch m.Type {
	case raft.MsgAppendResponse, raft.MsgRequestVote, raft.MsgRequestVoteResponse,
		raft.MsgRequestPreVote, raft.MsgRequestPreVoteResponse:
		k.fail("contract", "node %d: %s is to be sent before the sync", n.id, describe(m))
	}
}

// handedOut: committed entries come in order, without gap or repetition.
func (k *checker) handedOut(n *node, ents []raft.Entry) {
	for i := range ents {
		if ents[i].Index != n.view.handed+1 {
			k.fail("contract", "node %d: committed entry %d handed out after %d", n.id, ents[i].Index, n.view.handed)
			return
		}
		n.view.handed = ents[i].Index
		if ents[i].Index > k.top() || ents[i].Term != k.committed[ents[i].Index-1].term {
			k.fail("applied sequences equal", "node %d: entry %d of term %d handed out, committed is %d", n.id, ents[i].Index, ents[i].Term, k.top())
			return
		}
	}
}

// sent: a message that advertises durable state leaves after that state is on
// the platter. A node that has since moved to a later term may let old answers
// go: they bound nobody who did not hold the entry.
func (k *checker) sent(n *node, m *raft.Message) {
	safe := &n.disk.safe
	if m.To == n.id || m.From != n.id && m.Type != raft.MsgTransferLeader && m.Type != raft.MsgReadIndex {
		k.fail("contract", "node %d: message %s", n.id, describe(m))
		return
	}
	if m.Type == raft.MsgAppend {
		k.match("message", m.LogTerm, m.Entries)
	}
	if safe.hs.Term > m.Term {
		return
	}
	switch m.Type {
	case raft.MsgAppend, raft.MsgHeartbeat, raft.MsgSnapshot, raft.MsgTimeoutNow:
		if safe.hs.Term < m.Term {
			k.fail("leader messages wait for the term", "%s; on the platter is term %d", describe(m), safe.hs.Term)
		}
	case raft.MsgAppendResponse:
		if safe.hs.Term < m.Term || !m.Reject && safe.last() < m.Index {
			k.fail("answers wait for the disk", "%s; on the platter are term %d, index %d", describe(m), safe.hs.Term, safe.last())
		}
	case raft.MsgRequestVoteResponse:
		if safe.hs.Term < m.Term || !m.Reject && safe.hs.Vote != m.To {
			k.fail("answers wait for the disk", "%s; on the platter are term %d, vote %d", describe(m), safe.hs.Term, safe.hs.Vote)
		}
	case raft.MsgRequestVote:
		t, ok := safe.term(m.Index)
		if n.view.role != raft.StateCandidate { // it follows the winner, whose entries may have replaced some: nobody counts the answers
			t, ok = m.LogTerm, true
		}
		if safe.hs.Term < m.Term || safe.hs.Vote != n.id || !ok && m.Index > safe.base || ok && t != m.LogTerm {
			k.fail("vote requests wait for the disk", "%s; on the platter are term %d, vote %d, last index %d", describe(m), safe.hs.Term, safe.hs.Vote, safe.last())
		}
	case raft.MsgRequestPreVote:
		t, ok := safe.term(m.Index)
		if safe.hs.Term == m.Term || n.view.role != raft.StatePreCandidate {
			return // the term that it asks about has come, or a leader: nobody counts the answers
		}
		if last, known := safe.term(safe.last()); known && m.LogTerm < last {
			return // of an earlier round about this term: a leader came between and replaced what was claimed by what is worth more
		}
		if safe.hs.Term+1 < m.Term || !ok && m.Index > safe.base || ok && t != m.LogTerm {
			k.fail("vote requests wait for the disk", "%s; on the platter are term %d, last index %d", describe(m), safe.hs.Term, safe.last())
		}
	}
}

// afterSync is told when a node's disk has synced and nothing was sent yet.
func (k *checker) afterSync(n *node) {
	if n.disk.safe.hs.Commit > n.disk.safe.last() {
		k.fail("contract", "node %d: commit %d on the platter, last index %d", n.id, n.disk.safe.hs.Commit, n.disk.safe.last())
	}
}
