package raft_test

import (
	"strings"
	"testing"

	"lograft/raft"
)

func sound(id uint64) raft.Config {
	c := raft.DefaultConfig(id)
	c.Rand = func(int) int { return 0 }
	return c
}

// The defaults are sound but for Rand, and what is on is on.
func TestDefaultConfig(t *testing.T) {
	c := raft.DefaultConfig(3)
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "Rand") || strings.Contains(err.Error(), "\n") {
		t.Errorf("without Rand: %v, want that fault only", err)
	}
	c = sound(3)
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	if c.ID != 3 || !c.PreVote || !c.CheckQuorum || !c.StepDownOnRemoval || c.MaxSizePerMsg != 1<<20 || c.ReadOnlyOption != raft.ReadOnlySafe ||
		c.MaxApplyUnpersistedLogLimit != 0 || c.SkipBcastCommit || c.BatchAppend || c.DisableProposalForwarding || c.Tracer != nil {
		t.Errorf("%+v", c)
	}
}

// Validate tells each fault with its value and its bound, and all of them at once; a value at its bound is no fault.
func TestValidateTellsEveryFault(t *testing.T) {
	lease := func(c *raft.Config) { c.ReadOnlyOption = raft.ReadOnlyLeaseBased }
	for _, c := range []struct {
		spoil func(*raft.Config)
		want  string
	}{
		{func(c *raft.Config) { c.ID = 0 }, "ID 0 is reserved"},
		{func(c *raft.Config) { c.ID = 1<<64 - 1 }, "ID 18446744073709551615 is reserved"},
		{func(c *raft.Config) { c.ID = 1<<64 - 2 }, "ID 18446744073709551614 is reserved"},
		{func(c *raft.Config) { c.HeartbeatTick = 0 }, "HeartbeatTick (0) must be >= 1"},
		{func(c *raft.Config) { c.HeartbeatTick = 10 }, "ElectionTick (10) must be > HeartbeatTick (10)"},
		{func(c *raft.Config) { c.ElectionTick = 1<<29 + 1 }, "ElectionTick (536870913) must be <= 536870912"},
		{func(c *raft.Config) { c.MinElectionTick = 9 }, "MinElectionTick (9) must be 0 or >= ElectionTick (10)"},
		{func(c *raft.Config) { c.MinElectionTick = 20 }, "MaxElectionTick (0) must be 0 or > MinElectionTick (20)"},
		{func(c *raft.Config) { c.MaxElectionTick = 10 }, "MaxElectionTick (10) must be 0 or > MinElectionTick (10)"},
		{func(c *raft.Config) { c.MaxElectionTick = 1<<30 + 1 }, "MaxElectionTick (1073741825) must be <= 1073741824"},
		{func(c *raft.Config) { c.MaxInflightMsgs = 0 }, "MaxInflightMsgs (0) must be >= 1"},
		{func(c *raft.Config) { c.ReadOnlyOption = 2 }, "ReadOnlyOption (2) must be"},
		{func(c *raft.Config) { lease(c); c.CheckQuorum = false }, "ReadOnlyLeaseBased requires CheckQuorum"},
		{func(c *raft.Config) { lease(c); c.LeaseMarginTick = 10 }, "LeaseMarginTick (10) must be in [0, ElectionTick (10))"},
		{func(c *raft.Config) { c.LeaseMarginTick = -1 }, "LeaseMarginTick (-1) must be in [0, ElectionTick (10))"},
		{func(c *raft.Config) { c.SnapshotTimeoutTick = -1 }, "SnapshotTimeoutTick (-1) must be >= 0"},
		{func(c *raft.Config) { c.Rand = nil }, "Rand must be set"},
	} {
		cfg := sound(3)
		c.spoil(&cfg)
		err := cfg.Validate()
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("want %q, got %v", c.want, err)
		}
		if n, err := raft.NewRawNode(cfg, raft.NewMemoryStorage()); n != nil || err == nil {
			t.Errorf("%s: NewRawNode made %v, %v", c.want, n, err)
		}
	}
	var zero raft.Config
	for _, what := range []string{"ID", "HeartbeatTick", "MaxInflightMsgs", "Rand"} {
		if err := zero.Validate(); !strings.Contains(err.Error(), what) {
			t.Errorf("%v does not tell of %s", err, what)
		}
	}
	for name, fine := range map[string]func(*raft.Config){
		"closest ticks":       func(c *raft.Config) { c.ElectionTick, c.HeartbeatTick = 2, 1 },
		"narrowest range":     func(c *raft.Config) { c.MinElectionTick, c.MaxElectionTick = 10, 11 },
		"longest ticks":       func(c *raft.Config) { c.ElectionTick = 1 << 29 },
		"widest margin":       func(c *raft.Config) { lease(c); c.LeaseMarginTick = 9 },
		"margin out of use":   func(c *raft.Config) { c.LeaseMarginTick = 10 },
		"no snapshot timeout": func(c *raft.Config) { c.SnapshotTimeoutTick = 0 },
		"one message":         func(c *raft.Config) { c.MaxInflightMsgs = 1 },
		"highest id":          func(c *raft.Config) { c.ID = 1<<64 - 3 },
	} {
		cfg := sound(3)
		fine(&cfg)
		if err := cfg.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Election timeouts lie in [Min, Max), by default in [ElectionTick, 2*ElectionTick), and the generator decides where.
func TestElectionTickRange(t *testing.T) {
	for _, c := range []struct{ lo, hi, low, high int }{{0, 0, 10, 19}, {15, 0, 15, 19}, {0, 12, 10, 11}, {30, 40, 30, 39}} {
		for at, want := range map[int]int{0: c.low, 1 << 20: c.high} {
			g := newGroup(t, 3, func(cfg *raft.Config) {
				cfg.MinElectionTick, cfg.MaxElectionTick = c.lo, c.hi
				cfg.Rand = func(n int) int { return min(at, n-1) }
			})
			g.tick(1, want-1)
			if g.role(1) != raft.StateFollower {
				t.Fatalf("[%d, %d): %v before tick %d", c.lo, c.hi, g.role(1), want)
			}
			g.tick(1, 1)
			if g.role(1) != raft.StateCandidate {
				t.Fatalf("[%d, %d): %v at tick %d", c.lo, c.hi, g.role(1), want)
			}
		}
	}
	// A generator that breaks its promise breaks nothing else.
	for _, bad := range []int{-5, 1 << 40} {
		g := newGroup(t, 3, func(cfg *raft.Config) { cfg.Rand = func(int) int { return bad } })
		g.tick(1, 9)
		if g.role(1) != raft.StateFollower {
			t.Errorf("Rand gives %d: it stands before ElectionTick", bad)
		}
		g.tick(1, 10)
		if g.role(1) != raft.StateCandidate {
			t.Errorf("Rand gives %d: it does not stand within 2*ElectionTick", bad)
		}
	}
}
