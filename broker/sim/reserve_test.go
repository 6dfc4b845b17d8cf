package sim

import (
	"testing"

	"lograft/broker/cluster"
	"lograft/broker/partition"
)

// reserveOptions are a cluster without losses, so that what does not go on does not for want of room alone.
func reserveOptions(seed uint64) Options {
	o := DefaultOptions(seed)
	o.LossPercent, o.DupPercent = 0, 0
	return o
}

// writersOf are endless writers, one for each partition, and how much they had acknowledged.
func endless(w *World, topic *cluster.Topic) (writers []*Writer, acked func() int) {
	for i := range topic.Partitions {
		p := w.NewWriter(int64(100+i), topic, i, 1<<40)
		writers = append(writers, p)
		p.Start()
	}
	return writers, func() (sum int) {
		for _, p := range writers {
			sum += len(p.Acked)
		}
		return sum
	}
}

func stopAll(writers []*Writer) {
	for _, p := range writers {
		p.stopped = true
	}
}

// diskStats of all brokers together.
func (w *World) diskStats() (refused, withheld uint64) {
	for _, n := range w.nodes {
		if n.up {
			s := readStats(n)
			refused, withheld = refused+s.DiskRefused, withheld+s.DiskWithheld
		}
	}
	return refused, withheld
}

// allUp fails the test if a broker ended: at its reserve it must not.
func allUp(t *testing.T, w *World, seed uint64) {
	t.Helper()
	for _, n := range w.nodes {
		if !n.up {
			failure(t, w, seed, "node %d ended: %v", n.id, n.failed)
		}
	}
	if err := w.Broken(); err != nil {
		failure(t, w, seed, "%v", err)
	}
}

// One broker's disk fills up while writers go on: it takes no more records and stays up, the others go on as if it were slow, partitions
// that it led are led elsewhere soon, and it answers reads. When it has room it catches up, and all files are the same bytes.
func TestSimDiskFullOne(t *testing.T) {
	for _, seed := range oneSeed(t) {
		t.Logf("seed %d", seed)
		w, topic := newCluster(t, reserveOptions(seed))
		writers, acked := endless(w, topic)
		w.RunFor(2e9)
		victim := w.Node(1 + uint64(w.rng.IntN(3)))
		victim.disk.setRoom(w.opts.DiskReserve + w.between(0, 64<<10))
		if !w.RunUntil(60e9, func() bool { return victim.space.Full() }) {
			failure(t, w, seed, "node %d never was at its reserve", victim.id)
		}
		w.RunFor(5e9)
		for i := range topic.Partitions {
			if l := leaderOf(w, &topic.Partitions[i]); l == 0 || l == victim.id {
				failure(t, w, seed, "partition %d is led by node %d, node %d has no room", i, l, victim.id)
			}
		}
		before := acked()
		w.RunFor(4e9)
		if n := acked() - before; n < 100 {
			failure(t, w, seed, "%d appends in 4 s although two brokers have room", n)
		}
		if _, withheld := w.diskStats(); withheld == 0 {
			failure(t, w, seed, "node %d took everything", victim.id)
		}
		allUp(t, w, seed)
		victim.fs.SetLimit(0)
		stopAll(writers)
		w.RunFor(5e9)
		healed(t, w, seed, topic)
		checkAll(t, w, seed, topic, writers)
		allUp(t, w, seed)
		quiet(w)
		for _, n := range w.nodes {
			n.stop()
		}
		sameFiles(t, w, seed, topic)
	}
}

// One broker's disk is at its reserve, and a trim gives up what would make room there, but not all that the broker lacks: the trim stands
// behind records for which it has no room, and the leader still has these. It drops what the others gave up, catches up and has room again
// by itself.
func TestSimDiskFullOneTrimmed(t *testing.T) {
	for _, seed := range oneSeed(t) {
		t.Logf("seed %d", seed)
		w, topic := newCluster(t, reserveOptions(seed))
		writers, _ := endless(w, topic)
		w.RunFor(10e9)
		victim := w.Node(1 + uint64(w.rng.IntN(3)))
		victim.disk.setRoom(w.opts.DiskReserve)
		if !w.RunUntil(60e9, func() bool { return victim.space.Full() }) {
			failure(t, w, seed, "node %d never was at its reserve", victim.id)
		}
		w.RunFor(5e9)
		stopAll(writers)
		w.RunFor(1e9)
		trimHalf(t, w, seed, topic)
		caughtUp := func() bool {
			for i := range topic.Partitions {
				part := &topic.Partitions[i]
				l := leaderOf(w, part)
				if l == 0 || victim.Replica(part.Group).HighWatermark() != w.Node(l).Replica(part.Group).HighWatermark() {
					return false
				}
			}
			return !victim.space.Full()
		}
		if !w.RunUntil(120e9, caughtUp) {
			failure(t, w, seed, "node %d is at its reserve still %t, although the others gave up half of what it holds", victim.id, victim.space.Full())
		}
		allUp(t, w, seed)
	}
}

// All disks fill up: appends are refused with DISK_FULL, nobody ends, reads and elections go on, and a trim is taken although there is no
// room. It makes room, and the writers, who never stopped trying, go on by themselves. Nothing acknowledged is missing above the trim.
func TestSimDiskFullAll(t *testing.T) {
	for _, seed := range oneSeed(t) {
		t.Logf("seed %d", seed)
		w, topic := newCluster(t, reserveOptions(seed))
		writers, acked := endless(w, topic)
		w.RunFor(6e9)
		for _, n := range w.nodes {
			n.disk.setRoom(w.opts.DiskReserve + w.between(0, 32<<10))
		}
		// When two are full nobody writes any more: the third may never be.
		full := func() (sum int) {
			for _, n := range w.nodes {
				if n.space.Full() {
					sum++
				}
			}
			return sum
		}
		if !w.RunUntil(120e9, func() bool { return full() >= 2 }) {
			failure(t, w, seed, "%d disks are at their reserve", full())
		}
		w.RunFor(2e9)
		before := acked()
		w.RunFor(10e9)
		if n := acked() - before; n != 0 {
			failure(t, w, seed, "%d appends although no disk has room", n)
		}
		if refused, _ := w.diskStats(); refused == 0 {
			failure(t, w, seed, "nothing was refused")
		}
		// A leader goes, another is elected and answers reads.
		part := &topic.Partitions[0]
		old := leaderOf(w, part)
		w.Node(old).Kill()
		if !w.RunUntil(20e9, func() bool { l := leaderOf(w, part); return l != 0 && l != old }) {
			failure(t, w, seed, "no leader after node %d went", old)
		}
		boot(t, w, old, seed)
		w.RunFor(2e9)
		for _, n := range w.nodes {
			if _, err := w.ReadAll(n.id, part, 30e9); err != nil {
				failure(t, w, seed, "node %d: read: %v", n.id, err)
			}
		}
		allUp(t, w, seed)
		starts := trimHalf(t, w, seed, topic)
		before = acked()
		if !w.RunUntil(60e9, func() bool { return acked() > before+50 }) {
			failure(t, w, seed, "%d appends in 60 s after a trim made room", acked()-before)
		}
		allUp(t, w, seed)
		stopAll(writers)
		w.RunFor(5e9)
		for i := range topic.Partitions {
			checkFrom(t, w, seed, &topic.Partitions[i], writers, starts[i])
		}
	}
}

// trimHalf gives up the older half of every partition; starts are the new log starts.
func trimHalf(t *testing.T, w *World, seed uint64, topic *cluster.Topic) (starts []int64) {
	t.Helper()
	for i := range topic.Partitions {
		part := &topic.Partitions[i]
		start := int64(-1)
		for try := 0; start < 0; try++ {
			if try == 50 {
				failure(t, w, seed, "partition %d takes no trim", i)
			}
			l := leaderOf(w, part)
			if l == 0 {
				w.RunFor(200e6)
				continue
			}
			var reply *partition.Reply
			half := w.Node(l).Replica(part.Group).HighWatermark() / 2
			w.Node(l).Request(partition.Request{Op: partition.OpTrim, Group: part.Group, Offset: half, Deadline: w.now + 5e9}, func(r partition.Reply) { reply = &r })
			w.RunUntil(6e9, func() bool { return reply != nil })
			if reply != nil && reply.Err == nil {
				start = max(half, reply.LogStart)
			} else {
				w.RunFor(200e6)
			}
		}
		starts = append(starts, start)
	}
	return starts
}
