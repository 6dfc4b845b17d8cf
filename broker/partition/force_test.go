package partition

import (
	"slices"
	"testing"

	"lograft/raft"
	"lograft/segment"
	"lograft/segment/vfs"
)

// recoverNow asks a replica for what recovery would do, or has it do it.
func (x *lame) recoverNow(accept bool, gone ...uint64) Recovery {
	x.t.Helper()
	how := RecoverPlan
	if accept {
		how = RecoverForce
	}
	return x.recoverAs(how, gone...)
}

func (x *lame) recoverAs(how int64, gone ...uint64) Recovery {
	x.t.Helper()
	q := Request{Op: OpRecover, Offset: how, Gone: gone}
	x.r.Do(&x.env, &q)
	x.step()
	for _, a := range x.env.Replies {
		if a.Recovery != nil {
			x.env.Replies = nil
			return *a.Recovery
		}
	}
	x.t.Fatalf("no answer: %+v", x.env.Replies)
	return Recovery{}
}

// appendRefused says why a record can't be appended now, "" if it is taken.
func (x *lame) appendRefused() Reason {
	x.t.Helper()
	x.env.Replies = nil
	x.r.Do(&x.env, &Request{Op: OpProduce, Batch: batchOf(x.t, -1, -1), ExpectedOffset: NoExpectedOffset})
	for _, a := range x.env.Replies {
		if a.Err != nil {
			return a.Err.Reason
		}
	}
	return ""
}

// A learner holds more than the one voter that is left: it gets a vote, is elected with the other's, and the log gives both of them one.
func TestForceOfALearner(t *testing.T) {
	x := &lame{t: t, fs: vfs.NewMem()}
	x.conf = &raft.ConfState{Voters: []uint64{1, 3, 4}, Learners: []uint64{2}}
	x.open(segment.Mark{})
	if r := x.recoverNow(true, 1, 4); !r.Done || !r.Stranded || r.Voter {
		t.Fatalf("%+v", r)
	}
	for range 200 {
		x.r.Tick(&x.env)
		x.step()
		sent := x.sent
		x.sent = nil
		for _, m := range sent { // replica 3 says yes to everything
			a := raft.Message{From: 3, Term: m.Term}
			switch {
			case m.To != 3:
				continue
			case m.Type == raft.MsgRequestPreVote:
				a.Type = raft.MsgRequestPreVoteResponse
			case m.Type == raft.MsgRequestVote:
				a.Type = raft.MsgRequestVoteResponse
			case m.Type == raft.MsgAppend:
				a.Type, a.Index = raft.MsgAppendResponse, m.Index+uint64(len(m.Entries))
			case m.Type == raft.MsgHeartbeat:
				a.Type, a.Context = raft.MsgHeartbeatResponse, m.Context
			default:
				continue
			}
			x.step(a)
		}
	}
	if !x.r.IsLeader() || x.r.force.on || !sameConf(x.r.conf, raft.ConfState{Voters: []uint64{2, 3}}) {
		t.Fatalf("leader %v, %+v, %+v", x.r.IsLeader(), x.r.conf, x.r.force)
	}
}

// stranded3 is replica 2 of three that holds entries 2 to 9 of a leader, which commits none behind 7.
func stranded3(t *testing.T) *lame {
	t.Helper()
	x := &lame{t: t, fs: vfs.NewMem()}
	x.open(segment.Mark{})
	m := appendOf(1, 1, 2, entriesFrom(2, 2, 8))
	m.Commit = 7
	x.step(m)
	for range 20 { // the leader is forgotten
		x.r.Tick(&x.env)
		x.step()
	}
	return x
}

// Two of three are gone for good. Nobody is elected, and asking changes nothing; an operator accepts the loss, and the third goes on alone
// with all that it holds. It takes no record before its log says so, listens to the others no more, and a restart finds the configuration.
func TestForceGoesOnAlone(t *testing.T) {
	x := stranded3(t)
	if r := x.recoverNow(false, 3); r.Stranded || !slices.Equal(r.Gone, []uint64{3}) {
		t.Fatalf("with one of three gone: %+v", r)
	}
	r := x.recoverNow(false, 1, 3)
	if !r.Stranded || r.Problem != "" || r.LastIndex != 9 || r.LastTerm != 2 || r.Done {
		t.Fatalf("the plan: %+v", r)
	}
	for range 50 {
		x.r.Tick(&x.env)
		x.step()
	}
	if x.r.role == raft.StateLeader {
		t.Fatal("it leads without an operator")
	}
	if r := x.recoverNow(true, 1, 3); !r.Done {
		t.Fatalf("accepted: %+v", r)
	}
	early := 0
	for range 20 {
		if !sameConf(x.r.conf, raft.ConfState{Voters: []uint64{2}}) {
			if why := x.appendRefused(); why != ReasonNotReady {
				t.Fatalf("with configuration %+v an append is answered %q", x.r.conf, why)
			}
			early++
		}
		x.r.Tick(&x.env)
		x.step()
	}
	if early == 0 || x.r.force.on || !x.r.IsLeader() || x.r.applied < 9 {
		t.Fatalf("asked %d times before the log said so; %+v, applied %d, leader %v", early, x.r.force, x.r.applied, x.r.IsLeader())
	}
	if why := x.appendRefused(); why != "" {
		t.Fatalf("an append: %s", why)
	}
	x.step()
	term := x.r.hard.Term
	x.step(raft.Message{Type: raft.MsgRequestVote, From: 1, Term: term + 5, Index: 100, LogTerm: 9}, raft.Message{Type: raft.MsgAppend, From: 3, Term: term + 5})
	if x.r.hard.Term != term || !x.r.IsLeader() {
		t.Fatal("it listens to a replica that was given up")
	}
	x.hard.Commit = x.r.applied
	if err := x.r.Close(&x.env); err != nil {
		t.Fatal(err)
	}
	x.open(segment.Mark{})
	for range 50 {
		x.r.Tick(&x.env)
		x.step()
	}
	if !x.r.IsLeader() || !sameConf(x.r.conf, raft.ConfState{Voters: []uint64{2}}) {
		t.Fatalf("after a restart: leader %v, %+v", x.r.IsLeader(), x.r.conf)
	}
}

// A crash before the log says so forgets the override: nobody is elected, and the operator asks again. What was committed by it until then stays,
// be it nothing, or the removal of one of those that are gone.
func TestForceIsForgottenByACrash(t *testing.T) {
	for _, left := range []int{3, 2} { // voters in the log's configuration, as journalled
		x := stranded3(t)
		x.recoverStopped(func() bool {
			return x.r.log.LastIndex() > 9 && len(x.r.conf.Voters) == left && (left == 3 || x.hard.Commit >= x.r.applied)
		}, 1, 3)
		if left == 3 {
			x.hard.Commit = min(x.hard.Commit, 9) // of what came with the force nothing was journalled as committed
		}
		commit := x.hard.Commit
		if err := x.r.Close(&x.env); err != nil {
			t.Fatal(err)
		}
		x.open(segment.Mark{})
		for range 50 {
			x.r.Tick(&x.env)
			x.step()
		}
		if x.r.role == raft.StateLeader || len(x.r.conf.Voters) != left || x.r.applied != commit {
			t.Fatalf("role %v with a configuration that no log knows: %+v, applied %d of %d", x.r.role, x.r.conf, x.r.applied, commit)
		}
		if r := x.recoverNow(true, 1, 3); !r.Done || !r.Stranded || len(r.Gone) != left-1 {
			t.Fatalf("asked again: %+v", r)
		}
		for range 20 {
			x.r.Tick(&x.env)
			x.step()
		}
		if !x.r.IsLeader() || len(x.r.conf.Voters) != 1 {
			t.Fatalf("asked again: %+v", x.r.conf)
		}
	}
}

// recoverStopped forces until something holds, looked at after each step and its sync.
func (x *lame) recoverStopped(holds func() bool, gone ...uint64) {
	x.t.Helper()
	x.r.Do(&x.env, &Request{Op: OpRecover, Offset: RecoverForce, Gone: gone})
	for range 200 {
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
		if x.r.force.on && holds() {
			x.env.Replies = nil
			return
		}
		x.r.Tick(&x.env)
	}
	x.t.Fatalf("it never holds: %+v", x.r.conf)
}

// While a leader is heard, or a majority is left, nothing is forced.
func TestForceWantsALostMajority(t *testing.T) {
	x := stranded3(t)
	x.recoverNow(true, 3)
	heartbeat := raft.Message{Type: raft.MsgHeartbeat, From: 1, Term: 3}
	x.step(heartbeat)
	x.step(heartbeat)
	if r := x.recoverNow(true, 1, 3); r.Done || r.Problem == "" || r.Leader != 1 {
		t.Errorf("beside a leader: %+v", r)
	}
	if x.r.force.on {
		t.Error("forced")
	}
}

// A group that was caught in a joint configuration is taken through it: both halves lose those that are gone. A learner becomes the voter where
// no voter is left.
func TestForceFromOddConfigurations(t *testing.T) {
	for name, cs := range map[string]raft.ConfState{
		"joint":              {Voters: []uint64{1, 2, 4}, VotersOutgoing: []uint64{1, 2, 3}, AutoLeave: true},
		"joint, going":       {Voters: []uint64{1, 3}, VotersOutgoing: []uint64{1, 2, 3}, AutoLeave: true},
		"a learner":          {Voters: []uint64{1, 3}, Learners: []uint64{2}},
		"a learner to be":    {Voters: []uint64{1, 3}, VotersOutgoing: []uint64{2, 3}, LearnersNext: []uint64{2}, AutoLeave: true},
		"a learner is gone":  {Voters: []uint64{1, 2}, Learners: []uint64{3}},
		"joint, all outgone": {Voters: []uint64{2, 4}, VotersOutgoing: []uint64{1, 3}, AutoLeave: true},
	} {
		t.Run(name, func(t *testing.T) {
			x := &lame{t: t, fs: vfs.NewMem()}
			x.conf = &cs
			x.open(segment.Mark{})
			if r := x.recoverNow(true, 1, 3, 4); !r.Done || !r.Stranded {
				t.Fatalf("%+v", r)
			}
			for range 60 {
				x.r.Tick(&x.env)
				x.step()
			}
			if !x.r.IsLeader() || !sameConf(x.r.conf, raft.ConfState{Voters: []uint64{2}}) || x.r.force.on {
				t.Errorf("leader %v, %+v, %+v", x.r.IsLeader(), x.r.conf, x.r.force)
			}
		})
	}
}
