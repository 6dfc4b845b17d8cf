package raft_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"lograft/raft"
)

// fuzzInput reads small numbers out of a fuzzer's bytes; 0 when they end.
type fuzzInput struct{ b []byte }

func (in *fuzzInput) next() uint64 {
	if len(in.b) == 0 {
		return 0
	}
	v := in.b[0]
	in.b = in.b[1:]
	if v < 0xf0 {
		return uint64(v)
	}
	extremes := [...]uint64{1 << 31, 1<<31 - 1, 1<<63 - 1, 1 << 63, ^uint64(0), ^uint64(0) - 1, 1 << 32, 1 << 40}
	return extremes[v&7]
}

func (in *fuzzInput) small(n uint64) uint64 { return in.next() % n }

func (in *fuzzInput) bytes(n uint64) []byte {
	out := make([]byte, in.small(n))
	for i := range out {
		out[i] = byte(in.next())
	}
	return out
}

// fuzzNode is one node and the dumbest application around it.
type fuzzNode struct {
	t       *testing.T
	raw     *raft.RawNode
	store   *raft.MemoryStorage
	applied uint64
	queue   []raft.Entry
	numbers []uint64
	snaps   []fuzzSnap
	was     raft.BasicStatus
}

type fuzzSnap struct{ number, index uint64 }

const fuzzID = 2

func newFuzzNode(t *testing.T, in *fuzzInput) *fuzzNode {
	t.Helper()
	f := &fuzzNode{t: t, store: raft.NewMemoryStorage(), applied: 3}
	cs := raft.ConfState{Voters: []uint64{1, 2, 3}, Learners: []uint64{4}}
	if in.small(4) == 0 {
		cs = raft.ConfState{Voters: []uint64{1, 2, 5}, VotersOutgoing: []uint64{1, 2, 3}, LearnersNext: []uint64{3}, AutoLeave: true}
	}
	snap := raft.Snapshot{Metadata: raft.SnapshotMetadata{Index: 3, Term: 2, ConfState: cs}}
	if err := f.store.ApplySnapshot(snap); err != nil {
		t.Fatal(err)
	}
	var ents []raft.Entry
	for i := range in.small(5) {
		ents = append(ents, raft.Entry{Term: 2 + i/2, Index: 4 + i, Data: []byte{byte(i)}})
	}
	if err := f.store.Append(ents); err != nil {
		t.Fatal(err)
	}
	f.store.SetHardState(raft.HardState{Term: 4, Vote: in.small(3), Commit: 3})
	cfg := raft.DefaultConfig(fuzzID)
	cfg.ElectionTick, cfg.HeartbeatTick, cfg.Applied = 5, 1, 3
	flags := in.next()
	cfg.PreVote, cfg.CheckQuorum, cfg.BatchAppend, cfg.SkipBcastCommit = flags&1 != 0, flags&2 != 0, flags&4 != 0, flags&8 != 0
	if flags&16 != 0 {
		cfg.ReadOnlyOption, cfg.CheckQuorum, cfg.LeaseMarginTick = raft.ReadOnlyLeaseBased, true, 1
	}
	cfg.MaxInflightMsgs = 1 + int(flags>>5&3)
	cfg.MaxSizePerMsg = flags >> 5 & 1 * 100
	cfg.MaxApplyUnpersistedLogLimit, cfg.EagerElections = in.small(3), flags>>6&1 != 0
	rng := rand.New(rand.NewPCG(1, flags))
	cfg.Rand = rng.IntN
	raw, err := raft.NewRawNode(cfg, f.store)
	if err != nil {
		t.Fatal(err)
	}
	f.raw = raw
	f.was = raw.BasicStatus()
	return f
}

// message draws one of any type from any peer; most numbers are near what the
// node holds, so that messages come through the gateway.
func (f *fuzzNode) message(in *fuzzInput) raft.Message {
	bs := f.raw.BasicStatus()
	near := func(v uint64) uint64 {
		if d := in.next(); d < 0x80 {
			return v + d%8 - min(v, 3)
		} else if d >= 0xf0 {
			return d
		}
		return in.next()
	}
	m := raft.Message{
		Type: raft.MessageType(in.small(21)), To: fuzzID, From: in.small(7), Term: near(bs.HardState.Term),
		LogTerm: near(bs.HardState.Term), Index: near(bs.LastIndex), Commit: near(bs.HardState.Commit),
	}
	flags := in.next()
	m.Reject = flags&1 != 0
	if flags&2 != 0 {
		m.RejectHint, m.CommitTerm = near(bs.LastIndex), near(bs.HardState.Term)
	}
	if flags&4 != 0 {
		m.Context = in.bytes(34)
	}
	if flags&8 != 0 {
		m.Context = []byte("CampaignTransfer")
	}
	if flags&16 != 0 {
		m.RequestSnapshot, m.Priority = near(bs.LastIndex), int64(in.next())
	}
	if flags&32 != 0 {
		for i := range in.small(5) {
			e := raft.Entry{Type: raft.EntryType(in.small(4)), Term: near(m.Term), Index: m.Index + 1 + i, Data: in.bytes(12)}
			if in.small(8) == 0 {
				e.Index = near(m.Index)
			}
			m.Entries = append(m.Entries, e)
		}
	}
	if m.Type == raft.MsgSnapshot && flags&64 != 0 {
		m.Snapshot = &raft.Snapshot{Data: in.bytes(8)}
		md := &m.Snapshot.Metadata
		md.Index, md.Term = near(bs.LastIndex), near(m.Term)
		for range in.small(6) {
			id := in.small(6)
			switch in.small(4) {
			case 0, 1:
				md.ConfState.Voters = append(md.ConfState.Voters, id)
			case 2:
				md.ConfState.Learners = append(md.ConfState.Learners, id)
			case 3:
				md.ConfState.VotersOutgoing = append(md.ConfState.VotersOutgoing, id)
			}
		}
		md.ConfState.AutoLeave = flags&128 != 0
	}
	return m
}

// do performs one operation the input asks for.
func (f *fuzzNode) do(in *fuzzInput) {
	n := f.raw
	switch in.small(20) {
	case 0:
		for range in.small(12) {
			n.Tick()
		}
	case 1:
		f.refused(n.Propose(in.bytes(4), in.bytes(20)))
	case 2:
		f.refused(n.ProposeConfChange(nil, raft.ConfChange{Type: raft.ConfChangeType(in.small(5)), NodeID: in.small(7)}))
	case 3:
		cc := raft.ConfChangeV2{Transition: raft.ConfChangeTransition(in.small(4))}
		for range in.small(4) {
			cc.Changes = append(cc.Changes, raft.ConfChangeSingle{Type: raft.ConfChangeType(in.small(5)), NodeID: in.small(7)})
		}
		f.refused(n.ProposeConfChange(nil, cc))
	case 4:
		f.fatalOnly(n.ReadIndex(in.bytes(10)))
	case 5:
		f.fatalOnly(n.Campaign())
	case 6:
		n.TransferLeader(in.small(7))
	case 7:
		f.fatalOnly(n.ForgetLeader())
		n.Ping()
	case 8:
		f.fatalOnly(n.RequestSnapshot())
		if in.next()%8 == 0 {
			f.fatalOnly(n.ReplaceLog(in.next()%2 == 0))
		}
	case 9:
		n.ReportUnreachable(in.small(7))
		n.ReportSnapshot(in.small(7), raft.SnapshotStatus(in.small(4)))
	case 10:
		n.OnPersistReady(in.next())
	case 11:
		if f.applied > 4 {
			_ = f.store.Compact(f.applied - 1)
		}
	case 12:
		n.SetElectable(in.small(2) == 0)
		n.AdjustMaxInflightMsgs(in.small(7), int(in.small(4)))
	case 13:
		f.sync()
	default:
		f.step(f.message(in))
	}
	f.invariants()
}

func (f *fuzzNode) step(m raft.Message) {
	if m.Type == raft.MsgSnapshot {
		f.sync()
		f.applyQueue()
	}
	f.fatalOnly(f.raw.Step(m))
	for i := range m.Entries {
		m.Entries[i] = raft.Entry{Term: 1 << 50, Index: 1 << 50}
	}
}

// fatalOnly: any error will do, but a fatal one poisons.
func (f *fuzzNode) fatalOnly(err error) {
	var fatal *raft.FatalError
	if errors.As(err, &fatal) && f.raw.Err() == nil {
		f.t.Fatalf("a fatal error did not poison: %v", err)
	}
}

func (f *fuzzNode) refused(err error) {
	f.fatalOnly(err)
	if err != nil && f.raw.Err() == nil && !errors.Is(err, raft.ErrProposalDropped) {
		f.t.Fatalf("a refused proposal: %v", err)
	}
}

// drain takes Readys; async leaves them unsynced until sync.
func (f *fuzzNode) drain(async bool) {
	for rounds := 0; f.raw.HasReady(); rounds++ {
		if rounds > 100 {
			f.t.Fatal("HasReady stays true")
		}
		rd := f.raw.Ready()
		f.shape(rd)
		if rd.Snapshot != nil {
			if err := f.store.ApplySnapshot(*rd.Snapshot); err != nil {
				f.t.Fatalf("snapshot %d: %v", rd.Snapshot.Metadata.Index, err)
			}
			f.snaps = append(f.snaps, fuzzSnap{rd.Number, rd.Snapshot.Metadata.Index})
		}
		if len(rd.Entries) > 0 {
			if err := f.store.Append(append([]raft.Entry(nil), rd.Entries...)); err != nil {
				f.t.Fatalf("append at %d: %v", rd.Entries[0].Index, err)
			}
		}
		if rd.HasHardState {
			f.store.SetHardState(rd.HardState)
		}
		f.queue = append(f.queue, rd.CommittedEntries...)
		f.numbers = append(f.numbers, rd.Number)
		if async {
			f.raw.AdvanceAppendAsync(rd)
		} else {
			lr := f.raw.AdvanceAppend(rd)
			f.queue = append(f.queue, lr.CommittedEntries...)
			f.numbers = nil
			f.installed(rd.Number)
		}
		f.applyQueue()
		f.invariants()
	}
}

func (f *fuzzNode) sync() {
	if len(f.numbers) > 0 {
		last := f.numbers[len(f.numbers)-1]
		f.numbers = nil
		f.raw.OnPersistReady(last)
		f.installed(last)
		f.applyQueue()
	}
}

func (f *fuzzNode) installed(number uint64) {
	for len(f.snaps) > 0 && f.snaps[0].number <= number {
		f.applied = f.snaps[0].index
		f.raw.AdvanceApplyTo(f.applied)
		f.snaps = f.snaps[1:]
	}
}

func (f *fuzzNode) applyQueue() {
	if len(f.snaps) > 0 {
		return
	}
	for _, e := range f.queue {
		if f.raw.Err() != nil {
			return
		}
		if e.Index != f.applied+1 {
			f.t.Fatalf("applies %d after %d", e.Index, f.applied)
		}
		f.applied = e.Index
		switch e.Type {
		case raft.EntryConfChange:
			if cc, err := raft.UnmarshalConfChange(e.Data); err == nil {
				_, err := f.raw.ApplyConfChange(cc)
				f.fatalOnly(err)
			}
		case raft.EntryConfChangeV2:
			if cc, err := raft.UnmarshalConfChangeV2(e.Data); err == nil {
				_, err := f.raw.ApplyConfChange(cc)
				f.fatalOnly(err)
			}
		}
		f.raw.AdvanceApplyTo(f.applied)
	}
	f.queue = f.queue[:0]
}

// shape: what a Ready never is.
func (f *fuzzNode) shape(rd *raft.Ready) {
	switch {
	case rd.Snapshot != nil && len(rd.CommittedEntries) > 0:
		f.t.Fatal("a snapshot beside committed entries")
	case len(rd.Entries) > 0 && !rd.MustSync:
		f.t.Fatal("entries without MustSync")
	}
	for _, ms := range [][]raft.Message{rd.Messages, rd.PersistedMessages} {
		for i := range ms {
			relayed := ms[i].Type == raft.MsgTransferLeader || ms[i].Type == raft.MsgReadIndex // they keep the asker's id
			if ms[i].To == fuzzID || ms[i].From != fuzzID && !relayed {
				f.t.Fatalf("message to self or from another: %+v", ms[i])
			}
		}
	}
}

func (f *fuzzNode) invariants() {
	bs := f.raw.BasicStatus()
	was := f.was
	f.was = bs
	if err := f.raw.Err(); err != nil {
		var fatal *raft.FatalError
		if !errors.As(err, &fatal) {
			f.t.Fatalf("poisoned by %v, not a FatalError", err)
		}
		if f.raw.HasReady() || len(f.raw.Ready().Messages) != 0 {
			f.t.Fatal("a poisoned node has a Ready")
		}
		return
	}
	switch {
	case bs.HardState.Term < was.HardState.Term:
		f.t.Fatalf("term %d after %d", bs.HardState.Term, was.HardState.Term)
	case bs.HardState.Term == was.HardState.Term && was.HardState.Vote != 0 && bs.HardState.Vote != was.HardState.Vote:
		f.t.Fatalf("term %d: vote %d after %d", bs.HardState.Term, bs.HardState.Vote, was.HardState.Vote)
	case bs.HardState.Commit < was.HardState.Commit:
		f.t.Fatalf("commit %d after %d", bs.HardState.Commit, was.HardState.Commit)
	case bs.HardState.Commit > bs.LastIndex:
		f.t.Fatalf("commit %d, last index %d", bs.HardState.Commit, bs.LastIndex)
	case bs.Applied > bs.HardState.Commit:
		f.t.Fatalf("applied %d, commit %d", bs.Applied, bs.HardState.Commit)
	case bs.Applied < was.Applied:
		f.t.Fatalf("applied %d after %d", bs.Applied, was.Applied)
	case bs.HardState.Term >= 1<<31:
		f.t.Fatalf("term %d", bs.HardState.Term)
	case bs.SoftState.RaftState == raft.StateLeader && bs.SoftState.LeaderID != fuzzID:
		f.t.Fatalf("leads, but follows %d", bs.SoftState.LeaderID)
	}
	f.raw.VisitProgress(func(id uint64, pr *raft.Progress) {
		if pr.Next <= pr.Match {
			f.t.Fatalf("peer %d: next %d, match %d", id, pr.Next, pr.Match)
		}
	})
}

// Whatever arrives in whatever state, a node answers with an error or a
// defined reaction: no panic, no invariant broken, one fatal error at most.
func FuzzStep(f *testing.F) {
	rng := rand.New(rand.NewPCG(7, 7))
	for range 40 {
		seed := make([]byte, 200+rng.IntN(1500))
		for i := range seed {
			seed[i] = byte(rng.Uint32())
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<13 {
			t.Skip("long inputs only repeat")
		}
		driveFuzzNode(t, data)
	})
}

func driveFuzzNode(t *testing.T, data []byte) {
	in := &fuzzInput{b: data}
	n := newFuzzNode(t, in)
	if in.small(3) != 0 { // begin as a candidate, often a leader
		n.fatalOnly(n.raw.Campaign())
		n.drain(false)
		term := n.raw.BasicStatus().HardState.Term
		for _, typ := range []raft.MessageType{raft.MsgRequestPreVoteResponse, raft.MsgRequestVoteResponse} {
			at := term + 1
			if typ == raft.MsgRequestVoteResponse {
				at = n.raw.BasicStatus().HardState.Term
			}
			for _, from := range []uint64{1, 5, 3} {
				n.step(raft.Message{Type: typ, From: from, To: fuzzID, Term: at})
			}
			n.drain(false)
		}
	}
	for len(in.b) > 0 && n.raw.Err() == nil {
		n.do(in)
		switch in.small(4) {
		case 0:
			n.drain(true)
		case 1:
			n.sync()
			n.drain(false)
		}
	}
}

// testSeed prints the seed of a random test; RAFT_SEED replays it.
func testSeed(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if env := os.Getenv("RAFT_SEED"); env != "" {
		v, err := strconv.ParseUint(env, 10, 64)
		if err != nil {
			t.Fatalf("RAFT_SEED=%q: %v", env, err)
		}
		seed = v
	}
	t.Logf("seed %d (replay with RAFT_SEED)", seed)
	return seed
}

// Random inputs beyond the fuzzer's corpus, by seed.
func TestStepRandomInputs(t *testing.T) {
	seed := testSeed(t)
	rng := rand.New(rand.NewPCG(seed, 1))
	for range 3000 {
		data := make([]byte, 50+rng.IntN(800))
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		driveFuzzNode(t, data)
	}
}
