package raft_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"lograft/raft"
)

const huge = math.MaxUint64

// hostile are messages that no peer of good faith sends: every one is refused by name and has no effect.
func hostile() map[string]raft.Message {
	from1 := func(m raft.Message) raft.Message { m.From, m.To, m.Term = 1, 2, 2; return m }
	snap := func(index, term uint64, cs raft.ConfState) raft.Message {
		return from1(raft.Message{Type: raft.MsgSnapshot, Snapshot: &raft.Snapshot{Metadata: raft.SnapshotMetadata{Index: index, Term: term, ConfState: cs}}})
	}
	good := raft.ConfState{Voters: []uint64{1, 2, 3}}
	ms := map[string]raft.Message{
		"everything is zero":            {Type: raft.MsgAppend},
		"huge term":                     {Type: raft.MsgHeartbeat, From: 1, To: 2, Term: huge},
		"huge term of a vote":           {Type: raft.MsgRequestVote, From: 1, To: 2, Term: huge, LogTerm: huge, Index: huge},
		"huge term of a pre-vote":       {Type: raft.MsgRequestPreVote, From: 1, To: 2, Term: 1 << 31},
		"append after a huge index":     from1(raft.Message{Type: raft.MsgAppend, Index: huge, LogTerm: 2, Entries: []raft.Entry{{Term: 2, Index: 0}}}),
		"append that overflows":         from1(raft.Message{Type: raft.MsgAppend, Index: huge - 1, LogTerm: 2, Entries: []raft.Entry{{Term: 2, Index: huge}}}),
		"append at the bound":           from1(raft.Message{Type: raft.MsgAppend, Index: 1<<62 - 1, LogTerm: 2, Entries: []raft.Entry{{Term: 2, Index: 1 << 62}}}),
		"append of term 0":              from1(raft.Message{Type: raft.MsgAppend, Index: 2, LogTerm: 2, Entries: []raft.Entry{{Index: 3}}}),
		"append with a term before all": from1(raft.Message{Type: raft.MsgAppend, LogTerm: 2, Commit: huge}),
		"append of a later term":        from1(raft.Message{Type: raft.MsgAppend, Index: 2, LogTerm: 3}),
		"heartbeat of huge commit":      from1(raft.Message{Type: raft.MsgHeartbeat, Commit: huge}),
		"snapshot at 0":                 snap(0, 2, good),
		"snapshot of term 0":            snap(9, 0, good),
		"snapshot of a later term":      snap(9, 3, good),
		"snapshot at a huge index":      snap(huge, 2, good),
		"snapshot at the bound":         snap(1<<62, 2, good),
		"snapshot for nobody":           snap(9, 2, raft.ConfState{Learners: []uint64{2}}),
		"snapshot, 2 twice":             snap(9, 2, raft.ConfState{Voters: []uint64{1, 2, 2}}),
		"snapshot, 2 voter and learner": snap(9, 2, raft.ConfState{Voters: []uint64{1, 2}, Learners: []uint64{2}}),
		"snapshot, voter 0":             snap(9, 2, raft.ConfState{Voters: []uint64{0, 2}}),
		"snapshot, reserved voter":      snap(9, 2, raft.ConfState{Voters: []uint64{2, huge - 1}}),
		"snapshot, only outgoing":       snap(9, 2, raft.ConfState{VotersOutgoing: []uint64{2}}),
		"snapshot, leaves nothing":      snap(9, 2, raft.ConfState{Voters: []uint64{2}, AutoLeave: true}),
		"snapshot, next of nobody":      snap(9, 2, raft.ConfState{Voters: []uint64{2}, VotersOutgoing: []uint64{1}, LearnersNext: []uint64{3}}),
		"read without a name":           {Type: raft.MsgReadIndex, From: 1, To: 2},
		"read with two names":           {Type: raft.MsgReadIndex, From: 1, To: 2, Entries: make([]raft.Entry, 2)},
		"read with a term":              {Type: raft.MsgReadIndex, From: 1, To: 2, Term: 9, Entries: make([]raft.Entry, 1)},
		"answer without a name":         from1(raft.Message{Type: raft.MsgReadIndexResp, Index: 2}),
		"proposal with a term":          {Type: raft.MsgPropose, From: 1, To: 2, Term: 9, Entries: make([]raft.Entry, 1)},
		"proposal of an unknown type":   {Type: raft.MsgPropose, From: 1, To: 2, Entries: []raft.Entry{{Type: 3}}},
		"vote with strange bytes":       from1(raft.Message{Type: raft.MsgRequestVote, Context: []byte("campaignTransfer")}),
		"vote for a log of the future":  from1(raft.Message{Type: raft.MsgRequestVote, LogTerm: 3}),
		"transfer to nobody":            {Type: raft.MsgTransferLeader, To: 2},
		"unknown type":                  from1(raft.Message{Type: 19}),
		"unknown type, the last":        from1(raft.Message{Type: 255}),
	}
	for _, n := range []int{1, 7, 9, 24, 1 << 10} {
		ms[fmt.Sprintf("heartbeat context of %d bytes", n)] = from1(raft.Message{Type: raft.MsgHeartbeat, Context: make([]byte, n)})
	}
	for _, typ := range []raft.MessageType{raft.MsgAppend, raft.MsgHeartbeat, raft.MsgRequestVote, raft.MsgRequestPreVote, raft.MsgTimeoutNow, raft.MsgReadIndexResp} {
		ms["from ourselves: "+typ.String()] = raft.Message{Type: typ, From: 2, To: 2, Term: 3}
		ms["from a reserved id: "+typ.String()] = raft.Message{Type: typ, From: huge, To: 2, Term: 3}
		ms["for another: "+typ.String()] = raft.Message{Type: typ, From: 1, To: 3, Term: 3}
		ms["without a term: "+typ.String()] = raft.Message{Type: typ, From: 1, To: 2}
	}
	return ms
}

// In every role a hostile message is ErrInvalidMessage, and term, log, role and what is to be sent stay as they were.
func TestHostileMessages(t *testing.T) {
	roles := map[string]func(g *group){
		"follower":  func(g *group) { g.elect(1) },
		"leader":    func(g *group) { g.elect(2) },
		"candidate": func(g *group) { g.must(g.n(2).raw.Campaign()); g.drive(2) },
	}
	for role, begin := range roles {
		for name, m := range hostile() {
			g := newGroup(t, 3, nil)
			begin(g)
			raw := g.n(2).raw
			before := raw.BasicStatus()
			err := raw.Step(m)
			if !errors.Is(err, raft.ErrInvalidMessage) || raw.Err() != nil {
				t.Errorf("%s, %s: %v (poisoned: %v), want ErrInvalidMessage", role, name, err, raw.Err())
			}
			after := raw.BasicStatus()
			after.SoftState = before.SoftState // a candidate follows whoever leads its term, whatever else he says
			if after != before {
				t.Errorf("%s, %s: %+v became %+v", role, name, before, after)
			}
		}
	}
}

// Local types and strangers have errors of their own, in whatever shape they come.
func TestLocalMessagesAndStrangers(t *testing.T) {
	g := newGroup(t, 3, nil)
	g.elect(1)
	raw := g.n(1).raw
	for _, typ := range []raft.MessageType{raft.MsgHup, raft.MsgBeat, raft.MsgUnreachable, raft.MsgSnapStatus, raft.MsgCheckQuorum} {
		for _, m := range []raft.Message{{Type: typ}, {Type: typ, From: 2, To: 1, Term: 2}, {Type: typ, From: 1, To: 1, Term: huge}} {
			if err := raw.Step(m); err != raft.ErrStepLocalMsg {
				t.Errorf("%v: %v, want ErrStepLocalMsg", typ, err)
			}
		}
	}
	for _, typ := range []raft.MessageType{raft.MsgAppendResponse, raft.MsgHeartbeatResponse, raft.MsgRequestVoteResponse, raft.MsgRequestPreVoteResponse} {
		if err := raw.Step(raft.Message{Type: typ, From: 9, To: 1, Term: 9}); err != raft.ErrStepPeerNotFound {
			t.Errorf("%v of a stranger: %v, want ErrStepPeerNotFound", typ, err)
		}
		if err := raw.Step(raft.Message{Type: typ}); !errors.Is(err, raft.ErrStepPeerNotFound) || !errors.Is(err, raft.ErrInvalidMessage) {
			t.Errorf("%v of nobody: %v, want both errors", typ, err)
		}
		if err := raw.Step(raft.Message{Type: typ, From: 2, To: 1, Term: 1 << 31}); !errors.Is(err, raft.ErrInvalidMessage) {
			t.Errorf("%v of a term beyond 31 bits: %v", typ, err)
		}
	}
	if hs := g.hard(1); hs.Term != 2 {
		t.Errorf("term %d, want 2: a stranger's response moved it", hs.Term)
	}
}

// Answers that lie are refused or clamped: progress never passes the log, and the next honest answer goes on as ever.
func TestAnswersThatLie(t *testing.T) {
	g := newGroup(t, 3, nil)
	g.elect(1)
	raw := g.n(1).raw
	round := func(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }
	for name, m := range map[string]raft.Message{
		"acknowledges beyond":      {Type: raft.MsgAppendResponse, Index: 3},
		"acknowledges everything":  {Type: raft.MsgAppendResponse, Index: huge},
		"round that was not begun": {Type: raft.MsgHeartbeatResponse, Context: round(1)},
		"huge round":               {Type: raft.MsgHeartbeatResponse, Context: round(huge)},
		"odd context":              {Type: raft.MsgHeartbeatResponse, Context: round(1)[:5]},
	} {
		m.From, m.To, m.Term = 3, 1, 2
		if err := raw.Step(m); !errors.Is(err, raft.ErrInvalidMessage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, m := range []raft.Message{
		{Type: raft.MsgAppendResponse, Index: 1, Commit: huge},
		{Type: raft.MsgAppendResponse, Reject: true, Index: huge, RejectHint: huge, LogTerm: huge, Commit: huge},
		{Type: raft.MsgAppendResponse, Reject: true, Index: 2, RejectHint: huge},
		{Type: raft.MsgAppendResponse, Reject: true, Index: 2, RejectHint: huge, LogTerm: 1},
		{Type: raft.MsgAppendResponse, Reject: true, Index: 0, RejectHint: huge, LogTerm: 2, RequestSnapshot: huge},
		{Type: raft.MsgHeartbeatResponse, Commit: huge},
	} {
		m.From, m.To, m.Term = 3, 1, 2
		g.must(raw.Step(m))
		pr := raw.Status().Progress[3]
		if last := raw.BasicStatus().LastIndex; pr.Match > last || pr.Next > last+1 || pr.Next <= pr.Match || pr.CommittedIndex > last || pr.PendingRequestSnapshot > last {
			t.Errorf("after %+v: progress %+v of a log that ends at %d", m, pr, last)
		}
	}
	g.must(raw.Propose(nil, []byte("x")))
	for range 3 {
		g.tick(1, 1)
		g.run()
	}
	if got := g.hard(3).Commit; got != 3 {
		t.Errorf("node 3 has committed %d, want 3", got)
	}
}

// A node at the last term can't campaign, and answers who asks it to.
func TestTermsEnd(t *testing.T) {
	g := newGroup(t, 3, nil)
	g.must(g.n(2).raw.Step(raft.Message{Type: raft.MsgHeartbeat, From: 1, To: 2, Term: 1<<31 - 1}))
	g.drive(2)
	if err := g.n(2).raw.Campaign(); !errors.Is(err, raft.ErrNotPromotable) {
		t.Errorf("Campaign: %v, want ErrNotPromotable", err)
	}
	g.must(g.n(2).raw.Step(raft.Message{Type: raft.MsgTimeoutNow, From: 1, To: 2, Term: 1<<31 - 1}))
	g.tick(2, 100)
	g.drive(2)
	if hs := g.hard(2); hs.Term != 1<<31-1 || g.role(2) != raft.StateFollower {
		t.Errorf("%+v as %v", hs, g.role(2))
	}
}

// longLog makes node 2 of three with a log of n entries of term 5 (and of that size) after one of term 1, behind a storage that counts.
func longLog(t *testing.T, n int, size ...int) (*group, *spoiltStorage) {
	g := newGroup(t, 3, nil)
	var data []byte // shared
	for _, bytes := range size {
		data = make([]byte, bytes)
	}
	entries := make([]raft.Entry, n)
	for i := range entries {
		entries[i] = raft.Entry{Term: 5, Index: uint64(i) + 2, Data: data}
	}
	m := g.n(2)
	g.must(m.st.Append(entries))
	m.st.SetHardState(raft.HardState{Term: 5, Commit: 1})
	st := &spoiltStorage{MemoryStorage: m.st}
	raw, err := raft.NewRawNode(m.cfg, st)
	g.must(err)
	m.raw = raw
	return g, st
}

// Finding where two logs can agree takes look-ups by the logarithm of the log's length, on either side, whatever the message says.
func TestBacktrackingIsBounded(t *testing.T) {
	const n = 20_000
	g, st := longLog(t, n)
	st.terms = 0
	g.must(g.n(2).raw.Step(raft.Message{Type: raft.MsgAppend, From: 1, To: 2, Term: 6, Index: n + 100, LogTerm: 4}))
	if st.terms > 60 {
		t.Errorf("%d look-ups for one append", st.terms)
	}
	g.drive(2)
	if a := g.sentOf(raft.MsgAppendResponse); len(a) != 1 || !a[0].Reject || a[0].RejectHint != 1 || a[0].LogTerm != 1 {
		t.Errorf("the answer is %+v, want the hint 1/1", a)
	}

	g, st = longLog(t, n)
	g.elect(2)
	g.lose = isolated(3)
	g.n(2).raw.ReportUnreachable(3)
	g.tick(2, 1)
	g.run()
	st.terms = 0
	next := g.n(2).raw.Status().Progress[3].Next
	g.must(g.n(2).raw.Step(raft.Message{Type: raft.MsgAppendResponse, From: 3, To: 2, Term: 6, Reject: true, Index: next - 1, RejectHint: n, LogTerm: 4}))
	if st.terms > 80 {
		t.Errorf("%d look-ups for one rejection", st.terms)
	}
}

// What backtracking finds is what a plain walk from above finds.
func TestBacktrackingAgreesWithAWalk(t *testing.T) {
	terms := []uint64{1, 1, 2, 2, 2, 4, 4, 7, 7, 7, 7, 9}
	g := newGroup(t, 3, nil)
	m := g.n(2)
	for i, term := range terms {
		g.must(m.st.Append([]raft.Entry{{Term: term, Index: uint64(i) + 2}}))
	}
	m.st.SetHardState(raft.HardState{Term: 9, Commit: 1})
	m.start(t)
	log := append([]uint64{0, 1}, terms...)                       // by index
	for index := uint64(2); index < uint64(len(log))+3; index++ { // 1 is committed
		for term := uint64(1); term <= 11; term++ {
			if index < uint64(len(log)) && log[index] == term {
				continue // held: no rejection
			}
			g.sent, g.wire = nil, nil
			g.must(m.raw.Step(raft.Message{Type: raft.MsgAppend, From: 1, To: 2, Term: 20, Index: index, LogTerm: term}))
			g.drive(2)
			want := min(index, uint64(len(log))-1)
			for log[want] > term {
				want--
			}
			a := g.sentOf(raft.MsgAppendResponse)
			if len(a) != 1 || a[0].RejectHint != want || a[0].LogTerm != log[want] {
				t.Fatalf("append after %d/%d: %+v, want the hint %d/%d", term, index, a, log[want], want)
			}
		}
	}
}

// Orders to stand for election can't make a node read a backlog of unapplied entries over and over.
func TestElectionScanIsBounded(t *testing.T) {
	const n = 5000
	g, st := longLog(t, n, 2<<10)
	raw := g.n(2).raw
	g.must(raw.Step(raft.Message{Type: raft.MsgAppend, From: 1, To: 2, Term: 6, Index: n + 1, LogTerm: 5, Commit: n + 1,
		Entries: []raft.Entry{{Type: raft.EntryConfChangeV2, Term: 6, Index: n + 2}}}))
	g.must(raw.Step(raft.Message{Type: raft.MsgAppend, From: 1, To: 2, Term: 6, Index: n + 2, LogTerm: 6, Commit: n + 2}))
	rd := raw.Ready()
	g.persist(g.n(2), rd)
	raw.AdvanceAppend(rd) // committed, not applied
	g.must(raw.Step(raft.Message{Type: raft.MsgTimeoutNow, From: 1, To: 2, Term: 6}))
	first := st.reads
	for range 100 {
		g.must(raw.Step(raft.Message{Type: raft.MsgTimeoutNow, From: 1, To: 2, Term: 6}))
	}
	if g.role(2) != raft.StateFollower {
		t.Fatal("it campaigns over a configuration change that it has not applied")
	}
	if first < 8 || st.reads > first+100 { // a page of the log is 1 MiB
		t.Errorf("%d reads of the log for the first order, %d for a hundred more", first, st.reads-first)
	}
}

// A flood of transfers does not keep check-quorum from deposing a leader that nobody answers.
func TestTransfersDoNotHoldOffCheckQuorum(t *testing.T) {
	g := newGroup(t, 3, nil)
	g.elect(1)
	g.lose = isolated(1)
	for i := range 40 {
		g.n(1).raw.TransferLeader(uint64(2 + i/5%2))
		g.tick(1, 1)
		g.run()
	}
	if g.role(1) == raft.StateLeader {
		t.Fatal("it leads, unheard, for four election timeouts")
	}
}

// Remote reads that wait are bounded: those beyond the bound are left to their askers' timeouts.
func TestRemoteReadsAreBounded(t *testing.T) {
	const bound = 1 << 16
	g := newGroup(t, 3, func(c *raft.Config) { c.CheckQuorum = false })
	g.elect(1)
	g.lose = isolated(1)
	name := []raft.Entry{{Data: []byte("n")}}
	for range bound + 100 {
		g.must(g.n(1).raw.Step(raft.Message{Type: raft.MsgReadIndex, From: 2, To: 1, Entries: name}))
	}
	g.lose = func(m *raft.Message) bool { return m.To == 2 }
	g.run()
	if n := len(g.sentOf(raft.MsgReadIndexResp)); n != bound {
		t.Errorf("%d answers, want %d", n, bound)
	}
}

// A read that was forwarded to a leader of old finds its way to the new one, also if that is who asked; and nobody writes to himself.
func TestReadsFindTheNewLeader(t *testing.T) {
	g := newGroup(t, 3, func(c *raft.Config) { c.CheckQuorum = false })
	g.elect(1)
	name := func(s string) []raft.Entry { return []raft.Entry{{Data: []byte(s)}} }
	g.elect(3)
	g.sent = nil
	for _, from := range []uint64{2, 3} {
		g.must(g.n(1).raw.Step(raft.Message{Type: raft.MsgReadIndex, From: from, To: 1, Entries: name("r")}))
	}
	g.drive(1)
	var from []uint64
	for _, m := range g.sentOf(raft.MsgReadIndex) {
		if m.To != 3 || m.Term != 0 || string(m.Entries[0].Data) != "r" {
			t.Errorf("forwarded %+v, want the same to 3 with term 0", m)
		}
		from = append(from, m.From)
	}
	if !slices.Equal(from, []uint64{2, 3}) {
		t.Fatalf("forwarded for %v, want 2 and 3", from)
	}
	g.run()
	if r := g.n(3).reads; len(r) != 1 || string(r[0].RequestCtx) != "r" {
		t.Errorf("node 3 answered itself %v, want one read", r)
	}
	for _, m := range g.sent {
		if m.From == m.To {
			t.Errorf("a message to self: %+v", m)
		}
	}
	g.must(g.n(2).raw.Step(raft.Message{Type: raft.MsgReadIndex, From: 2, To: 2, Entries: name("s")})) // the app's own bytes, stepped at a follower
	g.drive(2)
	if ms := g.sentOf(raft.MsgReadIndex); len(ms) != 1 || ms[0].To != 3 || ms[0].From != 2 {
		t.Errorf("forwarded %+v, want one message from 2 to 3", ms)
	}
	g.run()
	g.sent = nil

	// A read of ReadIndex ends when its node stands for election; coming round later it ends nothing a second time.
	g.must(g.n(2).raw.ReadIndex([]byte("mine")))
	g.drive(2)
	asked := g.sentOf(raft.MsgReadIndex)
	g.wire = nil
	g.elect(2)
	if len(asked) != 1 || len(g.n(2).dropped) != 1 || !errors.Is(g.n(2).dropped[0].Reason, raft.ErrRoleChanged) {
		t.Fatalf("asked %v, dropped %v: want the read to end with the role", asked, g.n(2).dropped)
	}
	back := asked[0]
	back.To = 2
	g.must(g.n(2).raw.Step(back))
	g.run()
	if len(g.n(2).reads) != 0 || len(g.n(2).dropped) != 1 {
		t.Errorf("it ended again: %v, %v", g.n(2).reads, g.n(2).dropped)
	}
}
