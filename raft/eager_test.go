package raft_test

import (
	"fmt"
	"testing"

	"lograft/raft"
)

// eagerGroup has elected node 1, which is cut off then, after extra has been called. Elections are due after 10 ticks.
func eagerGroup(t *testing.T, change func(*raft.Config), extra func(g *group)) *group {
	g := newGroup(t, 3, func(c *raft.Config) {
		c.PreVote, c.EagerElections = true, true
		if change != nil {
			change(c)
		}
	})
	g.elect(1)
	if extra != nil {
		extra(g)
	}
	g.lose = isolated(1)
	g.sent = nil
	return g
}

// requests are the votes and pre-votes that id has asked for since the last call, by peer.
func (g *group) requests(id uint64) (out [6]int) {
	for i := range g.sent {
		if m := &g.sent[i]; m.From == id && (m.Type == raft.MsgRequestVote || m.Type == raft.MsgRequestPreVote) {
			out[m.To]++
		}
	}
	g.sent = nil
	return out
}

// Requests are repeated 1, 2, 4 and 8 ticks after they were sent, to those who have not answered.
func TestEagerAsksAgain(t *testing.T) {
	for _, kind := range []raft.MessageType{raft.MsgRequestPreVote, raft.MsgRequestVote} {
		t.Run(fmt.Sprint(kind), func(t *testing.T) {
			g := eagerGroup(t, func(c *raft.Config) { c.PreVote = kind == raft.MsgRequestPreVote }, nil)
			g.lose = func(m *raft.Message) bool { return m.To == 1 || m.From == 1 || m.Type == kind }
			for tick := 1; tick < 20; tick++ {
				idle := g.n(2).raw.IdleTicks()
				g.tick(2, 1)
				g.drive(2)
				g.wire = nil
				want := [6]int{}
				if after := tick - 10; after == 0 || after == 1 || after == 2 || after == 4 || after == 8 {
					want = [6]int{0, 1, 0, 1}
				}
				if got := g.requests(2); got != want || idle > 0 && want[1] > 0 {
					t.Errorf("tick %d: asked %v, want %v; %d idle ticks were foretold", tick, got, want, idle)
				}
			}
		})
	}
}

// Who has answered is not asked again.
func TestEagerAsksNobodyTwiceWhoAnswered(t *testing.T) {
	g := newGroup(t, 5, func(c *raft.Config) { c.EagerElections = true })
	g.lose = func(m *raft.Message) bool { return m.To != 2 && m.To != 3 }
	g.tick(2, 10)
	g.run()
	if got, want := g.requests(2), ([6]int{0, 1, 0, 1, 1, 1}); got != want {
		t.Errorf("asked %v, want %v", got, want)
	}
	g.tick(2, 1)
	g.run()
	if got, want := g.requests(2), ([6]int{0, 1, 0, 0, 1, 1}); got != want {
		t.Errorf("asked %v a tick later, want %v", got, want)
	}
}

// A voter that heard the leader an instant later says nothing; it is asked again when it may answer.
func TestEagerOutlivesThePromise(t *testing.T) {
	g := eagerGroup(t, nil, nil)
	g.tick(3, 9)
	g.tick(2, 10)
	g.run()
	if got := g.role(2); got != raft.StatePreCandidate {
		t.Fatalf("node 2 is %v before 3 may vote", got)
	}
	g.tick(3, 1)
	g.drive(3)
	g.lose = func(m *raft.Message) bool {
		return m.From == 1 || m.To == 1 || m.From == 3 && m.Type == raft.MsgRequestPreVote
	}
	g.tick(2, 1)
	g.run()
	if got := g.role(2); got != raft.StateLeader {
		t.Errorf("node 2 is %v, want leader a tick later", got)
	}
}

// worse makes 2 miss an entry that 3 holds.
func worse(g *group) {
	g.lose = func(m *raft.Message) bool { return m.To == 2 }
	g.must(g.n(1).raw.Propose(nil, []byte("x")))
	g.run()
}

// A voter that refuses a worse log stands itself two ticks later, if it has heard no leader for an election timeout.
func TestEagerRefuserStands(t *testing.T) {
	for _, preVote := range []bool{true, false} {
		t.Run(fmt.Sprint("pre-vote ", preVote), func(t *testing.T) {
			g := eagerGroup(t, func(c *raft.Config) {
				c.PreVote = preVote
				if c.ID == 3 {
					c.Rand = func(int) int { return 9 }
				}
			}, worse)
			g.tick(3, 10)
			g.tick(2, 10)
			g.run()
			g.tick(3, 1)
			g.run()
			if got := g.role(3); got != raft.StateFollower {
				t.Fatalf("node 3 is %v a tick after it refused, want a follower still", got)
			}
			g.tick(3, 1)
			g.run()
			if got := g.role(3); got != raft.StateLeader {
				t.Errorf("node 3 is %v two ticks after it refused, want leader", got)
			}
		})
	}
}

// Without check-quorum a refuser may still hear its leader: then it stays, however often it is asked.
func TestEagerRefuserWithLeaderStays(t *testing.T) {
	g := eagerGroup(t, func(c *raft.Config) { c.CheckQuorum = false }, worse)
	g.lose = isolated(2)
	g.tick(1, 1)
	g.run() // a heartbeat for 3
	g.lose = isolated(1)
	g.must(g.n(2).raw.Campaign())
	g.run()
	if got := g.role(2); got != raft.StatePreCandidate {
		t.Fatalf("node 2 is %v, want a pre-candidate that was refused", got)
	}
	if got := g.n(3).raw.IdleTicks(); got != 9 {
		t.Errorf("%d ticks to an election, want 9: the leader was heard", got)
	}
}

// Candidates of one term with equal logs split the votes. The one with the higher id stands again two ticks later, the other waits.
func TestEagerSplit(t *testing.T) {
	g := eagerGroup(t, func(c *raft.Config) { c.Rand = func(int) int { return 5 } }, nil)
	g.tick(2, 15)
	g.tick(3, 15)
	g.run()
	if two, three := g.role(2), g.role(3); two != raft.StateCandidate || three != raft.StateCandidate {
		t.Fatalf("%v and %v, want two candidates", two, three)
	}
	term := g.hard(3).Term
	for range 2 {
		g.tick(2, 1)
		g.run()
		if got := g.hard(2).Term; got != term {
			t.Fatalf("node 2 stood again at once, for term %d", got)
		}
		g.tick(3, 1)
		g.run()
	}
	if got := g.role(3); got != raft.StateLeader || g.hard(3).Term != term+1 {
		t.Errorf("node 3 is %v in term %d two ticks after the split, want leader of %d", got, g.hard(3).Term, term+1)
	}
}

// Candidates of one term whose priorities differ: the higher one stands again, whatever the ids.
func TestEagerSplitByPriority(t *testing.T) {
	g := eagerGroup(t, func(c *raft.Config) {
		c.PreVote = false
		c.Priority = int64(3 - c.ID)
		c.Rand = func(int) int { return 5 }
	}, nil)
	g.tick(2, 15)
	g.tick(3, 15)
	g.run()
	for range 2 {
		g.tick(3, 1)
		g.tick(2, 1)
		g.run()
	}
	if got := g.role(2); got != raft.StateLeader {
		t.Errorf("node 2, of priority 1, is %v, want leader before 3, of priority 0", got)
	}
}

// Who is refused because it asked in a term that has passed, its log being as good as any, asks again in the new one two ticks later.
func TestEagerAfterAnOldTerm(t *testing.T) {
	g := eagerGroup(t, func(c *raft.Config) {
		if c.ID == 3 {
			c.Rand = func(int) int { return 9 }
		}
	}, nil)
	g.n(3).raw.SetElectable(false)
	three := raft.Message{Type: raft.MsgRequestVote, From: 1, To: 3, Term: 7, LogTerm: 1, Index: 1}
	g.tick(3, 10)
	g.must(g.n(3).raw.Step(three)) // refused, but it is term 7 now
	g.drive(3)
	g.wire = nil
	g.tick(2, 10)
	g.run()
	if got := g.hard(2).Term; got != 7 || g.role(2) != raft.StateFollower {
		t.Fatalf("node 2 is %v in term %d, want a follower in 7", g.role(2), got)
	}
	g.tick(2, 2)
	g.run()
	if got := g.role(2); got != raft.StateLeader {
		t.Errorf("node 2 is %v two ticks later, want leader", got)
	}
}

// Without the option nothing of it happens: that is etcd's and raft-rs's way.
func TestElectionsAreNotEagerByDefault(t *testing.T) {
	g := eagerGroup(t, func(c *raft.Config) { c.EagerElections = raft.DefaultConfig(1).EagerElections }, worse)
	g.tick(3, 9)
	g.tick(2, 10)
	g.run()
	g.requests(2)
	g.tick(3, 1)
	g.tick(2, 9)
	g.drive(2)
	if got := g.requests(2); got != ([6]int{}) {
		t.Errorf("asked %v again", got)
	}
}

// roundGroup makes a worse 2 of five voters, of which each waits 19 ticks for a leader, and cuts the leader off.
func roundGroup(t *testing.T, preVote bool) *group {
	g := newGroup(t, 5, func(c *raft.Config) {
		c.PreVote, c.EagerElections = preVote, true
		c.Rand = func(int) int { return 9 }
	})
	g.elect(1)
	worse(g)
	g.lose = isolated(1)
	return g
}

// tickToRequest ticks a node and tells after how many ticks it first asked for votes, at most that many.
func (g *group) tickToRequest(id uint64, most int) int {
	g.wire, g.sent = nil, nil
	for tick := 1; tick <= most; tick++ {
		g.tick(id, 1)
		g.drive(id)
		g.wire = nil
		if g.requests(id) != ([6]int{}) {
			return tick
		}
	}
	return 0
}

// A vote that was just given has half an election timeout to make a leader, whoever else asks meanwhile: its candidate's own disk may be
// slow. The request of a worse log is not forgotten either.
func TestEagerVoteHasItsTime(t *testing.T) {
	for _, late := range []int{0, 1, 4, 6} {
		t.Run(fmt.Sprint("asked after ", late), func(t *testing.T) {
			g := roundGroup(t, false)
			for id := uint64(2); id <= 5; id++ {
				g.tick(id, 10)
			}
			better := raft.Message{Type: raft.MsgRequestVote, From: 4, To: 3, Term: 3, LogTerm: 2, Index: 9}
			g.must(g.n(3).raw.Step(better))
			g.drive(3)
			if got := g.hard(3).Vote; got != 4 {
				t.Fatalf("node 3 voted for %d, want 4", got)
			}
			g.tick(3, late)
			for range 2 { // and again: it does not come sooner by that
				g.must(g.n(3).raw.Step(raft.Message{Type: raft.MsgRequestVote, From: 2, To: 3, Term: 3, LogTerm: 1, Index: 1}))
			}
			g.drive(3)
			if got, want := g.tickToRequest(3, 15), max(5-late, 2); got != want {
				t.Errorf("node 3 stood %d ticks after it was asked, want %d", got, want)
			}
		})
	}
}

// A round whose answers are on their way is not thrown away because a worse log asks meanwhile.
func TestEagerRoundHasItsTime(t *testing.T) {
	for _, preVote := range []bool{true, false} {
		t.Run(fmt.Sprint("pre-vote ", preVote), func(t *testing.T) {
			g := roundGroup(t, preVote)
			for id := uint64(2); id <= 5; id++ {
				g.tick(id, 10)
			}
			state, ask := raft.StateCandidate, raft.Message{Type: raft.MsgRequestVote, From: 2, To: 3, Term: 3, LogTerm: 1, Index: 1}
			if preVote {
				state, ask.Type = raft.StatePreCandidate, raft.MsgRequestPreVote
			}
			g.lose = func(*raft.Message) bool { return true } // the requests are slow
			g.tick(3, 9)
			g.drive(3)
			if got := g.role(3); got != state {
				t.Fatalf("node 3 is %v, want %v", got, state)
			}
			term := g.hard(3).Term
			answer := raft.Message{Type: raft.MsgRequestVoteResponse, To: 3, Term: term}
			if preVote {
				answer.Type, answer.Term = raft.MsgRequestPreVoteResponse, term+1
			}
			answered := func(from uint64) {
				answer.From = from
				g.must(g.n(3).raw.Step(answer))
				g.drive(3)
			}
			answered(4)
			for tick := 1; tick < 5; tick++ {
				g.must(g.n(3).raw.Step(ask))
				g.drive(3)
				g.tick(3, 1)
				g.drive(3)
				if got := g.hard(3).Term; got != term || g.role(3) != state {
					t.Fatalf("%d ticks into its round node 3 is %v in term %d, want %v in %d still", tick, g.role(3), got, state, term)
				}
			}
			answered(5)
			if got, want := g.role(3), map[bool]raft.StateRole{true: raft.StateCandidate, false: raft.StateLeader}[preVote]; got != want {
				t.Errorf("node 3 is %v after a majority's votes, want %v", got, want)
			}
		})
	}
}
