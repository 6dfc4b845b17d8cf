package rpc

import (
	"slices"
	"strings"

	pb "lograft/api/lograft/v1"
	"lograft/broker/cluster"
	"lograft/broker/group"
	"lograft/broker/partition"
)

// groupsKnown is a call that reads groups: it makes sure that the internal topic does not exist before it says so.
type groupsKnown struct {
	call
	until   int64
	asked   bool // a round of the metadata group is under way
	certain bool
}

// topic is the internal topic; nil while it is looked for, or with none set if there certainly is none.
func (s *groupsKnown) topic(now int64, ev *Event, eff *Effects) (t *cluster.Topic, none bool) {
	if ev.Message != nil {
		s.until = now + readTimeoutDefaultNs
	}
	if s.asked && ev.Reply != nil {
		s.asked = false
		if ev.Reply.Err != nil {
			eff.fail(ev.Reply.Err)
			return nil, false
		}
		s.certain = true
	}
	if t, ok := s.env.Dir.View().TopicByName(cluster.GroupsTopic); ok {
		return t, false
	}
	if s.certain {
		return nil, true
	}
	if !s.asked {
		s.asked = true
		s.ask(eff, partition.Request{Group: s.env.Dir.View().MetadataGroup, Op: partition.OpBarrier, Deadline: s.until})
	}
	return nil, false
}

// ListGroups is the unary call.
type ListGroups struct {
	groupsKnown
	begun   bool
	waiting map[uint64]*cluster.Partition // by token
	out     *pb.ListGroupsResponse
}

// NewListGroups begins a call; its one message is a *pb.ListGroupsRequest.
func NewListGroups(env *Env) *ListGroups {
	return &ListGroups{groupsKnown: groupsKnown{call: call{env: env}}, waiting: map[uint64]*cluster.Partition{}, out: &pb.ListGroupsResponse{}}
}

// Step implements Session.
func (s *ListGroups) Step(now int64, ev *Event, eff *Effects) {
	if !s.begun {
		t, none := s.topic(now, ev, eff)
		if t == nil && !none || eff.Done {
			return
		}
		s.begun = true
		if t != nil {
			s.askAll(t, eff)
		}
	} else if ev.Reply != nil {
		s.take(ev.Reply, eff)
	}
	if len(s.waiting) == 0 && !eff.Done {
		slices.SortFunc(s.out.Groups, func(a, b *pb.GroupSummary) int { return strings.Compare(a.GetName(), b.GetName()) })
		eff.Send = append(eff.Send, s.out)
		eff.Done = true
	}
}

func (s *ListGroups) askAll(t *cluster.Topic, eff *Effects) {
	for i := range t.Partitions {
		p := &t.Partitions[i]
		if !hosts(s.env.Dir, p, s.env.Dir.NodeID()) {
			s.out.Missing = append(s.out.Missing, p.Number)
			continue
		}
		s.waiting[s.ask(eff, partition.Request{Group: p.Group, Op: partition.OpQuery, Ask: group.List{}, Deadline: s.until})] = p
	}
}

func (s *ListGroups) take(r *partition.Reply, eff *Effects) {
	p, ok := s.waiting[r.Token]
	if !ok {
		return
	}
	delete(s.waiting, r.Token)
	if r.Err != nil {
		eff.fail(r.Err)
		return
	}
	node, _, _ := s.env.Dir.Leader(p.Group)
	list, _ := r.Answer.([]group.Summary)
	for _, g := range list {
		s.out.Groups = append(s.out.Groups, &pb.GroupSummary{Name: g.Name, State: g.State, Members: int32(g.Members), Generation: g.Generation, Coordinator: node})
	}
}

// DescribeGroup is the unary call: the group's state, then the end of each of its partitions (a read round each), then the age of
// what is not read.
type DescribeGroup struct {
	groupsKnown
	name   string
	asking uint64 // token of the query
	out    *pb.DescribeGroupResponse
	meter  lagMeter
}

// NewDescribeGroup begins a call; its one message is a *pb.DescribeGroupRequest.
func NewDescribeGroup(env *Env) *DescribeGroup {
	return &DescribeGroup{groupsKnown: groupsKnown{call: call{env: env}}, meter: lagMeter{waiting: map[uint64]lagAsk{}}}
}

// Step implements Session.
func (s *DescribeGroup) Step(now int64, ev *Event, eff *Effects) {
	if ev.Message != nil {
		s.name = ev.Message.(*pb.DescribeGroupRequest).GetName()
	}
	switch {
	case s.asking == 0:
		s.begin(now, ev, eff)
		return
	case ev.Reply == nil:
		return
	case s.out == nil:
		s.describe(ev.Reply, eff)
	default:
		s.meter.take(&s.call, ev.Reply, eff)
	}
	if len(s.meter.waiting) == 0 && !eff.Done {
		eff.Send = append(eff.Send, s.out)
		eff.Done = true
	}
}

func (s *DescribeGroup) begin(now int64, ev *Event, eff *Effects) {
	t, none := s.topic(now, ev, eff)
	switch {
	case eff.Done:
	case none:
		eff.fail(groupNotFound(s.name))
	case t != nil:
		p, err := groupPartition(s.env.Dir, s.name)
		if err == nil && !hosts(s.env.Dir, p, s.env.Dir.NodeID()) {
			err = elsewhere(p)
		}
		if err != nil {
			eff.fail(err)
			return
		}
		s.asking = s.ask(eff, partition.Request{Group: p.Group, Op: partition.OpQuery, Ask: group.Describe{Group: s.name}, Deadline: s.until})
	}
}

// describe takes the group's state and asks for the end of every partition of its topics.
func (s *DescribeGroup) describe(r *partition.Reply, eff *Effects) {
	if r.Err != nil {
		eff.fail(r.Err)
		return
	}
	g, _ := r.Answer.(*group.Group)
	if g == nil {
		eff.fail(groupNotFound(s.name))
		return
	}
	p, _ := groupPartition(s.env.Dir, s.name)
	s.out = &pb.DescribeGroupResponse{Name: g.Name, State: g.State(), Generation: g.Generation}
	s.out.Coordinator, _, _ = s.env.Dir.Leader(p.Group)
	s.meter.until = s.until
	holder := map[group.TP][]byte{}
	for _, m := range g.Members {
		x := &pb.GroupMember{MemberId: m.ID[:], ClientId: m.ClientID, InstanceId: m.InstanceID, Generation: m.Generation, Acknowledged: m.Acked, Topics: m.Topics, Waiting: int32(m.Waiting)}
		for _, h := range m.Held {
			t, _ := g.Topic(h.Topic)
			x.Partitions = append(x.Partitions, &pb.GroupPartition{Topic: h.Topic, TopicId: t.ID[:], Partition: h.Partition})
			holder[h.TP] = m.ID[:]
		}
		s.out.Members = append(s.out.Members, x)
	}
	for i := range g.Topics {
		t := &g.Topics[i]
		for n := range t.Partitions {
			tp := group.TP{Topic: t.Name, Partition: n}
			lag := &pb.GroupLag{Topic: t.Name, TopicId: t.ID[:], Partition: n, Committed: -1, MemberId: holder[tp]}
			if o, ok := g.Offsets[tp]; ok {
				lag.Committed, lag.CommittedAt = o.Offset, o.At
			}
			s.out.Partitions = append(s.out.Partitions, lag)
			s.meter.ask(&s.call, lag, eff)
		}
	}
}
