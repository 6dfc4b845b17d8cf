package rpc

import (
	pb "lograft/api/lograft/v1"
	"lograft/broker/cluster"
	"lograft/broker/partition"
)

// Timing of metadata commands.
const (
	proposeTryNs     = int64(1e9) // an unanswered command is proposed again, with the same request id
	proposePauseNs   = int64(50e6)
	commandTimeoutNs = int64(15e9)
	leaderPollNs     = int64(20e6)
	leaderWaitNs     = int64(5e9)
	producerIDsBlock = 1000
)

// command proposes a metadata command until it is applied here. Any broker takes it: the replica forwards it to its leader.
type command struct {
	bytes    []byte
	token    uint64 // of the try under way
	waiting  bool
	deadline int64
	last     *partition.Error
}

// start begins; next says what to do with a reply or a timer: finished once result or err is set.
func (c *command) start(s *call, now int64, bytes []byte, eff *Effects) {
	c.bytes, c.deadline = bytes, now+commandTimeoutNs
	c.propose(s, now, eff)
}

func (c *command) propose(s *call, now int64, eff *Effects) {
	c.waiting = true
	c.token = s.ask(eff, partition.Request{Group: s.env.Dir.View().MetadataGroup, Op: partition.OpPropose, Command: append([]byte(nil), c.bytes...),
		Deadline: min(now+proposeTryNs, c.deadline)})
}

func (c *command) next(s *call, now int64, ev *Event, eff *Effects) (*cluster.Result, *partition.Error) {
	switch {
	case ev.Reply != nil && ev.Reply.Token == c.token && c.waiting:
		c.waiting = false
		if ev.Reply.Err == nil {
			x, err := cluster.DecodeResult(ev.Reply.Result)
			if err != nil {
				return nil, &partition.Error{Reason: partition.ReasonInternal, Message: err.Error()}
			}
			return &x, nil
		}
		c.last = ev.Reply.Err
		eff.Timer = now + proposePauseNs
	case ev.Timer && !c.waiting:
		if now >= c.deadline {
			e := *c.last
			e.Outcome = partition.OutcomeUnknown
			return nil, &e
		}
		c.propose(s, now, eff)
	}
	return nil, nil
}

func resultError(x *cluster.Result) *partition.Error {
	if x.Reason == cluster.ReasonNone {
		return nil
	}
	return &partition.Error{Reason: partition.Reason(x.Reason), Message: x.Message}
}

func requestID(env *Env, given []byte) (cluster.ID, *partition.Error) {
	switch len(given) {
	case 0:
		return env.Random(), nil
	case 16:
		return cluster.ID(given), nil
	}
	return cluster.ID{}, invalid("request id of %d bytes: want 16 or none", len(given))
}

// replicationDefault is the replication factor of topics that name none, if there are as many brokers.
const replicationDefault = 3

// CreateTopic is the unary call. It is answered when the topic is known here and its partitions here have leaders, or have had time
// to find them.
type CreateTopic struct {
	call
	command
	request  *pb.CreateTopicRequest
	topic    *cluster.Topic
	until    int64 // for leaders
	patience int64 // for brokers that have not registered yet
	again    bool  // the next timer looks again whether they have
}

// NewCreateTopic begins a call; its one message is a *pb.CreateTopicRequest.
func NewCreateTopic(env *Env) *CreateTopic { return &CreateTopic{call: call{env: env}} }

// Step implements Session.
func (s *CreateTopic) Step(now int64, ev *Event, eff *Effects) {
	if ev.Message != nil {
		s.request, s.patience = ev.Message.(*pb.CreateTopicRequest), now+leaderWaitNs
	}
	if ev.Message != nil || s.again && ev.Timer {
		c, err := s.build(s.request)
		if err != nil {
			eff.fail(err)
			return
		}
		if s.again = s.tooEarly(now, c.ReplicationFactor); s.again {
			eff.Timer = now + leaderPollNs
			return
		}
		s.start(&s.call, now, cluster.EncodeCreateTopic(c), eff)
		return
	}
	if s.topic == nil {
		x, err := s.next(&s.call, now, ev, eff)
		if x != nil {
			err = resultError(x)
		}
		if err != nil {
			eff.fail(err)
			return
		}
		if x == nil {
			return
		}
		t, ok := s.env.Dir.View().TopicByID(x.Topic)
		if !ok { // deleted since, or a retry of an old command
			eff.fail(&partition.Error{Reason: partition.ReasonTopicNotFound, Message: "the topic was created and is deleted again"})
			return
		}
		s.topic, s.until = t, now+leaderWaitNs
	}
	if now < s.until && !s.led() {
		eff.Timer = now + leaderPollNs
		return
	}
	eff.Send = append(eff.Send, &pb.CreateTopicResponse{Topic: toTopic(s.env.Dir, s.topic)})
	eff.Done = true
}

func (s *CreateTopic) build(m *pb.CreateTopicRequest) (cluster.CreateTopic, *partition.Error) {
	id, err := requestID(s.env, m.GetRequestId())
	c := cluster.CreateTopic{RequestID: id, Seed: s.env.Random(), Name: m.GetName(), Partitions: max(m.GetPartitions(), 0), ReplicationFactor: m.GetReplicationFactor()}
	if m.GetPartitions() == 0 {
		c.Partitions = 1
	}
	if err == nil {
		err = internalName(m.GetName())
	}
	if c.ReplicationFactor == 0 {
		c.ReplicationFactor = int32(min(replicationDefault, s.env.Dir.View().Placeable()))
	}
	for _, e := range m.GetConfig() {
		c.Config = append(c.Config, cluster.ConfigEntry{Key: e.GetKey(), Value: e.GetValue()})
	}
	return c, err
}

// tooEarly reports whether the cluster has brokers enough, but some have not registered yet since it was born.
func (s *CreateTopic) tooEarly(now int64, replication int32) bool {
	v := s.env.Dir.View()
	return now < s.patience && len(v.Brokers()) < int(replication) && int(replication) <= v.Placeable()
}

// led reports whether every partition with a replica here knows a leader.
func (s *CreateTopic) led() bool {
	for i := range s.topic.Partitions {
		p := &s.topic.Partitions[i]
		if node, _, _ := s.env.Dir.Leader(p.Group); node == 0 && hosts(s.env.Dir, p, s.env.Dir.NodeID()) {
			return false
		}
	}
	return true
}

// InitProducerID is the unary call: an id of this broker's block, which it asks the metadata group for when it is used up.
type InitProducerID struct {
	call
	command
}

// NewInitProducerID begins a call; its one message is a *pb.InitProducerIdRequest.
func NewInitProducerID(env *Env) *InitProducerID { return &InitProducerID{call: call{env: env}} }

// Step implements Session.
func (s *InitProducerID) Step(now int64, ev *Event, eff *Effects) {
	if ev.Message == nil {
		x, err := s.next(&s.call, now, ev, eff)
		if x != nil {
			err = resultError(x)
		}
		if err != nil {
			eff.fail(err)
			return
		}
		if x == nil {
			return
		}
		s.env.Dir.AddProducerIDs(x.First, producerIDsBlock)
	}
	id, ok := s.env.Dir.TakeProducerID()
	if !ok {
		s.start(&s.call, now, cluster.EncodeAllocProducerIDs(cluster.AllocProducerIDs{RequestID: s.env.Random(), Count: producerIDsBlock}), eff)
		return
	}
	eff.Send = append(eff.Send, &pb.InitProducerIdResponse{ProducerId: id})
	eff.Done = true
}
