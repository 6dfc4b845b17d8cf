package sim

import (
	"path"
	"slices"
	"testing"
)

// Every broker loses segment files, each another one, while it is down: they are fetched whole from brokers that have them, proven by the
// hash in the next header, and everything else is served meanwhile. In the end all files are the same bytes.
func TestSimLostFiles(t *testing.T) {
	repairs := 0
	all := oneSeed(t)
	for _, seed := range all {
		t.Logf("seed %d", seed)
		w, topic := newCluster(t, fillOptions(seed))
		writers := startWriters(w, topic, 400)
		for round := range 3 {
			w.RunFor(w.between(1e9, 2e9))
			for k, n := range w.nodes {
				if round < 2 && uint64(k) != seed%3 {
					continue // one broker first, then all of them at once
				}
				n.Crash()
				for i := range topic.Partitions {
					logs := n.logsOf(t, topic.Partitions[i].Group)
					for at := k; at < len(logs)-1; at += 3 {
						if err := n.fs.Remove(logs[at]); err != nil {
							t.Fatal(err)
						}
						w.Log("node %d: %s removed", n.id, path.Base(logs[at]))
					}
					if err := n.fs.SyncDir(groupPath(topic.Partitions[i].Group)); err != nil {
						t.Fatal(err)
					}
				}
			}
			for _, n := range w.nodes {
				boot(t, w, n.id, seed)
			}
			w.RunFor(1e9)
			healed(t, w, seed, topic)
		}
		finishWriters(t, w, seed, writers)
		checkAll(t, w, seed, topic, writers)
		healed(t, w, seed, topic)
		quiet(w)
		for _, n := range w.nodes {
			n.stop()
		}
		sameFiles(t, w, seed, topic)
		repairs += w.Counts.Repairs
	}
	t.Logf("%d ranges of files fetched", repairs)
	if repairs < 3*len(all) {
		t.Errorf("%d ranges of files fetched in %d runs: too gentle", repairs, len(all))
	}
}

// A broker loses the newest file of a log: what it held there the leader sends again, also a leader that believes it is there.
func TestSimLostNewestFile(t *testing.T) {
	for _, seed := range seeds(t) {
		t.Logf("seed %d", seed)
		w, topic := newCluster(t, DefaultOptions(seed))
		writers := startWriters(w, topic, 300)
		w.RunFor(2e9)
		part := &topic.Partitions[0]
		l := leaderOf(w, part)
		n := w.Node(l%3 + 1)
		w.RunFor(3e9)
		n.Crash()
		logs := n.logsOf(t, part.Group)
		slices.Reverse(logs)
		if err := n.fs.Remove(logs[0]); err != nil {
			t.Fatal(err)
		}
		if err := n.fs.SyncDir(groupPath(part.Group)); err != nil {
			t.Fatal(err)
		}
		w.Log("node %d: %s removed", n.id, path.Base(logs[0]))
		boot(t, w, n.id, seed)
		w.RunFor(1e9)
		healed(t, w, seed, topic)
		finishWriters(t, w, seed, writers)
		checkAll(t, w, seed, topic, writers)
		healed(t, w, seed, topic)
	}
}
