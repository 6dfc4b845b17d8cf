package partition

import (
	"math/rand/v2"
	"testing"

	"lograft/raft"
	"lograft/segment"
	"lograft/segment/vfs"
)

// heard keeps what a replica sends.
type heard struct{ messages []raft.Message }

func (h *heard) Send(_ uint64, _ GroupID, m *raft.Message) { h.messages = append(h.messages, *m) }

// acked reports whether an entry was acknowledged.
func (h *heard) acked(index uint64) bool {
	for _, m := range h.messages {
		if m.Type == raft.MsgAppendResponse && !m.Reject && m.Index >= index {
			return true
		}
	}
	return false
}

// A follower that is sent two configuration changes at once acknowledges the second only when its journal holds that the first is
// committed: else it could start with a configuration two changes old, and count votes of replicas that are gone.
func TestSecondChangeWaitsForTheCommitOfTheFirst(t *testing.T) {
	fs := vfs.NewMem()
	log, _, err := segment.Open(segment.Options{FS: fs, Dir: "g", Group: segment.GroupID{1}, Start: segment.Start{Index: 1, Term: 1}, SegmentBytes: 4096, LimitOf: SegmentLimit})
	if err != nil {
		t.Fatal(err)
	}
	out := &heard{}
	env := Env{Now: 1, Wall: soloStart, Out: out}
	r, err := New(Options{Group: GroupID{1}, ReplicaID: 2, Peers: []Peer{{1, 1}, {2, 2}, {3, 3}}, Birth: raft.ConfState{Voters: []uint64{1, 2, 3}}, Born: 1, Log: log,
		ElectionTicks: 10, HeartbeatTicks: 1, Rand: rand.New(rand.NewPCG(1, 1)).IntN})
	if err != nil {
		t.Fatal(err)
	}
	change := func(index, learner uint64) raft.Entry {
		cc := raft.ConfChangeV2{Changes: []raft.ConfChangeSingle{{Type: raft.ConfChangeAddLearnerNode, NodeID: learner}}}
		return raft.Entry{Type: raft.EntryConfChangeV2, Term: 2, Index: index, Data: cc.Marshal()}
	}
	r.Step(&env, 1, raft.Message{Type: raft.MsgAppend, From: 1, To: 2, Term: 2, Index: 1, LogTerm: 1, Commit: 3,
		Entries: []raft.Entry{{Term: 2, Index: 2}, change(3, 8), change(4, 9)}})
	journalled := uint64(0)
	for round := 0; !out.acked(4); round++ {
		r.EndStep(&env)
		item, ok := r.Sync()
		if !ok || round == 5 {
			t.Fatalf("round %d: entry 4 is not acknowledged and nothing is to be synced", round)
		}
		if item.Hard != nil {
			journalled = item.Hard.Commit
		}
		var err error
		if item.Log != nil {
			err = item.Log.Do()
		}
		r.Synced(&env, item, err)
	}
	if journalled < 3 {
		t.Errorf("entry 4, a change, is acknowledged while the journal holds commit %d: the change of entry 3 could be unknown after a restart", journalled)
	}
}
