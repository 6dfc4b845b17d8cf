package sim

import (
	"slices"
	"testing"

	"lograft/broker"
	"lograft/broker/partition"
)

// suspected are the groups of which a stopped broker's journal says that persist marks may be missing.
func (n *Node) suspected(t *testing.T) map[partition.GroupID]bool {
	t.Helper()
	j, loaded, err := n.openJournal()
	if err != nil {
		t.Fatal(err)
	}
	out := map[partition.GroupID]bool{}
	for i := range loaded.Groups {
		if g := &loaded.Groups[i]; g.MarksLost && !g.Retired {
			out[g.Birth.Group] = true
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return out
}

// A broker lost its persist marks, and is killed in the start that found it out, before it looked at a log. The next start still takes no bad
// frame for a torn write; where it found the log whole the suspicion ends, and where it found damage it lasts until that is repaired.
func TestSimLostMarks(t *testing.T) {
	for _, seed := range seeds(t) {
		t.Logf("seed %d", seed)
		w, topic := newCluster(t, fillOptions(seed))
		writers := startWriters(w, topic, 300)
		w.RunFor(3e9)
		part := &topic.Partitions[0]
		n := w.Node(leaderOf(w, part)%3 + 1)
		n.Crash()
		if err := n.fs.Remove(dataDir + "/journal/marks"); err != nil {
			t.Fatal(err)
		}
		logs := n.logsOf(t, part.Group)
		size, _, err := n.fs.Stat(logs[len(logs)-1])
		if err != nil {
			t.Fatal(err)
		}
		if size <= segmentHead {
			continue // the newest segment is empty
		}
		if err := n.fs.Corrupt(logs[len(logs)-1], segmentHead+20, 1); err != nil { // its first frame
			t.Fatal(err)
		}
		before := n.suspected(t) // the start that was killed: the journal is healed, no log was opened
		if !before[part.Group] || len(before) < 2 {
			t.Fatalf("seed %d: marks of %d groups may be missing", seed, len(before))
		}
		boot(t, w, n.id, seed)
		if !slices.ContainsFunc(n.parts.Recovered, func(r broker.Recovered) bool { return r.Group == part.Group && len(r.Recovery.Faulty) > 0 }) {
			failure(t, w, seed, "the damaged frame was taken for a torn write")
		}
		n.Crash()
		after := n.suspected(t)
		if !after[part.Group] || len(after) != 1 {
			failure(t, w, seed, "marks of %d groups may be missing after the start, want those of the damaged one alone", len(after))
		}
		boot(t, w, n.id, seed)
		w.RunFor(1e9)
		healed(t, w, seed, topic)
		n.Crash()
		boot(t, w, n.id, seed)
		n.Crash()
		if left := n.suspected(t); len(left) > 0 {
			failure(t, w, seed, "marks of %d groups may be missing after the repair", len(left))
		}
		boot(t, w, n.id, seed)
		finishWriters(t, w, seed, writers)
		checkAll(t, w, seed, topic, writers)
	}
}
