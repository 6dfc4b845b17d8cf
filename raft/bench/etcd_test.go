package bench

import (
	"io"
	"log"
	"testing"

	etcd "go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// theirs is the same cluster of etcd's RawNodes.
type theirs struct {
	nodes   []*etcd.RawNode
	stores  []*etcd.MemoryStorage
	applied []uint64
	reads   int
	beats   int
}

func etcdConfig(id uint64, st *etcd.MemoryStorage) *etcd.Config {
	return &etcd.Config{
		ID: id, ElectionTick: 10, HeartbeatTick: 1, Storage: st, Applied: 1, MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 256,
		CheckQuorum: true, PreVote: true, StepDownOnRemoval: true, Logger: &etcd.DefaultLogger{Logger: log.New(io.Discard, "", 0)},
	}
}

func p[T any](v T) *T { return &v }

func etcdStore(tb testing.TB, voters int) *etcd.MemoryStorage {
	tb.Helper()
	snap := &pb.Snapshot{Metadata: &pb.SnapshotMetadata{Index: p(uint64(1)), Term: p(uint64(1)), ConfState: &pb.ConfState{}}}
	for id := 1; id <= voters; id++ {
		snap.Metadata.ConfState.Voters = append(snap.Metadata.ConfState.Voters, uint64(id))
	}
	st := etcd.NewMemoryStorage()
	if err := st.ApplySnapshot(snap); err != nil {
		tb.Fatal(err)
	}
	if err := st.SetHardState(&pb.HardState{Term: p(uint64(1)), Vote: p(uint64(0)), Commit: p(uint64(1))}); err != nil {
		tb.Fatal(err)
	}
	return st
}

func newTheirs(tb testing.TB, voters int) *theirs {
	tb.Helper()
	c := &theirs{applied: make([]uint64, voters)}
	for id := 1; id <= voters; id++ {
		st := etcdStore(tb, voters)
		n, err := etcd.NewRawNode(etcdConfig(uint64(id), st))
		if err != nil {
			tb.Fatal(err)
		}
		c.nodes, c.stores = append(c.nodes, n), append(c.stores, st)
	}
	if err := c.nodes[0].Campaign(); err != nil {
		tb.Fatal(err)
	}
	c.settle(tb)
	if c.nodes[0].BasicStatus().RaftState != etcd.StateLeader {
		tb.Fatal("node 1 does not lead")
	}
	return c
}

func (c *theirs) settle(tb testing.TB) {
	for moved := true; moved; {
		moved = false
		for i, n := range c.nodes {
			for n.HasReady() {
				moved = true
				c.one(tb, i, n)
			}
		}
	}
}

func (c *theirs) one(tb testing.TB, i int, n *etcd.RawNode) {
	rd := n.Ready()
	if len(rd.Entries) > 0 {
		if err := c.stores[i].Append(rd.Entries); err != nil {
			tb.Fatal(err)
		}
	}
	if !etcd.IsEmptyHardState(rd.HardState) {
		if err := c.stores[i].SetHardState(rd.HardState); err != nil {
			tb.Fatal(err)
		}
	}
	for _, m := range rd.Messages {
		if m.GetType() == pb.MsgHeartbeat {
			c.beats++
		}
		if err := c.nodes[m.GetTo()-1].Step(m); err != nil {
			tb.Fatal(err)
		}
	}
	c.reads += len(rd.ReadStates)
	if k := len(rd.CommittedEntries); k > 0 {
		c.applied[i] = rd.CommittedEntries[k-1].GetIndex()
		if c.applied[i]%4096 == 0 {
			if err := c.stores[i].Compact(c.applied[i] - 512); err != nil {
				tb.Fatal(err)
			}
		}
	}
	n.Advance(rd)
}
