package raft_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"lograft/raft"
)

// Sentences of the contract that no rule and no script shows. Every one has its test here.

// MaxSizePerMsg 0 is one entry per message, empty ones and merged ones too.
func TestNoMessageSizeIsOneEntry(t *testing.T) {
	for _, batch := range []bool{false, true} {
		g := newGroup(t, 2, func(c *raft.Config) { c.MaxSizePerMsg, c.BatchAppend = 0, batch })
		g.elect(1)
		g.lose = isolated(2)
		for range 4 {
			g.must(g.n(1).raw.Propose(nil, nil))
		}
		g.run()
		g.n(1).raw.ReportUnreachable(2)
		g.sent, g.lose = nil, nil
		g.tick(1, 1)
		g.run()
		entries := 0
		for _, m := range g.sentOf(raft.MsgAppend) {
			if len(m.Entries) > 1 {
				t.Errorf("batch %t: %d entries in one message", batch, len(m.Entries))
			}
			entries += len(m.Entries)
		}
		if entries < 4 {
			t.Errorf("batch %t: only %d entries were sent again, want 4", batch, entries)
		}
	}
}

// One round of heartbeats serves every read queued before it, also if the heartbeat was due anyway.
func TestReadRoundRidesOnTheTick(t *testing.T) {
	g := newGroup(t, 3, nil)
	g.elect(1)
	g.sent = nil
	for i := range 100 {
		g.must(g.n(1).raw.ReadIndex([]byte{byte(i)}))
	}
	g.tick(1, 1)
	g.run()
	beats := g.sentOf(raft.MsgHeartbeat)
	if len(beats) != 2 || len(g.n(1).reads) != 100 {
		t.Fatalf("%d heartbeats and %d answers for 100 reads of a group of 3", len(beats), len(g.n(1).reads))
	}
	for _, m := range beats {
		if len(m.Context) != 8 || binary.LittleEndian.Uint64(m.Context) != 1 {
			t.Errorf("context %x, want round 1", m.Context)
		}
	}
	g.tick(1, 1)
	g.run()
	for _, m := range g.sentOf(raft.MsgHeartbeat) {
		if len(m.Context) != 0 {
			t.Errorf("context %x with no read waiting", m.Context)
		}
	}
}

// A thousand reads of a follower are a thousand answers, in the caller's bytes and in any order.
func TestManyReadsOfAFollower(t *testing.T) {
	const reads = 1000
	g := newGroup(t, 3, nil)
	g.elect(1)
	for i := range reads {
		g.must(g.n(2).raw.ReadIndex(fmt.Appendf(nil, "%d", i)))
	}
	g.drive(2)
	if n := len(g.wire); n != reads {
		t.Fatalf("%d messages for %d reads", n, reads)
	}
	slices.Reverse(g.wire[100:200])
	g.run()
	seen := map[string]bool{}
	for _, r := range g.n(2).reads {
		if r.Index != 2 || seen[string(r.RequestCtx)] {
			t.Fatalf("answer %d %q: want index 2, once", r.Index, r.RequestCtx)
		}
		seen[string(r.RequestCtx)] = true
	}
	if len(seen) != reads {
		t.Fatalf("%d of %d reads were answered", len(seen), reads)
	}
}

// A refused configuration change is refused in whatever form it comes, and no change is a refusal too.
func TestNoConfChangeIsRefused(t *testing.T) {
	g := newGroup(t, 3, nil)
	g.elect(1)
	raw := g.n(1).raw
	if err := raw.ProposeConfChange(nil, nil); !errors.Is(err, raft.ErrProposalDropped) || !errors.Is(err, raft.ErrInvalidConfChange) {
		t.Errorf("ProposeConfChange(nil): %v", err)
	}
	before := raw.Status().Conf
	if cs, err := raw.ApplyConfChange(nil); err == nil || fmt.Sprint(cs) != fmt.Sprint(before) {
		t.Errorf("ApplyConfChange(nil): %+v, %v", cs, err)
	}
	for _, cc := range []raft.ConfChanger{
		raft.ConfChange{Type: 4, NodeID: 4}, raft.ConfChange{Type: 255, NodeID: 4}, raft.ConfChangeV2{Transition: 3},
		raft.ConfChangeV2{Changes: []raft.ConfChangeSingle{{Type: 9, NodeID: 4}}},
	} {
		if err := raw.ProposeConfChange(nil, cc); !errors.Is(err, raft.ErrInvalidConfChange) {
			t.Errorf("%+v is proposed: %v", cc, err)
		}
	}
	for what, data := range map[string][]byte{"garbage": {0xff, 0xff}, "short": {0x12, 9}, "wrong wire type": {0x0a, 0}} {
		err := raw.Step(raft.Message{Type: raft.MsgPropose, From: 2, To: 1, Entries: []raft.Entry{{Type: raft.EntryConfChangeV2, Data: data}}})
		if !errors.Is(err, raft.ErrInvalidConfChange) {
			t.Errorf("%s as a change: %v", what, err)
		}
	}
	two := []raft.Entry{{Type: raft.EntryConfChange}, {Type: raft.EntryConfChange}}
	if err := raw.Step(raft.Message{Type: raft.MsgPropose, From: 2, To: 1, Entries: two}); !errors.Is(err, raft.ErrConfChangePending) {
		t.Errorf("two changes at once: %v", err)
	}
	if last := raw.BasicStatus().LastIndex; last != 2 {
		t.Errorf("the log ends at %d: a refusal appended something", last)
	}
	// What only shows when it is applied leaves the configuration as it was.
	for _, cc := range []raft.ConfChanger{
		raft.ConfChangeV2{Changes: []raft.ConfChangeSingle{{Type: raft.ConfChangeRemoveNode, NodeID: 1}, {Type: raft.ConfChangeRemoveNode, NodeID: 2}, {Type: raft.ConfChangeRemoveNode, NodeID: 3}}},
		raft.ConfChange{Type: raft.ConfChangeAddNode, NodeID: ^uint64(0)}, raft.ConfChange{Type: 7, NodeID: 4}, raft.ConfChangeV2{},
	} {
		if cs, err := raw.ApplyConfChange(cc); err == nil || fmt.Sprint(cs) != fmt.Sprint(before) || fmt.Sprint(raw.Status().Conf) != fmt.Sprint(before) {
			t.Errorf("%+v is applied: %+v, %v", cc, cs, err)
		}
	}
	for _, cc := range []raft.ConfChange{{Type: raft.ConfChangeAddNode}, {Type: 2, NodeID: 4}} { // struck out; reserved
		if cs, err := raw.ApplyConfChange(cc); err != nil || fmt.Sprint(cs) != fmt.Sprint(before) {
			t.Errorf("%+v: %+v, %v, want no change", cc, cs, err)
		}
	}
}

// The bytes of a change are protobuf's, as other implementations of the protocol write them.
func TestConfChangeBytes(t *testing.T) {
	for _, c := range []struct {
		cc   raft.ConfChanger
		want string
	}{
		{raft.ConfChange{}, ""},
		{raft.ConfChange{ID: 300, Type: raft.ConfChangeAddLearnerNode, NodeID: 5, Context: []byte("ab")}, "\x08\xac\x02\x10\x03\x18\x05\x22\x02ab"},
		{raft.ConfChangeV2{}, ""},
		{raft.ConfChangeV2{Transition: raft.ConfChangeTransitionExplicit, Context: []byte("c"), Changes: []raft.ConfChangeSingle{
			{Type: raft.ConfChangeRemoveNode, NodeID: 7}, {}}}, "\x08\x02\x12\x04\x08\x01\x10\x07\x12\x00\x1a\x01c"},
	} {
		if got := string(c.cc.Marshal()); got != c.want {
			t.Errorf("%+v is %q, want %q", c.cc, got, c.want)
		}
		v1, ok := c.cc.AsV1()
		var back raft.ConfChanger
		var err error
		if ok {
			if fmt.Sprint(v1) != fmt.Sprint(c.cc) {
				t.Errorf("%+v as V1 is %+v", c.cc, v1)
			}
			back, err = raft.UnmarshalConfChange([]byte(c.want))
		} else {
			back, err = raft.UnmarshalConfChangeV2([]byte(c.want))
		}
		if err != nil || fmt.Sprint(back) != fmt.Sprint(c.cc) {
			t.Errorf("%q is %+v, %v, want %+v", c.want, back, err, c.cc)
		}
	}
	v1 := raft.ConfChange{ID: 9, Type: raft.ConfChangeRemoveNode, NodeID: 2, Context: []byte("x")}
	if v2 := v1.AsV2(); v2.Transition != raft.ConfChangeTransitionAuto || string(v2.Context) != "x" || !slices.Equal(v2.Changes, []raft.ConfChangeSingle{{Type: raft.ConfChangeRemoveNode, NodeID: 2}}) {
		t.Errorf("%+v as V2 is %+v", v1, v2)
	}
	known := "\x10\x01\x18\x05"
	for what, more := range map[string]string{"varint": "\x28\x07", "fixed64": "\x29\x01\x02\x03\x04\x05\x06\x07\x08", "bytes": "\x2a\x03abc", "fixed32": "\x2d\x01\x02\x03\x04"} {
		if cc, err := raft.UnmarshalConfChange([]byte(more + known)); err != nil || cc.NodeID != 5 || cc.Type != raft.ConfChangeRemoveNode {
			t.Errorf("an unknown %s field: %+v, %v", what, cc, err)
		}
	}
	for what, bad := range map[string]string{
		"a tag that ends": "\x80", "field 0": "\x00\x01", "a field too high": "\x80\x80\x80\x80\x10\x00", "a varint that ends": "\x10\x80", "a varint without end": "\x10" + strings.Repeat("\xff", 11),
		"bytes that end": "\x22\x05ab", "a length that ends": "\x22\x80", "fixed64 that ends": "\x29\x01", "fixed32 that ends": "\x2d\x01\x02", "a group": "\x2b", "wire type 6": "\x2e",
		"type 4": "\x10\x04", "a wrong wire type": "\x1a\x01x",
	} {
		if cc, err := raft.UnmarshalConfChange([]byte(bad)); err == nil || fmt.Sprint(cc) != fmt.Sprint(raft.ConfChange{}) {
			t.Errorf("%s: %+v, %v, want an error", what, cc, err)
		}
	}
	for what, bad := range map[string]string{"transition 3": "\x08\x03", "a bad change": "\x12\x02\x08\x04", "a change as number": "\x10\x01", "a change cut off": "\x12\x01\x08"} {
		if cc, err := raft.UnmarshalConfChangeV2([]byte(bad)); err == nil || fmt.Sprint(cc) != fmt.Sprint(raft.ConfChangeV2{}) {
			t.Errorf("%s: %+v, %v, want an error", what, cc, err)
		}
	}
	if cc, err := raft.UnmarshalConfChangeV2([]byte("\x28\x07\x08\x01\x12\x06\x10\x05\x28\x07\x08\x01")); err != nil || fmt.Sprint(cc) != "{1 [{1 5}] []}" {
		t.Errorf("unknown fields of V2: %+v, %v", cc, err)
	}
	data := []byte(known + "\x22\x01k")
	cc, err := raft.UnmarshalConfChange(data)
	data[len(data)-1] = 'z'
	if err != nil || string(cc.Context) != "k" {
		t.Errorf("the context %q, %v, is the caller's array", cc.Context, err)
	}
}

// Group commit is consistent when it is on and two groups hold what is committed; who can't tell says so.
func TestGroupCommitConsistency(t *testing.T) {
	g := newGroup(t, 3, nil)
	raw := g.n(1).raw
	told := func(ok, known bool, when string) {
		t.Helper()
		if gotOK, gotKnown := raw.CheckGroupCommitConsistent(); gotOK != ok || gotKnown != known {
			t.Errorf("%s: %t, %t, want %t, %t", when, gotOK, gotKnown, ok, known)
		}
	}
	told(false, false, "a follower")
	g.lose = isolated(1)
	g.must(raw.Campaign())
	g.drive(1)
	for _, from := range []uint64{2, 3} {
		g.must(raw.Step(raft.Message{Type: raft.MsgRequestVoteResponse, From: from, To: 1, Term: 2}))
	}
	told(false, false, "a leader that has applied nothing of its term")
	g.run()
	g.lose = nil
	for range 2 {
		g.tick(1, 1)
		g.run()
	}
	groups := []raft.CommitGroup{{PeerID: 1, GroupID: 1}, {PeerID: 2, GroupID: 1}, {PeerID: 3, GroupID: 2}, {PeerID: 9, GroupID: 9}}
	raw.AssignCommitGroups(groups)
	told(false, true, "off")
	raw.EnableGroupCommit(true)
	told(true, true, "on")
	g.lose = isolated(3)
	g.must(raw.Propose(nil, []byte("x")))
	g.run()
	if c := g.hard(1).Commit; c != 2 {
		t.Fatalf("commit %d, want 2: one group holds the entry", c)
	}
	raw.EnableGroupCommit(false)
	if c := g.hard(1).Commit; c != 3 {
		t.Fatalf("commit %d, want 3: group commit is off", c)
	}
	raw.EnableGroupCommit(true)
	g.run()
	told(false, true, "one group holds it")
	raw.ClearCommitGroups()
	for id, pr := range raw.Status().Progress {
		if pr.CommitGroupID != 0 {
			t.Errorf("peer %d is in group %d", id, pr.CommitGroupID)
		}
	}
	g.must(raw.Propose(nil, []byte("y")))
	g.run()
	if c := g.hard(1).Commit; c != 3 {
		t.Fatalf("commit %d, want 3: who has no group waits for all", c)
	}
	raw.AssignCommitGroups([]raft.CommitGroup{{PeerID: 1, GroupID: 1}, {PeerID: 2, GroupID: 2}})
	if c := g.hard(1).Commit; c != 4 {
		t.Fatalf("commit %d, want 4 as soon as the groups say so", c)
	}
}

// Who can't be elected says so to Campaign and stays what he is.
func TestNotPromotable(t *testing.T) {
	g := newGroupOf(t, raft.ConfState{Voters: []uint64{1}, Learners: []uint64{2}}, nil)
	if err := g.n(2).raw.Campaign(); !errors.Is(err, raft.ErrNotPromotable) {
		t.Errorf("a learner: %v", err)
	}
	g.n(1).raw.SetElectable(false)
	if err := g.n(1).raw.Campaign(); !errors.Is(err, raft.ErrNotPromotable) {
		t.Errorf("not electable: %v", err)
	}
	g.tick(1, 50)
	g.run()
	if g.role(1) != raft.StateFollower {
		t.Errorf("not electable, and %v by its own timeout", g.role(1))
	}
	g.n(1).raw.SetElectable(true)
	g.elect(1)
	if err := g.n(1).raw.Campaign(); err != nil || g.hard(1).Term != 2 {
		t.Errorf("a leader: %v in term %d, want nothing to happen", err, g.hard(1).Term)
	}

	cfg := raft.DefaultConfig(7)
	cfg.Rand = func(int) int { return 0 }
	nobody, err := raft.NewRawNode(cfg, raft.NewMemoryStorage())
	g.must(err)
	if err := nobody.Campaign(); !errors.Is(err, raft.ErrNotPromotable) {
		t.Errorf("an empty configuration: %v", err)
	}
	g.must(nobody.Step(raft.Message{Type: raft.MsgRequestVote, From: 1, To: 7, Term: 5, LogTerm: 1, Index: 1}))
	rd := nobody.Ready()
	if len(rd.PersistedMessages) != 1 || rd.PersistedMessages[0].Reject || rd.HardState != (raft.HardState{Term: 5, Vote: 1}) {
		t.Errorf("an empty configuration grants votes like any node: %+v", rd)
	}
}

// If Applied is above the stored commit index, commit rises to it at once, and nothing is applied again.
func TestAppliedAboveCommit(t *testing.T) {
	g := newGroup(t, 1, nil)
	m := g.n(1)
	g.must(m.st.Append([]raft.Entry{{Term: 1, Index: 2}, {Term: 1, Index: 3}, {Term: 1, Index: 4}}))
	m.st.SetHardState(raft.HardState{Term: 1, Commit: 1})
	m.cfg.Applied = 3
	m.start(t)
	if s := m.raw.BasicStatus(); s.HardState.Commit != 3 || s.Applied != 3 {
		t.Fatalf("commit %d, applied %d, want 3 and 3", s.HardState.Commit, s.Applied)
	}
	g.elect(1)
	if a := m.applied; len(a) != 2 || a[0].Index != 4 {
		t.Fatalf("applied %v, want 4 and 5", a)
	}
}

// Priority decides between equal logs, and a refused voter is not lost: the longer log wins whatever its priority.
func TestSettersTakeEffect(t *testing.T) {
	g := newGroup(t, 3, nil)
	g.n(2).raw.SetPriority(5)
	g.n(3).raw.SetPriority(5)
	g.must(g.n(1).raw.Campaign())
	g.run()
	if g.role(1) == raft.StateLeader {
		t.Fatal("elected over equal logs of higher priority")
	}
	g.n(1).raw.SetPriority(5)
	g.elect(1)
	raw := g.n(1).raw

	raw.SetBatchAppend(true)
	g.sent = nil
	for range 3 {
		g.must(raw.Propose(nil, []byte("x")))
	}
	g.run()
	withEntries := 0
	for _, m := range g.sentOf(raft.MsgAppend) {
		if len(m.Entries) > 0 {
			withEntries++
		}
	}
	if withEntries != 2 {
		t.Errorf("%d appends for three merged proposals to two peers", withEntries)
	}

	raw.SetSkipBcastCommit(true)
	g.must(raw.Propose(nil, []byte("y")))
	g.run()
	if one, two := g.hard(1).Commit, g.hard(2).Commit; one != 6 || two != 5 {
		t.Errorf("commit %d and %d: without a broadcast 2 learns of it later", one, two)
	}
	g.tick(1, 1)
	g.run()
	if two := g.hard(2).Commit; two != 6 {
		t.Errorf("commit %d after the heartbeat, want 6", two)
	}

	raw.SetMaxCommittedSizePerReady(1)
	before := len(g.n(1).applied)
	for range 3 {
		g.must(raw.Propose(nil, []byte("z")))
	}
	pages := 0
	for len(g.wire) > 0 || raw.HasReady() || g.n(2).raw.HasReady() || g.n(3).raw.HasReady() {
		for raw.HasReady() {
			rd := raw.Ready()
			g.persist(g.n(1), rd)
			g.send(rd.Messages)
			if len(rd.CommittedEntries) > 1 {
				t.Errorf("%d entries in a page of one byte", len(rd.CommittedEntries))
			}
			pages += len(rd.CommittedEntries)
			g.apply(g.n(1), rd.CommittedEntries)
			lr := raw.Advance(rd)
			g.send(lr.Messages)
			pages += len(lr.CommittedEntries)
			g.apply(g.n(1), lr.CommittedEntries)
			raw.AdvanceApply()
		}
		g.drive(2)
		g.drive(3)
		wire := g.wire
		g.wire = nil
		for _, m := range wire {
			g.must(g.n(m.To).raw.Step(m))
		}
	}
	if got := len(g.n(1).applied) - before; got != 3 || pages != 3 {
		t.Errorf("%d applied in %d pages, want 3 in 3", got, pages)
	}

	raw.AdjustMaxInflightMsgs(2, 0)
	raw.AdjustMaxInflightMsgs(2, -1) // no window at all: ignored
	raw.AdjustMaxInflightMsgs(9, 5)
	g.sent = nil
	g.must(raw.Propose(nil, []byte("w")))
	g.run()
	g.tick(1, 3)
	g.run()
	for _, m := range g.sentOf(raft.MsgAppend) {
		if m.To == 2 {
			t.Fatalf("an append to a peer that is stopped: %+v", m)
		}
	}
	raw.AdjustMaxInflightMsgs(2, 2)
	g.tick(1, 1)
	g.run()
	if last := g.n(2).raw.BasicStatus().LastIndex; last != raw.BasicStatus().LastIndex {
		t.Errorf("node 2 ends at %d after its window was opened", last)
	}
}
