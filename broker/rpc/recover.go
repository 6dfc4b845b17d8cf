package rpc

import (
	"context"

	pb "lograft/api/lograft/v1"
	"lograft/broker/partition"
)

// Recover is the unary call by which an operator gives up what a partition without a leader lost, on this broker's replica.
type Recover struct {
	call
	in *pb.RecoverRequest
}

// NewRecover begins a call; its one message is a *pb.RecoverRequest.
func NewRecover(env *Env) *Recover { return &Recover{call: call{env: env}} }

// Step implements Session.
func (s *Recover) Step(now int64, ev *Event, eff *Effects) {
	switch {
	case ev.Message != nil:
		s.in = ev.Message.(*pb.RecoverRequest)
		t, ok := s.env.Dir.View().TopicByName(s.in.GetTopic())
		if !ok {
			eff.fail(topicNotFound(s.in.GetTopic()))
			return
		}
		n := s.in.GetPartition()
		if n < 0 || int(n) >= len(t.Partitions) {
			eff.fail(invalid("topic %q has partitions 0 to %d", t.Name, len(t.Partitions)-1))
			return
		}
		q := partition.Request{Group: t.Partitions[n].Group, Op: partition.OpRecover, Deadline: now + timeoutDefaultNs}
		if s.in.GetAcceptLoss() {
			q.Offset = 1
		}
		s.ask(eff, q)
	case ev.Reply != nil && ev.Reply.Err != nil:
		eff.fail(ev.Reply.Err)
	case ev.Reply != nil:
		r := ev.Reply.Recovery
		eff.Send = append(eff.Send, &pb.RecoverResponse{Node: s.env.Dir.NodeID(), ReplicaId: r.ReplicaID, Refilling: r.Refilling, LastIndex: r.LastIndex,
			FromOffset: r.From, ToOffset: r.To, Done: r.Done, Problem: r.Problem})
		eff.Done = true
	}
}

// Recover implements lograft.v1.
func (s *Server) Recover(ctx context.Context, in *pb.RecoverRequest) (*pb.RecoverResponse, error) {
	return unary[*pb.RecoverResponse](ctx, s, NewRecover(s.envOf(ctx)), in)
}
