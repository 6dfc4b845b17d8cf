package quorum_test

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"lograft/raft/quorum"
)

func twinSeed(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if env := os.Getenv("QUORUM_SEED"); env != "" {
		v, err := strconv.ParseUint(env, 10, 64)
		if err != nil {
			t.Fatalf("QUORUM_SEED=%q: %v", env, err)
		}
		seed = v
	}
	t.Logf("seed %d (replay with QUORUM_SEED)", seed)
	return seed
}

const cases = 60_000

// twinCommitted tries every index: the highest that more than half hold.
func twinCommitted(acked []uint64) uint64 {
	if len(acked) == 0 {
		return quorum.Everything
	}
	best := uint64(0)
	for _, candidate := range acked {
		holders := 0
		for _, a := range acked {
			if a >= candidate {
				holders++
			}
		}
		if 2*holders > len(acked) && candidate > best {
			best = candidate
		}
	}
	return best
}

func randomAcked(rng *rand.Rand) []uint64 {
	acked := make([]uint64, rng.IntN(10))
	spread := 1 + rng.Uint64N(12)
	for i := range acked {
		acked[i] = rng.Uint64N(spread)
		if rng.IntN(50) == 0 {
			acked[i] = ^uint64(0) - rng.Uint64N(2)
		}
	}
	return acked
}

// A majority's index is the highest that more than half of the voters hold.
func TestCommittedTwin(t *testing.T) {
	rng := rand.New(rand.NewPCG(twinSeed(t), 1))
	for range cases {
		acked := randomAcked(rng)
		want := twinCommitted(acked)
		shown := append([]uint64(nil), acked...)
		if got := quorum.Committed(acked); got != want {
			t.Fatalf("Committed(%v) = %d, want %d", shown, got, want)
		}
	}
}

// A joint index is what each half, counted alone, holds.
func TestJointCommittedTwin(t *testing.T) {
	rng := rand.New(rand.NewPCG(twinSeed(t), 2))
	for range cases {
		in, out := randomAcked(rng), randomAcked(rng)
		want := twinCommitted(in)
		if other := twinCommitted(out); other < want {
			want = other
		}
		shownIn, shownOut := append([]uint64(nil), in...), append([]uint64(nil), out...)
		if got := quorum.JointCommitted(in, out); got != want {
			t.Fatalf("JointCommitted(%v, %v) = %d, want %d", shownIn, shownOut, got, want)
		}
	}
}

// twinGroups tries every index: a majority holds it, and so do voters of two
// groups. Without two groups it is the majority's index when every voter is in
// the one group, else what all hold.
func twinGroups(acked []quorum.Acked) (uint64, bool) {
	if len(acked) == 0 {
		return quorum.Everything, true
	}
	groups := map[uint64]bool{}
	indexes, all := []uint64{}, ^uint64(0)
	ungrouped := false
	for _, a := range acked {
		indexes = append(indexes, a.Index)
		all = min(all, a.Index)
		if a.Group == 0 {
			ungrouped = true
		} else {
			groups[a.Group] = true
		}
	}
	majority := twinCommitted(indexes)
	switch {
	case len(groups) >= 2:
		best := uint64(0)
		for _, candidate := range indexes {
			holding := map[uint64]bool{}
			for _, a := range acked {
				if a.Group != 0 && a.Index >= candidate {
					holding[a.Group] = true
				}
			}
			if candidate <= majority && len(holding) >= 2 && candidate > best {
				best = candidate
			}
		}
		return best, true
	case ungrouped:
		return all, false
	}
	return majority, false
}

// Under group commit an index counts when a majority and two groups hold it.
func TestGroupCommittedTwin(t *testing.T) {
	rng := rand.New(rand.NewPCG(twinSeed(t), 3))
	for range cases {
		var acked []quorum.Acked
		groups := 1 + rng.Uint64N(4)
		for _, index := range randomAcked(rng) {
			acked = append(acked, quorum.Acked{Index: index, Group: rng.Uint64N(groups + 1)})
		}
		want, grouped := twinGroups(acked)
		shown := append([]quorum.Acked(nil), acked...)
		if got, ok := quorum.GroupCommitted(acked); got != want || ok != grouped {
			t.Fatalf("GroupCommitted(%v) = %d, %t, want %d, %t", shown, got, ok, want, grouped)
		}
	}
}

// twinVote lets the missing votes fall every way there is.
func twinVote(voters, granted, rejected int) quorum.VoteResult {
	if voters == 0 {
		return quorum.VoteWon
	}
	won, lost := 0, 0
	for more := 0; more <= voters-granted-rejected; more++ {
		if 2*(granted+more) > voters {
			won++
		} else {
			lost++
		}
	}
	switch {
	case lost == 0:
		return quorum.VoteWon
	case won == 0:
		return quorum.VoteLost
	}
	return quorum.VotePending
}

// A vote is decided when the missing votes can't change it; a joint one when
// both halves are won or one is lost.
func TestVoteTwin(t *testing.T) {
	rng := rand.New(rand.NewPCG(twinSeed(t), 4))
	half := func() (quorum.VoteResult, quorum.VoteResult) {
		voters := rng.IntN(12)
		granted := rng.IntN(voters + 1)
		rejected := rng.IntN(voters - granted + 1)
		want, got := twinVote(voters, granted, rejected), quorum.Vote(voters, granted, rejected)
		if got != want {
			t.Fatalf("Vote(%d, %d, %d) = %v, want %v", voters, granted, rejected, got, want)
		}
		return want, got
	}
	for range cases {
		in, _ := half()
		out, _ := half()
		want := quorum.VotePending
		if in == quorum.VoteLost || out == quorum.VoteLost {
			want = quorum.VoteLost
		} else if in == quorum.VoteWon && out == quorum.VoteWon {
			want = quorum.VoteWon
		}
		if got := quorum.JointVote(in, out); got != want {
			t.Fatalf("JointVote(%v, %v) = %v, want %v", in, out, got, want)
		}
	}
}

// Counting allocates nothing.
func TestCountingAllocatesNothing(t *testing.T) {
	acked, groups := []uint64{5, 3, 9, 1, 7}, []quorum.Acked{{Index: 5, Group: 1}, {Index: 3, Group: 2}, {Index: 9, Group: 1}}
	if n := testing.AllocsPerRun(100, func() {
		quorum.JointCommitted(acked[:3], acked[2:])
		quorum.GroupCommitted(groups)
		_ = quorum.Vote(5, 3, 1)
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}
