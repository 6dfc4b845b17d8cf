package raft_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"lograft/raft"
)

type events []raft.Event

func (e *events) Trace(ev raft.Event) { *e = append(*e, ev) }

// A tracer hears what happens, and decides nothing: the same run without it sends the same messages.
func TestTracerOnlyListens(t *testing.T) {
	run := func(tracer raft.Tracer) string {
		g := newGroup(t, 3, func(c *raft.Config) { c.Tracer = tracer; c.PreVote = true })
		g.elect(1)
		g.must(g.n(1).raw.Propose(nil, []byte("x")))
		g.run()
		g.n(1).raw.TransferLeader(2)
		g.run()
		return fmt.Sprintf("%+v", g.sent)
	}
	var heard events
	if run(&heard) != run(nil) {
		t.Error("a tracer changes what is sent")
	}
	kinds := map[string]raft.Event{}
	for _, e := range heard {
		kinds[e.Kind] = e
	}
	for _, kind := range []string{"become_pre_candidate", "become_candidate", "become_leader", "become_follower", "vote", "commit", "transfer"} {
		if e, ok := kinds[kind]; !ok || e.Node == 0 {
			t.Errorf("no event %s with its node: %+v", kind, e)
		}
	}
	if e := kinds["become_leader"]; e.Node != 2 || e.Term != 3 {
		t.Errorf("the last to lead was 2 in term 3: %+v", e)
	}
}

// Roles, messages and states have names, numbers nobody knows included, and a refusal reads like a sentence.
func TestNames(t *testing.T) {
	for got, want := range map[fmt.Stringer]string{
		raft.StateFollower: "follower", raft.StateCandidate: "candidate", raft.StateLeader: "leader", raft.StatePreCandidate: "pre-candidate", raft.StateRole(9): "unknown",
		raft.MsgHup: "MsgHup", raft.MsgRequestPreVoteResponse: "MsgRequestPreVoteResponse", raft.MessageType(19): "unknown",
		raft.ProgressProbe: "probe", raft.ProgressReplicate: "replicate", raft.ProgressSnapshot: "snapshot", raft.ProgressState(9): "unknown",
	} {
		if got.String() != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	g := newGroup(t, 3, nil)
	if err := g.n(1).raw.Propose(nil, nil); err.Error() != "raft: proposal dropped: no leader is known" {
		t.Errorf("%q", err)
	}
	fatal := &raft.FatalError{Op: "op", Index: 7, Term: 3, Err: errors.New("why")}
	if s := fatal.Error(); !strings.Contains(s, "7") || !strings.Contains(s, "3") || !strings.Contains(s, "why") {
		t.Errorf("%q", s)
	}
}

// A node whose last entry is damaged can't compare logs: it neither stands nor votes, and does both again once the entry is repaired.
func TestDamagedLastEntry(t *testing.T) {
	g := newGroup(t, 3, nil)
	m := g.n(2)
	g.must(m.st.Append([]raft.Entry{{Term: 1, Index: 2}}))
	st := &spoiltStorage{MemoryStorage: m.st}
	st.term = func(i uint64) (uint64, error) {
		if i == 2 {
			return 0, fmt.Errorf("frame: %w", raft.ErrEntryFaulty)
		}
		return 0, nil
	}
	raw, err := raft.NewRawNode(m.cfg, st)
	g.must(err)
	m.raw = raw
	votes := func(term uint64) bool {
		g.sent, g.wire = nil, nil
		g.must(raw.Step(raft.Message{Type: raft.MsgRequestVote, From: 1, To: 2, Term: term, LogTerm: 1, Index: 5}))
		g.drive(2)
		a := g.sentOf(raft.MsgRequestVoteResponse)
		return len(a) == 1 && !a[0].Reject
	}
	if err := raw.Campaign(); !errors.Is(err, raft.ErrNotPromotable) {
		t.Errorf("Campaign: %v", err)
	}
	if votes(3) {
		t.Error("it votes without knowing its own log")
	}
	if raw.Err() != nil {
		t.Fatal(raw.Err())
	}
	st.term = nil
	if !votes(4) {
		t.Error("the entry is repaired, and it still votes for nobody")
	}
	if err := raw.Campaign(); err != nil || g.role(2) != raft.StateCandidate {
		t.Errorf("the entry is repaired: %v, %v", err, g.role(2))
	}
}

// What a vote says of the commit index is nothing when the committed entry's term is not known.
func TestVoteWithADamagedCommit(t *testing.T) {
	g, st := longLog(t, 3)
	st.term = func(i uint64) (uint64, error) {
		if i == 1 {
			return 0, raft.ErrEntryFaulty
		}
		return 0, nil
	}
	g.must(g.n(2).raw.Step(raft.Message{Type: raft.MsgRequestVote, From: 1, To: 2, Term: 6, LogTerm: 6, Index: 9}))
	g.drive(2)
	if a := g.sentOf(raft.MsgRequestVoteResponse); len(a) != 1 || a[0].Reject || a[0].Commit != 0 || a[0].CommitTerm != 0 {
		t.Errorf("%+v, want a grant that says nothing of a commit", a)
	}
}

// Storage that fails at birth is told as a FatalError, whichever call it was.
func TestStorageFailsAtBirth(t *testing.T) {
	errDisk := errors.New("disk")
	for _, call := range []string{"InitialState", "FirstIndex", "LastIndex", "Term"} {
		st := &failingStorage{raft.NewMemoryStorage(), call, errDisk}
		var fatal *raft.FatalError
		if n, err := raft.NewRawNode(sound(1), st); n != nil || !errors.As(err, &fatal) || !errors.Is(err, errDisk) {
			t.Errorf("%s: %v", call, err)
		}
	}
}

type failingStorage struct {
	*raft.MemoryStorage
	call string
	err  error
}

func (s *failingStorage) InitialState() (raft.HardState, raft.ConfState, error) {
	hs, cs, err := s.MemoryStorage.InitialState()
	if s.call == "InitialState" {
		err = s.err
	}
	return hs, cs, err
}

func (s *failingStorage) FirstIndex() (uint64, error) {
	if s.call == "FirstIndex" {
		return 0, s.err
	}
	return s.MemoryStorage.FirstIndex()
}

func (s *failingStorage) LastIndex() (uint64, error) {
	if s.call == "LastIndex" {
		return 0, s.err
	}
	return s.MemoryStorage.LastIndex()
}

func (s *failingStorage) Term(i uint64) (uint64, error) {
	if s.call == "Term" {
		return 0, s.err
	}
	return s.MemoryStorage.Term(i)
}

// Whatever call it is that meets a failing disk returns the FatalError.
func TestEveryCallTellsTheFatalError(t *testing.T) {
	errDisk := errors.New("disk")
	fail := func([]raft.Entry, uint64, uint64, raft.EntriesContext) ([]raft.Entry, error) { return nil, errDisk }
	g, st := spoiltLeader(t, nil)
	g.n(1).raw.ReportUnreachable(3)
	st.entries = fail
	if err := g.n(1).raw.Propose(nil, []byte("x")); !errors.Is(err, errDisk) || err != g.n(1).raw.Err() {
		t.Errorf("Propose: %v", err)
	}

	g, st = longLog(t, 3)
	g.must(g.n(2).raw.Step(raft.Message{Type: raft.MsgAppend, From: 1, To: 2, Term: 5, Index: 4, LogTerm: 5, Commit: 4}))
	st.entries = fail
	if err := g.n(2).raw.Campaign(); !errors.Is(err, errDisk) || err != g.n(2).raw.Err() {
		t.Errorf("Campaign: %v", err)
	}

	g, st = longLog(t, 3) // damaged is another matter
	g.must(g.n(2).raw.Step(raft.Message{Type: raft.MsgAppend, From: 1, To: 2, Term: 5, Index: 4, LogTerm: 5, Commit: 4}))
	st.entries = func([]raft.Entry, uint64, uint64, raft.EntriesContext) ([]raft.Entry, error) {
		return nil, raft.ErrEntryFaulty
	}
	if err := g.n(2).raw.Campaign(); !errors.Is(err, raft.ErrNotPromotable) || g.n(2).raw.Err() != nil {
		t.Errorf("Campaign over damaged entries: %v", err)
	}

	g, st = spoiltLeader(t, nil)
	g.lose = isolated(2, 3)
	g.must(g.n(1).raw.Propose(nil, []byte("8")))
	g.must(g.n(1).raw.Propose(nil, []byte("9")))
	g.run()
	st.term = func(i uint64) (uint64, error) {
		if i == 8 {
			return 0, errDisk
		}
		return 0, nil
	}
	if err := g.n(1).raw.Step(raft.Message{Type: raft.MsgAppendResponse, From: 2, To: 1, Term: 2, Index: 8}); !errors.Is(err, errDisk) || err != g.n(1).raw.Err() {
		t.Errorf("Step of the answer that commits: %v", err)
	}

	for _, at := range []uint64{3, 4} { // the entry before those of the message, and one of them
		g, st = longLog(t, 6)
		st.term = func(i uint64) (uint64, error) {
			if i == at {
				return 0, errDisk
			}
			return 0, nil
		}
		m := raft.Message{Type: raft.MsgAppend, From: 1, To: 2, Term: 6, Index: 3, LogTerm: 5, Entries: []raft.Entry{{Term: 5, Index: 4}, {Term: 6, Index: 5}}}
		if err := g.n(2).raw.Step(m); !errors.Is(err, errDisk) || err != g.n(2).raw.Err() {
			t.Errorf("Step, entry %d: %v", at, err)
		}
	}

	g = newGroupOf(t, raft.ConfState{Voters: []uint64{1}, Learners: []uint64{2}}, nil)
	m := g.n(1)
	st = &spoiltStorage{MemoryStorage: m.st}
	raw, err := raft.NewRawNode(m.cfg, st)
	g.must(err)
	m.raw = raw
	g.elect(1)
	raw.ReportUnreachable(2)
	g.lose = isolated(2)
	g.must(raw.Propose(nil, []byte("x")))
	g.run()
	raw.ReportUnreachable(2)
	g.must(raw.Step(raft.Message{Type: raft.MsgHeartbeatResponse, From: 2, To: 1, Term: 2, Commit: 2}))
	rd := raw.Ready()
	g.persist(m, rd)
	raw.Advance(rd)
	g.must(raw.Step(raft.Message{Type: raft.MsgAppendResponse, From: 2, To: 1, Term: 2, Index: 2}))
	g.must(raw.Propose(nil, []byte("y")))
	raw.ReportUnreachable(2) // so that the commit, told at once, reads what it lacks
	rd = raw.Ready()
	g.persist(m, rd)
	st.entries = fail
	if light := raw.AdvanceAppend(rd); light == nil || len(light.Messages)+len(light.CommittedEntries) != 0 || !errors.Is(raw.Err(), errDisk) {
		t.Errorf("AdvanceAppend: %+v, %v", light, raw.Err())
	}
}

// What Storage holds and what it does not hold yet are joined within the limit of a message.
func TestPagesJoinWithinTheLimit(t *testing.T) {
	g := newGroup(t, 3, func(c *raft.Config) { c.MaxSizePerMsg = 100 })
	g.elect(1)
	g.lose = isolated(3)
	for range 3 {
		g.must(g.n(1).raw.Propose(nil, make([]byte, 30)))
	}
	g.run()
	g.n(1).raw.ReportUnreachable(3)
	for range 3 {
		g.must(g.n(1).raw.Propose(nil, make([]byte, 30))) // in no Ready yet
	}
	g.sent, g.wire = nil, nil
	g.must(g.n(1).raw.Step(raft.Message{Type: raft.MsgAppendResponse, From: 3, To: 1, Term: 2, Index: 4}))
	g.drive(1)
	var got []int
	for _, m := range g.sentOf(raft.MsgAppend) {
		if m.To == 3 && m.Index >= 4 {
			got = append(got, len(m.Entries))
		}
	}
	if !slices.Equal(got, []int{3, 1}) {
		t.Errorf("entries of 30 bytes in messages of 100: %v, want 3 (one of them stored) and 1", got)
	}
}

// A conflict with entries that are in no Ready yet cuts them, and what was agreed stays.
func TestConflictBeforeTheReady(t *testing.T) {
	g := newGroup(t, 3, nil)
	two := g.n(2).raw
	entries := func(from uint64, terms ...uint64) (es []raft.Entry) {
		for i, term := range terms {
			es = append(es, raft.Entry{Term: term, Index: from + uint64(i), Data: fmt.Appendf(nil, "%d/%d", term, from+uint64(i))})
		}
		return es
	}
	g.must(two.Step(raft.Message{Type: raft.MsgAppend, From: 1, To: 2, Term: 2, LogTerm: 1, Index: 1, Entries: entries(2, 2, 2, 2, 2)}))
	g.must(two.Step(raft.Message{Type: raft.MsgAppend, From: 3, To: 2, Term: 3, LogTerm: 2, Index: 2, Entries: entries(3, 2, 3)}))
	rd := two.Ready()
	var got []string
	for _, e := range rd.Entries {
		got = append(got, string(e.Data))
	}
	if want := []string{"2/2", "2/3", "3/4"}; !slices.Equal(got, want) {
		t.Errorf("entries %q, want %q", got, want)
	}
}

// Entries that a tick adds beside an outstanding Ready come in the next one.
func TestTickAddsEntriesBesideAReady(t *testing.T) {
	g := newGroup(t, 1, nil)
	m := g.n(1)
	g.must(m.raw.Step(raft.Message{Type: raft.MsgAppend, From: 9, To: 1, Term: 2, LogTerm: 1, Index: 1, Entries: []raft.Entry{{Term: 2, Index: 2}, {Term: 2, Index: 3}}}))
	rd := m.raw.Ready()
	g.persist(m, rd)
	if len(rd.Entries) != 2 {
		t.Fatalf("%d entries", len(rd.Entries))
	}
	g.tick(1, 20) // the only voter elects itself
	if g.role(1) != raft.StateLeader || len(rd.Entries) != 2 {
		t.Fatalf("%v, %d entries in the Ready", g.role(1), len(rd.Entries))
	}
	m.raw.Advance(rd)
	rd = m.raw.Ready()
	if len(rd.Entries) != 1 || rd.Entries[0].Index != 4 || rd.Entries[0].Term != 3 {
		t.Errorf("the next Ready brings %+v, want the leader's own entry 3/4", rd.Entries)
	}
}

// A rejection that a later acknowledgement has overtaken does not disturb a peer that replicates.
func TestLateRejection(t *testing.T) {
	g := newGroup(t, 3, nil)
	g.elect(1)
	g.must(g.n(1).raw.Propose(nil, []byte("x")))
	g.run()
	g.sent = nil
	g.must(g.n(1).raw.Step(raft.Message{Type: raft.MsgAppendResponse, From: 3, To: 1, Term: 2, Index: 2, Reject: true, RejectHint: 1, LogTerm: 1}))
	g.drive(1)
	if pr := g.progress(3); pr.State != raft.ProgressReplicate || pr.Next != 4 || len(g.sent) != 0 {
		t.Errorf("%+v, sent %v", pr, typesOf(g.sent))
	}
	g.must(g.n(1).raw.Step(raft.Message{Type: raft.MsgAppendResponse, From: 3, To: 1, Term: 2, Index: 4, Reject: true, RejectHint: 3, LogTerm: 2}))
	if pr := g.progress(3); pr.State != raft.ProgressProbe || pr.Next != 4 {
		t.Errorf("after a rejection in time: %+v, want a probe behind what is acknowledged", pr)
	}
}

// A change that the app passed over, because it could not read it, does not stand in the way of a later one.
func TestPassedOverChange(t *testing.T) {
	g := newGroup(t, 3, nil)
	g.elect(1)
	m := g.n(2)
	g.must(m.raw.Step(raft.Message{Type: raft.MsgAppend, From: 1, To: 2, Term: 2, LogTerm: 2, Index: 2, Commit: 3,
		Entries: []raft.Entry{{Type: raft.EntryConfChange, Term: 2, Index: 3, Data: []byte{0xff}}}}))
	rd := m.raw.Ready()
	g.persist(m, rd)
	m.raw.AdvanceAppend(rd)
	m.raw.AdvanceApply() // without ApplyConfChange
	g.must(m.raw.Step(snapshotFrom1(9, 2)))
	rd = m.raw.Ready()
	g.persist(m, rd)
	m.raw.Advance(rd)
	if cs, err := m.raw.ApplyConfChange(raft.ConfChange{Type: raft.ConfChangeAddNode, NodeID: 4}); err != nil || len(cs.Voters) != 4 {
		t.Errorf("%+v, %v", cs, err)
	}
}

// Answers that come twice answer once.
func TestReadAnswerComesTwice(t *testing.T) {
	g := newGroup(t, 3, nil)
	g.elect(1)
	g.must(g.n(2).raw.ReadIndex([]byte("a")))
	g.must(g.n(2).raw.ReadIndex([]byte("b")))
	g.run()
	for _, m := range g.sentOf(raft.MsgReadIndexResp) {
		g.must(g.n(2).raw.Step(m))
	}
	g.run()
	if n := len(g.n(2).reads); n != 2 {
		t.Errorf("%d answers to 2 reads", n)
	}
}

// A lease outlives more rounds than are remembered.
func TestLeaseWithManyRounds(t *testing.T) {
	g := newLeaseGroup(t)
	for range 1000 {
		g.n(1).raw.Ping()
	}
	g.run()
	if !readAtOnce(g) {
		t.Error("the newest round is acknowledged, and there is no lease")
	}
}

// Without a limit per Ready everything committed comes at once; with a limit on what is applied unpersisted that can't be reached too.
func TestNoLimits(t *testing.T) {
	g := newGroup(t, 1, func(c *raft.Config) {
		c.MaxCommittedSizePerReady, c.MaxUncommittedSize, c.MaxInflightBytes, c.MaxApplyUnpersistedLogLimit = 0, 0, 0, 1<<64-1
	})
	g.elect(1)
	m := g.n(1)
	for range 40 {
		g.must(m.raw.Propose(nil, make([]byte, 1<<20)))
	}
	rd := m.raw.Ready()
	g.persist(m, rd)
	if light := m.raw.AdvanceAppend(rd); len(light.CommittedEntries) != 40 {
		t.Errorf("%d of 40 entries to apply", len(light.CommittedEntries))
	}
}

// Changes that the configuration does not allow are refused where they are applied, whoever let them into the log.
func TestChangesThatDoNotFit(t *testing.T) {
	two := raft.ConfChangeV2{Changes: []raft.ConfChangeSingle{{Type: raft.ConfChangeAddNode, NodeID: 6}, {Type: raft.ConfChangeAddNode, NodeID: 7}}}
	joint := newJointGroup(t, nil).n(1).raw
	for what, cc := range map[string]raft.ConfChanger{"simple": raft.ConfChange{Type: raft.ConfChangeAddNode, NodeID: 6}, "joint": two} {
		if _, err := joint.ApplyConfChange(cc); err == nil {
			t.Errorf("a %s change within a joint configuration: no error", what)
		}
	}
	if err := joint.ProposeConfChange(nil, two); err == nil {
		t.Error("a joint change is proposed within another")
	}
	nobody, err := raft.NewRawNode(sound(1), raft.NewMemoryStorage())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nobody.ApplyConfChange(two); err == nil {
		t.Error("a joint change of an empty configuration: no error")
	}
	if cs, err := nobody.ApplyConfChange(raft.ConfChange{Type: raft.ConfChangeAddNode, NodeID: 1}); err != nil || !slices.Equal(cs.Voters, []uint64{1}) {
		t.Errorf("the first member: %+v, %v", cs, err)
	}
}

// A leader whose removal commits, on the smaller quorum, all that it still led for, steps down in that very call.
func TestRemovalThatCommitsTheTail(t *testing.T) {
	g := newGroup(t, 4, nil)
	g.elect(1)
	m := g.n(1)
	remove := raft.ConfChange{Type: raft.ConfChangeRemoveNode, NodeID: 1}
	async := func() uint64 {
		rd := m.raw.Ready()
		g.persist(m, rd)
		g.send(rd.Messages)
		m.raw.AdvanceAppendAsync(rd)
		return rd.Number
	}
	g.must(m.raw.ProposeConfChange(nil, remove))
	number := async()
	g.must(m.raw.Propose(nil, []byte("tail")))
	async() // not on our disk
	m.raw.OnPersistReady(number)
	for from, index := range map[uint64]uint64{2: 4, 3: 4, 4: 3} {
		g.must(m.raw.Step(raft.Message{Type: raft.MsgAppendResponse, From: from, To: 1, Term: 2, Index: index}))
	}
	rd := m.raw.Ready()
	if len(rd.CommittedEntries) != 1 || rd.HardState.Commit != 3 {
		t.Fatalf("%d to apply, commit %d, want the removal", len(rd.CommittedEntries), rd.HardState.Commit)
	}
	if _, err := m.raw.ApplyConfChange(remove); err != nil {
		t.Fatal(err)
	}
	if hs := m.raw.BasicStatus(); hs.HardState.Commit != 4 || hs.SoftState.RaftState != raft.StateFollower {
		t.Errorf("commit %d as %v, want 4 and a follower", hs.HardState.Commit, hs.SoftState.RaftState)
	}
}

// A removed leader whose tail is acknowledged by a wish for a snapshot steps down like any other.
func TestRemovedLeaderAndAWish(t *testing.T) {
	g := removing(t)
	g.must(g.n(1).raw.Step(raft.Message{Type: raft.MsgAppendResponse, From: 2, To: 1, Term: 2, Index: 4}))
	g.must(g.n(1).raw.Step(raft.Message{Type: raft.MsgAppendResponse, From: 3, To: 1, Term: 2, Index: 3, Reject: true, RejectHint: 4, LogTerm: 2, RequestSnapshot: 4}))
	if got := g.hard(1).Commit; got != 4 || g.role(1) != raft.StateFollower {
		t.Errorf("commit %d as %v, want 4 and a follower", got, g.role(1))
	}
}

// What was overwritten proves nothing about what is stable, least of all when the entry before it can be read
// once, for the check of the append, and then not.
func TestOverwrittenBesideDamage(t *testing.T) {
	damaged, asked := false, 0
	g := newGroup(t, 3, nil)
	m := g.n(2)
	st := &spoiltStorage{MemoryStorage: m.st}
	st.term = func(i uint64) (uint64, error) {
		if damaged && i == 3 {
			if asked++; asked > 1 {
				return 0, raft.ErrEntryFaulty
			}
		}
		return 0, nil
	}
	raw, err := raft.NewRawNode(m.cfg, st)
	g.must(err)
	m.raw = raw
	entries := func(from uint64, terms ...uint64) (es []raft.Entry) {
		for i, term := range terms {
			es = append(es, raft.Entry{Term: term, Index: from + uint64(i)})
		}
		return es
	}
	async := func() uint64 {
		rd := raw.Ready()
		g.persist(m, rd)
		raw.AdvanceAppendAsync(rd)
		return rd.Number
	}
	g.must(raw.Step(raft.Message{Type: raft.MsgAppend, From: 1, To: 2, Term: 2, LogTerm: 1, Index: 1, Entries: entries(2, 2, 2, 2, 2)}))
	first := async()
	damaged = true
	g.must(raw.Step(raft.Message{Type: raft.MsgAppend, From: 3, To: 2, Term: 3, LogTerm: 2, Index: 3, Entries: entries(4, 3)}))
	second := async()
	damaged = false
	raw.OnPersistReady(first)
	if p := raw.BasicStatus().Persisted; p != 1 {
		t.Errorf("persisted %d by a Ready of which nothing is known, want 1", p)
	}
	raw.OnPersistReady(second)
	if s := raw.BasicStatus(); s.Persisted != 4 || s.LastIndex != 4 {
		t.Errorf("persisted %d of %d, want 4", s.Persisted, s.LastIndex)
	}
}

// What peers say of their commit index shows in their progress.
func TestCommitIndexOfPeers(t *testing.T) {
	g := newGroup(t, 3, nil)
	g.elect(1)
	g.lose = isolated(3)
	g.must(g.n(1).raw.Propose(nil, []byte("x")))
	g.run()
	g.tick(1, 1)
	g.run()
	if two, three := g.progress(2).CommittedIndex, g.progress(3).CommittedIndex; two != 3 || three != 2 {
		t.Errorf("peers have committed %d and %d, want 3 and 2", two, three)
	}
}

// Entries never join a queued message of an earlier term: nobody would take them.
func TestNothingJoinsAMessageOfAnEarlierTerm(t *testing.T) {
	g := newGroup(t, 3, func(c *raft.Config) { c.BatchAppend = true })
	g.elect(1)
	raw := g.n(1).raw
	g.must(raw.Propose(nil, []byte("x"))) // queued, and in no Ready yet
	g.must(raw.Step(raft.Message{Type: raft.MsgAppendResponse, From: 2, To: 1, Term: 3}))
	g.must(raw.Campaign())
	g.must(raw.Step(raft.Message{Type: raft.MsgRequestVoteResponse, From: 2, To: 1, Term: 4}))
	g.sent = nil
	g.drive(1)
	for _, m := range g.sentOf(raft.MsgAppend) {
		for _, e := range m.Entries {
			if e.Term > m.Term {
				t.Errorf("an entry of term %d in a message of term %d", e.Term, m.Term)
			}
		}
	}
	if g.role(1) != raft.StateLeader || g.hard(1).Term != 4 {
		t.Errorf("%v in term %d", g.role(1), g.hard(1).Term)
	}
}

// A wish for a transfer goes on to the leader in the name of who shall lead; it is done if that is the leader.
func TestTransferIsForwarded(t *testing.T) {
	g := newGroup(t, 3, nil)
	g.elect(1)
	for _, from := range []uint64{1, 3} {
		g.sent, g.wire = nil, nil
		g.must(g.n(2).raw.Step(raft.Message{Type: raft.MsgTransferLeader, From: from, To: 2}))
		g.drive(2)
		ms := g.sentOf(raft.MsgTransferLeader)
		if want := map[uint64]int{1: 0, 3: 1}[from]; len(ms) != want || want == 1 && (ms[0].To != 1 || ms[0].From != 3) {
			t.Errorf("transfer to %d: forwarded %+v", from, ms)
		}
	}
	g.run()
	if g.role(3) != raft.StateLeader {
		t.Errorf("node 3 is %v", g.role(3))
	}
}

// Who waits for a snapshot answers appends with the wish.
func TestAppendIsAnsweredWithTheWish(t *testing.T) {
	g := wishing(t)
	g.sent = nil
	g.must(g.n(2).raw.Step(raft.Message{Type: raft.MsgAppend, From: 1, To: 2, Term: 2, LogTerm: 2, Index: 5, Commit: 5}))
	g.drive(2)
	if a := g.sentOf(raft.MsgAppendResponse); len(a) != 1 || !a[0].Reject || a[0].RequestSnapshot != 5 || g.hard(2).Commit != 3 {
		t.Errorf("%+v with commit %d, want the wish for 5 and no commit", a, g.hard(2).Commit)
	}
}

// One entry leaves a joint configuration, however long it takes to commit.
func TestAutoLeaveProposesOnce(t *testing.T) {
	g := newGroup(t, 3, func(c *raft.Config) { c.CheckQuorum = false })
	g.elect(1)
	raw := g.n(1).raw
	g.lose = func(m *raft.Message) bool { // the leave entry reaches nobody
		return m.Type == raft.MsgAppend && len(m.Entries) > 0 && m.Entries[len(m.Entries)-1].Index == 4
	}
	g.must(raw.ProposeConfChange(nil, raft.ConfChangeV2{Transition: raft.ConfChangeTransitionImplicit,
		Changes: []raft.ConfChangeSingle{{Type: raft.ConfChangeAddLearnerNode, NodeID: 3}}}))
	g.run()
	for range 20 {
		g.tick(1, 1)
		g.run()
	}
	if s := raw.BasicStatus(); s.LastIndex != 4 || s.Applied != 3 {
		t.Errorf("the log ends at %d, applied %d, want 4 and 3", s.LastIndex, s.Applied)
	}
}

// Overwriting takes back what was stable.
func TestPersistedFallsWithAConflict(t *testing.T) {
	g := newGroup(t, 3, nil)
	m := g.n(2)
	g.must(m.raw.Step(raft.Message{Type: raft.MsgAppend, From: 1, To: 2, Term: 2, LogTerm: 1, Index: 1, Entries: []raft.Entry{{Term: 2, Index: 2}, {Term: 2, Index: 3}, {Term: 2, Index: 4}}}))
	g.drive(2)
	if p := m.raw.BasicStatus().Persisted; p != 4 {
		t.Fatalf("persisted %d, want 4", p)
	}
	g.must(m.raw.Step(raft.Message{Type: raft.MsgAppend, From: 3, To: 2, Term: 3, LogTerm: 2, Index: 2, Entries: []raft.Entry{{Term: 3, Index: 3}}}))
	if p := m.raw.BasicStatus().Persisted; p != 2 {
		t.Errorf("persisted %d after a conflict at 3, want 2", p)
	}
	g.drive(2)
	if s := m.raw.BasicStatus(); s.Persisted != 3 || s.LastIndex != 3 {
		t.Errorf("persisted %d of %d, want 3", s.Persisted, s.LastIndex)
	}
}
