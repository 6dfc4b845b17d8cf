package broker

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	pb "lograft/api/lograft/v1"
	"lograft/broker/cluster"
	"lograft/broker/rpc"
	"lograft/broker/transport"
)

const (
	// sampleTimeout is how long replicas may take to say how they are; those that do not are left out.
	sampleTimeout = 2 * time.Second
	// behindMax is how many entries a replica may lack and still count as caught up.
	behindMax = 1000
)

// replicaSample is what the replicas of a broker say of themselves.
type replicaSample struct {
	states                  []*pb.ReplicaState
	behind                  []int // by the same index: replicas of a group led here that are behind
	underReplicated, faulty int
	damaged, refilling      int
	repaired                uint64
	logBytes                int64
}

// sampleReplicas asks every replica. Workers that do not answer in time leave it empty.
func (n *node) sampleReplicas(links []transport.LinkStats) (s replicaSample) {
	ctx, cancel := context.WithTimeout(context.Background(), sampleTimeout)
	defer cancel()
	answer, err := n.services.DescribeReplicas(ctx, &pb.DescribeReplicasRequest{})
	if err != nil {
		return s
	}
	down := map[uint64]bool{}
	for _, l := range links {
		if l.Class == transport.Data && !l.Up {
			down[l.To] = true
		}
	}
	s.states = answer.GetReplicas()
	s.count(replicaNodesOf(n.parts.View()), down)
	return s
}

// count sums up what the replicas say; nodes is where each replica id lives, down are the nodes that are not connected.
func (s *replicaSample) count(nodes map[uint64]uint64, down map[uint64]bool) {
	s.behind = make([]int, len(s.states))
	for i, r := range s.states {
		s.logBytes += r.GetSizeBytes()
		s.repaired += r.GetRepairedEntries()
		if len(r.GetFaulty()) > 0 {
			s.damaged++
		}
		if r.GetProblem() == rpc.ProblemRefilling {
			s.refilling++
			continue
		}
		if r.GetProblem() != "" {
			s.faulty++
			continue
		}
		if r.GetLeaderNode() != r.GetNode() {
			continue
		}
		for replica, match := range r.GetMatch() {
			if replica != r.GetReplicaId() && (match+behindMax < r.GetLastIndex() || down[nodes[replica]]) {
				s.behind[i]++
			}
		}
		if s.behind[i] > 0 {
			s.underReplicated++
		}
	}
}

// replicaNodesOf says on which node each replica id lives.
func replicaNodesOf(v *cluster.View) map[uint64]uint64 {
	nodes := map[uint64]uint64{}
	for _, r := range v.MetadataReplicas {
		nodes[r.ID] = r.NodeID
	}
	for _, t := range v.Topics() {
		for i := range t.Partitions {
			for _, r := range t.Partitions[i].Replicas {
				nodes[r.ID] = r.NodeID
			}
		}
	}
	return nodes
}

// collect gives the series of each partition.
func (s *replicaSample) collect(ch chan<- prometheus.Metric) {
	for i, r := range s.states {
		if r.GetTopic() == "" || r.GetProblem() != "" {
			continue
		}
		leads := r.GetLeaderNode() == r.GetNode()
		labels := []string{r.GetTopic(), strconv.Itoa(int(r.GetPartition()))}
		put := func(d *prometheus.Desc, v float64) { ch <- prometheus.MustNewConstMetric(d, gauge, v, labels...) }
		put(descHigh, float64(r.GetHighWatermark()))
		put(descStart, float64(r.GetLogStart()))
		put(descSize, float64(r.GetSizeBytes()))
		put(descLeads, one(leads))
		put(descUnapplied, float64(r.GetLastIndex()-min(r.GetAppliedIndex(), r.GetLastIndex())))
		if leads {
			put(descBehind, float64(s.behind[i]))
		}
	}
}
