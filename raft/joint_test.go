package raft_test

import (
	"slices"
	"testing"

	"lograft/raft"
)

// newJointGroup is five nodes that change from 1 2 3 to 1 4 5 and are in between.
func newJointGroup(t *testing.T, change func(*raft.Config)) *group {
	return newGroupOfIDs(t, 5, raft.ConfState{Voters: []uint64{1, 4, 5}, VotersOutgoing: []uint64{1, 2, 3}}, change)
}

// In a joint configuration either half can withhold what takes a quorum: a vote, a commit, a read, a lease and the right to go on leading.
func TestJointNeedsBothHalves(t *testing.T) {
	for name, silent := range map[string][]uint64{"incoming": {4, 5}, "outgoing": {2, 3}} {
		t.Run(name, func(t *testing.T) {
			g := newJointGroup(t, nil)
			g.lose = isolated(silent...)
			g.must(g.n(1).raw.Campaign())
			g.run()
			if g.role(1) != raft.StateCandidate {
				t.Fatalf("%v with the votes of one half", g.role(1))
			}
			g.lose = isolated(silent[0]) // one of each half will do
			g.elect(1)

			g.lose = isolated(silent...)
			g.must(g.n(1).raw.Propose(nil, []byte("x")))
			g.must(g.n(1).raw.ReadIndex([]byte("r")))
			g.run()
			if got := g.hard(1).Commit; got != 2 {
				t.Errorf("commit %d, want 2: one half holds 3", got)
			}
			if len(g.n(1).reads) != 0 {
				t.Error("a read confirmed by one half")
			}
			g.lose = isolated(silent[0])
			g.tick(1, 1)
			g.run()
			if got := g.hard(1).Commit; got != 3 || len(g.n(1).reads) != 1 {
				t.Errorf("commit %d, %d reads, want 3 and 1 once both halves hold it", got, len(g.n(1).reads))
			}

			for range 25 {
				g.tick(1, 1)
				g.run()
			}
			if g.role(1) != raft.StateLeader {
				t.Fatal("deposed while both halves answer")
			}
			g.lose = isolated(silent...)
			for range 25 {
				g.tick(1, 1)
				g.run()
			}
			if g.role(1) == raft.StateLeader {
				t.Error("it leads with one half silent for two election timeouts")
			}
		})
	}
}

// A lease needs both halves as well.
func TestJointLease(t *testing.T) {
	for _, silent := range [][]uint64{{4, 5}, {2, 3}} {
		g := newJointGroup(t, leaseConfig)
		for id := uint64(1); id <= 5; id++ {
			g.n(id).raw.SetElectable(false)
			g.tick(id, 10)
			g.n(id).raw.SetElectable(true)
		}
		g.elect(1)
		g.tick(1, 1)
		g.run()
		if !readAtOnce(g) {
			t.Fatal("no lease with everybody there")
		}
		g.lose = isolated(silent...)
		for range 8 {
			g.tick(1, 1)
			g.run()
			g.lose = isolated(silent...)
		}
		if readAtOnce(g) {
			t.Errorf("a lease without %v", silent)
		}
	}
}

// Group commit counts groups in both halves.
func TestJointGroupCommit(t *testing.T) {
	g := newJointGroup(t, nil)
	g.elect(1)
	g.n(1).raw.EnableGroupCommit(true)
	g.n(1).raw.AssignCommitGroups([]raft.CommitGroup{{PeerID: 1, GroupID: 1}, {PeerID: 2, GroupID: 1}, {PeerID: 3, GroupID: 2}, {PeerID: 4, GroupID: 1}, {PeerID: 5, GroupID: 2}})
	g.lose = isolated(3, 5)
	g.must(g.n(1).raw.Propose(nil, []byte("x")))
	g.run()
	if got := g.hard(1).Commit; got != 2 {
		t.Errorf("commit %d, want 2: both halves hold it in one group", got)
	}
	g.lose = isolated(5)
	g.tick(1, 1)
	g.run()
	if got := g.hard(1).Commit; got != 2 {
		t.Errorf("commit %d, want 2: the incoming half holds it in one group", got)
	}
	g.lose = nil
	g.tick(1, 1)
	g.run()
	if got := g.hard(1).Commit; got != 3 {
		t.Errorf("commit %d, want 3", got)
	}
}

// The leader leaves a joint configuration by itself at the next tick if something was in the way when it was entered, here a transfer,
// without needing another entry.
func TestAutoLeaveIsRetriedAtTicks(t *testing.T) {
	g := newGroup(t, 3, nil)
	g.elect(1)
	raw := g.n(1).raw
	g.must(raw.ProposeConfChange(nil, raft.ConfChangeV2{Transition: raft.ConfChangeTransitionImplicit,
		Changes: []raft.ConfChangeSingle{{Type: raft.ConfChangeAddLearnerNode, NodeID: 3}}}))
	g.lose = func(m *raft.Message) bool { return m.Type == raft.MsgTimeoutNow }
	raw.TransferLeader(2)
	g.run()
	if cs := raw.Status().Conf; len(cs.VotersOutgoing) == 0 || !cs.AutoLeave {
		t.Fatalf("not joint: %+v", cs)
	}
	last := raw.BasicStatus().LastIndex
	for range 11 { // the transfer is given up
		g.tick(1, 1)
		g.run()
	}
	if cs := raw.Status().Conf; len(cs.VotersOutgoing) != 0 || len(cs.Learners) != 1 || raw.BasicStatus().LastIndex != last+1 {
		t.Errorf("%+v with the log at %d, want to have left by one entry after %d", cs, raw.BasicStatus().LastIndex, last)
	}
}

// A change that makes the quorum smaller commits what the rest holds, and everybody hears of it at once.
func TestSmallerQuorumCommits(t *testing.T) {
	g := newGroup(t, 4, nil)
	g.elect(1)
	g.must(g.n(1).raw.ProposeConfChange(nil, raft.ConfChange{Type: raft.ConfChangeRemoveNode, NodeID: 4}))
	g.must(g.n(1).raw.Propose(nil, []byte("tail")))
	g.lose = func(m *raft.Message) bool { // 3 and 4 get the change, only 2 the tail
		return m.To >= 3 && m.Type == raft.MsgAppend && len(m.Entries) > 0 && m.Entries[0].Index == 4
	}
	g.run()
	if got := g.hard(1).Commit; got != 4 {
		t.Fatalf("commit %d, want 4: two of three hold it", got)
	}
	if got := g.hard(2).Commit; got != 4 {
		t.Errorf("node 2 has committed %d, want 4 without waiting for a heartbeat", got)
	}
}

// A change whose entry a restored snapshot covers is part of the snapshot's configuration already.
func TestSnapshotOvertakesAChange(t *testing.T) {
	g := newGroup(t, 3, nil)
	g.elect(1)
	add := raft.ConfChange{Type: raft.ConfChangeAddNode, NodeID: 4}
	m := g.n(2)
	g.must(m.raw.Step(raft.Message{Type: raft.MsgAppend, From: 1, To: 2, Term: 2, LogTerm: 2, Index: 2, Commit: 3,
		Entries: []raft.Entry{{Type: raft.EntryConfChange, Term: 2, Index: 3, Data: add.Marshal()}}}))
	rd := m.raw.Ready()
	g.persist(m, rd)
	rd2 := m.raw.AdvanceAppend(rd)
	if len(rd2.CommittedEntries) != 1 {
		t.Fatalf("%d entries to apply, want the change", len(rd2.CommittedEntries))
	}
	// Its apply is slow; meanwhile a snapshot comes with a configuration that has gone on: 4 was added, then removed.
	g.must(m.raw.Step(snapshotFrom1(9, 2)))
	cs, err := m.raw.ApplyConfChange(add)
	if err != nil || !slices.Equal(cs.Voters, []uint64{1, 2, 3}) || !slices.Equal(m.raw.Status().Conf.Voters, []uint64{1, 2, 3}) {
		t.Errorf("%+v, %v: the change altered what the snapshot restored", cs, err)
	}
	rd = m.raw.Ready()
	g.persist(m, rd)
	m.raw.Advance(rd)
	if cs, err := m.raw.ApplyConfChange(add); err != nil || !slices.Equal(cs.Voters, []uint64{1, 2, 3, 4}) {
		t.Errorf("%+v, %v: a later change has its effect", cs, err)
	}
}

// Lists of a configuration come in any order and are shown sorted.
func TestConfigurationIsSorted(t *testing.T) {
	st := raft.NewMemoryStorageWithConfState(raft.ConfState{Voters: []uint64{3, 1, 2}, Learners: []uint64{9, 7}})
	n, err := raft.NewRawNode(sound(2), st)
	if err != nil {
		t.Fatal(err)
	}
	var seen []uint64
	n.VisitProgress(func(id uint64, _ *raft.Progress) { seen = append(seen, id) })
	if cs := n.Status().Conf; !slices.Equal(cs.Voters, []uint64{1, 2, 3}) || !slices.Equal(cs.Learners, []uint64{7, 9}) || !slices.Equal(seen, []uint64{1, 2, 3, 7, 9}) {
		t.Errorf("%+v, visited %v", cs, seen)
	}
}

// A learner takes a snapshot that knows it as a learner, and so does a voter that it makes one.
func TestLearnerTakesASnapshot(t *testing.T) {
	g := newGroupOf(t, raft.ConfState{Voters: []uint64{1, 3}, Learners: []uint64{2}}, nil)
	for _, cs := range []raft.ConfState{
		{Voters: []uint64{1, 3}, Learners: []uint64{2}},
		{Voters: []uint64{1, 2, 3}},
		{Voters: []uint64{1, 3}, VotersOutgoing: []uint64{1, 2}, LearnersNext: []uint64{2}},
	} {
		g.n(2).start(t)
		m := snapshotFrom1(9, 2)
		m.Snapshot.Metadata.ConfState = cs
		g.must(g.n(2).raw.Step(m))
		if rd := g.n(2).raw.Ready(); rd.Snapshot == nil {
			t.Errorf("%+v: no snapshot is installed", cs)
		}
	}
	g.n(2).start(t)
	m := snapshotFrom1(9, 2)
	m.Snapshot.Metadata.ConfState = raft.ConfState{Voters: []uint64{1, 3}}
	g.must(g.n(2).raw.Step(m))
	if rd := g.n(2).raw.Ready(); rd.Snapshot != nil {
		t.Error("a snapshot that does not know us is installed")
	}
}
