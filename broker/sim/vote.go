package sim

import (
	"lograft/broker/partition"
	"lograft/raft"
	"lograft/segment/journal"
)

// voted holds a vote that leaves a broker against its disk: whoever gives its vote, to another or to itself, has term and vote on
// stable storage before anybody hears of it. A tenth of all votes is looked at.
func (n *Node) voted(g partition.GroupID, m *raft.Message) {
	switch m.Type {
	case raft.MsgRequestVote, raft.MsgRequestPreVote, raft.MsgRequestVoteResponse, raft.MsgRequestPreVoteResponse:
		n.neverAgain(g, m.From)
	}
	self := m.Type == raft.MsgRequestVote
	if n.stray || !self && (m.Type != raft.MsgRequestVoteResponse || m.Reject) || n.w.rng.IntN(10) > 0 {
		return
	}
	n.w.Counts.Faults["vote and stable"]++
	candidate := m.To
	if self {
		candidate = m.From
	}
	h := n.stableHardState(g)
	if h.Term < m.Term || h.Term == m.Term && h.Vote != candidate {
		n.w.Break("node %d votes for replica %d in term %d of group %x; stable is term %d, vote %d", n.id, candidate, m.Term, g[:2], h.Term, h.Vote)
	}
}

// stableHardState is what the journal would say of a group if the power went now.
func (n *Node) stableHardState(g partition.GroupID) journal.HardState {
	fs := n.fs.Synced()
	fs.SetLimit(0) // opening it writes, and the disk may be full
	j, err := journal.OpenTwin(fs, dataDir+"/journal")
	if err != nil {
		return journal.HardState{}
	}
	defer j.Close()
	loaded, err := j.Load()
	if err != nil {
		return journal.HardState{}
	}
	for i := range loaded.Groups {
		if loaded.Groups[i].Birth.Group == g {
			return loaded.Groups[i].HardState
		}
	}
	return journal.HardState{}
}

// leadership notes who leads a term: never two.
func (w *World) leadership(c *partition.LeaderChange) {
	if c.Leader == 0 {
		return
	}
	t := groupTerm{c.Group, c.Term}
	if other, known := w.leaders[t]; known && other != c.Leader {
		w.Break("group %x: replicas %d and %d lead term %d", c.Group[:2], other, c.Leader, c.Term)
	}
	w.leaders[t] = c.Leader
}

type groupTerm struct {
	group partition.GroupID
	term  uint64
}
