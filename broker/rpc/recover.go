package rpc

import (
	"context"
	"fmt"
	"slices"

	pb "lograft/api/lograft/v1"
	"lograft/broker/cluster"
	"lograft/broker/partition"
)

// Recover is the unary call by which an operator gives up what a partition without a leader lost, on this broker's replica.
type Recover struct {
	call
	in *pb.RecoverRequest
	// mine: the metadata has this broker's directory hold a replica, so that an engine without one could not open it.
	mine      bool
	connected []uint64
}

// NewRecover begins a call; its one message is a *pb.RecoverRequest.
func NewRecover(env *Env) *Recover { return &Recover{call: call{env: env}} }

// Step implements Session.
func (s *Recover) Step(now int64, ev *Event, eff *Effects) {
	switch {
	case ev.Message != nil:
		s.in = ev.Message.(*pb.RecoverRequest)
		q, err := s.request(now)
		if err != nil {
			eff.fail(err)
			return
		}
		s.ask(eff, q)
	case ev.Reply != nil && ev.Reply.Err != nil && ev.Reply.Err.Reason == partition.ReasonUnknownGroup && s.mine:
		eff.fail(&partition.Error{Reason: partition.ReasonFaulty, Message: fmt.Sprintf("node %d has a replica that could not be opened: see its log", s.env.Dir.NodeID())})
	case ev.Reply != nil && ev.Reply.Err != nil:
		eff.fail(ev.Reply.Err)
	case ev.Reply != nil:
		r := ev.Reply.Recovery
		eff.Send = append(eff.Send, &pb.RecoverResponse{Node: s.env.Dir.NodeID(), ReplicaId: r.ReplicaID, Refilling: r.Refilling, LastIndex: r.LastIndex,
			FromOffset: r.From, ToOffset: r.To, Done: r.Done, Problem: r.Problem, LastTerm: r.LastTerm, NextOffset: r.NextOffset, LogStart: r.LogStart,
			GoneReplicas: r.Gone, Stranded: r.Stranded, LeaderNode: r.Leader, ConnectedNodes: s.connected, Voter: r.Voter, DropTo: r.DropTo})
		eff.Done = true
	}
}

// request is what the group's replica here is asked. Gone are the replicas on directories that the metadata has retired, and those on the nodes
// that the caller says never come back. A partition is not forced while one of the latter is still registered: its broker could come back and
// be listened to. The metadata group can't retire anything before it is forced itself.
func (s *Recover) request(now int64) (q partition.Request, err *partition.Error) {
	v := s.env.Dir.View()
	p := &v.Metadata
	if !s.in.GetMetadata() {
		t, ok := v.TopicByName(s.in.GetTopic())
		if !ok {
			return q, topicNotFound(s.in.GetTopic())
		}
		n := s.in.GetPartition()
		if n < 0 || int(n) >= len(t.Partitions) {
			return q, invalid("topic %q has partitions 0 to %d", t.Name, len(t.Partitions)-1)
		}
		p = &t.Partitions[n]
	}
	for _, node := range s.in.GetGoneNodes() {
		if s.env.connected(node) {
			s.connected = append(s.connected, node)
		}
	}
	q = partition.Request{Group: p.Group, Op: partition.OpRecover, Deadline: now + timeoutDefaultNs}
	for _, r := range v.Retired(p) {
		q.Gone = append(q.Gone, r.ID)
	}
	for _, r := range p.Replicas {
		s.mine = s.mine || r.NodeID == s.env.Dir.NodeID() && !slices.Contains(q.Gone, r.ID)
		if !slices.Contains(s.in.GetGoneNodes(), r.NodeID) || slices.Contains(q.Gone, r.ID) {
			continue
		}
		if s.in.GetAcceptLoss() && slices.Contains(s.connected, r.NodeID) {
			return q, &partition.Error{Reason: partition.Reason(cluster.ReasonBrokerInUse), Message: fmt.Sprintf("node %d is connected with node %d: it is not gone", r.NodeID, s.env.Dir.NodeID())}
		}
		if s.in.GetAcceptLoss() && !s.in.GetMetadata() {
			return q, &partition.Error{Reason: partition.ReasonInvalid, Message: fmt.Sprintf("node %d is registered still, as far as is known here: its data directory must be given up first", r.NodeID)}
		}
		q.Gone = append(q.Gone, r.ID)
	}
	switch {
	case s.in.GetAcceptLoss() && s.in.GetVotesOnly():
		q.Offset = partition.RecoverVotes
	case s.in.GetAcceptLoss():
		q.Offset = partition.RecoverForce
	}
	return q, nil
}

// Recover implements lograft.v1.
func (s *Server) Recover(ctx context.Context, in *pb.RecoverRequest) (*pb.RecoverResponse, error) {
	return unary[*pb.RecoverResponse](ctx, s, NewRecover(s.envOf(ctx)), in)
}
