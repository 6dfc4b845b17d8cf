package sim

import (
	"testing"

	"google.golang.org/protobuf/proto"

	pb "lograft/api/lograft/v1"
	"lograft/broker/cluster"
	"lograft/broker/rpc"
	"lograft/client/core"
)

// committedOf asks how far the members' group has committed a partition, -1: nothing or no answer.
func committedOf(w *World, part *cluster.Partition) int64 {
	committed, answered := int64(-1), false
	w.call(w.anyAddress(), &pb.DescribeGroupRequest{Name: groupName}, func(e *rpc.Env) rpc.Session { return rpc.NewDescribeGroup(e) }, func(out proto.Message, err *core.Error) {
		answered = true
		if g, ok := out.(*pb.DescribeGroupResponse); ok && err == nil {
			for _, p := range g.GetPartitions() {
				if p.GetTopic() == topicName && p.GetPartition() == part.Number {
					committed = p.GetCommitted()
				}
			}
		}
	})
	w.RunUntil(10e9, func() bool { return answered })
	return committed
}

// commits runs until a group has committed exactly that much.
func commits(t *testing.T, w *World, seed uint64, part *cluster.Partition, want int64, when string) {
	t.Helper()
	got := int64(-1)
	for range 100 {
		if got = committedOf(w, part); got == want {
			return
		}
		w.RunFor(500e6)
	}
	failure(t, w, seed, "%s the group has committed %d, want %d", when, got, want)
}

// A group has committed records that are lost afterwards: two of three lose their logs, and an operator accepts it. Its member goes on where
// the log became another one, and what it commits there counts although it is lower: who comes after it is given nothing twice.
func TestSimGroupAfterLoss(t *testing.T) {
	for _, seed := range seeds(t) {
		t.Logf("seed %d", seed)
		o := fillOptions(seed)
		o.LossPercent, o.DupPercent = 0, 0
		w, topic := newCluster(t, o)
		part := &topic.Partitions[0]
		high := func() int64 {
			if l := leaderOf(w, part); l != 0 {
				return w.Node(l).Replica(part.Group).HighWatermark()
			}
			return -1
		}
		member := func(name string) (m *Member, given *int) {
			m = w.newMember(name, core.GroupOptions{Group: groupName, Topics: []string{topicName}, SessionNs: groupSession, PollNs: groupPoll, CommitNs: 500e6,
				Consumer: core.ConsumerOptions{FetchBytes: 4096, BufferBytes: 16 << 10, WaitNs: 2e9, TimeoutNs: 3600e9}})
			given = new(int)
			m.took = func(int32, int64, string) { *given++ }
			return m, given
		}
		first, _ := member("first")
		writer := w.NewWriter(7, topic, 0, 1<<40)
		writer.Start()
		w.RunFor(2e9)
		third := w.Node(leaderOf(w, part)%3 + 1)
		w.Isolate(third.id)
		w.RunFor(1e9)
		writer.stopped = true
		w.RunFor(4e9)
		lost := high()
		commits(t, w, seed, part, lost, "before the loss")
		loseAllBut(t, w, seed, part, third)
		recoverAll(t, w, seed, part, true)
		if !w.RunUntil(20e9, func() bool { l := leaderOf(w, part); return l != 0 && w.Node(l).Replica(part.Group).IsLeader() }) {
			failure(t, w, seed, "no leader after the loss was accepted")
		}
		wholeAgain(t, w, seed, topic)
		kept := high()
		again := w.NewWriter(8, topic, 0, uint64(lost-kept+1)/2)
		again.Start()
		if kept < 0 || kept >= lost || !w.RunUntil(30e9, again.Done) {
			failure(t, w, seed, "of %d records %d are kept; %d new ones were written", lost, kept, again.next-1)
		}
		commits(t, w, seed, part, high(), "after the loss")
		if first.Err != nil {
			failure(t, w, seed, "the member ended: %v", first.Err)
		}
		first.Kill()
		second, given := member("second")
		w.RunFor(4 * groupSession)
		if len(second.core.Owned()) == 0 || *given > 0 {
			failure(t, w, seed, "the second member has %v and was given %d records again", second.core.Owned(), *given)
		}
	}
}
