package sim

import (
	"fmt"

	"lograft/raft"
)

// checker is told of every call and effect; it never changes anything. What it
// checks stands in the check_*.go files beside this one.
type checker struct {
	c *cluster

	leaders   map[uint64]uint64 // term -> id
	committed []commitRecord    // committed[i] is index i+1
	chains    []uint64          // chains[i]: the state machine after index i+1; 0: nobody applied it yet
	matching  map[entryKey]matchRecord
	confs     map[uint64]string // index of a conf change -> configuration after it, or "refused"
	refused   map[string]bool   // Data of proposals that got an error
}

// view is what the checkers saw of a node last, in this life.
type view struct {
	started bool
	term    uint64
	vote    uint64
	commit  uint64
	applied uint64
	role    raft.StateRole
	ready   raft.HardState // newest handed out
	number  uint64         // of the newest Ready
	handed  uint64         // newest committed index handed out; 0: unknown
}

func newChecker(c *cluster) *checker {
	k := &checker{
		c: c, leaders: map[uint64]uint64{}, matching: map[entryKey]matchRecord{},
		confs: map[uint64]string{}, refused: map[string]bool{},
	}
	k.committed = []commitRecord{{term: birthTerm, by: birthTerm}}
	k.chains = []uint64{birthChain}
	return k
}

func (k *checker) fail(name, format string, args ...any) {
	k.c.fail(name, fmt.Errorf(format, args...))
}

// started begins a new life.
func (k *checker) started(n *node) {
	n.view = view{}
	n.view.ready = n.disk.seen.hs
	n.view.handed = n.sm.index
	k.observe(n)
}

// observe runs after every call into n's RawNode.
func (k *checker) observe(n *node) {
	if !n.up() || k.c.err != nil {
		return
	}
	if err := n.raw.Err(); err != nil {
		k.fail("fatal", "node %d: %w", n.id, err)
		return
	}
	bs := n.raw.BasicStatus()
	was := n.view
	n.view.started = true
	n.view.term, n.view.vote, n.view.commit = bs.HardState.Term, bs.HardState.Vote, bs.HardState.Commit
	n.view.applied, n.view.role = bs.Applied, bs.SoftState.RaftState
	if was.started {
		k.monotone(n, &was, &bs)
	}
	if bs.SoftState.RaftState == raft.StateLeader && (was.role != raft.StateLeader || was.term != bs.HardState.Term) {
		k.elected(n, &bs)
	}
	if bs.HardState.Commit > was.commit {
		k.commitRose(n, &was, &bs)
	}
}

// monotone: what never goes back within a life.
func (k *checker) monotone(n *node, was *view, bs *raft.BasicStatus) {
	hs := bs.HardState
	switch {
	case hs.Term < was.term:
		k.fail("monotone", "node %d: term %d after %d", n.id, hs.Term, was.term)
	case hs.Term == was.term && was.vote != 0 && hs.Vote != was.vote:
		k.fail("one vote", "node %d: term %d: vote %d after %d", n.id, hs.Term, hs.Vote, was.vote)
	case hs.Commit < was.commit:
		k.fail("monotone", "node %d: commit %d after %d", n.id, hs.Commit, was.commit)
	case bs.Applied < was.applied:
		k.fail("monotone", "node %d: applied %d after %d", n.id, bs.Applied, was.applied)
	case bs.Applied > hs.Commit:
		k.fail("applied", "node %d: applied %d, commit %d", n.id, bs.Applied, hs.Commit)
	case hs.Commit > bs.LastIndex:
		k.fail("commit", "node %d: commit %d, last index %d", n.id, hs.Commit, bs.LastIndex)
	case bs.Persisted > bs.LastIndex:
		k.fail("persisted", "node %d: persisted %d, last index %d", n.id, bs.Persisted, bs.LastIndex)
	}
}
