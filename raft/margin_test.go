package raft_test

import (
	"errors"
	"testing"

	"lograft/raft"
)

// A peer whose disk lost what it acknowledged is counted no more, and is filled anew; what is committed stays so.
func TestForgetProgress(t *testing.T) {
	g := newGroup(t, 3, nil)
	g.elect(1)
	g.must(g.n(1).raw.Propose(nil, []byte("x")))
	g.run()
	last, commit := g.n(1).raw.BasicStatus().LastIndex, g.hard(1).Commit
	g.n(1).raw.ForgetProgress(1) // nobody forgets itself
	g.n(1).raw.ForgetProgress(9) // nobody
	g.n(2).raw.ForgetProgress(3) // not a leader
	g.n(1).raw.ForgetProgress(3)
	if pr := g.progress(3); pr.Match != 0 || pr.Next != last+1 || pr.State != raft.ProgressProbe {
		t.Errorf("%+v, want nothing known of 3, whose log is probed from %d on", pr, last+1)
	}
	if pr := g.progress(1); pr.Match != last {
		t.Errorf("%+v, the leader forgot itself", pr)
	}
	g.run()
	if pr := g.progress(3); pr.Match != last || g.hard(1).Commit != commit {
		t.Errorf("%+v and commit %d after the probe, want match %d and commit %d", pr, g.hard(1).Commit, last, commit)
	}
}

// A node that waits for reads is ticked in person; one that is poisoned need not be ticked at all.
func TestIdleTicksOfABusyAndOfADeadNode(t *testing.T) {
	g := newGroup(t, 3, nil)
	g.must(g.n(2).raw.ReadIndex([]byte("r")))
	if got := g.n(2).raw.IdleTicks(); got != 0 {
		t.Errorf("%d idle ticks with a read waiting, want 0", got)
	}
	g.elect(1)
	one := g.n(1)
	bad := raft.Message{Type: raft.MsgAppend, From: 2, To: 1, Term: 9, LogTerm: 1, Index: 1, Entries: []raft.Entry{{Term: 9, Index: 2}}}
	var fatal *raft.FatalError
	if err := one.raw.Step(bad); !errors.As(err, &fatal) {
		t.Fatalf("%v, want a contradiction with what is committed to be fatal", err)
	}
	if got := one.raw.IdleTicks(); got < 1<<20 || one.raw.Calm() {
		t.Errorf("%d idle ticks of a poisoned node, calm %t; want no end of them, and false", got, one.raw.Calm())
	}
}
