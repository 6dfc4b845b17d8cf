package raft_test

import (
	"testing"

	"lograft/raft"
)

func snapshotFrom1(index, term uint64) raft.Message {
	return raft.Message{Type: raft.MsgSnapshot, From: 1, To: 2, Term: 2, Snapshot: &raft.Snapshot{
		Metadata: raft.SnapshotMetadata{Index: index, Term: term, ConfState: raft.ConfState{Voters: []uint64{1, 2, 3}}}}}
}

// wishing is a group whose node 2 holds entries up to 5, has committed 3 and asks for a snapshot.
func wishing(t *testing.T) *group {
	g := newGroup(t, 3, nil)
	g.elect(1)
	entries := []raft.Entry{{Term: 2, Index: 3}, {Term: 2, Index: 4}, {Term: 2, Index: 5}}
	g.must(g.n(2).raw.Step(raft.Message{Type: raft.MsgAppend, From: 1, To: 2, Term: 2, LogTerm: 2, Index: 2, Commit: 3, Entries: entries}))
	g.drive(2)
	g.must(g.n(2).raw.RequestSnapshot())
	g.drive(2)
	g.wire = nil
	return g
}

// A snapshot that was wished for must not lose what was acknowledged: one that ends before that is left alone, whatever it costs.
func TestWishedSnapshotMustReachWhatWasAcknowledged(t *testing.T) {
	for index, want := range map[uint64]uint64{2: 5, 3: 5, 4: 5, 5: 5, 8: 8} {
		g := wishing(t)
		g.must(g.n(2).raw.Step(snapshotFrom1(index, 2)))
		g.drive(2)
		s := g.n(2).raw.BasicStatus()
		first, err := g.n(2).st.FirstIndex()
		g.must(err)
		if s.LastIndex != want || (first > 2) != (index >= 5) {
			t.Errorf("a snapshot at %d: the log is [%d, %d], want the end %d", index, first, s.LastIndex, want)
		}
	}
}

// A snapshot that does not move the commit index is stored with the hard state all the same: they are one unit.
func TestSnapshotComesWithItsHardState(t *testing.T) {
	g := newGroup(t, 3, nil)
	g.elect(1)
	raw := g.n(2).raw
	g.must(raw.RequestSnapshot()) // last and committed are both 2
	g.drive(2)
	g.must(raw.Step(snapshotFrom1(2, 2)))
	rd := raw.Ready()
	if rd.Snapshot == nil || !rd.HasHardState || rd.HardState.Commit < rd.Snapshot.Metadata.Index || !rd.MustSync {
		t.Fatalf("snapshot %v with hard state %t %+v", rd.Snapshot, rd.HasHardState, rd.HardState)
	}
}

// Without a wish a snapshot of what the log holds only tells that it is committed.
func TestSnapshotOfWhatIsHeldCommits(t *testing.T) {
	g := newGroup(t, 3, nil)
	g.elect(1)
	entries := []raft.Entry{{Term: 2, Index: 3}, {Term: 2, Index: 4}, {Term: 2, Index: 5}}
	g.must(g.n(2).raw.Step(raft.Message{Type: raft.MsgAppend, From: 1, To: 2, Term: 2, LogTerm: 2, Index: 2, Commit: 2, Entries: entries}))
	g.drive(2)
	g.sent = nil
	g.must(g.n(2).raw.Step(snapshotFrom1(4, 2)))
	g.drive(2)
	if s := g.n(2).raw.BasicStatus(); s.HardState.Commit != 4 || s.LastIndex != 5 {
		t.Errorf("commit %d, last %d, want 4 and 5", s.HardState.Commit, s.LastIndex)
	}
	if a := g.sentOf(raft.MsgAppendResponse); len(a) != 1 || a[0].Index != 4 || a[0].Reject {
		t.Errorf("the answer is %+v, want 4 acknowledged", a)
	}
}

// A wish that no snapshot could meet yet is met when there is one, at the pace of the answers to heartbeats.
func TestWishIsRetried(t *testing.T) {
	g := newGroup(t, 3, nil)
	g.elect(1)
	g.must(g.n(1).raw.Step(raft.Message{Type: raft.MsgAppendResponse, From: 2, To: 1, Term: 2, Index: 2, Reject: true, RejectHint: 2, LogTerm: 2, RequestSnapshot: 2}))
	g.run()
	beat := raft.Message{Type: raft.MsgHeartbeatResponse, From: 2, To: 1, Term: 2, Commit: 2}
	g.must(g.n(1).raw.Step(beat))
	g.run()
	if n := len(g.sentOf(raft.MsgSnapshot)); n != 0 {
		t.Fatalf("%d snapshots, and storage has none", n)
	}
	_, err := g.n(1).st.CreateSnapshot(2, nil, nil)
	g.must(err)
	g.must(g.n(1).raw.Step(beat))
	g.run()
	if n := len(g.sentOf(raft.MsgSnapshot)); n != 1 {
		t.Fatalf("%d snapshots once storage has one, want 1", n)
	}
}

// A snapshot is not sent to a peer that it does not know, nor to one that was not heard.
func TestSnapshotThatHelpsNobodyIsNotSent(t *testing.T) {
	for name, c := range map[string]struct {
		cs    raft.ConfState
		heard bool
		want  int
	}{
		"voter":     {raft.ConfState{Voters: []uint64{1, 2, 3}}, true, 1},
		"learner":   {raft.ConfState{Voters: []uint64{1, 2}, Learners: []uint64{3}}, true, 1},
		"outgoing":  {raft.ConfState{Voters: []uint64{1, 2}, VotersOutgoing: []uint64{1, 3}}, true, 1},
		"unknown":   {raft.ConfState{Voters: []uint64{1, 2}}, true, 0},
		"not heard": {raft.ConfState{Voters: []uint64{1, 2, 3}}, false, 0},
	} {
		g := newGroup(t, 3, func(c *raft.Config) { c.CheckQuorum = true })
		g.elect(1)
		g.lose = isolated(3)
		g.must(g.n(1).raw.Propose(nil, []byte("x")))
		g.run()
		_, err := g.n(1).st.CreateSnapshot(3, &c.cs, nil)
		g.must(err)
		g.must(g.n(1).st.Compact(3))
		for range 11 { // check-quorum has forgotten whom it heard
			g.tick(1, 1)
			g.run()
		}
		g.n(1).raw.ReportUnreachable(3)
		g.sent = nil
		if c.heard {
			g.must(g.n(1).raw.Step(raft.Message{Type: raft.MsgHeartbeatResponse, From: 3, To: 1, Term: 2, Commit: 2}))
		} else {
			g.must(g.n(1).raw.Propose(nil, []byte("y")))
		}
		g.run()
		if n := len(g.sentOf(raft.MsgSnapshot)); n != c.want {
			t.Errorf("%s: %d snapshots sent, want %d", name, n, c.want)
		}
	}
}

// A node with pre-vote or check-quorum answers a leader of an earlier term, so that the leader steps down; without either it is silent:
// its own campaign will be heard.
func TestLeaderOfOldIsAnswered(t *testing.T) {
	for _, c := range []struct{ check, pre, answered bool }{{true, false, true}, {false, true, true}, {false, false, false}} {
		for _, typ := range []raft.MessageType{raft.MsgAppend, raft.MsgHeartbeat, raft.MsgSnapshot} {
			g := newGroup(t, 3, func(cfg *raft.Config) { cfg.CheckQuorum, cfg.PreVote = c.check, c.pre })
			g.must(g.n(2).raw.Step(raft.Message{Type: raft.MsgHeartbeat, From: 3, To: 2, Term: 9}))
			g.drive(2)
			g.sent = nil
			old := snapshotFrom1(5, 2)
			old.Type = typ
			g.must(g.n(2).raw.Step(old))
			g.drive(2)
			a := g.sentOf(raft.MsgAppendResponse)
			if (len(a) == 1) != c.answered || c.answered && (a[0].Term != 9 || a[0].To != 1) {
				t.Errorf("check-quorum %t, pre-vote %t: %v is answered with %+v", c.check, c.pre, typ, a)
			}
		}
	}
}
