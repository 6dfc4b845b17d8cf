package broker

import (
	"context"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	pb "lograft/api/lograft/v1"
)

var (
	ofGroup          = []string{"group", "topic", "partition"}
	descLagRecords   = prometheus.NewDesc("lograft_group_lag_records", "Records from the group's committed offset (without one: from the log start) to the high watermark.", ofGroup, nil)
	descLagSeconds   = prometheus.NewDesc("lograft_group_lag_seconds", "Age of the oldest of them by append time; 0 without any.", ofGroup, nil)
	descGroupMembers = prometheus.NewDesc("lograft_group_members", "Members of a group that is coordinated here.", []string{"group"}, nil)
	descGroupLeftOut = prometheus.NewDesc("lograft_group_partitions_left_out", "Partitions of groups coordinated here whose lag is not told: too many, or no broker keeps both replicas.", nil, nil)
	perGroup         = []*prometheus.Desc{descLagRecords, descLagSeconds, descGroupMembers, descGroupLeftOut}
)

// groupSample is how far groups have read, of what this broker measures.
type groupSample struct {
	node    uint64
	groups  []*pb.DescribeGroupResponse
	leftOut int
}

// sampleGroups looks at all groups. What does not answer in time is left out.
func (n *node) sampleGroups() (s groupSample) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*sampleTimeout)
	defer cancel()
	s.node = n.dir.NodeID()
	s.groups, s.leftOut = n.services.MeasureGroups(ctx, sampleTimeout)
	return s
}

// collect gives the series of each group.
func (s groupSample) collect(ch chan<- prometheus.Metric) {
	for _, g := range s.groups {
		if g.GetCoordinator() == s.node {
			ch <- prometheus.MustNewConstMetric(descGroupMembers, gauge, float64(len(g.GetMembers())), g.GetName())
		}
		for _, p := range g.GetPartitions() {
			labels := []string{g.GetName(), p.GetTopic(), strconv.Itoa(int(p.GetPartition()))}
			if p.GetLag() >= 0 {
				ch <- prometheus.MustNewConstMetric(descLagRecords, gauge, float64(p.GetLag()), labels...)
			}
			if p.GetLagMs() >= 0 {
				ch <- prometheus.MustNewConstMetric(descLagSeconds, gauge, float64(p.GetLagMs())/1e3, labels...)
			}
		}
	}
	ch <- prometheus.MustNewConstMetric(descGroupLeftOut, gauge, float64(s.leftOut))
}
