package sim

import (
	"bytes"
	"errors"
	"path"
	"strings"
	"testing"

	"lograft/broker/cluster"
	"lograft/broker/partition"
)

// logsOf are a group's segment files on a broker's disk, oldest first.
func (n *Node) logsOf(t *testing.T, g partition.GroupID) (names []string) {
	t.Helper()
	all, err := n.fs.List(groupPath(g))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range all {
		if strings.HasSuffix(name, ".log") {
			names = append(names, path.Join(groupPath(g), name))
		}
	}
	return names
}

// wreck damages the log of a stopped broker so that it can't be opened: a segment's header is bad, and with it the footer and a frame of
// the one before, so that nothing says what the header was. false: there are not enough segments yet.
func (n *Node) wreck(t *testing.T, g partition.GroupID) bool {
	t.Helper()
	logs := n.logsOf(t, g)
	if len(logs) < 3 {
		return false
	}
	before, last := logs[len(logs)-2], logs[len(logs)-1]
	size, _, err := n.fs.Stat(before)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		file string
		off  int64
	}{{last, 20}, {before, size - 20}, {before, segmentHead + 60}} {
		if err := n.fs.Corrupt(x.file, x.off, 0x55); err != nil {
			t.Fatal(err)
		}
	}
	n.w.Log("node %d: log of group %x wrecked", n.id, g[:2])
	return true
}

// grown reports whether the newest segment of each log holds more than the last two rounds of syncs, which no mark need know of: where
// its header rots in just those, what they acknowledged counts as torn (docs/guarantees.md).
func (n *Node) grown(t *testing.T, topic *cluster.Topic) bool {
	t.Helper()
	for i := range topic.Partitions {
		logs := n.logsOf(t, topic.Partitions[i].Group)
		if len(logs) == 0 {
			return false
		}
		if size, _, err := n.fs.Stat(logs[len(logs)-1]); err != nil || size < 2<<10 {
			return false
		}
	}
	return true
}

// loseStates removes every checkpoint of a trimmed log.
func (n *Node) loseStates(t *testing.T, g partition.GroupID) {
	t.Helper()
	all, err := n.fs.List(groupPath(g))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range all {
		if strings.HasSuffix(name, ".state") {
			if err := n.fs.Remove(path.Join(groupPath(g), name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := n.fs.SyncDir(groupPath(g)); err != nil {
		t.Fatal(err)
	}
	n.w.Log("node %d: checkpoints of group %x removed", n.id, g[:2])
}

// wholeAgain waits until no replica of the topic is being refilled.
func wholeAgain(t *testing.T, w *World, seed uint64, topic *cluster.Topic) {
	t.Helper()
	if !w.RunUntil(120e9, func() bool {
		for i := range topic.Partitions {
			for _, n := range w.nodes {
				if r := n.Replica(topic.Partitions[i].Group); r == nil || r.Refilling() {
					return false
				}
			}
		}
		return true
	}) {
		failure(t, w, seed, "replicas are being refilled still after 120 s")
	}
	healed(t, w, seed, topic)
}

// agreeOnSealed wants the sealed segments that several brokers hold to be the same bytes, and all to hold some of the others'. Files of
// trimmed segments stay where another replica was filled from.
func agreeOnSealed(t *testing.T, w *World, seed uint64, part *cluster.Partition) {
	t.Helper()
	first := w.nodes[0].sealedFiles(t, part.Group)
	for _, n := range w.nodes[1:] {
		common := 0
		for name, b := range n.sealedFiles(t, part.Group) {
			if other, ok := first[name]; ok {
				common++
				if !bytes.Equal(other, b) {
					failure(t, w, seed, "sealed segment %s of node %d differs from node 1's", name, n.id)
				}
			}
		}
		if common == 0 {
			failure(t, w, seed, "nodes 1 and %d have no sealed segment in common", n.id)
		}
	}
}

// A broker comes back with logs that can't be opened: headers that can't be rebuilt, then no file at all, then checkpoints that are gone. It serves the rest,
// is refilled under its own ids while the writers go on, and power cuts on the way change nothing: in the end all files are the same
// bytes and nothing acknowledged is missing.
func TestSimRefill(t *testing.T) {
	losts, wholes := 0, 0
	all := oneSeed(t)
	for _, seed := range all {
		t.Logf("seed %d", seed)
		o := fillOptions(seed)
		w, topic := newCluster(t, o)
		writers, acked := endless(w, topic)
		w.RunFor(3e9)
		for round := range 3 {
			n := w.Node(1 + uint64(w.rng.IntN(3)))
			if round == 2 {
				trimHalf(t, w, seed, topic)
				w.RunFor(3e9)
			}
			w.RunUntil(10e9, func() bool { return n.grown(t, topic) })
			n.Crash()
			wrecked := false
			for i := range topic.Partitions {
				if round == 2 {
					n.loseStates(t, topic.Partitions[i].Group)
					wrecked = true
				} else if round == 0 || i == 0 {
					wrecked = n.wreck(t, topic.Partitions[i].Group) || wrecked
				} else if err := errors.Join(n.fs.RemoveAll(groupPath(topic.Partitions[i].Group)), n.fs.SyncDir(path.Dir(groupPath(topic.Partitions[i].Group)))); err != nil {
					t.Fatal(err)
				}
			}
			if !wrecked {
				failure(t, w, seed, "nothing to wreck in round %d", round)
			}
			boot(t, w, n.id, seed)
			before := acked()
			for range w.rng.IntN(3) {
				w.RunFor(w.between(10e6, 2e9))
				n.Crash()
				boot(t, w, n.id, seed)
			}
			wholeAgain(t, w, seed, topic)
			if !w.RunUntil(5e9, func() bool { return acked() > before }) {
				failure(t, w, seed, "nothing was acknowledged during the refill and 5 s after")
			}
		}
		stopAll(writers)
		w.RunFor(5e9)
		wholeAgain(t, w, seed, topic)
		quiet(w)
		for i := range topic.Partitions {
			start := int64(0)
			for _, n := range w.nodes {
				start = max(start, n.Replica(topic.Partitions[i].Group).LogStart())
			}
			checkFrom(t, w, seed, &topic.Partitions[i], writers, start)
			agreeOnSealed(t, w, seed, &topic.Partitions[i])
		}
		losts, wholes = losts+w.Counts.Losts, wholes+w.Counts.Wholes
	}
	t.Logf("%d logs lost, %d whole again", losts, wholes)
	if losts < 4*len(all) || wholes < losts {
		t.Errorf("%d logs lost, %d whole again in %d runs", losts, wholes, len(all))
	}
}

// Two of three hold what was acknowledged, the third was cut off. One of the two loses its log, the other its power: the cut-off one and the
// one that lost its log are a majority, and may elect nobody, or what was acknowledged would be gone. When the third comes back all is
// there.
func TestSimRefillIsMute(t *testing.T) {
	for _, seed := range seeds(t) {
		t.Logf("seed %d", seed)
		o := fillOptions(seed)
		o.LossPercent, o.DupPercent = 0, 0
		w, topic := newCluster(t, o)
		part := &topic.Partitions[0]
		writer := w.NewWriter(7, topic, 0, 1<<40)
		writer.Start()
		w.RunFor(1e9)
		leader := leaderOf(w, part)
		if leader == 0 {
			failure(t, w, seed, "no leader")
		}
		cut, other := leader%3+1, (leader+1)%3+1
		w.Isolate(cut)
		before := len(writer.Acked)
		w.RunFor(2e9)
		if len(writer.Acked) < before+10 {
			failure(t, w, seed, "%d appends by two of three", len(writer.Acked)-before)
		}
		writer.stopped = true
		w.RunFor(4e9)
		w.Node(other).Crash()
		if !w.Node(other).wreck(t, part.Group) {
			failure(t, w, seed, "nothing to wreck")
		}
		w.Node(leader).Crash()
		w.Heal()
		boot(t, w, other, seed)
		w.RunFor(10e6)
		if !w.Node(other).Replica(part.Group).Refilling() {
			failure(t, w, seed, "node %d does not know that it lost its log", other)
		}
		w.RunFor(15e9)
		if l := leaderOf(w, part); l != 0 && w.Node(l).Replica(part.Group).IsLeader() {
			failure(t, w, seed, "node %d was elected by a broker that lost its log", l)
		}
		boot(t, w, leader, seed)
		wholeAgain(t, w, seed, topic)
		checkFrom(t, w, seed, part, []*Writer{writer}, 0)
	}
}
