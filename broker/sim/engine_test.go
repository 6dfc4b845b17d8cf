package sim

import (
	"testing"

	"google.golang.org/protobuf/proto"

	pb "lograft/api/lograft/v1"
	"lograft/broker/cluster"
	"lograft/broker/partition"
	"lograft/broker/rpc"
)

// leaderOf is the node that leads a partition as most brokers see it, 0 if none does.
func leaderOf(w *World, part *cluster.Partition) uint64 {
	votes := map[uint64]int{}
	for _, n := range w.nodes {
		if n.up {
			votes[n.leads[part.Group].LeaderNode]++
		}
	}
	for _, n := range w.nodes {
		if votes[n.id] > len(w.nodes)/2 {
			return n.id
		}
	}
	return 0
}

// A leader whose disk hangs hands leadership to a follower within an election timeout, and producers go on there long before the disk
// answers; a follower whose disk hangs changes nothing.
func TestSimSlowDisk(t *testing.T) {
	for _, seed := range seeds(t) {
		t.Logf("seed %d", seed)
		o := DefaultOptions(seed)
		o.LossPercent, o.DupPercent = 0, 0
		w, topic := newCluster(t, o)
		part := &topic.Partitions[0]
		writer := w.NewWriter(7, topic, 0, 1<<40)
		writer.Start()
		if !w.RunUntil(20e9, func() bool { return len(writer.Acked) > 20 && leaderOf(w, part) != 0 }) {
			failure(t, w, seed, "nothing was acknowledged")
		}
		first := leaderOf(w, part)
		follower := first%uint64(len(w.nodes)) + 1
		w.nodes[follower-1].disk.slow = 8e9
		acked := len(writer.Acked)
		w.RunFor(3e9)
		if now := leaderOf(w, part); now != first || len(writer.Acked) < acked+100 {
			failure(t, w, seed, "node %d has a slow disk: node %d leads instead of node %d, %d appends acknowledged in 3 s", follower, now, first, len(writer.Acked)-acked)
		}
		w.nodes[follower-1].disk.slow = 0
		w.RunFor(10e9) // what its disk had begun ends
		first = leaderOf(w, part)
		w.nodes[first-1].disk.slow = 300e9
		acked = len(writer.Acked)
		if !w.RunUntil(4e9, func() bool {
			now := leaderOf(w, part)
			return now != 0 && now != first && len(writer.Acked) > acked+100
		}) {
			failure(t, w, seed, "the disk of node %d hangs: node %d leads after 4 s, %d appends acknowledged", first, leaderOf(w, part), len(writer.Acked)-acked)
		}
	}
}

// 64 fetches of the end, always open on one stream of a follower: they share their ReadIndex rounds, at most one for twenty.
func TestSimReadRoundsAreShared(t *testing.T) {
	const open, total = 64, 6400
	for _, seed := range seeds(t) {
		t.Logf("seed %d", seed)
		o := DefaultOptions(seed)
		o.LossPercent, o.DupPercent = 0, 0
		w, topic := newCluster(t, o)
		part := &topic.Partitions[0]
		writer := w.NewWriter(7, topic, 0, 50)
		writer.Start()
		if !w.RunUntil(20e9, func() bool { return writer.Done() && leaderOf(w, part) != 0 }) {
			failure(t, w, seed, "nothing was acknowledged")
		}
		w.RunFor(1e9)
		n := w.nodes[leaderOf(w, part)%uint64(len(w.nodes))]
		end := writer.Acked[len(writer.Acked)-1].offset + 1
		before := readStats(n)
		answered, asked := 0, 0
		var x *session
		ask := func() {
			asked++
			x.message(&pb.FetchStreamRequest{CorrelationId: uint64(asked), Request: &pb.FetchRequest{Offset: end,
				Partition: &pb.PartitionRef{TopicId: topic.ID[:], Partition: 0}, WaitMs: 5000}})
		}
		x = n.open(rpc.NewFetchStream(n.env()), func(m proto.Message) {
			a := m.(*pb.FetchStreamResponse)
			if a.Error != nil || !a.GetResponse().GetHighConfirmed() || len(a.GetResponse().GetBatches()) > 0 {
				failure(t, w, seed, "answer %v", a)
			}
			answered++
			if asked < total {
				w.After(w.netDelay(), ask)
			}
		}, func(*partition.Error) {})
		for range open {
			ask()
		}
		if !w.RunUntil(100e9, func() bool { return answered >= total }) {
			failure(t, w, seed, "%d of %d fetches answered", answered, total)
		}
		x.close()
		after := readStats(n)
		rounds, reads := after.ReadRounds-before.ReadRounds, after.ReadsConfirmed-before.ReadsConfirmed
		if reads < total || rounds*20 > reads {
			failure(t, w, seed, "%d rounds for %d fetches, want at most one for twenty", rounds, reads)
		}
		t.Logf("%d rounds for %d fetches", rounds, reads)
	}
}

func readStats(n *Node) (sum partition.Stats) {
	for _, l := range n.workers {
		s := l.Stats()
		sum.Add(&s)
	}
	return sum
}

// A broker that gets ten times what it may hold refuses the rest with OVERLOADED, never holds more than its budget, and when the
// clients wait and send again everything is appended, in order and once.
func TestSimOverload(t *testing.T) {
	for _, seed := range seeds(t) {
		t.Logf("seed %d", seed)
		o := DefaultOptions(seed)
		o.AppendBytesMax = 6000
		o.DiskDelayMin, o.DiskDelayMax = 5e6, 20e6
		w, topic := newCluster(t, o)
		var producers []*Producer
		for i := range 10 {
			p := w.NewProducer()
			producers = append(producers, p)
			for k := range 40 {
				noise := make([]byte, 900) // it does not shrink
				for j := range noise {
					noise[j] = byte(w.rng.IntN(256))
				}
				p.ProduceTo("t", int32(i%len(topic.Partitions)), &Sent{Key: "k", Value: string(value(int64(i), uint64(k+1))) + string(noise)})
			}
		}
		waiting := func() (sum int) {
			for _, p := range producers {
				sum += p.Waiting()
			}
			return sum
		}
		var highest int64
		if !w.RunUntil(600e9, func() bool {
			for _, n := range w.nodes {
				if n.up && n.rpc != nil {
					highest = max(highest, n.rpc.Appends.Used())
				}
			}
			return waiting() == 0
		}) {
			failure(t, w, seed, "%d records have no result after 600 s", waiting())
		}
		if highest > 6000 {
			failure(t, w, seed, "a broker held %d bytes of appends, its budget is 6000", highest)
		}
		if highest < 3000 {
			failure(t, w, seed, "no broker held more than %d bytes: this was no overload", highest)
		}
		for _, p := range producers {
			last := int64(-1)
			for _, s := range p.Sent {
				if s.Result.Err != nil || s.Result.Offset <= last {
					failure(t, w, seed, "record %.10q: offset %d after %d, %v", s.Value, s.Result.Offset, last, s.Result.Err)
				}
				last = s.Result.Offset
			}
		}
		w.RunFor(5e9)
		for _, n := range w.nodes {
			if n.rpc != nil && n.rpc.Appends.Used() != 0 {
				failure(t, w, seed, "node %d still counts %d bytes of appends that have ended", n.id, n.rpc.Appends.Used())
			}
		}
	}
}
