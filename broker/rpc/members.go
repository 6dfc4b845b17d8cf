package rpc

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	pb "lograft/api/lograft/v1"
	"lograft/broker/cluster"
	"lograft/broker/partition"
)

// memberCall is a unary call that changes who is in the cluster or what is where: one metadata command.
func memberCall(env *Env, encode func(m proto.Message, id cluster.ID) ([]byte, *partition.Error), answer func(*cluster.Result) proto.Message) Session {
	return &metadataCall{call: call{env: env},
		build: func(m proto.Message) ([]byte, *partition.Error) {
			id, err := requestID(env, m.(identified).GetRequestId())
			if err != nil {
				return nil, err
			}
			return encode(m, id)
		},
		answer: func(x *cluster.Result) (proto.Message, *partition.Error) { return answer(x), nil }}
}

// identified is a request with an id of its own.
type identified interface{ GetRequestId() []byte }

// NewAddBroker begins a unary call; its one message is a *pb.AddBrokerRequest.
func NewAddBroker(env *Env) Session {
	return memberCall(env, func(in proto.Message, id cluster.ID) ([]byte, *partition.Error) {
		m := in.(*pb.AddBrokerRequest)
		return cluster.EncodeAddBroker(cluster.AddBroker{RequestID: id, NodeID: m.GetNode(), PeerAddr: m.GetPeerAddress()}), nil
	}, func(*cluster.Result) proto.Message { return &pb.AddBrokerResponse{} })
}

// NewRemoveBroker begins a unary call; its one message is a *pb.RemoveBrokerRequest.
func NewRemoveBroker(env *Env) Session {
	return memberCall(env, func(in proto.Message, id cluster.ID) ([]byte, *partition.Error) {
		return cluster.EncodeRemoveBroker(cluster.RemoveBroker{RequestID: id, NodeID: in.(*pb.RemoveBrokerRequest).GetNode()}), nil
	}, func(*cluster.Result) proto.Message { return &pb.RemoveBrokerResponse{} })
}

// NewDecommissionBroker begins a unary call; its one message is a *pb.DecommissionBrokerRequest.
func NewDecommissionBroker(env *Env) Session {
	return memberCall(env, func(in proto.Message, id cluster.ID) ([]byte, *partition.Error) {
		m := in.(*pb.DecommissionBrokerRequest)
		return cluster.EncodeDecommission(cluster.Decommission{RequestID: id, NodeID: m.GetNode(), Cancel: m.GetCancel()}), nil
	}, func(x *cluster.Result) proto.Message { return &pb.DecommissionBrokerResponse{Moving: int32(x.First)} })
}

// NewForfeitBrokers begins a unary call; its one message is a *pb.ForfeitBrokersRequest. What is given up are the directories that the request
// names, else those that are registered as far as this broker knows: if that is not the truth any more, nothing is. Only the metadata group's
// leader takes it, because it hears of every broker that runs: a node that is connected is not gone.
func NewForfeitBrokers(env *Env) Session {
	return memberCall(env, func(in proto.Message, id cluster.ID) ([]byte, *partition.Error) {
		m, v := in.(*pb.ForfeitBrokersRequest), env.Dir.View()
		switch leader, _, _ := env.Dir.Leader(v.MetadataGroup); {
		case len(m.GetNodes()) == 0 || len(m.GetNodes()) > cluster.BrokersMax:
			return nil, invalid("%d nodes: 1 to %d are possible", len(m.GetNodes()), cluster.BrokersMax)
		case len(m.GetDirectories()) > 0 && len(m.GetDirectories()) != len(m.GetNodes()):
			return nil, invalid("%d directories of %d nodes", len(m.GetDirectories()), len(m.GetNodes()))
		case leader != env.Dir.NodeID():
			return nil, &partition.Error{Reason: partition.ReasonNotLeader, LeaderNode: leader, Message: fmt.Sprintf("node %d leads the metadata group (0: none does now): ask it", leader)}
		}
		c := cluster.Forfeit{RequestID: id}
		for i, node := range m.GetNodes() {
			seat, _ := v.Seat(node)
			if seat.DirID != (cluster.ID{}) && env.connected(node) {
				return nil, &partition.Error{Reason: partition.Reason(cluster.ReasonBrokerInUse), Message: fmt.Sprintf("node %d is connected: it is not gone. Stop it first if its data directory is to be given up", node)}
			}
			if len(m.GetDirectories()) > 0 && seat.DirID != (cluster.ID{}) { // else there is nothing left to give up
				given := m.GetDirectories()[i]
				if len(given) != len(seat.DirID) {
					given = make([]byte, len(seat.DirID))
				}
				seat.DirID = cluster.ID(given)
			}
			c.Lost = append(c.Lost, cluster.LostDirectory{NodeID: node, DirID: seat.DirID})
		}
		return cluster.EncodeForfeit(c), nil
	}, func(*cluster.Result) proto.Message { return &pb.ForfeitBrokersResponse{} })
}

// NewRebalance begins a unary call; its one message is a *pb.RebalanceRequest.
func NewRebalance(env *Env) Session {
	return memberCall(env, func(_ proto.Message, id cluster.ID) ([]byte, *partition.Error) {
		return cluster.EncodeRebalance(id), nil
	}, func(x *cluster.Result) proto.Message { return &pb.RebalanceResponse{Moving: int32(x.First)} })
}

// NewReassignPartition begins a unary call; its one message is a *pb.ReassignPartitionRequest.
func NewReassignPartition(env *Env) Session {
	return memberCall(env, func(in proto.Message, id cluster.ID) ([]byte, *partition.Error) {
		m := in.(*pb.ReassignPartitionRequest)
		topic, err := topicID(m.GetTopicId())
		return cluster.EncodeReassign(cluster.Reassign{RequestID: id, Name: m.GetTopic(), Topic: topic, Partition: m.GetPartition(), Nodes: m.GetNodes()}), err
	}, func(*cluster.Result) proto.Message { return &pb.ReassignPartitionResponse{} })
}

// TransferLeader is the unary call.
type TransferLeader struct{ call }

// NewTransferLeader begins a call; its one message is a *pb.TransferLeaderRequest.
func NewTransferLeader(env *Env) *TransferLeader { return &TransferLeader{call{env: env}} }

// Step implements Session.
func (s *TransferLeader) Step(now int64, ev *Event, eff *Effects) {
	switch {
	case ev.Message != nil:
		m := ev.Message.(*pb.TransferLeaderRequest)
		_, p, err := locate(s.env.Dir, m.GetPartition())
		var to cluster.Replica
		if err == nil {
			to, err = s.target(p, m.GetNode())
		}
		if err != nil {
			eff.fail(err)
			return
		}
		s.ask(eff, partition.Request{Group: p.Group, Op: partition.OpTransfer, Offset: int64(to.ID), Deadline: deadline(now, m.GetTimeoutMs(), timeoutDefaultNs)})
	case ev.Reply != nil && ev.Reply.Err != nil:
		eff.fail(ev.Reply.Err)
	case ev.Reply != nil:
		eff.Send = append(eff.Send, &pb.TransferLeaderResponse{LeaderEpoch: ev.Reply.LeaderEpoch})
		eff.Done = true
	}
}

func (s *TransferLeader) target(p *cluster.Partition, node uint64) (cluster.Replica, *partition.Error) {
	for _, r := range voting(p) {
		if r.NodeID == node {
			return r, nil
		}
	}
	var nodes []uint64
	for _, r := range voting(p) {
		nodes = append(nodes, r.NodeID)
	}
	return cluster.Replica{}, invalid("node %d has no voting replica of partition %d: it is on nodes %s", node, p.Number, fmt.Sprint(nodes))
}

// NewDescribeMembers begins a unary call; its one message is a *pb.DescribeMembersRequest.
func NewDescribeMembers(env *Env) Session {
	return &describeMembers{barrier: barrier{call: call{env: env}}}
}

type describeMembers struct{ barrier }

// Step implements Session.
func (s *describeMembers) Step(now int64, ev *Event, eff *Effects) {
	if ev.Message != nil {
		s.consistency = consistency(ev.Message.(*pb.DescribeMembersRequest).GetConsistency())
		s.answer = func(certain bool) (proto.Message, *partition.Error) {
			if !certain {
				return nil, nil
			}
			return toMembers(s.env.Dir.View()), nil
		}
	}
	s.barrier.Step(now, ev, eff)
}

func toMembers(v *cluster.View) *pb.DescribeMembersResponse {
	out := &pb.DescribeMembersResponse{Rebalancing: v.Rebalancing, MetadataMoving: v.Metadata.Moving()}
	by := map[uint64]*pb.MemberBroker{}
	for _, seat := range v.Seats() {
		b := &pb.MemberBroker{Node: seat.NodeID, PeerAddress: seat.PeerAddr, Registered: seat.DirID != cluster.ID{}, Leaving: seat.Leaving}
		if b.Registered {
			b.Directory = seat.DirID[:]
		}
		by[seat.NodeID] = b
		out.Brokers = append(out.Brokers, b)
	}
	for _, t := range v.Topics() {
		for i := range t.Partitions {
			p := &t.Partitions[i]
			for _, r := range p.Replicas {
				if b := by[r.NodeID]; b != nil {
					b.Held++
				}
			}
			for j, r := range replicasOf(p, p.Voters) {
				b := by[r.NodeID]
				if b == nil {
					continue
				}
				if b.Replicas++; j == 0 {
					b.Preferred++
				}
			}
			if p.Moving() {
				out.Moving = append(out.Moving, &pb.MovingPartition{Topic: t.Name, Partition: p.Number, From: nodesOf(p, p.Current), To: nodesOf(p, p.Voters)})
			}
		}
	}
	out.MetadataVoters, out.MetadataLearners = nodesOf(&v.Metadata, v.Metadata.Voters), nodesOf(&v.Metadata, v.Metadata.Learners)
	return out
}

func nodesOf(p *cluster.Partition, ids []uint64) (nodes []uint64) {
	for _, r := range replicasOf(p, ids) {
		nodes = append(nodes, r.NodeID)
	}
	return nodes
}

// AddBroker implements lograft.v1.
func (s *Server) AddBroker(ctx context.Context, in *pb.AddBrokerRequest) (*pb.AddBrokerResponse, error) {
	return unary[*pb.AddBrokerResponse](ctx, s, NewAddBroker(s.envOf(ctx)), in)
}

// RemoveBroker implements lograft.v1.
func (s *Server) RemoveBroker(ctx context.Context, in *pb.RemoveBrokerRequest) (*pb.RemoveBrokerResponse, error) {
	return unary[*pb.RemoveBrokerResponse](ctx, s, NewRemoveBroker(s.envOf(ctx)), in)
}

// DecommissionBroker implements lograft.v1.
func (s *Server) DecommissionBroker(ctx context.Context, in *pb.DecommissionBrokerRequest) (*pb.DecommissionBrokerResponse, error) {
	return unary[*pb.DecommissionBrokerResponse](ctx, s, NewDecommissionBroker(s.envOf(ctx)), in)
}

// ForfeitBrokers implements lograft.v1.
func (s *Server) ForfeitBrokers(ctx context.Context, in *pb.ForfeitBrokersRequest) (*pb.ForfeitBrokersResponse, error) {
	return unary[*pb.ForfeitBrokersResponse](ctx, s, NewForfeitBrokers(s.envOf(ctx)), in)
}

// Rebalance implements lograft.v1.
func (s *Server) Rebalance(ctx context.Context, in *pb.RebalanceRequest) (*pb.RebalanceResponse, error) {
	return unary[*pb.RebalanceResponse](ctx, s, NewRebalance(s.envOf(ctx)), in)
}

// ReassignPartition implements lograft.v1.
func (s *Server) ReassignPartition(ctx context.Context, in *pb.ReassignPartitionRequest) (*pb.ReassignPartitionResponse, error) {
	return unary[*pb.ReassignPartitionResponse](ctx, s, NewReassignPartition(s.envOf(ctx)), in)
}

// TransferLeader implements lograft.v1.
func (s *Server) TransferLeader(ctx context.Context, in *pb.TransferLeaderRequest) (*pb.TransferLeaderResponse, error) {
	return unary[*pb.TransferLeaderResponse](ctx, s, NewTransferLeader(s.envOf(ctx)), in)
}

// DescribeMembers implements lograft.v1.
func (s *Server) DescribeMembers(ctx context.Context, in *pb.DescribeMembersRequest) (*pb.DescribeMembersResponse, error) {
	return unary[*pb.DescribeMembersResponse](ctx, s, NewDescribeMembers(s.envOf(ctx)), in)
}
