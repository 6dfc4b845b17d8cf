package raft_test

import (
	"slices"
	"testing"

	"lograft/raft"
)

// member is one RawNode with its storage and what became of it.
type member struct {
	id      uint64
	cfg     raft.Config
	raw     *raft.RawNode
	st      *raft.MemoryStorage
	applied []raft.Entry
	reads   []raft.ReadState
	dropped []raft.DroppedRead
}

// group is a cluster on a wire that delivers at once and in order, unless lose says no. Every Ready is persisted, sent and applied
// before the next one.
type group struct {
	t       testing.TB
	members []*member // members[id-1]
	lose    func(m *raft.Message) bool
	wire    []raft.Message
	sent    []raft.Message // everything that left a node
}

// newGroup makes voters 1 to n, born with a snapshot at index 1, term 1.
func newGroup(t testing.TB, n int, change func(*raft.Config)) *group {
	var cs raft.ConfState
	for id := 1; id <= n; id++ {
		cs.Voters = append(cs.Voters, uint64(id))
	}
	return newGroupOf(t, cs, change)
}

func newGroupOf(t testing.TB, cs raft.ConfState, change func(*raft.Config)) *group {
	return newGroupOfIDs(t, len(cs.Voters)+len(cs.Learners), cs, change)
}

// newGroupOfIDs makes nodes 1 to n, born with that configuration.
func newGroupOfIDs(t testing.TB, n int, cs raft.ConfState, change func(*raft.Config)) *group {
	g := &group{t: t}
	for id := uint64(1); id <= uint64(n); id++ {
		m := &member{id: id, cfg: raft.DefaultConfig(id), st: raft.NewMemoryStorage()}
		m.cfg.PreVote, m.cfg.Applied = false, 1
		m.cfg.Rand = func(int) int { return 0 }
		if change != nil {
			change(&m.cfg)
		}
		g.must(m.st.ApplySnapshot(raft.Snapshot{Metadata: raft.SnapshotMetadata{ConfState: cs, Index: 1, Term: 1}}))
		m.start(t)
		g.members = append(g.members, m)
	}
	return g
}

func (m *member) start(t testing.TB) {
	t.Helper()
	raw, err := raft.NewRawNode(m.cfg, m.st)
	if err != nil {
		t.Fatal(err)
	}
	m.raw = raw
}

func (g *group) must(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
}

func (g *group) n(id uint64) *member { return g.members[id-1] }

// elect makes id the leader of all who can hear it.
func (g *group) elect(id uint64) {
	g.t.Helper()
	g.must(g.n(id).raw.Campaign())
	g.run()
	if got := g.n(id).raw.BasicStatus().SoftState.RaftState; got != raft.StateLeader {
		g.t.Fatalf("node %d is %v after its campaign, want leader", id, got)
	}
}

func (g *group) tick(id uint64, times int) {
	for range times {
		g.n(id).raw.Tick()
	}
}

func (g *group) send(ms []raft.Message) {
	for _, m := range ms {
		m = copyMessage(m)
		g.sent = append(g.sent, m)
		g.wire = append(g.wire, m)
	}
}

// drive performs every Ready of id.
func (g *group) drive(id uint64) {
	g.t.Helper()
	m := g.n(id)
	for m.raw.HasReady() {
		rd := m.raw.Ready()
		g.persist(m, rd)
		g.send(rd.Messages)
		g.send(rd.PersistedMessages)
		m.reads = append(m.reads, rd.ReadStates...)
		m.dropped = append(m.dropped, rd.DroppedReads...)
		g.apply(m, rd.CommittedEntries)
		lr := m.raw.Advance(rd)
		g.send(lr.Messages)
		g.apply(m, lr.CommittedEntries)
		m.raw.AdvanceApply()
	}
}

func (g *group) persist(m *member, rd *raft.Ready) {
	g.t.Helper()
	if rd.Snapshot != nil {
		g.must(m.st.ApplySnapshot(*rd.Snapshot))
	}
	g.must(m.st.Append(rd.Entries))
	if rd.HasHardState {
		m.st.SetHardState(rd.HardState)
	}
}

func (g *group) apply(m *member, entries []raft.Entry) {
	g.t.Helper()
	for _, e := range entries {
		m.applied = append(m.applied, e)
		var cc raft.ConfChanger
		var err error
		switch e.Type {
		case raft.EntryConfChange:
			cc, err = raft.UnmarshalConfChange(e.Data)
		case raft.EntryConfChangeV2:
			cc, err = raft.UnmarshalConfChangeV2(e.Data)
		default:
			continue
		}
		g.must(err)
		cs, err := m.raw.ApplyConfChange(cc)
		g.must(err)
		m.st.SetConfState(cs)
	}
}

// run drives everyone and delivers until nothing moves.
func (g *group) run() {
	g.t.Helper()
	for range 10000 {
		for _, m := range g.members {
			g.drive(m.id)
		}
		if len(g.wire) == 0 {
			return
		}
		wire := g.wire
		g.wire = nil
		for _, m := range wire {
			if m.To > uint64(len(g.members)) || g.lose != nil && g.lose(&m) {
				continue
			}
			_ = g.n(m.To).raw.Step(m) // peers that were removed answer, late ones too: refusals are no fault here
		}
	}
	g.t.Fatal("the group never comes to rest")
}

// sentOf are the messages of a type that left a node since the last call.
func (g *group) sentOf(t raft.MessageType) (ms []raft.Message) {
	for _, m := range g.sent {
		if m.Type == t {
			ms = append(ms, m)
		}
	}
	g.sent = nil
	return ms
}

func (g *group) role(id uint64) raft.StateRole { return g.n(id).raw.BasicStatus().SoftState.RaftState }
func (g *group) hard(id uint64) raft.HardState { return g.n(id).raw.BasicStatus().HardState }
func isolated(ids ...uint64) func(*raft.Message) bool {
	return func(m *raft.Message) bool { return slices.Contains(ids, m.From) || slices.Contains(ids, m.To) }
}

func typesOf(ms []raft.Message) (types []raft.MessageType) {
	for _, m := range ms {
		types = append(types, m.Type)
	}
	return types
}
