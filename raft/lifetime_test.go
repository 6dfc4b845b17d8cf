package raft_test

import (
	"fmt"
	"testing"

	"lograft/raft"
)

// What is handed out to be applied stays as it is until it is reported applied, however many Readys later.
func TestCommittedEntriesLiveUntilApplied(t *testing.T) {
	g := newGroup(t, 1, func(c *raft.Config) { c.MaxCommittedSizePerReady = 1 })
	g.elect(1)
	m := g.n(1)
	var held [][]raft.Entry
	var shown []string
	hold := func(entries []raft.Entry) {
		if len(entries) > 0 {
			held, shown = append(held, entries), append(shown, fmt.Sprintf("%+v", entries))
		}
	}
	check := func(from int) {
		t.Helper()
		for i := from; i < len(held); i++ {
			if got := fmt.Sprintf("%+v", held[i]); got != shown[i] {
				t.Fatalf("page %d changed from %s to %s", i, shown[i], got)
			}
		}
	}
	for i := range 30 {
		g.must(m.raw.Propose(fmt.Appendf(nil, "context %d", i), fmt.Appendf(nil, "data %d", i)))
		for m.raw.HasReady() {
			rd := m.raw.Ready()
			g.persist(m, rd)
			hold(rd.CommittedEntries)
			hold(m.raw.AdvanceAppend(rd).CommittedEntries)
			check(0)
		}
	}
	if len(held) != 30 {
		t.Fatalf("%d pages, want 30", len(held))
	}
	m.raw.AdvanceApplyTo(held[9][0].Index) // ten of them
	for i := range 5 {
		g.must(m.raw.Propose(nil, fmt.Appendf(nil, "more %d", i)))
		for m.raw.HasReady() {
			rd := m.raw.Ready()
			g.persist(m, rd)
			hold(rd.CommittedEntries)
			hold(m.raw.AdvanceAppend(rd).CommittedEntries)
		}
	}
	check(10)
}

// A LightReady stays as it is until the next Ready or Advance, ticks and reports notwithstanding.
func TestLightReadyLivesUntilTheNext(t *testing.T) {
	g := newGroup(t, 3, nil)
	g.elect(1)
	m := g.n(1)
	g.must(m.raw.Propose(nil, []byte("x")))
	rd := m.raw.Ready()
	g.persist(m, rd)
	for _, from := range []uint64{2, 3} {
		if err := m.raw.Step(raft.Message{Type: raft.MsgAppendResponse, From: from, To: 1, Term: 2, Index: 3}); err == nil {
			t.Fatal("a step beside a Ready")
		}
	}
	m.raw.AdvanceAppend(rd)
	g.must(m.raw.Step(raft.Message{Type: raft.MsgAppendResponse, From: 2, To: 1, Term: 2, Index: 3}))
	g.must(m.raw.Propose(nil, []byte("y")))
	rd = m.raw.Ready()
	g.persist(m, rd)
	m.raw.Tick() // its heartbeats come with the LightReady
	light := m.raw.AdvanceAppend(rd)
	shown := fmt.Sprintf("%+v", *light)
	if len(light.Messages) != 2 {
		t.Fatalf("%s: want two heartbeats", shown)
	}
	m.raw.Tick()
	g.must(m.raw.Propose(nil, []byte("z")))
	m.raw.OnPersistReady(1 << 40)
	g.must(m.raw.Step(raft.Message{Type: raft.MsgAppendResponse, From: 3, To: 1, Term: 2, Index: 3}))
	m.raw.Ping()
	if got := fmt.Sprintf("%+v", *light); got != shown {
		t.Errorf("it changed from\n%s to\n%s", shown, got)
	}
}

// Answers to votes tell the commit index, from whoever they are, also with a refusal, and so do the requests.
func TestVotesTellTheCommit(t *testing.T) {
	for name, cs := range map[string]raft.ConfState{
		"voter":   {Voters: []uint64{1, 2, 3}},
		"learner": {Voters: []uint64{1, 3}, Learners: []uint64{2}},
		"removed": {Voters: []uint64{1, 3}},
	} {
		for _, typ := range []raft.MessageType{raft.MsgRequestVote, raft.MsgRequestPreVote} {
			for _, index := range []uint64{0, 9} { // to be refused, to be granted
				g := newGroupOfIDs(t, 3, cs, nil)
				g.must(g.n(2).raw.Step(raft.Message{Type: typ, From: 1, To: 2, Term: 5, LogTerm: min(index, 1), Index: index}))
				g.drive(2)
				if len(g.sent) != 1 || g.sent[0].Reject != (index == 0) || g.sent[0].Commit != 1 || g.sent[0].CommitTerm != 1 {
					t.Errorf("%s, %v with a log that ends at %d: %+v, want commit 1/1", name, typ, index, g.sent)
				}
			}
		}
	}
	for _, pre := range []bool{false, true} {
		g := newGroup(t, 3, func(c *raft.Config) { c.PreVote = pre })
		g.must(g.n(1).raw.Campaign())
		g.drive(1)
		for _, m := range g.sent {
			if m.Commit != 1 || m.CommitTerm != 1 {
				t.Errorf("pre-vote %t: the request says %+v, want commit 1/1", pre, m)
			}
		}
	}
}
