package sim

import (
	"encoding/hex"
	"fmt"
	"path"
	"strings"

	"lograft/broker/partition"
	"lograft/raft"
	"lograft/segment/journal"
	"lograft/segment/vfs"
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

// stableHardState is what the journal would say of a group's term and vote if the power went now.
func (n *Node) stableHardState(g partition.GroupID) journal.HardState {
	return n.stableState(g).HardState
}

// stableState is what the journal would say of a group if the power went now; zero if nothing.
func (n *Node) stableState(g partition.GroupID) journal.GroupState {
	fs := n.fs.Synced()
	fs.SetLimit(0) // opening it writes, and the disk may be full
	j, err := journal.OpenTwin(fs, dataDir+"/journal")
	if err != nil {
		return journal.GroupState{}
	}
	defer j.Close()
	loaded, err := j.Load()
	if err != nil {
		return journal.GroupState{}
	}
	for i := range loaded.Groups {
		if loaded.Groups[i].Birth.Group == g {
			return loaded.Groups[i]
		}
	}
	return journal.GroupState{}
}

// swaps holds the first file of a snapshot that takes its place in a running log against the journal: from the first one on the old log
// is gone, so the mark that makes a start finish the swap is on stable storage before.
func (n *Node) swaps(c vfs.Call) {
	if c.Op != vfs.OpRename || !strings.HasSuffix(c.Path, stagedSuffix) {
		return
	}
	group, ok := groupOf(c.Path)
	if !ok {
		return
	}
	if r := n.Replica(group); r == nil || !r.Installing() {
		return // a start that finishes a swap, or a file that was fetched
	}
	n.w.Counts.Faults["swap and stable"]++
	var base uint64
	if _, err := fmt.Sscanf(path.Base(c.Path), "%d-", &base); err != nil {
		n.w.Break("node %d swaps in %s", n.id, c.Path)
		return
	}
	if m := n.stableState(group).Snapshot; m.Index < base {
		n.w.Break("node %d swaps in %s; the journal's mark is of a snapshot at entry %d", n.id, c.Path, m.Index)
	}
}

// groupOf is the group in whose directory a path is, or whose directory it is; ok is false for others.
func groupOf(name string) (g partition.GroupID, ok bool) {
	rest, ok := strings.CutPrefix(name, dataDir+"/groups/")
	dir, _, _ := strings.Cut(rest, "/")
	b, err := hex.DecodeString(dir)
	if !ok || err != nil || len(b) != len(g) {
		return g, false
	}
	return partition.GroupID(b), true
}

// stagedSuffix is what the name of a snapshot's file ends with until it is installed (docs/format.md).
const stagedSuffix = ".stage"

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
