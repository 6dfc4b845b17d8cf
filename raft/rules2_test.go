package raft_test

import (
	"errors"
	"slices"
	"testing"

	"lograft/raft"
)

// What no correct peer sends is refused by name; what no correct disk holds poisons the node, once.
func TestRule06NoPanicOnInput(t *testing.T) {
	entry := func(term, index uint64) raft.Entry { return raft.Entry{Term: term, Index: index} }
	good := raft.Message{Type: raft.MsgAppend, From: 1, To: 2, Term: 2, LogTerm: 2, Index: 2, Entries: []raft.Entry{entry(2, 3)}}
	bad := map[string]func(m *raft.Message){
		"gap":                func(m *raft.Message) { m.Entries[0].Index = 4 },
		"falling terms":      func(m *raft.Message) { m.Entries[0].Term = 1 },
		"term beyond":        func(m *raft.Message) { m.Entries[0].Term = 3 },
		"entry type":         func(m *raft.Message) { m.Entries[0].Type = 3 },
		"for another":        func(m *raft.Message) { m.To = 3 },
		"from nobody":        func(m *raft.Message) { m.From = 0 },
		"term of 32 bits":    func(m *raft.Message) { m.Term = 1 << 31 },
		"type":               func(m *raft.Message) { m.Type = 19 },
		"snapshot missing":   func(m *raft.Message) { m.Type = raft.MsgSnapshot },
		"context of 3 bytes": func(m *raft.Message) { m.Type, m.Context = raft.MsgHeartbeat, []byte("abc") },
		"commit beyond":      func(m *raft.Message) { m.Type, m.Commit = raft.MsgHeartbeat, 1<<40 },
		"second leader":      func(m *raft.Message) { m.From = 3 },
		"no change":          func(m *raft.Message) { m.Type, m.Entries = raft.MsgPropose, nil },
	}
	for name, spoil := range bad {
		g := newGroup(t, 3, nil)
		g.elect(1)
		m := copyMessage(good)
		spoil(&m)
		if err := g.n(2).raw.Step(m); !errors.Is(err, raft.ErrInvalidMessage) {
			t.Errorf("%s: %v, want ErrInvalidMessage", name, err)
		}
		if g.n(2).raw.HasReady() || g.n(2).raw.Err() != nil {
			t.Errorf("%s: it had an effect", name)
		}
	}
	g := newGroup(t, 3, nil)
	g.elect(1)
	if err := g.n(2).raw.Step(raft.Message{Type: raft.MsgHup}); !errors.Is(err, raft.ErrStepLocalMsg) {
		t.Errorf("MsgHup: %v", err)
	}
	g.must(g.n(1).raw.Propose(nil, []byte("x")))
	g.run()
	conflict := raft.Message{Type: raft.MsgAppend, From: 3, To: 2, Term: 3, LogTerm: 2, Index: 2, Commit: 2, Entries: []raft.Entry{entry(3, 3)}}
	err := g.n(2).raw.Step(conflict)
	var fatal *raft.FatalError
	if !errors.As(err, &fatal) || fatal.Index != 3 || g.n(2).raw.Err() != err {
		t.Fatalf("a committed entry is contradicted: %v, Err() %v", err, g.n(2).raw.Err())
	}
	if raw := g.n(2).raw; raw.HasReady() || raw.Tick() || raw.Propose(nil, nil) != err || raw.ReadIndex(nil) != err || len(raw.Ready().Messages) != 0 {
		t.Fatal("a poisoned node still acts")
	}
}

// A refused proposal matches ErrProposalDropped and exactly one reason, and leaves nothing behind.
func TestRule07RefusalsSayWhy(t *testing.T) {
	reasons := []error{raft.ErrNoLeader, raft.ErrNotLeader, raft.ErrForwardingDisabled, raft.ErrTransferring, raft.ErrUncommittedLimit,
		raft.ErrRemoved, raft.ErrConfChangePending, raft.ErrInvalidConfChange}
	check := func(err, want error) {
		t.Helper()
		n := 0
		for _, r := range reasons {
			if errors.Is(err, r) {
				n++
			}
		}
		if !errors.Is(err, raft.ErrProposalDropped) || !errors.Is(err, want) || n != 1 {
			t.Errorf("%v with %d reasons, want %v", err, n, want)
		}
	}
	add4 := raft.ConfChange{Type: raft.ConfChangeAddNode, NodeID: 4}
	g := newGroup(t, 3, func(c *raft.Config) { c.DisableProposalForwarding, c.MaxUncommittedSize = true, 100 })
	one, two := g.n(1).raw, g.n(2).raw
	check(two.Propose(nil, []byte("x")), raft.ErrNoLeader)
	g.elect(1)
	check(two.Propose(nil, []byte("x")), raft.ErrForwardingDisabled)
	check(one.ProposeConfChange(nil, raft.ConfChangeV2{}), raft.ErrInvalidConfChange)
	g.must(one.Propose(nil, make([]byte, 90)))
	check(one.Propose(nil, make([]byte, 20)), raft.ErrUncommittedLimit)
	check(one.ProposeConfChange(make([]byte, 20), add4), raft.ErrUncommittedLimit)
	g.run()
	g.must(one.ProposeConfChange(nil, add4)) // the one refused for size left nothing pending
	check(one.ProposeConfChange(nil, add4), raft.ErrConfChangePending)
	g.run()
	g.lose = isolated(2)
	one.TransferLeader(2)
	check(one.Propose(nil, []byte("x")), raft.ErrTransferring)
	last := one.BasicStatus().LastIndex
	if last != 4 {
		t.Errorf("the log ends at %d: a refusal appended something, want 4", last)
	}

	g = newGroup(t, 3, func(c *raft.Config) { c.StepDownOnRemoval = false })
	g.elect(1)
	g.must(g.n(1).raw.ProposeConfChange(nil, raft.ConfChange{Type: raft.ConfChangeRemoveNode, NodeID: 1}))
	g.run()
	check(g.n(1).raw.Propose(nil, []byte("x")), raft.ErrRemoved)
}

// removing proposes the removal of leader 1 and an entry after it, and lets the removal, not the tail, commit.
func removing(t *testing.T) *group {
	g := newGroup(t, 4, func(c *raft.Config) { c.MinElectionTick, c.MaxElectionTick = 50, 51 })
	g.elect(1)
	g.must(g.n(1).raw.ProposeConfChange(nil, raft.ConfChange{Type: raft.ConfChangeRemoveNode, NodeID: 1}))
	g.must(g.n(1).raw.Propose(nil, []byte("tail")))
	// 3 and 4 get nothing beyond the removal, which then commits with 1, 2 and 3.
	g.lose = func(m *raft.Message) bool {
		return m.To == 4 || m.Type == raft.MsgAppend && len(m.Entries) > 0 && m.Entries[0].Index == 4
	}
	g.run()
	if s := g.n(1).raw.Status(); slices.Contains(s.Conf.Voters, 1) || s.HardState.Commit != 3 {
		t.Fatalf("commit %d in %v, want the removal at 3 applied and the tail open", s.HardState.Commit, s.Conf)
	}
	return g
}

// A removed leader leads until the tail that it had then is committed by the others alone, then follows; check-quorum ends the wait.
func TestRule08RemovedLeader(t *testing.T) {
	g := removing(t)
	if g.role(1) != raft.StateLeader {
		t.Fatal("it stepped down before its tail was committed")
	}
	// 2 and 1 hold the tail: not a majority of 2, 3, 4.
	g.lose = func(m *raft.Message) bool { return m.To == 3 || m.To == 4 }
	g.tick(1, 1)
	g.run()
	g.tick(1, 1)
	g.run()
	if got := g.hard(1).Commit; got != 3 || g.role(1) != raft.StateLeader {
		t.Fatalf("commit %d as %v: the removed leader counted itself", got, g.role(1))
	}
	g.lose = nil
	for range 3 {
		g.tick(1, 1)
		g.run()
	}
	if got := g.hard(1).Commit; got != 4 || g.role(1) != raft.StateFollower {
		t.Fatalf("commit %d as %v, want 4 as follower", got, g.role(1))
	}
	if err := g.n(1).raw.Campaign(); !errors.Is(err, raft.ErrNotPromotable) {
		t.Fatalf("Campaign: %v", err)
	}

	g = removing(t)
	g.lose = isolated(1)
	g.tick(1, 20)
	g.run()
	if g.role(1) != raft.StateFollower {
		t.Fatal("alone with its tail it still leads after two election timeouts")
	}
}

// A snapshot that nobody reports on frees its peer after SnapshotTimeoutTick; SnapshotProgress restarts the count.
func TestRule09LostSnapshotReport(t *testing.T) {
	g := newGroup(t, 3, func(c *raft.Config) { c.SnapshotTimeoutTick = 15 })
	g.elect(1)
	g.lose = isolated(3)
	g.must(g.n(1).raw.Propose(nil, []byte("x")))
	g.run()
	cs := raft.ConfState{Voters: []uint64{1, 2, 3}}
	_, err := g.n(1).st.CreateSnapshot(3, &cs, nil)
	g.must(err)
	g.must(g.n(1).st.Compact(3))
	g.n(1).raw.ReportUnreachable(3)
	g.lose = func(m *raft.Message) bool {
		return m.Type == raft.MsgSnapshot || m.To == 1 && m.From == 3 && m.Type == raft.MsgAppendResponse
	}
	state := func() raft.ProgressState { return g.n(1).raw.Status().Progress[3].State }
	beat := func(times int) {
		for range times {
			g.tick(1, 1)
			g.run()
		}
	}
	beat(1)
	if state() != raft.ProgressSnapshot {
		t.Fatalf("peer 3 is in %v, want snapshot", state())
	}
	g.sent = nil
	beat(14)
	g.n(1).raw.ReportSnapshot(3, raft.SnapshotProgress)
	beat(14)
	if n := len(g.sentOf(raft.MsgSnapshot)); n != 0 {
		t.Fatalf("%d snapshots sent within the timeout", n)
	}
	beat(2)
	if n := len(g.sentOf(raft.MsgSnapshot)); n != 1 {
		t.Fatalf("%d snapshots sent after the timeout, want another one", n)
	}
	g.lose = nil
	beat(20)
	if got := g.hard(3).Commit; got != 3 {
		t.Fatalf("node 3 has committed %d, want 3", got)
	}
}

// Merged appends stay within MaxSizePerMsg, and a window has a limit in messages and one in bytes.
func TestRule10Limits(t *testing.T) {
	g := newGroup(t, 2, func(c *raft.Config) { c.BatchAppend, c.MaxSizePerMsg = true, 100 })
	g.elect(1)
	g.sent = nil
	for range 7 {
		g.must(g.n(1).raw.Propose(nil, make([]byte, 40)))
	}
	g.drive(1)
	var got []int
	for _, m := range g.sentOf(raft.MsgAppend) {
		got = append(got, len(m.Entries))
	}
	if !slices.Equal(got, []int{2, 2, 2, 1}) {
		t.Fatalf("entries of 40 bytes in messages of 100: %v, want [2 2 2 1]", got)
	}

	for name, change := range map[string]func(*raft.Config){
		"messages": func(c *raft.Config) { c.MaxInflightMsgs = 3 },
		"bytes":    func(c *raft.Config) { c.MaxInflightBytes = 100 }, // the message that reaches it still goes
	} {
		g = newGroup(t, 2, change)
		g.elect(1)
		g.sent = nil
		for range 6 {
			g.must(g.n(1).raw.Propose(nil, make([]byte, 40)))
			g.drive(1)
		}
		if n := len(g.sentOf(raft.MsgAppend)); n != 3 {
			t.Errorf("%s: %d appends went into a window of 3", name, n)
		}
	}
}

// What a proposal or an append costs in steady state is no allocation, synchronous or not, and peers come in the order of their ids.
func TestRule11NothingAllocated(t *testing.T) {
	for _, voters := range []int{1, 3} {
		for _, async := range []bool{false, true} {
			l := newLoop(t, voters, async)
			for range 3000 {
				l.round()
			}
			if n := testing.AllocsPerRun(5000, l.round); n != 0 {
				t.Errorf("%d voters, async %t: %v allocations per proposal, want 0", voters, async, n)
			}
			if got := l.raws[0].BasicStatus().HardState.Commit; got < 8000 {
				t.Errorf("%d voters, async %t: only %d committed", voters, async, got)
			}
		}
	}
	g := newGroup(t, 5, nil)
	g.elect(3)
	g.sent = nil
	g.must(g.n(3).raw.Propose(nil, []byte("x")))
	g.drive(3)
	var to []uint64
	for _, m := range g.sentOf(raft.MsgAppend) {
		to = append(to, m.To)
	}
	if !slices.Equal(to, []uint64{1, 2, 4, 5}) {
		t.Errorf("appends go to %v, want 1 2 4 5", to)
	}
}

// loop is a cluster that itself allocates nothing: messages are stepped from the slices that the core hands out.
type loop struct {
	t     *testing.T
	raws  []*raft.RawNode
	sts   []*raft.MemoryStorage
	async bool
	data  []byte
}

func newLoop(t *testing.T, voters int, async bool) *loop {
	g := newGroup(t, voters, nil)
	g.elect(1)
	l := &loop{t: t, async: async, data: []byte("0123456789")}
	for _, m := range g.members {
		l.raws, l.sts = append(l.raws, m.raw), append(l.sts, m.st)
	}
	return l
}

func (l *loop) round() {
	if err := l.raws[0].Propose(nil, l.data); err != nil {
		l.t.Fatal(err)
	}
	for moved := true; moved; {
		moved = false
		for i, raw := range l.raws {
			for raw.HasReady() {
				moved = true
				l.one(i, raw)
			}
		}
	}
}

func (l *loop) one(i int, raw *raft.RawNode) {
	rd := raw.Ready()
	if err := l.sts[i].Append(rd.Entries); err != nil {
		l.t.Fatal(err)
	}
	if rd.HasHardState {
		l.sts[i].SetHardState(rd.HardState)
	}
	l.step(rd.Messages)
	if !l.async {
		l.step(rd.PersistedMessages)
		l.step(raw.Advance(rd).Messages)
		raw.AdvanceApply()
		return
	}
	number, held := rd.Number, rd.PersistedMessages
	raw.AdvanceAppendAsync(rd)
	l.step(held)
	raw.OnPersistReady(number)
	raw.AdvanceApply()
}

func (l *loop) step(ms []raft.Message) {
	for i := range ms {
		if err := l.raws[ms[i].To-1].Step(ms[i]); err != nil {
			l.t.Fatal(err)
		}
	}
}

// A stepped message is not changed, and nothing that its caller does to its slices afterwards shows anywhere.
func TestRule12MessagesBelongToTheCaller(t *testing.T) {
	g := newGroup(t, 3, nil)
	g.elect(1)
	spoiled := func(id uint64, m raft.Message) {
		t.Helper()
		before, given := copyMessage(m), copyMessage(m)
		g.must(g.n(id).raw.Step(given))
		if showMessage(before) != showMessage(given) {
			t.Fatalf("Step made %s of %s", showMessage(given), showMessage(before))
		}
		for i := range given.Entries {
			given.Entries[i] = raft.Entry{Term: 99, Index: 99, Data: []byte("spoiled")}
		}
		for i := range given.Context {
			given.Context[i] = 0xee
		}
		if given.Snapshot != nil {
			given.Snapshot.Metadata = raft.SnapshotMetadata{Index: 99, Term: 99, ConfState: raft.ConfState{Voters: []uint64{99}}}
		}
	}
	data := []byte("entry")
	spoiled(2, raft.Message{Type: raft.MsgAppend, From: 1, To: 2, Term: 2, LogTerm: 2, Index: 2, Entries: []raft.Entry{{Term: 2, Index: 3, Data: data}}})
	spoiled(2, raft.Message{Type: raft.MsgHeartbeat, From: 1, To: 2, Term: 2, Commit: 2, Context: []byte("12345678")})
	spoiled(2, raft.Message{Type: raft.MsgPropose, From: 3, To: 2, Entries: []raft.Entry{{Data: []byte("forwarded")}}})
	spoiled(2, raft.Message{Type: raft.MsgReadIndex, From: 3, To: 2, Entries: []raft.Entry{{Data: []byte("read")}}})
	g.sent = nil
	g.drive(2)
	sent := g.sent
	want := []string{"2->1 HeartbeatResp term=2 commit=2 ctx=12345678", "2->1 Propose entries: 0/0:forwarded", "3->1 ReadIndex entries: 0/0:read", "2->1 AppendResp term=2 log=0/3 commit=2"}
	var got []string
	for _, m := range sent {
		got = append(got, showMessage(m))
	}
	if !slices.Equal(got, want) {
		t.Fatalf("sent %q, want %q", got, want)
	}
	if e, err := g.n(2).st.Entries(nil, 3, 4, 100, raft.EntriesContext{}); err != nil || string(e[0].Data) != "entry" || e[0].Term != 2 {
		t.Fatalf("in the log stands %v, %v", e, err)
	}
	voters := []uint64{1, 2, 3}
	spoiled(2, raft.Message{Type: raft.MsgSnapshot, From: 1, To: 2, Term: 2, Snapshot: &raft.Snapshot{Metadata: raft.SnapshotMetadata{Index: 9, Term: 2, ConfState: raft.ConfState{Voters: voters}}}})
	voters[0] = 77
	rd := g.n(2).raw.Ready()
	if s := rd.Snapshot; s == nil || s.Metadata.Index != 9 || !slices.Equal(s.Metadata.ConfState.Voters, []uint64{1, 2, 3}) {
		t.Fatalf("the snapshot became %+v", s)
	}
}
