package sim

import (
	"errors"
	"testing"

	"lograft/broker/cluster"
	"lograft/broker/partition"
)

// recoverAll asks every broker to give up what no copy of the partition holds, or what that would be.
func recoverAll(t *testing.T, w *World, seed uint64, part *cluster.Partition, accept bool) (out []partition.Recovery) {
	t.Helper()
	for _, n := range w.nodes {
		var reply *partition.Reply
		q := partition.Request{Op: partition.OpRecover, Group: part.Group, Deadline: w.now + 5e9}
		if accept {
			q.Offset = 1
		}
		n.Request(q, func(r partition.Reply) { reply = &r })
		if !w.RunUntil(10e9, func() bool { return reply != nil }) || reply.Err != nil {
			failure(t, w, seed, "node %d: recover: %+v", n.id, reply)
		}
		out = append(out, *reply.Recovery)
	}
	return out
}

// loseAllBut wrecks the logs of part on all brokers but one that was cut off, and starts them all: nobody leads.
func loseAllBut(t *testing.T, w *World, seed uint64, part *cluster.Partition, third *Node) {
	t.Helper()
	for _, n := range w.nodes {
		if n != third {
			n.Crash()
			if !n.wreck(t, part.Group) {
				failure(t, w, seed, "nothing to wreck")
			}
		}
	}
	w.Heal()
	for _, n := range w.nodes {
		boot(t, w, n.id, seed)
	}
	leaderless(t, w, seed, part)
}

func leaderless(t *testing.T, w *World, seed uint64, part *cluster.Partition) {
	t.Helper()
	w.RunFor(15e9)
	for _, n := range w.nodes {
		if n.Replica(part.Group).IsLeader() {
			failure(t, w, seed, "node %d leads: this was to be a partition that nobody can lead", n.id)
		}
	}
}

// Two of three lose their logs, and the third was cut off before. Nobody is elected until an operator accepts the loss: then the third
// is, what only the two had held is gone, and everything goes on with three equal replicas.
func TestSimRecoverLostMajority(t *testing.T) {
	for _, seed := range seeds(t) {
		t.Logf("seed %d", seed)
		o := fillOptions(seed)
		o.LossPercent, o.DupPercent = 0, 0
		w, topic := newCluster(t, o)
		part := &topic.Partitions[0]
		writer := w.NewWriter(7, topic, 0, 1<<40)
		writer.Start()
		w.RunFor(1e9)
		held := len(writer.Acked) / 2 // that much the third has for sure: it was there
		third := w.Node(leaderOf(w, part)%3 + 1)
		w.RunFor(1e9)
		w.Isolate(third.id)
		w.RunFor(1e9)
		writer.stopped = true
		w.RunFor(4e9)
		loseAllBut(t, w, seed, part, third)
		for i, x := range recoverAll(t, w, seed, part, false) {
			if x.Problem != "" || x.Done || x.Refilling != (w.nodes[i] != third) {
				failure(t, w, seed, "node %d would give up %+v", w.nodes[i].id, x)
			}
		}
		leaderless(t, w, seed, part) // asking changes nothing
		recoverAll(t, w, seed, part, true)
		if !w.RunUntil(20e9, func() bool { l := leaderOf(w, part); return l != 0 && w.Node(l).Replica(part.Group).IsLeader() }) {
			failure(t, w, seed, "no leader after the loss was accepted")
		}
		wholeAgain(t, w, seed, topic)
		kept := *writer
		kept.Acked = writer.Acked[:held]
		checkFrom(t, w, seed, part, []*Writer{&kept}, 0)
		again := w.NewWriter(8, topic, 0, 20)
		again.Start()
		if !w.RunUntil(30e9, again.Done) {
			failure(t, w, seed, "no appends after the loss was accepted")
		}
		checkFrom(t, w, seed, part, []*Writer{&kept, again}, 0)
		for _, x := range recoverAll(t, w, seed, part, true) {
			if x.Problem == "" || x.Done {
				failure(t, w, seed, "a partition with a leader gave up %+v", x)
			}
		}
	}
}

// The same segment file is gone in every copy. Nobody is elected; an operator accepts the loss of these records and of what is before them, on every
// broker: all begin at the same record then, and nothing behind it is missing.
func TestSimRecoverLostEverywhere(t *testing.T) {
	for _, seed := range seeds(t) {
		t.Logf("seed %d", seed)
		o := fillOptions(seed)
		o.LossPercent, o.DupPercent = 0, 0
		w, topic := newCluster(t, o)
		part := &topic.Partitions[0]
		writer := w.NewWriter(7, topic, 0, 400)
		writer.Start()
		if !w.RunUntil(60e9, writer.Done) {
			failure(t, w, seed, "not written")
		}
		healed(t, w, seed, topic)
		quiet(w)
		for _, n := range w.nodes {
			n.Crash()
			logs := n.logsOf(t, part.Group)
			if len(logs) < 4 {
				failure(t, w, seed, "%d segments", len(logs))
			}
			if err := errors.Join(n.fs.Remove(logs[1]), n.fs.SyncDir(groupPath(part.Group))); err != nil {
				t.Fatal(err)
			}
		}
		for _, n := range w.nodes {
			boot(t, w, n.id, seed)
		}
		leaderless(t, w, seed, part)
		plan := recoverAll(t, w, seed, part, false)
		for i, x := range plan {
			if x.Problem != "" || x.From >= x.To || x.To != plan[0].To {
				failure(t, w, seed, "node %d would give up %+v, node 1 %+v", w.nodes[i].id, x, plan[0])
			}
		}
		recoverAll(t, w, seed, part, true)
		if !w.RunUntil(20e9, func() bool { l := leaderOf(w, part); return l != 0 && w.Node(l).Replica(part.Group).IsLeader() }) {
			failure(t, w, seed, "no leader after the loss was accepted")
		}
		healed(t, w, seed, topic)
		for _, n := range w.nodes {
			if start := n.Replica(part.Group).LogStart(); start != plan[0].To {
				failure(t, w, seed, "node %d begins at %d, want %d", n.id, start, plan[0].To)
			}
		}
		checkFrom(t, w, seed, part, []*Writer{writer}, plan[0].To)
		agreeOnSealed(t, w, seed, part)
	}
}

// Two of four voters are gone for good, and one of the two that are left lost its log. Neither can be elected: the one that is whole has no
// majority, and needs the other, which votes for nobody. An operator has that one give up what it lost, and the whole one go on without those
// that are gone: it is elected, with all that it held, and the two take records again.
func TestSimForceBesideALostLog(t *testing.T) {
	for _, seed := range seeds(t) {
		t.Logf("seed %d", seed)
		o := fillOptions(seed)
		o.LossPercent, o.DupPercent, o.Brokers = 0, 0, 4
		w := NewWorld(o)
		if err := errors.Join(w.Start(), w.Register()); err != nil {
			failure(t, w, seed, "start: %v", err)
		}
		topic, err := w.CreateTopic("t", 1, 4)
		if err != nil {
			failure(t, w, seed, "create: %v", err)
		}
		part := &topic.Partitions[0]
		writer := w.NewWriter(7, topic, 0, 400)
		writer.Start()
		if !w.RunUntil(60e9, writer.Done) {
			failure(t, w, seed, "not written")
		}
		healed(t, w, seed, topic)
		quiet(w)
		var gone []uint64
		for _, r := range part.Replicas {
			if r.NodeID > 2 {
				w.Node(r.NodeID).Crash()
				gone = append(gone, r.ID)
			}
		}
		best, other := w.Node(1), w.Node(2)
		best.Crash() // as a leader it would fill the other
		other.Crash()
		if !other.wreck(t, part.Group) {
			failure(t, w, seed, "nothing to wreck")
		}
		boot(t, w, best.id, seed)
		boot(t, w, other.id, seed)
		ask := func(n *Node, how int64) (x *partition.Recovery) {
			q := partition.Request{Op: partition.OpRecover, Group: part.Group, Deadline: w.now + 5e9, Offset: how, Gone: gone}
			n.Request(q, func(r partition.Reply) { x = r.Recovery })
			if !w.RunUntil(10e9, func() bool { return x != nil }) {
				failure(t, w, seed, "node %d: no answer", n.id)
			}
			return x
		}
		w.RunFor(15e9)
		if x := ask(other, partition.RecoverPlan); !x.Refilling || x.LastIndex != 0 || x.Problem != "" { // it does not know the configuration
			failure(t, w, seed, "the other one would %+v", x)
		}
		if x := ask(best, partition.RecoverPlan); x.Refilling || !x.Stranded || x.Problem != "" {
			failure(t, w, seed, "the whole one would %+v", x)
		}
		for _, x := range []*partition.Recovery{ask(other, partition.RecoverVotes), ask(best, partition.RecoverForce)} {
			if !x.Done {
				failure(t, w, seed, "accepted: %+v", x)
			}
		}
		if !w.RunUntil(20e9, func() bool { return best.Replica(part.Group).IsLeader() }) {
			failure(t, w, seed, "no leader after the loss was accepted")
		}
		if x := ask(best, partition.RecoverPlan); x.Stranded || x.Leader != best.id {
			failure(t, w, seed, "it leads, and says %+v", x)
		}
		all, err := w.ReadFrom(best.id, part, 0, 30e9)
		if err != nil || len(all) != len(writer.Acked) {
			failure(t, w, seed, "%d records of %d: %v", len(all), len(writer.Acked), err)
		}
	}
}
