package raft_test

import (
	"errors"
	"testing"

	"lograft/raft"
)

// Figure 8 of the paper: an entry of an older term is on a majority and still not committed; one of the leader's own term commits it.
func TestCommitsByCountOnlyOwnTerm(t *testing.T) {
	g := newGroup(t, 3, func(c *raft.Config) { c.CheckQuorum = false })
	g.elect(1)
	g.lose = func(m *raft.Message) bool { return m.Type == raft.MsgAppendResponse }
	g.must(g.n(1).raw.Propose(nil, []byte("old")))
	g.run() // everyone holds index 3, nobody knows it
	noEntry := func(m *raft.Message) bool {
		return m.Type == raft.MsgAppend && len(m.Entries) > 0 && m.Entries[len(m.Entries)-1].Term == 3
	}
	g.lose = noEntry
	g.must(g.n(2).raw.Campaign())
	g.run()
	// 2 leads term 3; its own entry reaches nobody, and 3 says that it holds index 3, of term 2.
	g.must(g.n(2).raw.Step(raft.Message{Type: raft.MsgAppendResponse, From: 3, To: 2, Term: 3, Index: 3}))
	g.run()
	if got := g.hard(2).Commit; g.role(2) != raft.StateLeader || got != 2 {
		t.Fatalf("node 2 is %v with commit %d, want a leader that has committed 2", g.role(2), got)
	}
	g.lose = nil
	for range 2 {
		g.tick(2, 1)
		g.run()
	}
	if got := g.hard(2).Commit; got != 4 {
		t.Fatalf("commit %d, want 4 after the entry of term 3 reached a majority", got)
	}
}

// A follower commits what a message covers, not what its log happens to hold beyond it (figure 2: "index of last new entry").
func TestFollowerCommitsOnlyWhatTheMessageCovers(t *testing.T) {
	g := newGroup(t, 3, nil)
	g.elect(1)
	entries := []raft.Entry{{Term: 2, Index: 3, Data: []byte("a")}, {Term: 2, Index: 4, Data: []byte("b")}}
	two := g.n(2).raw
	g.must(two.Step(raft.Message{Type: raft.MsgAppend, From: 1, To: 2, Term: 2, LogTerm: 2, Index: 2, Commit: 2, Entries: entries}))
	g.drive(2)
	// The leader of term 3 has committed 4 entries; of ours it has vouched for 3 so far.
	g.must(two.Step(raft.Message{Type: raft.MsgAppend, From: 3, To: 2, Term: 3, LogTerm: 2, Index: 3, Commit: 4}))
	if got := g.hard(2).Commit; got != 3 {
		t.Fatalf("commit %d, want 3", got)
	}
}

// The answers of a follower never arrive (it holds damage, and says nothing): the leader probes it from the same entry for ever. What stands
// behind what the follower has committed is new to it all the same. broker/sim, TestSimSeeds, seed 1795812237281938369.
func TestAppendBelowTheCommitBringsWhatFollows(t *testing.T) {
	g := newGroup(t, 3, nil)
	g.elect(1)
	g.lose = func(m *raft.Message) bool { return m.Type == raft.MsgAppendResponse && m.From == 3 }
	for _, data := range []string{"x", "y", "z"} {
		g.must(g.n(1).raw.Propose(nil, []byte(data)))
		g.run()
		g.n(1).raw.ReportUnreachable(3)
		g.tick(1, 1)
		g.run()
		g.tick(1, 1)
		g.run()
		m := g.n(3)
		if n := len(m.applied); n == 0 || string(m.applied[n-1].Data) != data {
			t.Fatalf("node 3 has applied %d entries, and not %q; the leader believes %+v", n, data, g.progress(3))
		}
	}
}

// The same, and it is more behind than one message brings: what it says with its heartbeats that it has committed, the leader skips.
func TestProbeGoesBehindTheCommit(t *testing.T) {
	g := newGroup(t, 3, func(c *raft.Config) { c.MaxSizePerMsg = 1 })
	g.elect(1)
	g.lose = func(m *raft.Message) bool { return m.From == 3 || m.To == 3 }
	for range 10 {
		g.must(g.n(1).raw.Propose(nil, []byte("x")))
		g.run()
	}
	g.n(1).raw.ReportUnreachable(3)
	g.lose = func(m *raft.Message) bool { return m.Type == raft.MsgAppendResponse && m.From == 3 && !m.Reject }
	for range 40 {
		g.tick(1, 1)
		g.run()
	}
	if got, want := g.hard(3).Commit, g.hard(1).Commit; got != want {
		t.Errorf("node 3 has committed %d of %d; the leader believes %+v", got, want, g.progress(3))
	}
}

// A late or shorter append cuts nothing off a log that agrees with it.
func TestAppendCutsOnlyAtAConflict(t *testing.T) {
	g := newGroup(t, 3, nil)
	g.elect(1)
	for range 3 {
		g.must(g.n(1).raw.Propose(nil, []byte("x")))
	}
	g.drive(1)
	late := copyMessage(g.wire[0])
	g.run()
	for id := uint64(2); id <= 3; id++ {
		late.To = id
		g.must(g.n(id).raw.Step(late))
		if got := g.n(id).raw.BasicStatus().LastIndex; got != 5 {
			t.Fatalf("node %d ends at %d after a late append, want 5", id, got)
		}
	}
}

// A heartbeat commits no more than the follower is known to hold.
func TestHeartbeatCommitsWhatIsMatched(t *testing.T) {
	g := newGroup(t, 3, nil)
	g.elect(1)
	g.lose = isolated(3)
	g.must(g.n(1).raw.Propose(nil, []byte("x")))
	g.run()
	g.sent = nil
	g.tick(1, 1)
	g.drive(1)
	want := map[uint64]uint64{2: 3, 3: 2}
	for _, m := range g.sentOf(raft.MsgHeartbeat) {
		if m.Commit != want[m.To] {
			t.Errorf("the heartbeat to %d commits %d, want %d", m.To, m.Commit, want[m.To])
		}
	}
}

// A wish for a snapshot in a group that needs the asker's vote: its request acknowledges, so that a snapshot can come about.
func TestSnapshotWishDoesNotStallItsGroup(t *testing.T) {
	g := newGroup(t, 2, nil)
	g.elect(1)
	g.lose = func(m *raft.Message) bool { return m.Type == raft.MsgAppendResponse } // the acknowledgement is lost
	g.must(g.n(1).raw.Propose(nil, []byte("x")))
	g.run()
	g.lose = nil
	g.must(g.n(2).raw.RequestSnapshot())
	g.run()
	if got := g.hard(1).Commit; got != 3 {
		t.Fatalf("commit %d, want 3: the asker holds it", got)
	}
	cs := raft.ConfState{Voters: []uint64{1, 2}}
	_, err := g.n(1).st.CreateSnapshot(3, &cs, nil)
	g.must(err)
	for range 3 {
		g.tick(1, 1)
		g.run()
	}
	g.must(g.n(1).raw.Propose(nil, []byte("y")))
	g.run()
	if got := g.hard(2).Commit; got != 4 {
		t.Fatalf("node 2 has committed %d, want 4 after its snapshot", got)
	}
}

// A wish from an earlier term, of entries that no longer exist, ends too.
func TestSnapshotWishOutlivesItsTerm(t *testing.T) {
	g := newGroup(t, 3, nil)
	g.elect(1)
	g.lose = func(m *raft.Message) bool {
		return m.To != 2 && m.Type == raft.MsgAppend || m.Type == raft.MsgAppendResponse
	}
	for range 5 {
		g.must(g.n(1).raw.Propose(nil, []byte("lost")))
	}
	g.run() // only 2 has them
	g.must(g.n(2).raw.RequestSnapshot())
	g.run()
	g.must(g.n(2).raw.Step(raft.Message{Type: raft.MsgAppend, From: 3, To: 2, Term: 5, LogTerm: 2, Index: 2, Commit: 2, Entries: []raft.Entry{{Term: 5, Index: 3}}}))
	g.drive(2)
	if got := g.n(2).raw.BasicStatus().LastIndex; got != 3 {
		t.Fatalf("node 2 ends at %d: it refuses the entry that its snapshot waits for, want 3", got)
	}
	g.sent, g.wire = nil, nil
	g.must(g.n(2).raw.Step(raft.Message{Type: raft.MsgHeartbeat, From: 3, To: 2, Term: 5, Commit: 2}))
	g.drive(2)
	if a := g.sentOf(raft.MsgAppendResponse); len(a) != 1 || a[0].RequestSnapshot != 3 || a[0].LogTerm != 5 {
		t.Fatalf("the wish is gone or for what was cut off: %v", a)
	}
}

// A log of an older term that can take no entries is replaced: by a snapshot as of its last entry, which is all that the leader can give
// as long as nothing more is committed. The wish acknowledges nothing and heartbeats are answered beside it; the one that knows no
// damage is dropped in that term.
func TestReplaceLogOfAnOlderTerm(t *testing.T) {
	g := newGroup(t, 2, func(c *raft.Config) { c.CheckQuorum = false })
	g.elect(1)
	g.must(g.n(1).raw.Propose(nil, []byte("x")))
	g.run()
	last := g.n(2).raw.BasicStatus().LastIndex
	cs := raft.ConfState{Voters: []uint64{1, 2}}
	_, err := g.n(1).st.CreateSnapshot(last, &cs, nil)
	g.must(err)
	g.must(g.n(1).st.Compact(last)) // the leader's log begins behind what is damaged
	g.lose = func(m *raft.Message) bool { return m.Type == raft.MsgAppend }
	g.must(g.n(1).raw.Step(raft.Message{Type: raft.MsgRequestVoteResponse, From: 2, To: 1, Term: 9, Reject: true})) // a higher term
	g.drive(1)
	g.elect(1)
	g.tick(1, 1)
	g.run() // node 2 knows its leader
	if err := g.n(2).raw.RequestSnapshot(); !errors.Is(err, raft.ErrRequestSnapshotDropped) {
		t.Fatalf("an ordinary wish of an older term: %v", err)
	}
	g.sent = nil
	g.must(g.n(2).raw.ReplaceLog(true))
	if err := g.n(2).raw.ReplaceLog(true); !errors.Is(err, raft.ErrRequestSnapshotDropped) {
		t.Fatalf("a second wish: %v", err)
	}
	before := g.hard(1).Commit
	g.drive(2)
	if a := g.sentOf(raft.MsgAppendResponse); len(a) != 1 || a[0].RequestSnapshot != last || a[0].LogTerm != 0 {
		t.Fatalf("asked for with %v", a)
	}
	g.must(g.n(2).raw.Step(raft.Message{Type: raft.MsgHeartbeat, From: 1, To: 2, Term: g.hard(1).Term, Commit: before}))
	g.drive(2)
	if a := g.sentOf(raft.MsgHeartbeatResponse); len(a) != 1 {
		t.Fatalf("a heartbeat is answered %d times", len(a))
	}
	g.lose = nil
	for range 3 {
		g.tick(1, 1)
		g.run()
	}
	if a := g.sentOf(raft.MsgSnapshot); len(a) == 0 || len(a) > 2 || a[0].Snapshot.Metadata.Index != last { // a wish may cross the answer
		t.Fatalf("snapshots %v, want one as of entry %d", a, last)
	}
	g.must(g.n(1).raw.Propose(nil, []byte("y")))
	g.run()
	if got := g.hard(2).Commit; got <= before {
		t.Fatalf("node 2 has committed %d, before its log was replaced %d", got, before)
	}
	g.must(g.n(2).raw.ReplaceLog(false)) // nothing to take back
}

// A wish that is taken back is gone: appends go on.
func TestReplaceLogTakenBack(t *testing.T) {
	g := newGroup(t, 3, nil)
	g.elect(1)
	g.lose = func(m *raft.Message) bool { return m.Type == raft.MsgSnapshot || m.RequestSnapshot > 0 }
	g.must(g.n(2).raw.ReplaceLog(true))
	g.run()
	g.must(g.n(1).raw.Propose(nil, []byte("x")))
	g.run()
	last := g.n(1).raw.BasicStatus().LastIndex
	if got := g.n(2).raw.BasicStatus().LastIndex; got != last-1 {
		t.Fatalf("node 2 ends at %d while it wants its log replaced, the leader at %d", got, last)
	}
	g.must(g.n(2).raw.ReplaceLog(false))
	for range 3 {
		g.tick(1, 1)
		g.run()
	}
	if got := g.n(2).raw.BasicStatus().LastIndex; got != last {
		t.Fatalf("node 2 ends at %d, want %d", got, last)
	}
}

// A peer that lost what it acknowledged is asked again at the pace of heartbeats, not in a circle.
func TestForgetfulPeerIsNotAskedInACircle(t *testing.T) {
	g := newGroup(t, 3, nil)
	g.elect(1)
	g.lose = isolated(3)
	g.must(g.n(1).raw.Propose(nil, []byte("x")))
	g.run()
	g.must(g.n(1).raw.Step(raft.Message{Type: raft.MsgAppendResponse, From: 3, To: 1, Term: 2, Index: 3})) // 3 has it no more
	g.n(1).raw.ReportUnreachable(3)
	g.lose, g.sent = nil, nil
	g.must(g.n(1).raw.Propose(nil, []byte("y")))
	g.run()
	if n := len(g.sentOf(raft.MsgAppend)); n > 6 {
		t.Fatalf("%d appends for one proposal", n)
	}
}

// A learner of a higher term tells the leader: it has no campaign to be heard by.
func TestLearnerOfAHigherTermIsFreed(t *testing.T) {
	g := newGroupOf(t, raft.ConfState{Voters: []uint64{1}, Learners: []uint64{2}}, func(c *raft.Config) { c.CheckQuorum = false })
	g.n(2).st.SetHardState(raft.HardState{Term: 9, Commit: 1})
	g.n(2).start(t)
	g.must(g.n(1).raw.Campaign())
	for range 30 {
		g.tick(1, 1)
		g.run()
	}
	if hs := g.hard(2); hs.Term < 10 || hs.Commit != g.hard(1).Commit {
		t.Fatalf("the learner is at %+v, the leader at %+v", hs, g.hard(1))
	}
}
