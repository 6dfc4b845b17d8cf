package raft_test

import (
	"testing"

	"lograft/raft"
)

func quietGroup(t *testing.T, batch bool) *group {
	g := newGroup(t, 3, func(c *raft.Config) { c.QuietCommits, c.BatchAppend = true, batch })
	g.elect(1)
	g.sent = nil
	return g
}

func (g *group) count(is func(*raft.Message) bool) (n int) {
	for i := range g.sent {
		if is(&g.sent[i]) {
			n++
		}
	}
	return n
}

// A commit is told to every follower, none answers, and all apply the entry.
func TestQuietCommitsAreNotAnswered(t *testing.T) {
	g := quietGroup(t, false)
	g.must(g.n(1).raw.Propose(nil, []byte("x")))
	g.run()
	quiet := g.count(func(m *raft.Message) bool { return m.Type == raft.MsgAppend && m.NoAnswer })
	answers := g.count(func(m *raft.Message) bool { return m.Type == raft.MsgAppendResponse })
	if quiet != 2 || answers != 2 {
		t.Errorf("%d appends wanted no answer and %d answers came, want 2 and 2 (to the entry)", quiet, answers)
	}
	for _, m := range g.members {
		if n := len(m.applied); n == 0 || string(m.applied[n-1].Data) != "x" {
			t.Errorf("node %d did not apply the entry", m.id)
		}
	}
}

// Where the answer to the entry was lost, the quiet commit brings none either; the next heartbeat does.
func TestQuietCommitAfterALostAnswer(t *testing.T) {
	g := quietGroup(t, false)
	g.lose = func(m *raft.Message) bool { return m.Type == raft.MsgAppendResponse && m.From == 3 }
	g.must(g.n(1).raw.Propose(nil, []byte("x")))
	g.run()
	g.lose = nil
	last := g.n(1).raw.Status().Progress[1].Match
	if pr := g.progress(3); pr.Match >= last {
		t.Fatalf("the answer was lost, and the leader knows of it: %+v", pr)
	}
	g.tick(1, 1)
	g.run()
	if pr := g.progress(3); pr.Match != last {
		t.Errorf("after a heartbeat: %+v, want match %d", pr, last)
	}
}

// A follower that does not hold what a quiet commit follows says so at once.
func TestQuietCommitIsRejectedAloud(t *testing.T) {
	g := quietGroup(t, false)
	g.lose = func(m *raft.Message) bool { return m.Type == raft.MsgAppend && m.To == 3 && len(m.Entries) > 0 }
	g.must(g.n(1).raw.Propose(nil, []byte("x")))
	g.drive(1)
	g.drive(1)
	g.lose = func(m *raft.Message) bool {
		if m.Reject {
			g.lose = nil // from here on nothing is lost
		}
		return m.Type == raft.MsgAppend && m.To == 3 && len(m.Entries) > 0
	}
	g.run()
	if last := g.n(1).raw.Status().Progress[1].Match; g.progress(3).Match != last {
		t.Errorf("the leader believes that 3 has %+v, want match %d without a heartbeat", g.progress(3), last)
	}
}

// Entries that join a queued quiet commit are answered.
func TestQuietCommitThatEntriesJoin(t *testing.T) {
	g := quietGroup(t, true)
	g.must(g.n(1).raw.Propose(nil, []byte("x")))
	g.drive(1)
	last := g.n(1).raw.Status().Progress[1].Match
	g.must(g.n(1).raw.Step(raft.Message{Type: raft.MsgAppendResponse, From: 2, To: 1, Term: 2, Index: last}))
	g.must(g.n(1).raw.Propose(nil, []byte("y")))
	g.run()
	if n := g.count(func(m *raft.Message) bool { return m.Type == raft.MsgAppend && m.NoAnswer && len(m.Entries) > 0 }); n > 0 {
		t.Errorf("%d appends with entries want no answer", n)
	}
	for _, id := range []uint64{2, 3} {
		if pr := g.progress(id); pr.Match != last+1 {
			t.Errorf("node %d: %+v, want match %d", id, pr, last+1)
		}
	}
}
