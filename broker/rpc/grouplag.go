package rpc

import (
	"slices"

	pb "lograft/api/lograft/v1"
	"lograft/broker/cluster"
	"lograft/broker/group"
	"lograft/broker/partition"
)

// lagMeter measures how far partitions are read: it asks a replica here for each one's end, then for the age of what is not read.
type lagMeter struct {
	consistency partition.Consistency
	until       int64
	waiting     map[uint64]lagAsk // by token
	aged        int               // how many ages were asked for
	agedMax     int               // of them; 0: no bound
}

// lagAsk is one of the two questions about a partition.
type lagAsk struct {
	lag *pb.GroupLag
	age bool // the second
}

// ask begins with lag, whose topic, partition and committed offset are set: the rest is filled in, or its problem.
func (m *lagMeter) ask(c *call, lag *pb.GroupLag, eff *Effects) {
	lag.End, lag.Lag, lag.LagMs = -1, -1, -1
	_, p, err := locate(c.env.Dir, &pb.PartitionRef{TopicId: lag.GetTopicId(), Partition: lag.GetPartition()})
	if err == nil && !hosts(c.env.Dir, p, c.env.Dir.NodeID()) {
		err = elsewhere(p)
	}
	if err != nil {
		lag.Problem = err.Message
		return
	}
	m.waiting[c.ask(eff, partition.Request{Group: p.Group, Op: partition.OpListOffset, Which: partition.LatestOffset, Consistency: m.consistency, Deadline: m.until})] = lagAsk{lag: lag}
}

// take takes an answer about one partition.
func (m *lagMeter) take(c *call, r *partition.Reply, eff *Effects) {
	a, ok := m.waiting[r.Token]
	if !ok {
		return
	}
	delete(m.waiting, r.Token)
	lag := a.lag
	switch {
	case r.Err != nil:
		lag.Problem = r.Err.Message
	case a.age:
		if r.AppendTime > 0 {
			lag.LagMs = max(c.env.Wall()-r.AppendTime, 1) // there is something to read
		}
	default:
		lag.LogStart, lag.End = r.LogStart, r.BaseOffset
		from := max(lag.Committed, lag.LogStart)
		if lag.Lag = max(lag.End-from, 0); lag.Lag == 0 {
			lag.LagMs = 0
			return
		}
		if m.aged++; m.agedMax > 0 && m.aged > m.agedMax {
			return
		}
		_, p, err := locate(c.env.Dir, &pb.PartitionRef{TopicId: lag.GetTopicId(), Partition: lag.GetPartition()})
		if err != nil {
			lag.Problem = err.Message
			return
		}
		m.waiting[c.ask(eff, partition.Request{Group: p.Group, Op: partition.OpFetch, Offset: from, MaxBytes: 1, Consistency: partition.Committed, Deadline: m.until})] = lagAsk{lag: lag, age: true}
	}
}

// Bounds of one look at all groups.
const (
	measuredMax = 10_000 // partitions of each partition of the internal topic
	agedMax     = 1_000  // whose oldest unread record is looked up, a read each
)

// MeasureGroups looks at how far all groups have read, for metrics: from what the replicas here know, without asking anybody else.
// Of all brokers, one measures each partition of a group: see measures. Its answers are one *pb.DescribeGroupResponse for each group
// with a partition measured here or that is coordinated here; the latter carry Coordinator.
type MeasureGroups struct {
	call
	until   int64
	asked   map[uint64]*cluster.Partition // of the internal topic, by token
	meter   lagMeter
	byName  map[string]*pb.DescribeGroupResponse
	out     []*pb.DescribeGroupResponse
	LeftOut int // partitions that nobody measures, of groups coordinated here: too many, or no broker has both replicas
}

// NewMeasureGroups begins a look that ends at the time until; its one message is an empty *pb.ListGroupsRequest.
func NewMeasureGroups(env *Env, until int64) *MeasureGroups {
	return &MeasureGroups{call: call{env: env}, until: until, asked: map[uint64]*cluster.Partition{}, byName: map[string]*pb.DescribeGroupResponse{},
		meter: lagMeter{consistency: partition.Committed, until: until, waiting: map[uint64]lagAsk{}, agedMax: agedMax}}
}

// Step implements Session.
func (s *MeasureGroups) Step(_ int64, ev *Event, eff *Effects) {
	switch {
	case ev.Message != nil:
		s.begin(eff)
	case ev.Reply != nil && s.asked[ev.Reply.Token] != nil:
		p := s.asked[ev.Reply.Token]
		delete(s.asked, ev.Reply.Token)
		if reads, ok := ev.Reply.Answer.(group.Reads); ok {
			s.measure(p, &reads, eff)
		}
	case ev.Reply != nil:
		s.meter.take(&s.call, ev.Reply, eff)
	}
	if len(s.asked) == 0 && len(s.meter.waiting) == 0 {
		for _, g := range s.out {
			eff.Send = append(eff.Send, g)
		}
		eff.Done = true
	}
}

func (s *MeasureGroups) begin(eff *Effects) {
	t, ok := s.env.Dir.View().TopicByName(cluster.GroupsTopic)
	if !ok {
		return
	}
	for i := range t.Partitions {
		if p := &t.Partitions[i]; hosts(s.env.Dir, p, s.env.Dir.NodeID()) {
			s.asked[s.ask(eff, partition.Request{Group: p.Group, Op: partition.OpQuery, Ask: group.Progress{Max: measuredMax}, Consistency: partition.Committed, Deadline: s.until})] = p
		}
	}
}

func (s *MeasureGroups) measure(state *cluster.Partition, reads *group.Reads, eff *Effects) {
	coordinator, _, _ := s.env.Dir.Leader(state.Group)
	here := coordinator == s.env.Dir.NodeID()
	if here {
		s.LeftOut += reads.LeftOut
	}
	for i := range reads.List {
		r := &reads.List[i]
		_, p, err := locate(s.env.Dir, &pb.PartitionRef{TopicId: r.TopicID[:], Partition: r.Partition})
		mine := err == nil && s.measures(state, p, coordinator)
		if !mine && !here {
			continue
		}
		if here && err == nil && !slices.ContainsFunc(p.Replicas, func(x cluster.Replica) bool { return hosts(s.env.Dir, state, x.NodeID) }) {
			s.LeftOut++
		}
		g := s.byName[r.Group]
		if g == nil {
			g = &pb.DescribeGroupResponse{Name: r.Group}
			if here {
				g.Coordinator, g.Members = coordinator, make([]*pb.GroupMember, r.Members)
			}
			s.byName[r.Group] = g
			s.out = append(s.out, g)
		}
		if !mine {
			continue
		}
		lag := &pb.GroupLag{Topic: r.Topic, TopicId: r.TopicID[:], Partition: r.Partition, Committed: r.Committed}
		g.Partitions = append(g.Partitions, lag)
		s.meter.ask(&s.call, lag, eff)
	}
}

// measures reports whether this broker is the one that measures a partition of a group: its leader, if that one keeps the group's state
// too; else the group's coordinator, if it has a replica; else the first that has both. With up to 5 brokers and 3 replicas there is
// always one.
func (s *MeasureGroups) measures(state, p *cluster.Partition, coordinator uint64) bool {
	me := s.env.Dir.NodeID()
	if !hosts(s.env.Dir, p, me) {
		return false
	}
	if leader, _, _ := s.env.Dir.Leader(p.Group); leader != 0 && hosts(s.env.Dir, state, leader) {
		return leader == me
	}
	if coordinator != 0 && hosts(s.env.Dir, p, coordinator) {
		return coordinator == me
	}
	for _, r := range p.Replicas {
		if hosts(s.env.Dir, state, r.NodeID) {
			return r.NodeID == me
		}
	}
	return false
}
