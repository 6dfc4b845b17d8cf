package partition

import (
	"fmt"
	"slices"
	"testing"

	"lograft/raft"
	"lograft/segment"
)

// sealed3 is replica 2 of three, whose leader is gone, with several sealed segments of entries that carry no records.
func sealed3(t *testing.T) *lame {
	t.Helper()
	x := stranded3(t)
	m := appendOf(9, 2, 2, entriesFrom(10, 2, 22))
	m.Commit = 31
	x.step(m)
	for range 20 {
		x.r.Tick(&x.env)
		x.step()
	}
	for task := x.r.BeginSeal(); task != nil; task = x.r.BeginSeal() {
		x.r.EndSeal(&x.env, task, task.Do())
	}
	if n := len(x.sealed()); n < 3 {
		t.Fatalf("%d sealed segments", n)
	}
	return x
}

func (x *lame) sealed() []segment.Extent {
	return slices.DeleteFunc(x.r.log.Extents(nil), func(e segment.Extent) bool { return !e.Sealed })
}

// spoil damages a file of a segment and has the segment checked.
func (x *lame) spoil(base uint64, suffix string, at int64) {
	x.t.Helper()
	if err := x.fs.Corrupt(fmt.Sprintf("g/%020d%s", base, suffix), at, 1); err != nil {
		x.t.Fatal(err)
	}
	v := x.r.log.BeginVerify(base)
	if v == nil {
		x.t.Fatal("it is not checked")
	}
	v.Do(func(int) {})
	if _, err := x.r.log.EndVerify(v); err != nil {
		x.t.Fatal(err)
	}
	x.r.lookForDamage(&x.env)
}

// Damaged entries without records (a group's commands have no offsets) are given up like records: the plan says up to which entry, an accept does
// it, and the replica can be elected.
func TestRecoverDropsDamagedCommands(t *testing.T) {
	x := sealed3(t)
	bad := x.sealed()[1]
	x.spoil(bad.Base, ".log", 200)
	if len(x.r.Damaged()) == 0 {
		t.Fatal("no damage was found")
	}
	if r := x.recoverNow(false, 1, 3); r.DropTo != bad.Last || r.From != r.To || r.Problem != "" || !r.Stranded || !r.Voter {
		t.Fatalf("the plan: %+v", r)
	}
	if r := x.recoverNow(true, 1, 3); !r.Done {
		t.Fatalf("accepted: %+v", r)
	}
	for range 40 {
		x.r.Tick(&x.env)
		x.step()
	}
	if len(x.r.Damaged()) > 0 || x.r.log.FirstIndex() <= bad.Last || !x.r.IsLeader() {
		t.Fatalf("damaged %v, the log begins at %d, leader %v", x.r.Damaged(), x.r.log.FirstIndex(), x.r.IsLeader())
	}
	x.hard.Commit = max(x.hard.Commit, x.r.log.FirstIndex()-1)
	if err := x.r.Close(&x.env); err != nil {
		t.Fatal(err)
	}
	x.open(segment.Mark{})
	if !sameConf(x.r.conf, raft.ConfState{Voters: []uint64{2}}) && x.r.applied < bad.Last {
		t.Fatalf("after a restart: applied %d, %+v", x.r.applied, x.r.conf)
	}
}

// Without a checkpoint behind them damaged entries don't go: the next start could not tell what they had made.
func TestRecoverWantsACheckpoint(t *testing.T) {
	x := sealed3(t)
	list := x.sealed()
	for _, s := range list {
		x.spoil(s.Base, ".state", 10)
	}
	x.spoil(list[1].Base, ".log", 200)
	for _, accept := range []bool{false, true} {
		if r := x.recoverNow(accept, 1, 3); r.Problem == "" || r.Done || r.DropTo != 0 {
			t.Fatalf("accept %v: %+v", accept, r)
		}
	}
	if x.r.log.FirstIndex() > list[0].Base || x.r.force.on {
		t.Fatalf("the log begins at %d, %+v", x.r.log.FirstIndex(), x.r.force)
	}
}

// Four voted, two are gone. One that is left lost its log, so it votes for nobody: asked for its vote alone it gives up what it lost, does not
// force anything itself, and elects the other, which needs it.
func TestRecoverOfTheOtherSurvivor(t *testing.T) {
	x := stranded3(t)
	if err := x.r.Close(&x.env); err != nil {
		t.Fatal(err)
	}
	x.conf = &raft.ConfState{Voters: []uint64{1, 2, 3, 4}}
	x.open(segment.Mark{})
	x.r.opts.Whole, x.r.refill.on = func() error { return nil }, true
	x.r.node.SetElectable(x.r.electable())
	votes := func() int {
		for range 20 {
			x.r.Tick(&x.env)
			x.step()
		}
		x.sent = nil
		x.step(raft.Message{Type: raft.MsgRequestVote, From: 3, Term: x.r.hard.Term + 1, Index: 100, LogTerm: 2})
		return x.count(func(m *raft.Message) bool { return answersVote(m) && !m.Reject })
	}
	if r := x.recoverNow(false, 1, 4); !r.Stranded || !r.Refilling || r.Problem != "" {
		t.Fatalf("the plan: %+v", r)
	}
	if votes() > 0 {
		t.Fatal("it votes although it lost its log")
	}
	q := Request{Op: OpRecover, Offset: RecoverVotes, Gone: []uint64{1, 4}}
	x.r.Do(&x.env, &q)
	for _, c := range x.env.Cold {
		c.Do()
		x.r.ReadDone(&x.env, c)
	}
	x.env.Cold = nil
	x.step()
	if x.r.refill.on || x.r.force.on {
		t.Fatalf("refilling %v, %+v", x.r.refill.on, x.r.force)
	}
	if votes() != 1 {
		t.Fatalf("it does not vote: %+v %+v", x.sent, x.r.hard)
	}
}
