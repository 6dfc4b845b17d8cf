package bench

import (
	"testing"

	"lograft/raft"
)

// ours is a cluster of our RawNodes in one goroutine.
type ours struct {
	nodes   []*raft.RawNode // nodes[id-1]
	stores  []*raft.MemoryStorage
	applied []uint64
	reads   int // ReadStates seen
	beats   int // heartbeats sent
}

// fixedRand makes node id time out first when id is 1.
func fixedRand(id uint64) func(int) int {
	return func(n int) int { return int(id-1) % n }
}

func oursConfig(id uint64) raft.Config {
	cfg := raft.DefaultConfig(id)
	cfg.ElectionTick, cfg.HeartbeatTick = 10, 1
	cfg.Applied = 1
	cfg.Rand = fixedRand(id)
	return cfg
}

func oursStore(tb testing.TB, voters int) *raft.MemoryStorage {
	tb.Helper()
	snap := raft.Snapshot{Metadata: raft.SnapshotMetadata{Index: 1, Term: 1}}
	for id := 1; id <= voters; id++ {
		snap.Metadata.ConfState.Voters = append(snap.Metadata.ConfState.Voters, uint64(id))
	}
	st := raft.NewMemoryStorage()
	if err := st.ApplySnapshot(snap); err != nil {
		tb.Fatal(err)
	}
	st.SetHardState(raft.HardState{Term: 1, Commit: 1})
	return st
}

func newOurs(tb testing.TB, voters int) *ours {
	tb.Helper()
	c := &ours{applied: make([]uint64, voters)}
	for id := 1; id <= voters; id++ {
		st := oursStore(tb, voters)
		n, err := raft.NewRawNode(oursConfig(uint64(id)), st)
		if err != nil {
			tb.Fatal(err)
		}
		c.nodes, c.stores = append(c.nodes, n), append(c.stores, st)
	}
	if err := c.nodes[0].Campaign(); err != nil {
		tb.Fatal(err)
	}
	c.settle(tb)
	if c.nodes[0].BasicStatus().SoftState.RaftState != raft.StateLeader {
		tb.Fatal("node 1 does not lead")
	}
	return c
}

func (c *ours) deliver(tb testing.TB, ms []raft.Message) {
	for i := range ms {
		if ms[i].Type == raft.MsgHeartbeat {
			c.beats++
		}
		if err := c.nodes[ms[i].To-1].Step(ms[i]); err != nil {
			tb.Fatal(err)
		}
	}
}

func (c *ours) apply(tb testing.TB, at int, ents []raft.Entry) {
	if len(ents) == 0 {
		return
	}
	c.applied[at] = ents[len(ents)-1].Index
	if c.applied[at]%4096 == 0 {
		if err := c.stores[at].Compact(c.applied[at] - 512); err != nil {
			tb.Fatal(err)
		}
	}
}

// settle drives every node until none has a Ready.
func (c *ours) settle(tb testing.TB) {
	for moved := true; moved; {
		moved = false
		for i, n := range c.nodes {
			for n.HasReady() {
				moved = true
				rd := n.Ready()
				if len(rd.Entries) > 0 {
					if err := c.stores[i].Append(rd.Entries); err != nil {
						tb.Fatal(err)
					}
				}
				if rd.HasHardState {
					c.stores[i].SetHardState(rd.HardState)
				}
				c.deliver(tb, rd.Messages)
				c.deliver(tb, rd.PersistedMessages)
				c.reads += len(rd.ReadStates)
				c.apply(tb, i, rd.CommittedEntries)
				lr := n.Advance(rd)
				c.deliver(tb, lr.Messages)
				if len(lr.CommittedEntries) > 0 {
					c.apply(tb, i, lr.CommittedEntries)
					n.AdvanceApply()
				}
			}
		}
	}
}
