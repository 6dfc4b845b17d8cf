package raft_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"lograft/raft"
)

// The rules are those of the package comment. Each test goes red when its rule is broken: raft/mutants does so.

func leaseConfig(c *raft.Config) {
	c.ReadOnlyOption, c.ElectionTick, c.LeaseMarginTick = raft.ReadOnlyLeaseBased, 10, 2
}

// newLeaseGroup has waited out the promises of its birth, which a restart can't tell from those of an earlier life.
func newLeaseGroup(t *testing.T) *group {
	g := newGroup(t, 3, leaseConfig)
	for id := uint64(1); id <= 3; id++ {
		g.n(id).raw.SetElectable(false)
		g.tick(id, 10)
		g.n(id).raw.SetElectable(true)
	}
	g.elect(1)
	g.tick(1, 1)
	g.run() // a round is acknowledged
	return g
}

// readAtOnce asks node 1 for a read and reports whether it was answered without hearing anyone.
func readAtOnce(g *group) bool {
	g.lose = isolated(1)
	defer func() { g.lose = nil }()
	before := len(g.n(1).reads)
	g.must(g.n(1).raw.ReadIndex([]byte("r")))
	g.run()
	return len(g.n(1).reads) > before
}

// A lease holds for ElectionTick less margin from the tick its heartbeat was sent in, however late the answer came.
func TestRule01Lease(t *testing.T) {
	t.Run("counted from the sending", func(t *testing.T) {
		g := newLeaseGroup(t)
		g.lose = isolated(1)
		for age := 1; age <= 7; age++ {
			g.tick(1, 1)
			if !readAtOnce(g) {
				t.Fatalf("%d ticks after the heartbeat the lease is over, want 8", age)
			}
		}
		g.tick(1, 1)
		if readAtOnce(g) {
			t.Fatal("8 ticks after the heartbeat the lease still holds: election 10, margin 2")
		}
	})
	t.Run("a late answer", func(t *testing.T) {
		g := newLeaseGroup(t)
		g.tick(1, 1)
		g.drive(1)
		held := g.wire
		g.wire = nil
		g.lose = isolated(1)
		g.tick(1, 7)
		g.run()
		g.lose = nil
		g.wire = held
		g.run() // the answers to a heartbeat that is 7 ticks old
		if !readAtOnce(g) {
			t.Fatal("7 ticks after the heartbeat was sent its lease is over, want 8")
		}
		g.lose = isolated(1)
		g.tick(1, 1)
		g.run()
		if readAtOnce(g) {
			t.Fatal("the lease counts from the answer, not from the sending")
		}
	})
	t.Run("void after MsgTimeoutNow", func(t *testing.T) {
		g := newLeaseGroup(t)
		g.lose = func(m *raft.Message) bool { return m.Type == raft.MsgTimeoutNow }
		g.n(1).raw.TransferLeader(2)
		g.run()
		for range 12 { // the transfer is given up; the message may still arrive
			g.tick(1, 1)
			g.run()
			if readAtOnce(g) {
				t.Fatal("a lease read after MsgTimeoutNow")
			}
			g.lose = func(m *raft.Message) bool { return m.Type == raft.MsgTimeoutNow }
		}
	})
	t.Run("kept by those who promised", testLeasePromise)
}

func testLeasePromise(t *testing.T) {
	vote := func(g *group, from, term uint64, context string) bool {
		g.sent = nil
		hs := g.hard(2)
		m := raft.Message{Type: raft.MsgRequestVote, From: from, To: 2, Term: term, LogTerm: hs.Term, Index: 1 << 20, Context: []byte(context)}
		g.must(g.n(2).raw.Step(m))
		g.drive(2)
		g.wire = nil
		answers := g.sentOf(raft.MsgRequestVoteResponse)
		return len(answers) == 1 && !answers[0].Reject
	}
	g := newLeaseGroup(t)
	if !vote(g, 3, 3, raft.CampaignTransfer) {
		t.Fatal("a transfer is refused")
	}
	if vote(g, 1, 4, "") {
		t.Fatal("the promise ended with the term")
	}
	g.n(2).raw.SetElectable(false)
	g.tick(2, 9)
	if vote(g, 1, 5, "") {
		t.Fatal("9 ticks after the leader was heard a vote is granted, the promise is 10")
	}
	g.tick(2, 1)
	if !vote(g, 1, 6, "") {
		t.Fatal("10 ticks after the leader was heard the vote is refused")
	}

	g = newLeaseGroup(t)
	g.n(2).start(t)
	if vote(g, 3, 7, "") {
		t.Fatal("a restart forgets the promise")
	}
	g.n(2).raw.SetElectable(false)
	g.tick(2, 10)
	if !vote(g, 3, 8, "") {
		t.Fatal("a restarted node refuses for more than an election timeout")
	}

	g = newLeaseGroup(t)
	g.n(2).raw.SetCheckQuorum(false)
	if err := g.n(2).raw.ForgetLeader(); err == nil || vote(g, 3, 9, "") {
		t.Fatalf("SetCheckQuorum or ForgetLeader (%v) ends the promise", err)
	}
}

// Vote and pre-vote requests advertise what is not synced yet: they are PersistedMessages.
func TestRule02VoteRequestsWait(t *testing.T) {
	for _, pre := range []bool{false, true} {
		g := newGroup(t, 3, func(c *raft.Config) { c.PreVote = pre })
		g.must(g.n(1).raw.Campaign())
		rd := g.n(1).raw.Ready()
		want := raft.MsgRequestVote
		if pre {
			want = raft.MsgRequestPreVote
		}
		if len(rd.Messages) != 0 || !slices.Equal(typesOf(rd.PersistedMessages), []raft.MessageType{want, want}) {
			t.Fatalf("pre-vote %t: now %v, after the sync %v", pre, typesOf(rd.Messages), typesOf(rd.PersistedMessages))
		}
		if !pre && (!rd.MustSync || rd.HardState.Vote != 1 || rd.HardState.Term != 2) {
			t.Fatalf("the vote for itself is not in the Ready: %+v", rd.HardState)
		}
	}
}

// A leader's messages wait while the sync of its term or vote is not reported, over several Readys.
func TestRule03LeaderMessagesWaitForTerm(t *testing.T) {
	g := newGroupOf(t, raft.ConfState{Voters: []uint64{1}, Learners: []uint64{2}}, nil)
	m := g.n(1)
	g.must(m.raw.Campaign())
	var numbers []uint64
	for i := range 3 {
		rd := m.raw.Ready()
		g.persist(m, rd)
		if len(rd.Messages) != 0 {
			t.Fatalf("Ready %d sends %v, the term is not synced", rd.Number, typesOf(rd.Messages))
		}
		if i == 0 && !slices.Contains(typesOf(rd.PersistedMessages), raft.MsgAppend) {
			t.Fatalf("no append waits: %v", typesOf(rd.PersistedMessages))
		}
		numbers = append(numbers, rd.Number)
		m.raw.AdvanceAppendAsync(rd)
		g.must(m.raw.Propose(nil, []byte("x")))
		m.raw.Tick() // a heartbeat
	}
	m.raw.OnPersistReady(numbers[2])
	if rd := m.raw.Ready(); !slices.Contains(typesOf(rd.Messages), raft.MsgHeartbeat) {
		t.Fatalf("the term is synced, and %v go now, %v later", typesOf(rd.Messages), typesOf(rd.PersistedMessages))
	}
}

// Messages that wait keep their entries and contexts until their Ready is reported, whatever the core does meanwhile.
func TestRule03HeldMessagesStayAsTheyAre(t *testing.T) {
	g := newGroupOf(t, raft.ConfState{Voters: []uint64{1}, Learners: []uint64{2}}, nil)
	m := g.n(1)
	g.must(m.raw.Campaign())
	rd := m.raw.Ready()
	g.persist(m, rd)
	held, number := rd.PersistedMessages, rd.Number
	shown := fmt.Sprintf("%+v", held)
	if len(held) != 1 || len(held[0].Entries) != 1 {
		t.Fatalf("%s waits, want an append with an entry", shown)
	}
	m.raw.AdvanceAppendAsync(rd)
	for i := range 20 {
		g.must(m.raw.Propose(nil, fmt.Appendf(nil, "later %d", i)))
		m.raw.ReportUnreachable(2)
		g.must(m.raw.Step(raft.Message{Type: raft.MsgHeartbeatResponse, From: 2, To: 1, Term: 2, Commit: 1}))
		g.must(m.raw.ReadIndex([]byte("r")))
		m.raw.Ping()
		rd := m.raw.Ready()
		g.persist(m, rd)
		m.raw.AdvanceAppendAsync(rd)
		if got := fmt.Sprintf("%+v", held); got != shown {
			t.Fatalf("after %d Readys held messages changed from\n%s to\n%s", i+1, shown, got)
		}
	}
	m.raw.OnPersistReady(number)
}

// Reads are known by numbers that the core made: equal bytes are two reads, and an answer to an earlier life is none.
func TestRule04ReadsHaveOurOwnKeys(t *testing.T) {
	t.Run("late acknowledgement", func(t *testing.T) {
		g := newGroup(t, 3, nil)
		g.elect(1)
		g.sent = nil
		g.must(g.n(1).raw.ReadIndex([]byte("same")))
		g.drive(1)
		first := g.sentOf(raft.MsgHeartbeat)
		if len(first) != 2 || len(first[0].Context) != 8 || binary.LittleEndian.Uint64(first[0].Context) != 1 {
			t.Fatalf("the first round is %v", first)
		}
		g.wire = nil
		g.must(g.n(1).raw.ReadIndex([]byte("same")))
		g.drive(1)
		g.wire = nil
		g.must(g.n(1).raw.Step(raft.Message{Type: raft.MsgHeartbeatResponse, From: 2, To: 1, Term: 2, Commit: 2, Context: first[0].Context}))
		g.drive(1)
		if n := len(g.n(1).reads); n != 1 {
			t.Fatalf("an answer to round 1 confirmed %d reads", n)
		}
	})
	t.Run("one round for all", func(t *testing.T) {
		g := newGroup(t, 3, nil)
		g.elect(1)
		g.sent = nil
		for i := range 100 {
			g.must(g.n(1).raw.ReadIndex([]byte{byte(i)}))
		}
		g.run()
		if beats := len(g.sentOf(raft.MsgHeartbeat)); beats != 2 || len(g.n(1).reads) != 100 {
			t.Fatalf("%d heartbeats, %d answers for 100 reads of a group of 3", beats, len(g.n(1).reads))
		}
	})
	t.Run("no lease unless asked for", func(t *testing.T) {
		g := newGroup(t, 3, nil)
		g.elect(1)
		for range 2 {
			g.must(g.n(1).raw.ReadIndex([]byte("r")))
			g.tick(1, 1)
			g.run()
		}
		if n := len(g.n(1).reads); n != 2 {
			t.Fatalf("%d answers, want 2", n)
		}
		if readAtOnce(g) {
			t.Fatal("a safe read was answered without asking anyone, because a round was acknowledged just before")
		}
	})
	t.Run("an earlier life", testReadNonce)
}

func testReadNonce(t *testing.T) {
	draws := 0
	g := newGroup(t, 3, func(c *raft.Config) {
		c.Rand = func(n int) int { draws++; return draws % n } // goes on over restarts
	})
	g.elect(1)
	g.lose = func(m *raft.Message) bool { return m.Type == raft.MsgReadIndexResp }
	g.must(g.n(2).raw.ReadIndex([]byte("old")))
	g.run()
	answers := g.sentOf(raft.MsgReadIndexResp)
	if len(answers) != 1 || bytes.Contains(answers[0].Entries[0].Data, []byte("old")) {
		t.Fatalf("answers %v: the caller's bytes must not travel", answers)
	}
	g.n(2).cfg.Applied = 2
	g.n(2).start(t)
	g.tick(1, 1)
	g.run()
	g.must(g.n(2).raw.ReadIndex([]byte("new")))
	g.drive(2)
	g.wire = nil
	g.must(g.n(2).raw.Step(answers[0]))
	g.drive(2)
	if len(g.n(2).reads) != 0 {
		t.Fatalf("an answer to an earlier life answered %q", g.n(2).reads[0].RequestCtx)
	}
}

// Every read ends, once, with an answer or a reason.
func TestRule05EveryReadEnds(t *testing.T) {
	ended := func(g *group, id uint64, ctx string, want error) {
		t.Helper()
		m := g.n(id)
		if len(m.dropped) != 1 || string(m.dropped[0].RequestCtx) != ctx || !errors.Is(m.dropped[0].Reason, want) || len(m.reads) != 0 {
			t.Fatalf("node %d: dropped %v, answered %v, want %q to end with %v", id, m.dropped, m.reads, ctx, want)
		}
	}
	slow := func(c *raft.Config) { c.MinElectionTick, c.MaxElectionTick = 50, 51 }

	g := newGroup(t, 3, slow) // nobody leads
	g.must(g.n(2).raw.ReadIndex([]byte("a")))
	g.tick(2, 9)
	g.run()
	if len(g.n(2).dropped) != 0 {
		t.Fatal("given up before ElectionTick ticks")
	}
	g.tick(2, 1)
	g.run()
	ended(g, 2, "a", raft.ErrNoLeader)

	g = newGroup(t, 3, slow) // a follower's question is lost
	g.elect(1)
	g.lose = isolated(2)
	g.must(g.n(2).raw.ReadIndex([]byte("b")))
	g.tick(2, 10)
	g.run()
	ended(g, 2, "b", raft.ErrReadTimeout)

	g = newGroup(t, 3, func(c *raft.Config) { slow(c); c.CheckQuorum = false }) // a leader's round is lost
	g.elect(1)
	g.lose = isolated(1)
	g.must(g.n(1).raw.ReadIndex([]byte("c")))
	g.tick(1, 10)
	g.run()
	ended(g, 1, "c", raft.ErrReadTimeout)

	g = newGroup(t, 3, func(c *raft.Config) { c.CheckQuorum = false }) // leader and follower hear of another term
	g.elect(1)
	g.lose = isolated(1)
	g.must(g.n(1).raw.ReadIndex([]byte("d")))
	g.run()
	g.lose = nil
	g.elect(2)
	ended(g, 1, "d", raft.ErrRoleChanged)

	g = newGroup(t, 1, nil) // asked before the term's first commit, one voter
	g.must(g.n(1).raw.Campaign())
	g.must(g.n(1).raw.ReadIndex([]byte("e")))
	g.run()
	if r := g.n(1).reads; len(r) != 1 || r[0].Index != 2 {
		t.Fatalf("answers %v, want one at index 2, the term's own entry", r)
	}
}
