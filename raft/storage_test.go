package raft_test

import (
	"errors"
	"fmt"
	"testing"

	"lograft/raft"
)

// spoiltStorage answers like the storage in it, but for what a hook says.
type spoiltStorage struct {
	*raft.MemoryStorage
	entries  func(got []raft.Entry, lo, hi uint64, c raft.EntriesContext) ([]raft.Entry, error)
	term     func(i uint64) (uint64, error)
	snapshot func() (raft.Snapshot, error)
	reads    int // calls of Entries
	terms    int // calls of Term
}

func (s *spoiltStorage) Entries(dst []raft.Entry, lo, hi, maxBytes uint64, c raft.EntriesContext) ([]raft.Entry, error) {
	s.reads++
	got, err := s.MemoryStorage.Entries(nil, lo, hi, maxBytes, c)
	if s.entries != nil {
		got, err = s.entries(got, lo, hi, c)
	}
	return append(dst, got...), err
}

func (s *spoiltStorage) Term(i uint64) (uint64, error) {
	s.terms++
	if s.term != nil {
		if t, err := s.term(i); t != 0 || err != nil {
			return t, err
		}
	}
	return s.MemoryStorage.Term(i)
}

func (s *spoiltStorage) Snapshot(requestIndex, to uint64) (raft.Snapshot, error) {
	if s.snapshot != nil {
		return s.snapshot()
	}
	return s.MemoryStorage.Snapshot(requestIndex, to)
}

// spoiltLeader leads a group of three, its storage holding six entries after the birth; 2 holds all of them, 3 none. Nothing is spoilt yet.
func spoiltLeader(t *testing.T, change func(*raft.Config)) (*group, *spoiltStorage) {
	g := newGroup(t, 3, change)
	m := g.n(1)
	st := &spoiltStorage{MemoryStorage: m.st}
	raw, err := raft.NewRawNode(m.cfg, st)
	g.must(err)
	m.raw = raw
	g.elect(1)
	g.lose = isolated(3)
	for range 5 {
		g.must(m.raw.Propose(nil, []byte("x")))
		g.run()
	}
	return g, st
}

// Storage that breaks its contract poisons the node with one FatalError that names the place; the process decides what to do.
func TestStorageThatBreaksItsContract(t *testing.T) {
	errDisk := errors.New("disk")
	type spoil = func(*spoiltStorage)
	entries := func(change func(got []raft.Entry) ([]raft.Entry, error)) spoil {
		return func(s *spoiltStorage) {
			s.entries = func(got []raft.Entry, _, _ uint64, _ raft.EntriesContext) ([]raft.Entry, error) { return change(got) }
		}
	}
	for name, c := range map[string]struct {
		spoil       spoil
		index, term uint64
		cause       error
	}{
		"a gap":          {entries(func(e []raft.Entry) ([]raft.Entry, error) { return append(e[:1:1], e[2:]...), nil }), 4, 2, nil},
		"begins late":    {entries(func(e []raft.Entry) ([]raft.Entry, error) { return e[1:], nil }), 3, 2, nil},
		"nothing":        {entries(func([]raft.Entry) ([]raft.Entry, error) { return nil, nil }), 3, 0, nil},
		"more than all":  {entries(func(e []raft.Entry) ([]raft.Entry, error) { return append(e, raft.Entry{Term: 2, Index: 8}), nil }), 3, 0, nil},
		"a falling term": {entries(func(e []raft.Entry) ([]raft.Entry, error) { e[1].Term = 1; return e, nil }), 4, 1, nil},
		"a later term":   {entries(func(e []raft.Entry) ([]raft.Entry, error) { e[len(e)-1].Term = 9; return e, nil }), 7, 9, nil},
		"an older term": {entries(func(e []raft.Entry) ([]raft.Entry, error) {
			for i := range e {
				e[i].Term = 1
			}
			return e, nil
		}), 7, 1, nil},
		"an error":      {entries(func([]raft.Entry) ([]raft.Entry, error) { return nil, errDisk }), 3, 2, errDisk},
		"unavailable":   {entries(func([]raft.Entry) ([]raft.Entry, error) { return nil, raft.ErrUnavailable }), 3, 2, raft.ErrUnavailable},
		"term unknown":  {func(s *spoiltStorage) { s.term = func(uint64) (uint64, error) { return 0, raft.ErrUnavailable } }, 2, 0, raft.ErrUnavailable},
		"term error":    {func(s *spoiltStorage) { s.term = func(uint64) (uint64, error) { return 0, errDisk } }, 2, 2, errDisk},
		"no snapshot":   {func(s *spoiltStorage) { noSnapshot(s, raft.Snapshot{}, nil) }, 3, 2, nil},
		"snapshot gone": {func(s *spoiltStorage) { noSnapshot(s, raft.Snapshot{}, errDisk) }, 3, 2, errDisk},
	} {
		t.Run(name, func(t *testing.T) {
			g, st := spoiltLeader(t, nil)
			c.spoil(st)
			raw := g.n(1).raw
			raw.ReportUnreachable(3) // which holds 2, and is heard again: the leader reads what it lacks
			err := raw.Step(raft.Message{Type: raft.MsgHeartbeatResponse, From: 3, To: 1, Term: 2, Commit: 2})
			var fatal *raft.FatalError
			if !errors.As(err, &fatal) || raw.Err() != err {
				t.Fatalf("%v, and Err() is %v: want one FatalError", err, raw.Err())
			}
			if fatal.Index != c.index || fatal.Term != c.term || fatal.Op == "" || c.cause != nil && !errors.Is(err, c.cause) {
				t.Errorf("%v: want index %d, term %d, cause %v", err, c.index, c.term, c.cause)
			}
			if raw.HasReady() || raw.Propose(nil, nil) != err {
				t.Error("it goes on")
			}
		})
	}
}

func noSnapshot(s *spoiltStorage, snap raft.Snapshot, err error) {
	s.term = func(i uint64) (uint64, error) {
		if i < 7 {
			return 0, raft.ErrCompacted
		}
		return 0, nil
	}
	s.snapshot = func() (raft.Snapshot, error) { return snap, err }
}

// What is to be applied must be there: an error, a wrong term or a compaction that ran ahead is fatal, and only once.
func TestStorageMustHoldWhatIsToBeApplied(t *testing.T) {
	for name, spoil := range map[string]func(got []raft.Entry) ([]raft.Entry, error){
		"compacted": func([]raft.Entry) ([]raft.Entry, error) { return nil, raft.ErrCompacted },
		"fetching":  func([]raft.Entry) ([]raft.Entry, error) { return nil, raft.ErrLogTemporarilyUnavailable }, // CanAsync says no
		"wrong term": func(got []raft.Entry) ([]raft.Entry, error) {
			got[len(got)-1].Term++
			return got, nil
		},
	} {
		g := newGroup(t, 1, func(c *raft.Config) { c.MaxCommittedSizePerReady = 1 })
		m := g.n(1)
		st := &spoiltStorage{MemoryStorage: m.st}
		raw, err := raft.NewRawNode(m.cfg, st)
		g.must(err)
		m.raw = raw
		g.elect(1)
		st.entries = func(got []raft.Entry, _, _ uint64, c raft.EntriesContext) ([]raft.Entry, error) {
			if c.CanAsync() || c.To() != 0 {
				t.Errorf("entries to be applied are asked for peer %d, asynchronously %t", c.To(), c.CanAsync())
			}
			return spoil(got)
		}
		g.must(raw.Propose(nil, []byte("x")))
		g.run()
		var fatal *raft.FatalError
		if !errors.As(raw.Err(), &fatal) || fatal.Index != 3 || fatal.Term < 2 {
			t.Errorf("%s: %v, want a FatalError at index 3", name, raw.Err())
		}
		if len(m.applied) != 1 {
			t.Errorf("%s: applied %d entries, want the term's own only", name, len(m.applied))
		}
	}
}

// A log that was compacted beyond what was handed out leaves a hole in the state machine: that is fatal, not skipped.
func TestCompactionAheadOfApplyIsFatal(t *testing.T) {
	g := newGroup(t, 1, func(c *raft.Config) { c.MaxCommittedSizePerReady = 1 })
	g.elect(1)
	m := g.n(1)
	for range 3 {
		g.must(m.raw.Propose(nil, []byte("x")))
	}
	rd := m.raw.Ready()
	g.persist(m, rd)
	m.raw.AdvanceAppend(rd) // one page of the three is handed out
	g.must(m.st.Compact(4))
	for m.raw.HasReady() {
		m.raw.AdvanceAppend(m.raw.Ready())
	}
	var fatal *raft.FatalError
	if !errors.As(m.raw.Err(), &fatal) || fatal.Index != 4 || !errors.Is(fatal, raft.ErrCompacted) {
		t.Fatalf("%v, want a FatalError: entry 4 is gone and was never applied", m.raw.Err())
	}
}

// A damaged range under repair stalls what needs it and nothing else; it is never fatal, wrapped or not.
func TestDamagedEntriesAreNeverFatal(t *testing.T) {
	damaged := fmt.Errorf("checksum of frame 7: %w", raft.ErrEntryFaulty)
	g, st := spoiltLeader(t, nil)
	raw := g.n(1).raw
	hear3 := raft.Message{Type: raft.MsgHeartbeatResponse, From: 3, To: 1, Term: 2, Commit: 2}
	raw.ReportUnreachable(3)
	st.term = func(i uint64) (uint64, error) {
		if i == 2 {
			return 0, damaged
		}
		return 0, nil
	}
	g.must(raw.Step(hear3)) // sending: the term before the first entry
	st.term = nil
	st.entries = func([]raft.Entry, uint64, uint64, raft.EntriesContext) ([]raft.Entry, error) { return nil, damaged }
	g.must(raw.Step(hear3)) // sending: entries
	st.snapshot = func() (raft.Snapshot, error) { return raft.Snapshot{}, damaged }
	g.must(raw.Step(raft.Message{Type: raft.MsgAppendResponse, From: 2, To: 1, Term: 2, Index: 2, Reject: true, RejectHint: 7, LogTerm: 2, RequestSnapshot: 7}))
	if raw.Err() != nil {
		t.Fatal(raw.Err())
	}
	g.must(raw.Propose(nil, []byte("y"))) // applying
	g.lose = nil
	before := len(g.n(1).applied)
	for range 3 {
		g.tick(1, 1)
		g.run()
	}
	if raw.Err() != nil || len(g.n(1).applied) != before {
		t.Fatalf("error %v, %d applied over a damaged range", raw.Err(), len(g.n(1).applied)-before)
	}
	st.entries, st.term, st.snapshot = nil, nil, nil
	for range 3 {
		g.tick(1, 1)
		g.run()
	}
	if got := g.hard(3).Commit; got != 8 || len(g.n(1).applied) == before {
		t.Fatalf("after the repair node 3 has committed %d, want 8; node 1 applied %d more", got, len(g.n(1).applied)-before)
	}

	// A follower whose check of an append meets the damage gives no answer at all.
	st = &spoiltStorage{MemoryStorage: g.n(2).st}
	g.n(2).cfg.Applied = g.n(2).raw.BasicStatus().Applied
	two, err := raft.NewRawNode(g.n(2).cfg, st)
	g.must(err)
	g.n(2).raw = two
	last := two.BasicStatus().LastIndex
	g.must(g.n(2).st.Append([]raft.Entry{{Term: 2, Index: last + 1}, {Term: 2, Index: last + 2}}))
	g.n(2).start(t)
	two, err = raft.NewRawNode(g.n(2).cfg, st)
	g.must(err)
	g.n(2).raw = two
	st.term = func(uint64) (uint64, error) { return 0, damaged }
	g.sent, g.wire = nil, nil
	g.must(two.Step(raft.Message{Type: raft.MsgAppend, From: 1, To: 2, Term: 2, Index: last + 1, LogTerm: 2}))
	g.drive(2)
	if n := len(g.sent); n != 0 || two.Err() != nil {
		t.Fatalf("%d answers, error %v: want silence", n, two.Err())
	}
}

type numbers struct{ first, last uint64 }

// numbered is a storage that counts wrongly.
type numbered struct {
	*raft.MemoryStorage
	n numbers
}

func (s *numbered) FirstIndex() (uint64, error) { return s.n.first, nil }
func (s *numbered) LastIndex() (uint64, error)  { return s.n.last, nil }
func (s *numbered) Term(uint64) (uint64, error) { return 1, nil }

// What is to be applied waits for the repair of a damaged entry, is tried again at each tick, and is not fatal.
func TestApplyWaitsForTheRepair(t *testing.T) {
	g := newGroup(t, 1, nil)
	m := g.n(1)
	st := &spoiltStorage{MemoryStorage: m.st}
	raw, err := raft.NewRawNode(m.cfg, st)
	g.must(err)
	m.raw = raw
	g.elect(1)
	st.entries = func([]raft.Entry, uint64, uint64, raft.EntriesContext) ([]raft.Entry, error) {
		return nil, fmt.Errorf("checksum of frame 3: %w", raft.ErrEntryFaulty)
	}
	g.must(raw.Propose(nil, []byte("x")))
	g.run()
	reads := st.reads
	if raw.HasReady() {
		t.Error("a stalled apply asks to be driven")
	}
	if got := raw.IdleTicks(); got != 0 {
		t.Errorf("%d idle ticks, want 0: the next one tries again", got)
	}
	for range 3 {
		g.tick(1, 1)
		g.run()
	}
	if raw.Err() != nil || len(m.applied) != 1 || st.reads != reads+3 {
		t.Fatalf("error %v, %d applied, %d reads in 3 ticks", raw.Err(), len(m.applied), st.reads-reads)
	}
	st.entries = nil
	g.tick(1, 1)
	g.run()
	if len(m.applied) != 2 {
		t.Errorf("%d applied after the repair, want 2", len(m.applied))
	}
}

// Storage says at birth what can't be a log.
func TestStorageThatCannotBeOpened(t *testing.T) {
	cfg := raft.DefaultConfig(1)
	cfg.Rand = func(int) int { return 0 }
	good := func() *raft.MemoryStorage {
		st := raft.NewMemoryStorageWithConfState(raft.ConfState{Voters: []uint64{1}})
		if err := st.Append([]raft.Entry{{Term: 1, Index: 1}}); err != nil {
			t.Fatal(err)
		}
		return st
	}
	if _, err := raft.NewRawNode(cfg, good()); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*raft.MemoryStorage){
		"commit beyond the log": func(st *raft.MemoryStorage) { st.SetHardState(raft.HardState{Term: 1, Commit: 2}) },
		"term of 32 bits":       func(st *raft.MemoryStorage) { st.SetHardState(raft.HardState{Term: 1 << 31}) },
		"voter and learner": func(st *raft.MemoryStorage) {
			st.SetConfState(raft.ConfState{Voters: []uint64{1}, Learners: []uint64{1}})
		},
		"a reserved id":          func(st *raft.MemoryStorage) { st.SetConfState(raft.ConfState{Voters: []uint64{0}}) },
		"one id twice":           func(st *raft.MemoryStorage) { st.SetConfState(raft.ConfState{Voters: []uint64{1, 1}}) },
		"auto-leave, not joint":  func(st *raft.MemoryStorage) { st.SetConfState(raft.ConfState{Voters: []uint64{1}, AutoLeave: true}) },
		"outgoing, not incoming": func(st *raft.MemoryStorage) { st.SetConfState(raft.ConfState{VotersOutgoing: []uint64{1}}) },
		"next learner is nobody": func(st *raft.MemoryStorage) {
			st.SetConfState(raft.ConfState{Voters: []uint64{1}, VotersOutgoing: []uint64{1}, LearnersNext: []uint64{2}})
		},
	} {
		st := good()
		spoil(st)
		var fatal *raft.FatalError
		if n, err := raft.NewRawNode(cfg, st); !errors.As(err, &fatal) || n != nil {
			t.Errorf("%s: %v, want a FatalError", name, err)
		}
	}
	for name, bad := range map[string]numbers{"no first index": {0, 1}, "ends before it begins": {4, 2}, "indexes without bound": {1 << 63, 1<<63 + 5}} {
		if n, err := raft.NewRawNode(cfg, &numbered{good(), bad}); err == nil || n != nil {
			t.Errorf("%s: no error", name)
		}
	}
	cfg.Applied = 2
	if _, err := raft.NewRawNode(cfg, good()); err == nil {
		t.Error("applied is beyond the log: no error")
	}
	cfg.Applied = 0
	if _, err := raft.NewRawNode(cfg, nil); err == nil {
		t.Error("no storage: no error")
	}
}

// MemoryStorage keeps the contract of Storage and refuses what would break it.
func TestMemoryStorage(t *testing.T) {
	st := raft.NewMemoryStorage()
	check := func(what string, got, want error) {
		t.Helper()
		if !errors.Is(got, want) || want == nil && got != nil {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := st.Snapshot(0, 2)
	check("no snapshot yet", err, raft.ErrSnapshotTemporarilyUnavailable)
	must(st.Append([]raft.Entry{{Term: 1, Index: 1}, {Term: 1, Index: 2}, {Term: 2, Index: 3}, {Term: 2, Index: 4}}))
	if st.Append([]raft.Entry{{Term: 2, Index: 6}}) == nil {
		t.Error("a gap was appended")
	}
	must(st.Append([]raft.Entry{{Term: 3, Index: 3, Data: []byte("abcd")}})) // cuts 4 off
	if last, err := st.LastIndex(); err != nil || last != 3 {
		t.Fatalf("last index %d, %v, want 3: an append overwrites from its first index on", last, err)
	}
	must(st.Append([]raft.Entry{{Term: 3, Index: 4, Data: []byte("efgh")}, {Term: 3, Index: 5, Data: []byte("ijkl")}}))
	got, err := st.Entries(nil, 3, 6, 0, raft.EntriesContext{})
	if err != nil || len(got) != 1 {
		t.Errorf("%d entries, %v: want at least one, and no more than the limit allows", len(got), err)
	}
	got, err = st.Entries(got, 4, 6, 8, raft.EntriesContext{})
	if err != nil || len(got) != 3 || got[0].Index != 3 || got[2].Index != 5 {
		t.Errorf("%v, %v: want 4 and 5 appended to 3", got, err)
	}
	_, err = st.Entries(nil, 4, 7, 8, raft.EntriesContext{})
	check("beyond the end", err, raft.ErrUnavailable)
	check("compaction beyond the end", st.Compact(6), raft.ErrUnavailable)
	cs := raft.ConfState{Voters: []uint64{1, 2}}
	snap, err := st.CreateSnapshot(4, &cs, []byte("state"))
	if err != nil || snap.Metadata.Index != 4 || snap.Metadata.Term != 3 || string(snap.Data) != "state" || len(snap.Metadata.ConfState.Voters) != 2 {
		t.Fatalf("snapshot %+v, %v", snap, err)
	}
	older := snap
	older.Metadata.Index = 3
	check("a snapshot before the last, in the log still", st.ApplySnapshot(older), raft.ErrSnapshotOutOfDate)
	_, err = st.CreateSnapshot(3, nil, nil)
	check("a snapshot older than the last", err, raft.ErrSnapshotOutOfDate)
	_, err = st.CreateSnapshot(6, nil, nil)
	check("a snapshot of what is not there", err, raft.ErrUnavailable)
	_, err = st.Snapshot(5, 2)
	check("a later snapshot is wanted", err, raft.ErrSnapshotTemporarilyUnavailable)
	must(st.Compact(4))
	check("compaction again", st.Compact(4), raft.ErrCompacted)
	if first, _ := st.FirstIndex(); first != 5 {
		t.Errorf("first index %d after compaction of 4, want 5", first)
	}
	if term, err := st.Term(4); err != nil || term != 3 {
		t.Errorf("term of the boundary: %d, %v, want 3", term, err)
	}
	_, err = st.Term(3)
	check("term below the boundary", err, raft.ErrCompacted)
	_, err = st.Term(6)
	check("term beyond the end", err, raft.ErrUnavailable)
	_, err = st.Entries(nil, 4, 6, 8, raft.EntriesContext{})
	check("entries below the boundary", err, raft.ErrCompacted)
	if s, err := st.Snapshot(4, 2); err != nil || s.Metadata.Index != 4 {
		t.Errorf("snapshot %+v, %v: it reaches the log's start", s.Metadata, err)
	}
	must(st.Compact(5))
	_, err = st.Snapshot(4, 2)
	check("the log does not go on from it", err, raft.ErrSnapshotTemporarilyUnavailable)
	check("a snapshot older than the log", st.ApplySnapshot(snap), raft.ErrSnapshotOutOfDate)
	st.SetHardState(raft.HardState{Term: 2, Vote: 1, Commit: 3})
	snap.Metadata.Index, snap.Metadata.Term = 9, 4
	must(st.ApplySnapshot(snap))
	hs, conf, _ := st.InitialState()
	last, _ := st.LastIndex()
	if hs.Commit != 9 || hs.Term != 4 || len(conf.Voters) != 2 || last != 9 {
		t.Errorf("after a snapshot: %+v, %+v, last %d", hs, conf, last)
	}
	snap.Metadata.Index = 8
	check("an older snapshot", st.ApplySnapshot(snap), raft.ErrSnapshotOutOfDate)
	must(st.Append([]raft.Entry{{Term: 4, Index: 8}, {Term: 4, Index: 9}, {Term: 4, Index: 10}})) // two of them are in the snapshot
	if first, _ := st.FirstIndex(); first != 10 {
		t.Errorf("first index %d, want 10", first)
	}
}
