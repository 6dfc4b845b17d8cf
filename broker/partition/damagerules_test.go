package partition

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"lograft/raft"
	"lograft/segment"
	"lograft/segment/vfs"
)

// lame is replica 2 of a group of three whose peers are the test: it writes to the file system that it was given and what it sends is kept.
type lame struct {
	t    *testing.T
	fs   *vfs.Mem
	r    *Replica
	env  Env
	hard raft.HardState
	sent []raft.Message
	conf *raft.ConfState // of the birth; nil: replicas 1, 2 and 3 vote
}

// Send implements Sender.
func (x *lame) Send(_ uint64, _ GroupID, m *raft.Message) { x.sent = append(x.sent, *m) }

func (x *lame) open(mark segment.Mark) {
	x.t.Helper()
	x.env = Env{Now: 1, Wall: soloStart, Out: x, Clocks: func([]uint64) (int64, int64, int) { return soloStart, soloStart, 1 }}
	birth := raft.ConfState{Voters: []uint64{1, 2, 3}}
	if x.conf != nil {
		birth = *x.conf
	}
	log, _, err := segment.Open(segment.Options{FS: x.fs, Dir: "g", Group: segment.GroupID{1}, Start: segment.Start{Index: 1, Term: 1}, SegmentBytes: 300,
		LimitOf: SegmentLimit, Mark: mark, CommitFloor: x.hard.Commit})
	if err != nil {
		x.t.Fatal(err)
	}
	x.r, err = New(Options{Group: GroupID{1}, ReplicaID: 2, Peers: []Peer{{1, 1}, {2, 2}, {3, 3}}, Birth: birth, Born: 1,
		Log: log, Hard: RestoredHardState(x.hard, log, 2), ElectionTicks: 5, HeartbeatTicks: 1, Rand: rand.New(rand.NewPCG(1, 1)).IntN})
	if err != nil {
		x.t.Fatal(err)
	}
}

// step hands over messages of others and carries out what follows.
func (x *lame) step(messages ...raft.Message) {
	x.t.Helper()
	for _, m := range messages {
		m.To = 2
		x.r.Step(&x.env, m.From, m)
	}
	for range 10 {
		x.r.EndStep(&x.env)
		if item, ok := x.r.Sync(); ok {
			if item.Hard != nil {
				x.hard = *item.Hard
			}
			var err error
			if item.Log != nil {
				err = item.Log.Do()
			}
			x.r.Synced(&x.env, item, err)
		}
	}
	if err := x.r.Err(); err != nil {
		x.t.Fatal(err)
	}
}

func (x *lame) count(match func(*raft.Message) bool) (n int) {
	for i := range x.sent {
		if match(&x.sent[i]) {
			n++
		}
	}
	return n
}

func accepts(m *raft.Message) bool { return m.Type == raft.MsgAppendResponse && !m.Reject }

func answersVote(m *raft.Message) bool {
	return m.Type == raft.MsgRequestVoteResponse || m.Type == raft.MsgRequestPreVoteResponse
}

// entriesFrom are count empty entries of a term.
func entriesFrom(index, term uint64, count int) (out []raft.Entry) {
	for i := range count {
		out = append(out, raft.Entry{Index: index + uint64(i), Term: term})
	}
	return out
}

func appendOf(prev, prevTerm, term uint64, entries []raft.Entry) raft.Message {
	return raft.Message{Type: raft.MsgAppend, From: 1, Term: term, Index: prev, LogTerm: prevTerm, Entries: entries}
}

// hurt gives the replica entries 2 to 9 of a leader, closes it and damages entry i on file. It returns the persist mark.
func hurt(t *testing.T, i uint64) (*lame, segment.Mark) {
	t.Helper()
	x := &lame{t: t, fs: vfs.NewMem()}
	x.open(segment.Mark{})
	x.step(appendOf(1, 1, 2, entriesFrom(2, 2, 8)))
	if x.count(accepts) == 0 || x.r.log.LastIndex() != 9 {
		t.Fatalf("a whole replica answers %v and holds up to entry %d", x.sent, x.r.log.LastIndex())
	}
	mark := x.r.log.DurableMark()
	if err := x.r.Close(&x.env); err != nil {
		t.Fatal(err)
	}
	const headBytes, frameBytes = 128, 48 // so segments of 300 bytes hold entries 2 to 5, 6 to 9
	base := 2 + (i-2)/4*4
	if err := x.fs.Corrupt(fmt.Sprintf("g/%020d.log", base), headBytes+frameBytes*int64(i-base)+20, 1); err != nil {
		t.Fatal(err)
	}
	x.sent = nil
	return x, mark
}

// A replica with damage in the middle takes what a leader sends, but accepts nothing: what it would say it holds it could not give back. It
// stands for no election, votes by its full log, and asks its peers for exactly the damaged entry, with a proof.
func TestDamagedReplicaAcceptsNothing(t *testing.T) {
	x, mark := hurt(t, 4)
	x.open(mark)
	if f := x.r.Damaged(); len(f) != 1 || f[0].From != 4 || f[0].To != 4 {
		t.Fatalf("damage: %v", f)
	}
	x.step(appendOf(9, 2, 2, entriesFrom(10, 2, 1)), raft.Message{Type: raft.MsgHeartbeat, From: 1, Term: 2})
	if x.r.log.LastIndex() != 10 {
		t.Errorf("it holds up to entry %d, want 10", x.r.log.LastIndex())
	}
	if n := x.count(accepts); n > 0 {
		t.Errorf("it accepted %d times", n)
	}
	if x.count(func(m *raft.Message) bool { return m.Type == raft.MsgHeartbeatResponse }) == 0 {
		t.Error("it does not answer heartbeats")
	}
	for range 50 {
		x.r.Tick(&x.env)
		x.step()
	}
	if n := x.count(func(m *raft.Message) bool { return m.Type == raft.MsgRequestPreVote || m.Type == raft.MsgRequestVote }); n > 0 {
		t.Errorf("it stood for election %d times", n)
	}
	if n := x.count(func(m *raft.Message) bool {
		a, ok := decodeRepairAsk(m.Context)
		return m.Type == MsgRepairAsk && ok && a.from == 4 && a.to == 4 && a.proof.index >= 4 && a.proof.term == 2
	}); n == 0 {
		t.Error("it asks nobody for entry 4")
	}
	x.step(raft.Message{Type: raft.MsgRequestVote, From: 3, Term: 7, Index: 10, LogTerm: 2})
	if x.count(answersVote) == 0 {
		t.Error("it does not vote although its log's end is known")
	}
}

// Damage that hides the log's last entry hides what a vote would be judged by: no vote and no pre-vote is answered.
func TestDamagedEndVotesForNobody(t *testing.T) {
	x, _ := hurt(t, 9)
	x.hard.Commit = 9 // no mark, but the journal knows that entry 9 was committed
	x.open(segment.Mark{})
	if len(x.r.Damaged()) == 0 {
		t.Fatal("no damage is known")
	}
	x.step(raft.Message{Type: raft.MsgRequestPreVote, From: 3, Term: 8, Index: 100, LogTerm: 7}, raft.Message{Type: raft.MsgRequestVote, From: 3, Term: 8, Index: 100, LogTerm: 7})
	if n := x.count(answersVote); n > 0 {
		t.Errorf("%d answers to requests for votes", n)
	}
}

// Entries are given for a repair only to who proves with an entry at or behind them that its log is the same: entries of another term may
// be others.
func TestRepairWantsProof(t *testing.T) {
	x := &lame{t: t, fs: vfs.NewMem()}
	x.open(segment.Mark{})
	x.step(appendOf(1, 1, 2, entriesFrom(2, 2, 8)))
	for _, c := range []struct {
		proof entryRef
		want  repairVerdict
	}{{entryRef{9, 2}, repairHeld}, {entryRef{9, 3}, repairUnknown}, {entryRef{10, 2}, repairUnknown}} {
		x.sent = nil
		ask := repairAsk{token: 5, from: 4, to: 5, proof: c.proof}
		x.step(raft.Message{Type: MsgRepairAsk, From: 3, Context: ask.encode()})
		if len(x.sent) != 1 || x.sent[0].Type != MsgRepairAnswer {
			t.Fatalf("proof %v: %v", c.proof, x.sent)
		}
		if a, ok := decodeRepairAnswer(x.sent[0].Context); !ok || a.verdict != c.want || (c.want == repairHeld) != (len(x.sent[0].Entries) == 2) {
			t.Errorf("proof %v: verdict %d with %d entries, want %d", c.proof, a.verdict, len(x.sent[0].Entries), c.want)
		}
	}
}

// Who has given up the entries asked for, the proof among them, says so: who is damaged then asks its leader for a snapshot. broker/sim with
// fifteen times as many turned bits, seed 1795815075347476474.
func TestRepairOfWhatIsGivenUp(t *testing.T) {
	s := startSolo(t, &solo{config: Config{RetentionMs: -1, RetentionBytes: -1}, learner: true})
	s.fill(23)
	s.mustDo(Request{Op: OpTrim, Offset: 12})
	out := &kept{}
	s.env.Out = out
	ask := repairAsk{token: 5, from: 3, to: 3, proof: entryRef{3, 2}}
	s.r.Step(&s.env, 2, raft.Message{Type: MsgRepairAsk, From: 2, To: 1, Context: ask.encode()})
	s.settle()
	for _, m := range out.take() {
		if a, ok := decodeRepairAnswer(m.Context); m.Type == MsgRepairAnswer && ok && a.verdict == repairGone {
			return
		}
	}
	t.Errorf("the log begins at entry %d, and it does not say that entry 3 is given up", s.r.log.FirstIndex())
}
