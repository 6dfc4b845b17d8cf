package rpc

import (
	"google.golang.org/protobuf/proto"

	pb "lograft/api/lograft/v1"
	"lograft/broker/cluster"
	"lograft/broker/partition"
)

// metadataCall is a unary call that is one metadata command: build makes the command of the request, answer the response of its
// result.
type metadataCall struct {
	call
	command
	build  func(m proto.Message) ([]byte, *partition.Error) // again and again for a while, where it is not ready
	answer func(x *cluster.Result) (proto.Message, *partition.Error)

	request  proto.Message // until its command is built
	patience int64         // for a cluster that is not ready
}

// Step implements Session.
func (s *metadataCall) Step(now int64, ev *Event, eff *Effects) {
	if ev.Message != nil {
		s.request, s.patience = ev.Message, now+leaderWaitNs
	}
	if s.request != nil {
		bytes, err := s.build(s.request)
		if m, ok := s.request.(interface{ GetName() string }); ok && err == nil {
			err = internalName(m.GetName())
		}
		if err != nil && err.Reason == partition.ReasonNotReady && now < s.patience {
			eff.Timer = now + leaderPollNs
			return
		}
		if err != nil {
			eff.fail(err)
			return
		}
		s.request = nil
		s.start(&s.call, now, bytes, eff)
		return
	}
	x, err := s.next(&s.call, now, ev, eff)
	if x != nil {
		err = resultError(x)
	}
	if err == nil && x != nil {
		var out proto.Message
		if out, err = s.answer(x); err == nil {
			eff.Send = append(eff.Send, out)
			eff.Done = true
		}
	}
	if err != nil {
		eff.fail(err)
	}
}

// internalName refuses what would touch a topic that is the brokers' own.
func internalName(name string) *partition.Error {
	if cluster.Internal(name) {
		return invalid("topic %q: names that begin with __ are the brokers' own", name)
	}
	return nil
}

func topicID(given []byte) (id cluster.ID, err *partition.Error) {
	switch len(given) {
	case 0:
		return id, nil
	case len(id):
		return cluster.ID(given), nil
	}
	return id, invalid("topic id of %d bytes: want 16", len(given))
}

// ids reads the two ids that every change of a topic carries.
func ids(env *Env, request, topic []byte) (cluster.ID, cluster.ID, *partition.Error) {
	id, err := requestID(env, request)
	if err != nil {
		return id, cluster.ID{}, err
	}
	t, err := topicID(topic)
	return id, t, err
}

// topicOf is the topic of a result as it is here, which has applied the command.
func topicOf(env *Env, x *cluster.Result) (*pb.Topic, *partition.Error) {
	t, ok := env.Dir.View().TopicByID(x.Topic)
	if !ok { // deleted since, or a retry of an old command
		return nil, &partition.Error{Reason: partition.ReasonTopicNotFound, Message: "the topic was changed and is deleted meanwhile"}
	}
	return toTopic(env.Dir, t), nil
}

// NewDeleteTopic begins a unary call; its one message is a *pb.DeleteTopicRequest.
func NewDeleteTopic(env *Env) Session {
	return &metadataCall{call: call{env: env},
		build: func(in proto.Message) ([]byte, *partition.Error) {
			m := in.(*pb.DeleteTopicRequest)
			request, topic, err := ids(env, m.GetRequestId(), m.GetTopicId())
			return cluster.EncodeDeleteTopic(cluster.DeleteTopic{RequestID: request, Name: m.GetName(), Topic: topic}), err
		},
		answer: func(x *cluster.Result) (proto.Message, *partition.Error) {
			return &pb.DeleteTopicResponse{TopicId: x.Topic[:]}, nil
		}}
}

// NewAlterTopic begins a unary call; its one message is a *pb.AlterTopicRequest.
func NewAlterTopic(env *Env) Session {
	return &metadataCall{call: call{env: env},
		build: func(in proto.Message) ([]byte, *partition.Error) {
			m := in.(*pb.AlterTopicRequest)
			request, topic, err := ids(env, m.GetRequestId(), m.GetTopicId())
			if err == nil && len(m.GetSet())+len(m.GetUnset()) == 0 {
				err = invalid("nothing to change: name settings to set or unset")
			}
			c := cluster.AlterTopic{RequestID: request, Name: m.GetName(), Topic: topic, Unset: m.GetUnset()}
			for _, e := range m.GetSet() {
				c.Set = append(c.Set, cluster.ConfigEntry{Key: e.GetKey(), Value: e.GetValue()})
			}
			return cluster.EncodeAlterTopic(c), err
		},
		answer: func(x *cluster.Result) (proto.Message, *partition.Error) {
			t, err := topicOf(env, x)
			return &pb.AlterTopicResponse{Topic: t}, err
		}}
}

// NewAddPartitions begins a unary call; its one message is a *pb.AddPartitionsRequest.
func NewAddPartitions(env *Env) Session {
	return &metadataCall{call: call{env: env},
		build: func(in proto.Message) ([]byte, *partition.Error) {
			m := in.(*pb.AddPartitionsRequest)
			request, topic, err := ids(env, m.GetRequestId(), m.GetTopicId())
			return cluster.EncodeAddPartitions(cluster.AddPartitions{RequestID: request, Seed: env.Random(), Name: m.GetName(), Topic: topic, Partitions: m.GetPartitions()}), err
		},
		answer: func(x *cluster.Result) (proto.Message, *partition.Error) {
			t, err := topicOf(env, x)
			return &pb.AddPartitionsResponse{Topic: t}, err
		}}
}

// TrimPartition is the unary call.
type TrimPartition struct{ call }

// NewTrimPartition begins a call; its one message is a *pb.TrimPartitionRequest.
func NewTrimPartition(env *Env) *TrimPartition { return &TrimPartition{call{env: env}} }

// Step implements Session.
func (s *TrimPartition) Step(now int64, ev *Event, eff *Effects) {
	switch {
	case ev.Message != nil:
		m := ev.Message.(*pb.TrimPartitionRequest)
		_, p, err := locate(s.env.Dir, m.GetPartition())
		if err == nil && m.GetBeforeOffset() < partition.TrimAll {
			err = invalid("offset %d: must be >= 0, or %d for all", m.GetBeforeOffset(), partition.TrimAll)
		}
		if err != nil {
			eff.fail(err)
			return
		}
		s.ask(eff, partition.Request{Group: p.Group, Op: partition.OpTrim, Offset: m.GetBeforeOffset(), Deadline: deadline(now, m.GetTimeoutMs(), timeoutDefaultNs)})
	case ev.Reply != nil && ev.Reply.Err != nil:
		eff.fail(ev.Reply.Err)
	case ev.Reply != nil:
		eff.Send = append(eff.Send, &pb.TrimPartitionResponse{LogStart: ev.Reply.LogStart, HighWatermark: ev.Reply.HighWatermark, LeaderEpoch: ev.Reply.LeaderEpoch})
		eff.Done = true
	}
}
