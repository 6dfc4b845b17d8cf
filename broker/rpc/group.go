package rpc

import (
	"fmt"

	pb "lograft/api/lograft/v1"
	"lograft/broker/cluster"
	"lograft/broker/group"
	"lograft/broker/partition"
)

// The internal topic of groups, made on first use.
const (
	groupsPartitions   = 8
	groupsSegmentBytes = 4 << 20
)

// groupPartition is where a group's state is kept. Its group is nil while the internal topic is not known here.
func groupPartition(dir Directory, name string) (*cluster.Partition, *partition.Error) {
	if err := group.CheckName(name); err != nil {
		return nil, invalid("%v", err)
	}
	t, ok := dir.View().TopicByName(cluster.GroupsTopic)
	if !ok {
		return nil, nil
	}
	return &t.Partitions[group.PartitionOf(name, len(t.Partitions))], nil
}

// elsewhere names who can answer for a partition of which this broker holds no replica.
func elsewhere(p *cluster.Partition) *partition.Error {
	return &partition.Error{Reason: partition.ReasonNotLeader, LeaderNode: voting(p)[0].NodeID,
		Message: fmt.Sprintf("this broker keeps no replica of the group's state: ask node %d", voting(p)[0].NodeID)}
}

func groupNotFound(name string) *partition.Error {
	return &partition.Error{Reason: partition.Reason(group.ReasonGroupNotFound), Message: fmt.Sprintf("group %q not found: see broker group list", name)}
}

func groupError(x *group.Result) *partition.Error {
	if x.Reason == group.ReasonNone {
		return nil
	}
	return &partition.Error{Reason: partition.Reason(x.Reason), Message: x.Message}
}

// FindCoordinator is the unary call: which broker coordinates a group. The first call of all makes the internal topic.
type FindCoordinator struct {
	call
	command
	group    string
	creating bool
	patience int64 // for brokers that have not registered, and for a leader
}

// NewFindCoordinator begins a call; its one message is a *pb.FindCoordinatorRequest.
func NewFindCoordinator(env *Env) *FindCoordinator { return &FindCoordinator{call: call{env: env}} }

// Step implements Session.
func (s *FindCoordinator) Step(now int64, ev *Event, eff *Effects) {
	if ev.Message != nil {
		s.group, s.patience = ev.Message.(*pb.FindCoordinatorRequest).GetGroup(), now+leaderWaitNs
	}
	p, err := groupPartition(s.env.Dir, s.group)
	if err != nil {
		eff.fail(err)
		return
	}
	if p != nil {
		s.answer(now, p, eff)
		return
	}
	if s.creating {
		x, err := s.next(&s.call, now, ev, eff)
		if x != nil && partition.Reason(x.Reason) != partition.ReasonTopicExists {
			err = resultError(x)
		}
		if err != nil {
			eff.fail(err)
		} else if x != nil {
			eff.Timer = now + leaderPollNs // it shows here in a moment
		}
		return
	}
	v := s.env.Dir.View()
	replicas := min(replicationDefault, v.Placeable())
	if now < s.patience && len(v.Brokers()) < replicas {
		eff.Timer = now + leaderPollNs
		return
	}
	s.creating = true
	segmentBytes := s.env.GroupSegmentBytes
	if segmentBytes == 0 {
		segmentBytes = groupsSegmentBytes
	}
	s.start(&s.call, now, cluster.EncodeCreateTopic(cluster.CreateTopic{RequestID: s.env.Random(), Seed: s.env.Random(), Name: cluster.GroupsTopic,
		Partitions: groupsPartitions, ReplicationFactor: int32(replicas), // fewer registered brokers are refused: it would stay like that
		Config: []cluster.ConfigEntry{{Key: cluster.ConfigSegmentBytes, Value: fmt.Sprint(segmentBytes)}}}), eff)
}

// answer names the leader, or whom to ask instead: the first replica knows it.
func (s *FindCoordinator) answer(now int64, p *cluster.Partition, eff *Effects) {
	node, _, _ := s.env.Dir.Leader(p.Group)
	if node == 0 && hosts(s.env.Dir, p, s.env.Dir.NodeID()) && now < s.patience {
		eff.Timer = now + leaderPollNs
		return
	}
	if node == 0 {
		node = voting(p)[0].NodeID
	}
	out := &pb.FindCoordinatorResponse{Node: node, Partition: p.Number}
	if b, ok := s.env.Dir.View().BrokerByID(node); ok {
		out.Address = b.ClientAddr
	}
	eff.Send = append(eff.Send, out)
	eff.Done = true
}

// groupCommand proposes a command of a group until it is applied here; every replica of the group's state takes it.
type groupCommand struct {
	call
	group    partition.GroupID
	bytes    []byte
	waiting  bool
	deadline int64
	last     *partition.Error
}

func (c *groupCommand) begin(now int64, name string, bytes []byte, eff *Effects) {
	p, err := groupPartition(c.env.Dir, name)
	switch {
	case err != nil:
		eff.fail(err)
	case p == nil: // groups never were, as far as is known here: FindCoordinator makes them
		eff.fail(groupNotFound(name))
	case !hosts(c.env.Dir, p, c.env.Dir.NodeID()):
		eff.fail(elsewhere(p))
	default:
		c.group, c.bytes, c.deadline = p.Group, bytes, now+commandTimeoutNs
		c.propose(now, eff)
	}
}

func (c *groupCommand) propose(now int64, eff *Effects) {
	c.waiting = true
	c.ask(eff, partition.Request{Group: c.group, Op: partition.OpPropose, Command: append([]byte(nil), c.bytes...), Deadline: min(now+proposeTryNs, c.deadline)})
}

func (c *groupCommand) next(now int64, ev *Event, eff *Effects) (done bool) {
	switch {
	case ev.Reply != nil && ev.Reply.Token == c.token && c.waiting:
		c.waiting = false
		if ev.Reply.Err == nil {
			x, err := group.DecodeResult(ev.Reply.Result)
			if err != nil {
				eff.fail(&partition.Error{Reason: partition.ReasonInternal, Message: err.Error()})
				return false
			}
			if e := groupError(&x); e != nil {
				eff.fail(e)
				return false
			}
			return true
		}
		c.last = ev.Reply.Err
		eff.Timer = now + proposePauseNs
	case ev.Timer && !c.waiting:
		if now >= c.deadline {
			e := *c.last
			e.Outcome = partition.OutcomeUnknown
			eff.fail(&e)
			return false
		}
		c.propose(now, eff)
	}
	return false
}

// SeekGroup is the unary call.
type SeekGroup struct{ groupCommand }

// NewSeekGroup begins a call; its one message is a *pb.SeekGroupRequest.
func NewSeekGroup(env *Env) *SeekGroup { return &SeekGroup{groupCommand{call: call{env: env}}} }

// Step implements Session.
func (s *SeekGroup) Step(now int64, ev *Event, eff *Effects) {
	if ev.Message == nil {
		if s.next(now, ev, eff) {
			eff.Send = append(eff.Send, &pb.SeekGroupResponse{})
			eff.Done = true
		}
		return
	}
	m := ev.Message.(*pb.SeekGroupRequest)
	c, err := s.seek(m)
	if err != nil {
		eff.fail(err)
		return
	}
	s.begin(now, m.GetGroup(), c.Encode(), eff)
}

func (s *SeekGroup) seek(m *pb.SeekGroupRequest) (*group.Seek, *partition.Error) {
	id, err := requestID(s.env, m.GetRequestId())
	if err != nil {
		return nil, err
	}
	c := &group.Seek{RequestID: id, Group: m.GetGroup()}
	if c.Offsets, err = toOffsets(m.GetOffsets()); err != nil {
		return nil, err
	}
	v := s.env.Dir.View()
	seen := map[string]bool{}
	for i := range c.Offsets {
		o := &c.Offsets[i]
		if seen[o.Topic] {
			continue
		}
		seen[o.Topic] = true
		t, ok := v.TopicByName(o.Topic)
		if !ok || t.ID != o.TopicID {
			return nil, &partition.Error{Reason: partition.ReasonUnknownGroup, RetryAfterMs: 20, Message: fmt.Sprintf("topic %q (id %x) is not known here: it is new, deleted or was created again", o.Topic, o.TopicID)}
		}
		c.Topics = append(c.Topics, group.Topic{Name: t.Name, ID: t.ID, Partitions: int32(len(t.Partitions))})
	}
	return c, nil
}

func toOffsets(list []*pb.CommittedOffset) ([]group.TopicOffset, *partition.Error) {
	if len(list) > group.PartitionsMax {
		return nil, invalid("%d offsets: at most %d", len(list), group.PartitionsMax)
	}
	out := make([]group.TopicOffset, 0, len(list))
	for _, o := range list {
		if len(o.GetTopicId()) != 16 {
			return nil, invalid("topic id of %d bytes: want 16", len(o.GetTopicId()))
		}
		out = append(out, group.TopicOffset{TP: group.TP{Topic: o.GetTopic(), Partition: o.GetPartition()}, TopicID: group.ID(o.GetTopicId()), Offset: o.GetOffset(), Epoch: o.GetLeaderEpoch()})
	}
	return out, nil
}

// DeleteGroup is the unary call.
type DeleteGroup struct{ groupCommand }

// NewDeleteGroup begins a call; its one message is a *pb.DeleteGroupRequest.
func NewDeleteGroup(env *Env) *DeleteGroup { return &DeleteGroup{groupCommand{call: call{env: env}}} }

// Step implements Session.
func (s *DeleteGroup) Step(now int64, ev *Event, eff *Effects) {
	if ev.Message == nil {
		if s.next(now, ev, eff) {
			eff.Send = append(eff.Send, &pb.DeleteGroupResponse{})
			eff.Done = true
		}
		return
	}
	m := ev.Message.(*pb.DeleteGroupRequest)
	id, err := requestID(s.env, m.GetRequestId())
	if err != nil {
		eff.fail(err)
		return
	}
	s.begin(now, m.GetName(), (&group.Delete{RequestID: id, Group: m.GetName()}).Encode(), eff)
}
