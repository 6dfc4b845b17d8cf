package raft

import (
	"errors"
	"fmt"
	"testing"
)

// lone is the only voter of its group, born with a snapshot at index 1, term 1, with entries of term 1 behind it.
func lone(t testing.TB, cs ConfState, entries int, change func(*Config)) (*RawNode, *MemoryStorage) {
	t.Helper()
	st := NewMemoryStorage()
	if err := st.ApplySnapshot(Snapshot{Metadata: SnapshotMetadata{ConfState: cs, Index: 1, Term: 1}}); err != nil {
		t.Fatal(err)
	}
	for i := range entries {
		if err := st.Append([]Entry{{Term: 1, Index: uint64(i) + 2}}); err != nil {
			t.Fatal(err)
		}
	}
	cfg := DefaultConfig(1)
	cfg.PreVote, cfg.Applied, cfg.Rand = false, 1, func(int) int { return 0 }
	if change != nil {
		change(&cfg)
	}
	n, err := NewRawNode(cfg, st)
	if err != nil {
		t.Fatal(err)
	}
	return n, st
}

func voters(ids ...uint64) ConfState { return ConfState{Voters: ids} }

// drive performs every Ready, persists and applies, and throws the messages away.
func drive(t testing.TB, n *RawNode, st *MemoryStorage) {
	t.Helper()
	for n.HasReady() {
		rd := n.Ready()
		if rd.Snapshot != nil {
			if err := st.ApplySnapshot(*rd.Snapshot); err != nil {
				t.Fatal(err)
			}
		}
		if err := st.Append(rd.Entries); err != nil {
			t.Fatal(err)
		}
		n.Advance(rd)
		n.AdvanceApply()
	}
}

func step(t testing.TB, n *RawNode, m Message) {
	t.Helper()
	m.To = n.r.id
	if err := n.Step(m); err != nil {
		t.Fatalf("%v: %v", m.Type, err)
	}
}

// inside is everything that a node knows, as text.
func inside(n *RawNode) string {
	return fmt.Sprintf("%+v\n%+v\n%+v\n%v %v %v", n.r, n.r.log, n.records, n.number, n.persisted, n.outstanding)
}

// calls are those that are illegal while a Ready is outstanding.
func illegalCalls(n *RawNode) (silent map[string]func(), failing map[string]func() error) {
	beat := Message{Type: MsgHeartbeatResponse, From: 2, To: 1, Term: 2}
	silent = map[string]func(){
		"Ping":                           n.Ping,
		"TransferLeader":                 func() { n.TransferLeader(2) },
		"ReportUnreachable":              func() { n.ReportUnreachable(2) },
		"ReportSnapshot":                 func() { n.ReportSnapshot(3, SnapshotFinish) },
		"AdvanceApply":                   n.AdvanceApply,
		"AdvanceApplyTo":                 func() { n.AdvanceApplyTo(1 << 40) },
		"SetElectable":                   func() { n.SetElectable(false) },
		"SetPriority":                    func() { n.SetPriority(7) },
		"SetBatchAppend":                 func() { n.SetBatchAppend(true) },
		"SetSkipBcastCommit":             func() { n.SetSkipBcastCommit(true) },
		"SetCheckQuorum":                 func() { n.SetCheckQuorum(false) },
		"SetMaxCommittedSizePerReady":    func() { n.SetMaxCommittedSizePerReady(7) },
		"SetMaxApplyUnpersistedLogLimit": func() { n.SetMaxApplyUnpersistedLogLimit(7) },
		"AdjustMaxInflightMsgs":          func() { n.AdjustMaxInflightMsgs(2, 0) },
		"EnableGroupCommit":              func() { n.EnableGroupCommit(true) },
		"AssignCommitGroups":             func() { n.AssignCommitGroups([]CommitGroup{{2, 7}}) },
		"ClearCommitGroups":              n.ClearCommitGroups,
		"Ready":                          func() { n.Ready() },
		"Advance of nothing":             func() { n.Advance(nil) },
		"Advance of another":             func() { n.Advance(&Ready{Number: n.number - 1}) },
		"AdvanceAppend of another":       func() { n.AdvanceAppend(&Ready{Number: n.number + 1}) },
		"AdvanceAppendAsync of another":  func() { n.AdvanceAppendAsync(&Ready{}) },
	}
	failing = map[string]func() error{
		"Step":                         func() error { return n.Step(beat) },
		"Step of a bad one":            func() error { return n.Step(Message{Type: 77}) },
		"Campaign":                     n.Campaign,
		"Propose":                      func() error { return n.Propose(nil, []byte("x")) },
		"ProposeConfChange":            func() error { return n.ProposeConfChange(nil, ConfChange{NodeID: 9}) },
		"ProposeConfChange of nothing": func() error { return n.ProposeConfChange(nil, nil) },
		"ReadIndex":                    func() error { return n.ReadIndex([]byte("r")) },
		"ForgetLeader":                 n.ForgetLeader,
		"RequestSnapshot":              n.RequestSnapshot,
		"ReplaceLog":                   func() error { return n.ReplaceLog(true) },
	}
	return silent, failing
}

// Between Ready and the call that ends it, what is not legal has no effect, says so if it can, and never poisons.
func TestCallsBesideAReadyHaveNoEffect(t *testing.T) {
	n, st := lone(t, voters(1, 2, 3), 0, nil)
	if err := n.Campaign(); err != nil {
		t.Fatal(err)
	}
	drive(t, n, st)
	step(t, n, Message{Type: MsgRequestVoteResponse, From: 2, Term: 2})
	drive(t, n, st)
	n.AssignCommitGroups([]CommitGroup{{2, 1}})
	step(t, n, Message{Type: MsgAppendResponse, From: 2, Term: 2, Index: 1})
	if err := n.Propose(nil, []byte("a")); err != nil {
		t.Fatal(err)
	}
	n.r.peer(3).becomeSnapshot(1)
	rd := n.Ready()
	if len(rd.Entries) == 0 || len(rd.Messages) == 0 {
		t.Fatalf("the Ready is too empty to be worth it: %+v", rd)
	}
	before, shown := inside(n), fmt.Sprintf("%+v", *rd)
	silent, failing := illegalCalls(n)
	for name, call := range silent {
		if call(); inside(n) != before || fmt.Sprintf("%+v", *rd) != shown {
			t.Errorf("%s has an effect:\nbefore: %s\nafter: %s", name, before, inside(n))
			before = inside(n)
		}
	}
	for name, call := range failing {
		if err := call(); !errors.Is(err, ErrReadyOutstanding) || inside(n) != before {
			t.Errorf("%s: %v, want ErrReadyOutstanding and no effect", name, err)
		}
	}
	if n.Err() != nil {
		t.Fatalf("misuse poisoned the node: %v", n.Err())
	}
	if err := st.Append(rd.Entries); err != nil {
		t.Fatal(err)
	}
	n.Advance(rd)
	ended := inside(n)
	if n.Advance(rd); inside(n) != ended {
		t.Error("a Ready can be ended twice")
	}
	for name, call := range failing {
		if err := call(); errors.Is(err, ErrReadyOutstanding) {
			t.Errorf("%s is still refused after Advance", name)
		}
		if n.outstanding {
			t.Fatalf("%s left a Ready outstanding", name)
		}
	}
}

// The calls that are legal beside a Ready do what they do anywhere, and what the Ready showed stays as it was.
func TestLegalCallsBesideAReady(t *testing.T) {
	n, st := lone(t, voters(1, 2), 0, nil)
	if err := n.Campaign(); err != nil {
		t.Fatal(err)
	}
	drive(t, n, st)
	step(t, n, Message{Type: MsgRequestVoteResponse, From: 2, Term: 2})
	drive(t, n, st)
	step(t, n, Message{Type: MsgAppendResponse, From: 2, Term: 2, Index: 2})
	drive(t, n, st)
	for _, d := range []string{"a", "b"} {
		if err := n.Propose(nil, []byte(d)); err != nil {
			t.Fatal(err)
		}
	}
	rd := n.Ready()
	shown := fmt.Sprintf("%+v", *rd)
	number := rd.Number
	if !n.Tick() || n.HasReady() != true {
		t.Error("a tick beside a Ready brings no heartbeat")
	}
	n.OnPersistReady(number) // reported before it is ended: it counts from then on
	if n.BasicStatus().Persisted != 2 {
		t.Errorf("persisted %d before the Ready was ended, want 2", n.BasicStatus().Persisted)
	}
	n.OnEntriesFetched(EntriesContext{reason: fetchSend, to: 2, term: 2})
	cs, err := n.ApplyConfChange(ConfChange{Type: ConfChangeAddLearnerNode, NodeID: 3})
	if err != nil || len(cs.Learners) != 1 || len(n.Status().Conf.Learners) != 1 {
		t.Errorf("ApplyConfChange: %+v, %v", cs, err)
	}
	n.VisitProgress(func(uint64, *Progress) {})
	if got := fmt.Sprintf("%+v", *rd); got != shown {
		t.Fatalf("the Ready changed from\n%s to\n%s", shown, got)
	}
	if err := st.Append(rd.Entries); err != nil {
		t.Fatal(err)
	}
	n.AdvanceAppendAsync(rd)
	if n.BasicStatus().Persisted != 4 {
		t.Errorf("persisted %d after the Ready was ended, want 4", n.BasicStatus().Persisted)
	}
	beats := 0
	for _, m := range n.Ready().Messages {
		if m.Type == MsgHeartbeat {
			beats++
		}
	}
	if beats != 1 {
		t.Errorf("%d heartbeats for the tick, want 1: the learner came after it", beats)
	}
}

// A poisoned node does nothing more, whatever it is asked, also to the Ready that was outstanding.
func TestPoisonedNodeIsInert(t *testing.T) {
	for _, outstanding := range []bool{false, true} {
		n, st := lone(t, voters(1, 2, 3), 0, nil)
		if err := n.Campaign(); err != nil {
			t.Fatal(err)
		}
		drive(t, n, st)
		step(t, n, Message{Type: MsgRequestVoteResponse, From: 2, Term: 2})
		rd := n.Ready()
		if !outstanding {
			if err := st.Append(rd.Entries); err != nil {
				t.Fatal(err)
			}
			n.Advance(rd)
			if err := n.Propose(nil, []byte("left")); err != nil {
				t.Fatal(err)
			}
		}
		fatal := n.r.fail("test", 5, 2, errors.New("x"))
		before := inside(n)
		if n.r.fail("another", 6, 3, errors.New("y")) != fatal || n.Err() != error(fatal) {
			t.Fatal("the first cause did not stay")
		}
		silent, failing := illegalCalls(n)
		silent["OnPersistReady"] = func() { n.OnPersistReady(1 << 40) }
		silent["OnEntriesFetched"] = func() { n.OnEntriesFetched(EntriesContext{reason: fetchSend, to: 2, term: 2}) }
		silent["Advance"] = func() { n.Advance(rd) }
		silent["AdvanceAppend"] = func() { n.AdvanceAppend(rd) }
		silent["AdvanceAppendAsync"] = func() { n.AdvanceAppendAsync(rd) }
		failing["Err"] = n.Err
		failing["ApplyConfChange"] = func() error { _, err := n.ApplyConfChange(ConfChange{NodeID: 9}); return err }
		failing["OverrideConf"] = func() error { return n.OverrideConf(ConfState{Voters: []uint64{1}}) }
		failing["ApplyConfChange of nothing"] = func() error { _, err := n.ApplyConfChange(nil); return err }
		for name, call := range silent {
			if call(); inside(n) != before {
				t.Errorf("%s moved a poisoned node", name)
				before = inside(n)
			}
		}
		for name, call := range failing {
			if err := call(); err != error(fatal) || inside(n) != before {
				t.Errorf("%s: %v, want the fatal error", name, err)
			}
		}
		if n.Tick() || n.HasReady() || inside(n) != before {
			t.Error("a poisoned node ticks or has a Ready")
		}
		if got := n.Ready(); got == nil || fmt.Sprintf("%+v", *got) != fmt.Sprintf("%+v", Ready{}) {
			t.Errorf("its Ready is %+v", got)
		}
		for _, light := range []*LightReady{n.Advance(rd), n.AdvanceAppend(rd)} {
			if light == nil || fmt.Sprintf("%+v", *light) != fmt.Sprintf("%+v", LightReady{}) {
				t.Errorf("its LightReady is %+v", light)
			}
		}
	}
}

// Readys with nothing to persist count as synced with the one before them: an app that reports only what it synced leaves nothing behind.
func TestEmptyReadysCountAsSynced(t *testing.T) {
	n, st := lone(t, voters(1, 2), 0, nil)
	if err := n.Campaign(); err != nil {
		t.Fatal(err)
	}
	drive(t, n, st)
	step(t, n, Message{Type: MsgRequestVoteResponse, From: 2, Term: 2})
	rd := n.Ready()
	if err := st.Append(rd.Entries); err != nil {
		t.Fatal(err)
	}
	n.AdvanceAppendAsync(rd)
	number := rd.Number
	empty := func() {
		n.Ping()
		step(t, n, Message{Type: MsgHeartbeatResponse, From: 2, Term: 2, Commit: 1})
		rd := n.Ready()
		if rd.MustSync {
			t.Fatal("this Ready should have nothing to persist")
		}
		n.AdvanceAppendAsync(rd)
	}
	for range 5 {
		empty()
	}
	if n.BasicStatus().Persisted != 1 || len(n.records) != 6 {
		t.Fatalf("persisted %d, %d records: nothing was synced yet", n.BasicStatus().Persisted, len(n.records))
	}
	n.OnPersistReady(number)
	for range 1000 {
		empty()
	}
	if n.BasicStatus().Persisted != 2 || len(n.records) != 0 {
		t.Fatalf("persisted %d, want 2; %d records are kept, want none", n.BasicStatus().Persisted, len(n.records))
	}
}

// Without HasReady a Ready is empty, and ends like any other.
func TestReadyWithoutHasReadyIsEmpty(t *testing.T) {
	n, st := lone(t, voters(1), 0, nil)
	if err := n.Campaign(); err != nil {
		t.Fatal(err)
	}
	drive(t, n, st)
	rd := n.Ready()
	if rd.SoftState != nil || rd.HasHardState || rd.MustSync || rd.Snapshot != nil ||
		len(rd.ReadStates)+len(rd.DroppedReads)+len(rd.Entries)+len(rd.CommittedEntries)+len(rd.Messages)+len(rd.PersistedMessages) != 0 {
		t.Fatalf("not empty: %+v", rd)
	}
	if light := n.Advance(rd); light.HasCommitIndex || len(light.Messages)+len(light.CommittedEntries) != 0 {
		t.Fatalf("its LightReady is not empty: %+v", light)
	}
	if err := n.Propose(nil, nil); err != nil {
		t.Fatal(err)
	}
}

// A snapshot counts as applied when it was reported persisted, not when somebody says "everything" before.
func TestSnapshotIsAppliedOnceItIsPersisted(t *testing.T) {
	n, st := lone(t, voters(1, 2), 3, nil)
	step(t, n, Message{Type: MsgAppend, From: 2, Term: 3, LogTerm: 1, Index: 4, Commit: 3})
	rd := n.Ready()
	if len(rd.CommittedEntries) != 2 {
		t.Fatalf("%d entries to apply, want 2", len(rd.CommittedEntries))
	}
	n.AdvanceAppendAsync(rd)
	step(t, n, Message{Type: MsgSnapshot, From: 2, Term: 3, Snapshot: &Snapshot{Metadata: SnapshotMetadata{Index: 9, Term: 3, ConfState: voters(1, 2)}}})
	rd = n.Ready()
	if rd.Snapshot == nil || rd.HardState.Commit != 9 || !rd.HasHardState || len(rd.CommittedEntries) != 0 {
		t.Fatalf("Ready of a snapshot: %+v", rd)
	}
	if err := st.ApplySnapshot(*rd.Snapshot); err != nil {
		t.Fatal(err)
	}
	number := rd.Number
	n.AdvanceAppendAsync(rd)
	n.AdvanceApply()
	if got := n.BasicStatus().Applied; got != 3 {
		t.Fatalf("applied %d before the snapshot is stable, want 3", got)
	}
	n.AdvanceApplyTo(9)
	if got := n.BasicStatus().Applied; got != 3 {
		t.Fatalf("applied %d before the snapshot is stable, want 3", got)
	}
	n.OnPersistReady(number)
	if got := n.BasicStatus(); got.Applied != 3 || got.Persisted != 9 {
		t.Fatalf("applied %d, persisted %d, want 3 and 9", got.Applied, got.Persisted)
	}
	n.AdvanceApplyTo(9)
	if got := n.BasicStatus().Applied; got != 9 {
		t.Fatalf("applied %d, want 9", got)
	}
}

// Status gives copies and visiting is free.
func TestStatusCopiesAndCostsNothing(t *testing.T) {
	cs := ConfState{Voters: []uint64{1, 2}, VotersOutgoing: []uint64{1, 3}, Learners: []uint64{4}, LearnersNext: []uint64{3}, AutoLeave: true}
	n, _ := lone(t, cs, 0, nil)
	s := n.Status()
	if fmt.Sprint(s.Conf) != fmt.Sprint(cs) {
		t.Fatalf("configuration %+v, want %+v", s.Conf, cs)
	}
	s.Conf.Voters[0], s.Conf.VotersOutgoing[0], s.Conf.Learners[0], s.Conf.LearnersNext[0] = 9, 9, 9, 9
	if got := n.Status().Conf; fmt.Sprint(got) != fmt.Sprint(cs) {
		t.Fatalf("the caller's writes show: %+v", got)
	}
	var seen []uint64
	visit := func(id uint64, pr *Progress) { seen = append(seen[:min(len(seen), 4)], id) }
	n.VisitProgress(visit)
	if fmt.Sprint(seen) != "[1 2 3 4]" {
		t.Errorf("visited %v, want 1 to 4 in order", seen)
	}
	if a := testing.AllocsPerRun(100, func() { n.VisitProgress(func(uint64, *Progress) {}); _ = n.BasicStatus() }); a != 0 {
		t.Errorf("%v allocations for VisitProgress and BasicStatus", a)
	}
}
