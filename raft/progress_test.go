package raft_test

import (
	"errors"
	"slices"
	"testing"

	"lograft/raft"
)

func (g *group) progress(id uint64) raft.Progress { return g.n(1).raw.Status().Progress[id] }

// ack is an answer of 3 to leader 1.
func ack(index uint64) raft.Message {
	return raft.Message{Type: raft.MsgAppendResponse, From: 3, To: 1, Term: 2, Index: index}
}

// A late acknowledgement of less than is known moves nothing; one of as much ends a probe.
func TestLateAcknowledgement(t *testing.T) {
	g := newGroup(t, 3, nil)
	g.elect(1)
	g.must(g.n(1).raw.Propose(nil, []byte("x")))
	g.run()
	g.n(1).raw.ReportUnreachable(3)
	g.must(g.n(1).raw.Step(ack(2)))
	if pr := g.progress(3); pr.State != raft.ProgressProbe || pr.Match != 3 || pr.Next != 4 {
		t.Errorf("after a late acknowledgement: %+v", pr)
	}
	g.must(g.n(1).raw.Step(ack(3)))
	if pr := g.progress(3); pr.State != raft.ProgressReplicate {
		t.Errorf("after an acknowledgement of what is known: %+v", pr)
	}
}

// What the app reports of a snapshot: when it is through the peer is probed behind it, when it failed from where the peer was, and
// either waits for a sign of life.
func TestSnapshotReports(t *testing.T) {
	for status, next := range map[raft.SnapshotStatus]uint64{raft.SnapshotFinish: 4, raft.SnapshotFailure: 3} {
		g := newGroup(t, 3, nil)
		g.elect(1)
		g.lose = isolated(3)
		g.must(g.n(1).raw.Propose(nil, []byte("x")))
		g.run()
		_, err := g.n(1).st.CreateSnapshot(3, nil, nil)
		g.must(err)
		g.must(g.n(1).st.Compact(3))
		g.n(1).raw.ReportSnapshot(3, status) // none is on its way
		if pr := g.progress(3); pr.State != raft.ProgressReplicate {
			t.Errorf("a report of no snapshot: %+v", pr)
		}
		g.n(1).raw.ReportUnreachable(3)
		g.must(g.n(1).raw.Step(raft.Message{Type: raft.MsgHeartbeatResponse, From: 3, To: 1, Term: 2, Commit: 2}))
		if pr := g.progress(3); pr.State != raft.ProgressSnapshot || pr.PendingSnapshot != 3 || !pr.Paused {
			t.Fatalf("no snapshot is on its way: %+v", pr)
		}
		if got := g.n(1).raw.IdleTicks(); got != 0 {
			t.Errorf("%d idle ticks, want 0: the snapshot's timeout counts", got)
		}
		g.n(1).raw.ReportSnapshot(3, 7) // no such status
		g.n(1).raw.ReportSnapshot(9, status)
		g.n(1).raw.ReportUnreachable(3) // says nothing about the snapshot
		g.n(1).raw.ReportSnapshot(3, raft.SnapshotProgress)
		if pr := g.progress(3); pr.State != raft.ProgressSnapshot {
			t.Fatalf("ended by something else: %+v", pr)
		}
		g.n(1).raw.ReportSnapshot(3, status)
		if pr := g.progress(3); pr.State != raft.ProgressProbe || pr.Next != next || !pr.Paused || pr.PendingSnapshot != 0 {
			t.Errorf("status %d: %+v, want a paused probe from %d", status, pr, next)
		}
	}
}

// A peer whose heartbeat answer shows the snapshot's commit has it, though its acknowledgement was lost.
func TestHeartbeatShowsTheSnapshot(t *testing.T) {
	g := newGroup(t, 3, func(c *raft.Config) { c.SnapshotTimeoutTick = 0 })
	g.elect(1)
	g.lose = isolated(3)
	g.must(g.n(1).raw.Propose(nil, []byte("x")))
	g.run()
	_, err := g.n(1).st.CreateSnapshot(3, nil, nil)
	g.must(err)
	g.must(g.n(1).st.Compact(3))
	g.n(1).raw.ReportUnreachable(3)
	g.lose = func(m *raft.Message) bool { return m.From == 3 && m.Type == raft.MsgAppendResponse }
	g.tick(1, 1)
	g.run()
	if pr := g.progress(3); pr.State != raft.ProgressSnapshot {
		t.Fatalf("%+v, want a snapshot on its way", pr)
	}
	g.lose = nil
	g.must(g.n(1).raw.Propose(nil, []byte("y")))
	g.tick(1, 1)
	g.run()
	if got := g.hard(3).Commit; got != 4 || g.progress(3).State != raft.ProgressReplicate {
		t.Errorf("node 3 has committed %d, %+v: want 4", got, g.progress(3))
	}
}

// A rejection takes the leader straight to the last entry that can agree, by the hint and its term; with a term unknown, by the hint alone.
func TestFastRejection(t *testing.T) {
	terms := []uint64{2, 2, 5, 5, 5, 5} // after 1/1; the leader's own entry of term 9 follows at 8
	for _, c := range []struct{ hint, term, next uint64 }{
		{7, 5, 8}, {7, 4, 4}, {6, 3, 4}, {3, 2, 4}, {7, 1, 2}, // next after the last entry <= hint with a term <= that
		{6, 0, 7}, {2, 0, 3}, {1 << 40, 0, 7}, {1 << 40, 4, 4},
	} {
		g := newGroup(t, 3, nil)
		m := g.n(1)
		for i, term := range terms {
			g.must(m.st.Append([]raft.Entry{{Term: term, Index: uint64(i) + 2}}))
		}
		m.st.SetHardState(raft.HardState{Term: 8, Commit: 1})
		m.start(t)
		g.lose = func(msg *raft.Message) bool { return msg.Type == raft.MsgAppend }
		g.elect(1)
		g.sent = nil
		g.must(m.raw.Step(raft.Message{Type: raft.MsgAppendResponse, From: 3, To: 1, Term: 9, Index: 7, Reject: true, RejectHint: c.hint, LogTerm: c.term}))
		g.drive(1)
		a := g.sentOf(raft.MsgAppend)
		if want := min(c.next, 7); len(a) != 1 || a[0].Index != want-1 {
			t.Errorf("hint %d of term %d: %+v, want an append from %d on", c.hint, c.term, a, want)
		}
	}
}

// A wish for a snapshot acknowledges the log only if its last entry is of the leader's term: another log may hold anything there.
func TestWishOfAnotherTermAcknowledgesNothing(t *testing.T) {
	for term, want := range map[uint64]uint64{1: 2, 2: 3} {
		g := newGroup(t, 3, nil)
		g.elect(1)
		g.lose = func(m *raft.Message) bool { return m.Type == raft.MsgAppendResponse }
		g.must(g.n(1).raw.Propose(nil, []byte("x")))
		g.run()
		g.lose, g.sent = nil, nil
		g.must(g.n(1).raw.Step(raft.Message{Type: raft.MsgAppendResponse, From: 2, To: 1, Term: 2, Index: 2, Reject: true, RejectHint: 3, LogTerm: term, RequestSnapshot: 3}))
		if got := g.hard(1).Commit; got != want {
			t.Errorf("a wish with a last entry of term %d: commit %d, want %d", term, got, want)
		}
		g.run()
		if got := g.hard(3).Commit; got != want {
			t.Errorf("node 3 has committed %d, want %d at once", got, want)
		}
	}
}

// Fetches of a leadership that is over, of another term, or of no peer bring nothing; one whose end nobody reported is tried again after
// an election timeout.
func TestFetchedEntries(t *testing.T) {
	fetching := func() (*group, *spoiltStorage, *raft.EntriesContext) {
		g, st := spoiltLeader(t, nil)
		var asked raft.EntriesContext
		st.entries = func(got []raft.Entry, lo, _ uint64, c raft.EntriesContext) ([]raft.Entry, error) {
			if c.CanAsync() && c.To() == 3 && lo < 8 {
				asked = c
				return nil, raft.ErrLogTemporarilyUnavailable
			}
			return got, nil
		}
		g.n(1).raw.ReportUnreachable(3)
		g.must(g.n(1).raw.Step(raft.Message{Type: raft.MsgHeartbeatResponse, From: 3, To: 1, Term: 2, Commit: 2}))
		g.drive(1)
		if asked.To() != 3 {
			t.Fatal("nothing was fetched")
		}
		st.entries = nil
		g.sent, g.wire = nil, nil
		return g, st, &asked
	}
	appends := func(g *group) int { g.drive(1); return len(g.sentOf(raft.MsgAppend)) }

	g, _, asked := fetching()
	g.n(1).raw.OnEntriesFetched(raft.EntriesContext{})
	if n := appends(g); n != 0 {
		t.Errorf("%d appends for a fetch of nothing", n)
	}
	g.n(1).raw.OnEntriesFetched(*asked)
	if n := appends(g); n == 0 {
		t.Error("no append once the entries are there")
	}

	g, _, asked = fetching()
	g.lose = isolated(1)
	for range 25 {
		g.tick(1, 1)
		g.run()
	}
	if g.role(1) != raft.StateFollower || g.hard(1).Term != 2 {
		t.Skipf("%v in term %d", g.role(1), g.hard(1).Term)
	}
	g.sent = nil
	g.n(1).raw.OnEntriesFetched(*asked)
	if n := appends(g); n != 0 {
		t.Errorf("%d appends of a follower", n)
	}

	g, _, asked = fetching()
	g.lose = nil
	g.must(g.n(1).raw.Step(raft.Message{Type: raft.MsgHeartbeat, From: 2, To: 1, Term: 3}))
	g.n(1).raw.SetElectable(true)
	g.must(g.n(1).raw.Campaign())
	g.run()
	g.lose = isolated(3)
	g.sent = nil
	g.n(1).raw.OnEntriesFetched(*asked)
	if n := appends(g); n != 0 {
		t.Errorf("%d appends for a fetch of an earlier term", n)
	}

	g, _, _ = fetching()
	g.lose = nil
	for range 12 {
		g.tick(1, 1)
		g.run()
	}
	if last := g.n(3).raw.BasicStatus().LastIndex; last != 7 {
		t.Errorf("node 3 ends at %d: a forgotten fetch was never tried again", last)
	}
}

// A window of bytes is full at its limit, not beyond it.
func TestWindowIsFullAtItsLimit(t *testing.T) {
	g := newGroup(t, 2, func(c *raft.Config) { c.MaxInflightBytes = 80 })
	g.elect(1)
	g.lose = isolated(2)
	for range 4 {
		g.must(g.n(1).raw.Propose(nil, make([]byte, 40)))
		g.run()
	}
	if pr := g.progress(2); pr.InflightCount != 2 || pr.InflightBytes != 80 || !pr.Paused {
		t.Errorf("%+v, want 2 messages of 80 bytes in flight", pr)
	}
}

// Heartbeats keep to HeartbeatTick.
func TestHeartbeatTick(t *testing.T) {
	g := newGroup(t, 2, func(c *raft.Config) { c.HeartbeatTick = 3 })
	g.elect(1)
	g.sent = nil
	for range 9 {
		g.tick(1, 1)
		g.drive(1)
	}
	if n := len(g.sentOf(raft.MsgHeartbeat)); n != 3 {
		t.Errorf("%d heartbeats in 9 ticks, want 3", n)
	}
}

// A single voter that skips the broadcast of commits still serves its learner.
func TestSkippedBroadcastWithALearner(t *testing.T) {
	g := newGroupOf(t, raft.ConfState{Voters: []uint64{1}, Learners: []uint64{2}}, func(c *raft.Config) { c.SkipBcastCommit = true })
	g.elect(1)
	g.must(g.n(1).raw.Propose(nil, []byte("x")))
	g.run()
	g.tick(1, 1)
	g.run()
	if got := g.hard(2).Commit; got != 3 {
		t.Errorf("the learner has committed %d, want 3", got)
	}
}

// A leader may apply before its own disk as far as the limit says, which can be set at any time; a follower never does.
func TestApplyUnpersistedLimitCanBeSet(t *testing.T) {
	g := newGroup(t, 3, nil)
	g.elect(1)
	m := g.n(1)
	propose := func() (toApply int) {
		g.must(m.raw.Propose(nil, []byte("x")))
		rd := m.raw.Ready()
		g.persist(m, rd)
		g.send(rd.Messages)
		toApply = len(rd.CommittedEntries)
		m.raw.AdvanceAppendAsync(rd)
		for _, from := range []uint64{2, 3} {
			g.must(m.raw.Step(raft.Message{Type: raft.MsgAppendResponse, From: from, To: 1, Term: 2, Index: m.raw.BasicStatus().LastIndex}))
		}
		rd = m.raw.Ready()
		toApply += len(rd.CommittedEntries)
		m.raw.AdvanceAppendAsync(rd)
		return toApply
	}
	if n := propose(); n != 0 {
		t.Fatalf("%d entries to apply that are not on our disk", n)
	}
	m.raw.SetMaxApplyUnpersistedLogLimit(2)
	if n := propose(); n != 2 {
		t.Errorf("%d entries to apply, want 2: the limit is 2", n)
	}
	if n := propose(); n != 0 {
		t.Errorf("%d entries to apply beyond the limit", n)
	}
}

// Reads that wait for a leader are answered by their own node when that is it.
func TestWaitingReadsOfTheNewLeader(t *testing.T) {
	for _, n := range []int{1, 3} {
		g := newGroup(t, n, nil)
		g.must(g.n(1).raw.ReadIndex([]byte("early")))
		g.elect(1)
		if r := g.n(1).reads; len(r) != 1 || string(r[0].RequestCtx) != "early" || r[0].Index != 2 || len(g.n(1).dropped) != 0 {
			t.Errorf("%d voters: answered %v, dropped %v, want the read at index 2", n, r, g.n(1).dropped)
		}
	}
}

// A wish for a snapshot ends when its node stands for election, and not before.
func TestWishEndsWithACandidacy(t *testing.T) {
	for _, pre := range []bool{false, true} {
		g := newGroup(t, 3, func(c *raft.Config) { c.PreVote = pre })
		g.elect(1)
		g.lose = isolated(2)
		raw := g.n(2).raw
		g.must(raw.RequestSnapshot())
		if err := raw.RequestSnapshot(); !errors.Is(err, raft.ErrRequestSnapshotDropped) {
			t.Fatalf("a second wish: %v", err)
		}
		g.must(raw.Campaign())
		g.drive(2)
		g.lose, g.sent, g.wire = nil, nil, nil
		term := max(g.hard(2).Term, g.hard(1).Term)
		g.must(raw.Step(raft.Message{Type: raft.MsgHeartbeat, From: 1, To: 2, Term: term, Commit: 2}))
		g.drive(2)
		var types []raft.MessageType
		for _, m := range g.sent {
			types = append(types, m.Type)
		}
		if !slices.Equal(types, []raft.MessageType{raft.MsgHeartbeatResponse}) {
			t.Errorf("pre-vote %t: after its candidacy it answers a heartbeat with %v", pre, types)
		}
	}
}

// A request for a snapshot below what the peer acknowledged contradicts itself, whatever its hint says (FuzzStep/d49089503494162b): the
// leader ignores it, and never sends a snapshot that would take back what it counted.
func TestSnapshotRequestBelowMatch(t *testing.T) {
	g := newGroup(t, 3, nil)
	g.elect(1)
	g.must(g.n(1).raw.Propose(nil, []byte("x")))
	g.must(g.n(1).raw.Propose(nil, []byte("y")))
	g.run()
	_, err := g.n(1).st.CreateSnapshot(3, nil, nil)
	g.must(err)
	before := g.progress(3)
	g.must(g.n(1).raw.Step(raft.Message{Type: raft.MsgAppendResponse, From: 3, To: 1, Term: 2, Index: 2, Reject: true, RejectHint: before.Match,
		RequestSnapshot: 3}))
	if pr := g.progress(3); pr.PendingRequestSnapshot != 0 || pr.State != raft.ProgressReplicate || pr.Next <= pr.Match || pr.Match != before.Match {
		t.Errorf("before %+v, after %+v", before, pr)
	}
}
