package raft_test

import (
	"testing"

	"lograft/raft"
)

// Two of three never come back. With its configuration overridden the third is elected alone and commits; an invalid configuration changes
// nothing.
func TestOverrideConf(t *testing.T) {
	g := newGroup(t, 3, func(c *raft.Config) { c.PreVote, c.CheckQuorum = true, true })
	g.elect(1)
	g.must(g.n(1).raw.Propose(nil, []byte("a")))
	g.run()
	g.lose = isolated(1, 3)
	n := g.n(2).raw
	for range 50 {
		g.tick(2, 1)
		g.run()
	}
	if g.role(2) == raft.StateLeader {
		t.Fatal("one of three leads")
	}
	for _, bad := range []raft.ConfState{{}, {Voters: []uint64{2, 2}}, {Voters: []uint64{2}, Learners: []uint64{2}}, {Voters: []uint64{2}, AutoLeave: true}} {
		if n.OverrideConf(bad) == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
	if got := n.Status().Conf.Voters; len(got) != 3 {
		t.Fatalf("what was refused changed the configuration: %v", got)
	}
	g.must(n.OverrideConf(raft.ConfState{Voters: []uint64{2}}))
	g.elect(2)
	before := len(g.n(2).applied)
	g.must(n.Propose(nil, []byte("b")))
	g.run()
	if len(g.n(2).applied) <= before {
		t.Fatal("nothing is committed")
	}
	// The log is brought there with changes that change nothing for the core: whoever replays them reaches the same.
	cs := raft.ConfState{Voters: []uint64{1, 2, 3}}
	for _, id := range []uint64{1, 3} {
		cc := raft.ConfChange{Type: raft.ConfChangeRemoveNode, NodeID: id}
		g.must(n.ProposeConfChange(nil, cc))
		g.run()
		var err error
		cs, err = cs.After(cc)
		g.must(err)
	}
	if len(cs.Voters) != 1 || cs.Voters[0] != 2 {
		t.Fatalf("the log leads to %+v", cs)
	}
	if _, err := cs.After(raft.ConfChange{Type: raft.ConfChangeRemoveNode, NodeID: 2}); err == nil {
		t.Error("the last voter can be removed")
	}
	bad := raft.ConfState{Voters: []uint64{2, 2}}
	if got, err := bad.After(raft.ConfChange{Type: raft.ConfChangeAddNode, NodeID: 3}); err == nil || len(got.Voters) != 2 {
		t.Errorf("a change of an invalid configuration makes %+v, %v", got, err)
	}
}
