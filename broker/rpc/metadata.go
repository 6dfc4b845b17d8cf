package rpc

import (
	"google.golang.org/protobuf/proto"

	pb "lograft/api/lograft/v1"
	"lograft/broker/cluster"
	"lograft/broker/partition"
)

func toTopic(dir Directory, t *cluster.Topic) *pb.Topic {
	out := &pb.Topic{Name: t.Name, Id: t.ID[:]}
	for _, c := range t.AllSettings() {
		out.Config = append(out.Config, &pb.ConfigEntry{Key: c.Key, Value: c.Value, DefaultValue: c.Default, Given: c.Given, About: c.About})
	}
	for i := range t.Partitions {
		p := &t.Partitions[i]
		q := &pb.Partition{Number: p.Number, Group: p.Group[:], Replicas: toReplicas(voting(p))}
		q.LeaderNode, _, q.LeaderEpoch = dir.Leader(p.Group)
		if p.Moving() {
			q.Wanted = toReplicas(replicasOf(p, p.Voters))
		}
		out.Partitions = append(out.Partitions, q)
	}
	return out
}

// voting are the replicas that vote: those of the configuration that is known to be in effect. Others are on their way, or leave.
func voting(p *cluster.Partition) []cluster.Replica { return replicasOf(p, p.Current) }

func replicasOf(p *cluster.Partition, ids []uint64) (list []cluster.Replica) {
	for _, id := range ids {
		if r, ok := p.Replica(id); ok {
			list = append(list, r)
		}
	}
	return list
}

func toReplicas(list []cluster.Replica) (out []*pb.Replica) {
	for _, r := range list {
		out = append(out, &pb.Replica{Id: r.ID, Node: r.NodeID})
	}
	return out
}

// barrier is a call that answers from the metadata applied here, after a read round of the metadata group if the answer would deny
// or enumerate something (architecture D14).
type barrier struct {
	call
	answer func(certain bool) (proto.Message, *partition.Error) // nil, nil: a round is needed first
	// retryUntil: a round without a leader is asked again, because elections are short.
	retryUntil int64
	// consistency of the round: Committed waits only until a broker that was restarted has applied what it knew before.
	consistency partition.Consistency
}

// Step implements Session.
func (s *barrier) Step(now int64, ev *Event, eff *Effects) {
	certain := false
	switch {
	case ev.Message != nil:
		s.retryUntil = now + readTimeoutDefaultNs
	case ev.Reply != nil && ev.Reply.Err != nil:
		eff.fail(ev.Reply.Err)
		return
	case ev.Reply != nil:
		certain = true
	default:
		return
	}
	out, err := s.answer(certain)
	switch {
	case err != nil:
		eff.fail(err)
	case out != nil:
		eff.Send = append(eff.Send, out)
		eff.Done = true
	default:
		s.ask(eff, partition.Request{Group: s.env.Dir.View().MetadataGroup, Op: partition.OpBarrier, Consistency: s.consistency, Deadline: s.retryUntil})
	}
}

// GetMetadata is the unary call.
type GetMetadata struct {
	barrier
	request *pb.GetMetadataRequest
}

// NewGetMetadata begins a call; its one message is a *pb.GetMetadataRequest.
func NewGetMetadata(env *Env) *GetMetadata {
	s := &GetMetadata{barrier: barrier{call: call{env: env}}}
	s.answer = s.metadata
	return s
}

// Step implements Session.
func (s *GetMetadata) Step(now int64, ev *Event, eff *Effects) {
	if ev.Message != nil {
		s.request = ev.Message.(*pb.GetMetadataRequest)
		s.consistency = consistency(s.request.GetConsistency())
	}
	s.barrier.Step(now, ev, eff)
}

func (s *GetMetadata) metadata(certain bool) (proto.Message, *partition.Error) {
	dir := s.env.Dir
	v := dir.View()
	out := &pb.GetMetadataResponse{ClusterName: v.ClusterName, ClusterId: v.ClusterID[:], AnsweredBy: dir.NodeID(), MetadataReplicas: toReplicas(voting(&v.Metadata)), AutoCreate: dir.AutoCreate(), Commands: v.Commands}
	out.MetadataLeader, _, _ = dir.Leader(v.MetadataGroup)
	for _, b := range v.Brokers() {
		out.Brokers = append(out.Brokers, &pb.Broker{Node: b.NodeID, ClientAddress: b.ClientAddr, PeerAddress: b.PeerAddr, HttpAddress: b.HTTPAddr, Version: b.Build(), Commands: b.Commands(), Rack: b.Rack, Away: b.Away})
	}
	if s.request.GetAllTopics() {
		if !certain {
			return nil, nil
		}
		for _, t := range v.Topics() {
			out.Topics = append(out.Topics, toTopic(dir, t))
		}
		return out, nil
	}
	for _, name := range s.request.GetTopics() {
		t, ok := v.TopicByName(name)
		if !ok && !certain {
			return nil, nil
		}
		if ok {
			out.Topics = append(out.Topics, toTopic(dir, t))
		}
	}
	return out, nil
}

// DescribeTopic is the unary call.
type DescribeTopic struct {
	barrier
	name string
}

// NewDescribeTopic begins a call; its one message is a *pb.DescribeTopicRequest.
func NewDescribeTopic(env *Env) *DescribeTopic {
	s := &DescribeTopic{barrier: barrier{call: call{env: env}}}
	s.answer = func(certain bool) (proto.Message, *partition.Error) {
		t, ok := env.Dir.View().TopicByName(s.name)
		switch {
		case ok:
			return &pb.DescribeTopicResponse{Topic: toTopic(env.Dir, t)}, nil
		case certain:
			return nil, topicNotFound(s.name)
		}
		return nil, nil
	}
	return s
}

// Step implements Session.
func (s *DescribeTopic) Step(now int64, ev *Event, eff *Effects) {
	if ev.Message != nil {
		s.name = ev.Message.(*pb.DescribeTopicRequest).GetName()
	}
	s.barrier.Step(now, ev, eff)
}

// ListTopics is the unary call.
type ListTopics struct{ barrier }

// NewListTopics begins a call; its one message is a *pb.ListTopicsRequest.
func NewListTopics(env *Env) *ListTopics {
	s := &ListTopics{barrier{call: call{env: env}}}
	s.answer = func(certain bool) (proto.Message, *partition.Error) {
		if !certain {
			return nil, nil
		}
		out := &pb.ListTopicsResponse{}
		for _, t := range env.Dir.View().Topics() {
			if !cluster.Internal(t.Name) {
				out.Topics = append(out.Topics, toTopic(env.Dir, t))
			}
		}
		return out, nil
	}
	return s
}

// DescribeReplicas is the unary call: what this broker knows of the replicas that it holds, at once and without any other broker.
type DescribeReplicas struct {
	call
	waiting map[uint64]*pb.ReplicaState // by token
	out     *pb.DescribeReplicasResponse
	groups  map[uint64]replicaNodes
}

// replicaNodes are the replicas of the group asked about: they turn replica ids into nodes.
type replicaNodes []cluster.Replica

func (r replicaNodes) node(id uint64) uint64 {
	for _, x := range r {
		if x.ID == id {
			return x.NodeID
		}
	}
	return 0
}

// NewDescribeReplicas begins a call; its one message is a *pb.DescribeReplicasRequest.
func NewDescribeReplicas(env *Env) *DescribeReplicas {
	return &DescribeReplicas{call: call{env: env}, waiting: map[uint64]*pb.ReplicaState{}, groups: map[uint64]replicaNodes{}, out: &pb.DescribeReplicasResponse{}}
}

// ProblemRefilling is ReplicaState.Problem of a replica that is being refilled: it mends by itself, as the others do not.
const ProblemRefilling = "its log was lost: it is being refilled from the other replicas and neither votes nor serves until it holds everything again"

// Step implements Session.
func (s *DescribeReplicas) Step(now int64, ev *Event, eff *Effects) {
	switch {
	case ev.Message != nil:
		s.askAll(now, ev.Message.(*pb.DescribeReplicasRequest).GetTopic(), eff)
	case ev.Reply != nil:
		s.fill(ev.Reply)
	default:
		return
	}
	if len(s.waiting) == 0 {
		eff.Send = append(eff.Send, s.out)
		eff.Done = true
	}
}

func (s *DescribeReplicas) askAll(now int64, topic string, eff *Effects) {
	v, me := s.env.Dir.View(), s.env.Dir.NodeID()
	add := func(name string, number int32, p *cluster.Partition) {
		r, ok := v.Local(p, me)
		if !ok {
			return
		}
		state := &pb.ReplicaState{Topic: name, Partition: number, Node: me, ReplicaId: r.ID}
		s.out.Replicas = append(s.out.Replicas, state)
		token := s.ask(eff, partition.Request{Group: p.Group, Op: partition.OpDescribe, Deadline: now + readTimeoutDefaultNs})
		s.waiting[token], s.groups[token] = state, p.Replicas
	}
	if topic == "" {
		add("", 0, &v.Metadata)
	}
	for _, t := range v.Topics() {
		if topic != "" && t.Name != topic {
			continue
		}
		for i := range t.Partitions {
			add(t.Name, t.Partitions[i].Number, &t.Partitions[i])
		}
	}
}

func (s *DescribeReplicas) fill(r *partition.Reply) {
	state, ok := s.waiting[r.Token]
	if !ok {
		return
	}
	replicas := s.groups[r.Token]
	delete(s.waiting, r.Token)
	delete(s.groups, r.Token)
	if r.Err != nil {
		state.Problem = r.Err.Error()
		return
	}
	d := r.Describe
	state.LeaderNode, state.LeaderEpoch = replicas.node(d.LeaderID), int32(d.Term)
	state.LogStart, state.HighWatermark, state.NextOffset, state.SizeBytes = d.LogStart, d.HighWatermark, d.NextOffset, d.SizeBytes
	state.LastIndex, state.AppliedIndex, state.Match = d.LastIndex, d.Applied, d.Match
	state.RepairedEntries = d.Repaired
	if d.Refilling {
		state.Problem = ProblemRefilling
	}
	for _, f := range d.Faulty {
		state.Faulty = append(state.Faulty, &pb.FaultyRange{FromIndex: f.From, ToIndex: f.To, Segment: f.Segment, Position: f.Position, Reason: f.Reason})
	}
}
