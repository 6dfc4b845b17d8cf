package raft_test

import (
	"fmt"

	"lograft/raft"
)

// exampleNode makes a voter of a group that is born with a snapshot at index 1.
func exampleNode(id uint64, voters ...uint64) (*raft.RawNode, *raft.MemoryStorage) {
	st := raft.NewMemoryStorage()
	birth := raft.Snapshot{Metadata: raft.SnapshotMetadata{ConfState: raft.ConfState{Voters: voters}, Index: 1, Term: 1}}
	if err := st.ApplySnapshot(birth); err != nil {
		panic(err)
	}
	cfg := raft.DefaultConfig(id)
	cfg.Applied = 1
	cfg.Rand = func(n int) int { return int(id) % n } // an app takes a seeded source
	n, err := raft.NewRawNode(cfg, st)
	if err != nil {
		panic(err)
	}
	return n, st
}

// exampleDrive performs every Ready of a node, in the order of effects that the package comment demands.
func exampleDrive(n *raft.RawNode, st *raft.MemoryStorage, send func([]raft.Message), apply func(raft.Entry)) {
	for n.HasReady() {
		rd := n.Ready()
		send(rd.Messages)
		if err := st.Append(rd.Entries); err != nil {
			panic(err)
		}
		if rd.HasHardState {
			st.SetHardState(rd.HardState)
		}
		send(rd.PersistedMessages) // MemoryStorage is as stable as it gets
		for _, r := range rd.ReadStates {
			fmt.Printf("read %s at index %d\n", r.RequestCtx, r.Index)
		}
		for _, e := range rd.CommittedEntries {
			apply(e)
		}
		light := n.Advance(rd)
		send(light.Messages)
		for _, e := range light.CommittedEntries {
			apply(e)
		}
		n.AdvanceApply()
	}
}

// A group of one elects itself and commits what its disk holds.
func ExampleRawNode() {
	n, st := exampleNode(1, 1)
	nobody := func([]raft.Message) {}
	apply := func(e raft.Entry) { fmt.Printf("index %d: %q\n", e.Index, e.Data) }
	if err := n.Campaign(); err != nil {
		panic(err)
	}
	exampleDrive(n, st, nobody, apply)
	if err := n.Propose(nil, []byte("hello")); err != nil {
		panic(err)
	}
	exampleDrive(n, st, nobody, apply)
	// Output:
	// index 2: ""
	// index 3: "hello"
}

// exampleGroup is three nodes and a wire between them.
type exampleGroup struct {
	nodes  [3]*raft.RawNode
	stores [3]*raft.MemoryStorage
}

func newExampleGroup() *exampleGroup {
	g := &exampleGroup{}
	for i := range g.nodes {
		g.nodes[i], g.stores[i] = exampleNode(uint64(i+1), 1, 2, 3)
	}
	if err := g.nodes[0].Campaign(); err != nil {
		panic(err)
	}
	g.settle(func(int, raft.Entry) {})
	return g
}

// settle runs the nodes until nothing moves. Step copies what it keeps, so borrowed messages may be stepped as they are.
func (g *exampleGroup) settle(apply func(i int, e raft.Entry)) {
	for moved := true; moved; {
		moved = false
		for i, n := range g.nodes {
			moved = moved || n.HasReady()
			exampleDrive(n, g.stores[i], func(ms []raft.Message) {
				for _, m := range ms {
					if err := g.nodes[m.To-1].Step(m); err != nil {
						panic(err)
					}
				}
			}, func(e raft.Entry) { apply(i, e) })
		}
	}
}

// A follower answers a linearizable read: it asks the leader for the index that it has to have applied.
func ExampleRawNode_ReadIndex() {
	g := newExampleGroup()
	if err := g.nodes[0].Propose(nil, []byte("x=1")); err != nil {
		panic(err)
	}
	g.settle(func(i int, e raft.Entry) { fmt.Printf("node %d applies %s\n", i+1, e.Data) })
	if err := g.nodes[2].ReadIndex([]byte("x?")); err != nil {
		panic(err)
	}
	g.settle(nil)
	// Output:
	// node 1 applies x=1
	// node 2 applies x=1
	// node 3 applies x=1
	// read x? at index 3
}

// Two members change at once through a joint configuration, which the leader leaves by itself.
func ExampleRawNode_ProposeConfChange() {
	g := newExampleGroup()
	change := raft.ConfChangeV2{Changes: []raft.ConfChangeSingle{
		{Type: raft.ConfChangeAddLearnerNode, NodeID: 2},
		{Type: raft.ConfChangeAddLearnerNode, NodeID: 3},
	}}
	if err := g.nodes[0].ProposeConfChange(nil, change); err != nil {
		panic(err)
	}
	g.settle(func(i int, e raft.Entry) {
		if e.Type != raft.EntryConfChangeV2 {
			return
		}
		cc, err := raft.UnmarshalConfChangeV2(e.Data)
		if err != nil {
			panic(err)
		}
		cs, err := g.nodes[i].ApplyConfChange(cc)
		if err != nil {
			panic(err)
		}
		if i == 0 {
			fmt.Printf("index %d: voters %v, outgoing %v, learners %v\n", e.Index, cs.Voters, cs.VotersOutgoing, cs.Learners)
		}
	})
	// Output:
	// index 3: voters [1], outgoing [1 2 3], learners []
	// index 4: voters [1], outgoing [], learners [2 3]
}

// The app writes at once and syncs later: only then do the answers leave and the entries apply.
func ExampleRawNode_AdvanceAppendAsync() {
	n, st := exampleNode(1, 1)
	if err := n.Campaign(); err != nil {
		panic(err)
	}
	var newest uint64
	for range 2 {
		rd := n.Ready()
		if err := st.Append(rd.Entries); err != nil { // readable from here on
			panic(err)
		}
		st.SetHardState(rd.HardState)
		newest = rd.Number
		n.AdvanceAppendAsync(rd)
		if err := n.Propose(nil, []byte("more")); err != nil {
			panic(err)
		}
	}
	fmt.Println("committed before the sync:", n.BasicStatus().HardState.Commit)
	n.OnPersistReady(newest) // one sync covered both
	fmt.Println("committed after it:", n.BasicStatus().HardState.Commit)
	// Output:
	// committed before the sync: 1
	// committed after it: 3
}
