package raft

import (
	"runtime"
	"testing"
)

// Rule 10: after a burst the unstable log and the windows give their memory back.
func TestRule10MemoryComesBack(t *testing.T) {
	st := NewMemoryStorage()
	if err := st.ApplySnapshot(Snapshot{Metadata: SnapshotMetadata{ConfState: ConfState{Voters: []uint64{1, 2}}, Index: 1, Term: 1}}); err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig(1)
	cfg.PreVote, cfg.Applied, cfg.MaxInflightMsgs, cfg.Rand = false, 1, 1<<20, func(int) int { return 0 }
	n, err := NewRawNode(cfg, st)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Campaign(); err != nil {
		t.Fatal(err)
	}
	drive := func() {
		for n.HasReady() {
			rd := n.Ready()
			if err := st.Append(rd.Entries); err != nil {
				t.Fatal(err)
			}
			n.Advance(rd)
			n.AdvanceApply()
		}
	}
	drive()
	for _, m := range []Message{
		{Type: MsgRequestVoteResponse, From: 2, To: 1, Term: 2},
		{Type: MsgAppendResponse, From: 2, To: 1, Term: 2, Index: 1},
	} {
		if err := n.Step(m); err != nil {
			t.Fatal(err)
		}
	}
	const burst = 100_000
	for range burst {
		if err := n.Propose(nil, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	drive()
	if err := n.Step(Message{Type: MsgAppendResponse, From: 2, To: 1, Term: 2, Index: n.BasicStatus().LastIndex}); err != nil {
		t.Fatal(err)
	}
	drive()
	for range 3 { // buffers swap
		n.Ping()
		drive()
	}
	if n.BasicStatus().Applied < burst {
		t.Fatalf("applied %d of %d", n.BasicStatus().Applied, burst)
	}
	kept := map[string]int{"unstable": cap(n.r.log.unstable), "messages": cap(n.r.msgs), "spare messages": cap(n.buf.spareMsgs),
		"entries": cap(n.r.entries), "spare entries": cap(n.buf.spareEntries), "window": cap(n.r.peer(2).window.ring)}
	for _, b := range n.buf.committed {
		kept["committed"] = max(kept["committed"], cap(b.entries))
	}
	for what, n := range kept {
		if n > unstableCapMax {
			t.Errorf("%s keeps room for %d, want at most %d", what, n, unstableCapMax)
		}
	}
}

// An idle node with three peers takes less than 4 KiB beside its storage.
func TestIdleNodeIsSmall(t *testing.T) {
	const nodes = 1000
	stores := make([]*MemoryStorage, nodes)
	for i := range stores {
		stores[i] = NewMemoryStorage()
		if err := stores[i].ApplySnapshot(Snapshot{Metadata: SnapshotMetadata{ConfState: voters(1, 2, 3), Index: 1, Term: 1}}); err != nil {
			t.Fatal(err)
		}
	}
	cfg := DefaultConfig(2)
	cfg.Applied, cfg.Rand = 1, func(int) int { return 0 }
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	all := make([]*RawNode, nodes)
	before := heap()
	for i := range all {
		n, err := NewRawNode(cfg, stores[i])
		if err != nil {
			t.Fatal(err)
		}
		for range 5 { // a leader was heard, and every buffer was used
			step(t, n, Message{Type: MsgHeartbeat, From: 1, Term: 2, Commit: 1})
			n.Tick()
			n.Advance(n.Ready())
		}
		all[i] = n
	}
	each := int64(heap()-before) / nodes
	runtime.KeepAlive(all)
	runtime.KeepAlive(stores)
	t.Logf("%d bytes a node", each)
	if each >= 4<<10 {
		t.Errorf("an idle node takes %d bytes, want less than 4 KiB", each)
	}
}
