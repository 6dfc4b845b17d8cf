package rpc

import (
	"context"

	pb "lograft/api/lograft/v1"
	"lograft/broker/cluster"
	"lograft/broker/partition"
)

// Scrub is the unary call that starts checks of this broker's replicas, or asks how far they are.
type Scrub struct {
	call
	waiting map[uint64]*pb.ReplicaScrub // by token
	out     *pb.ScrubResponse
}

// NewScrub begins a call; its one message is a *pb.ScrubRequest.
func NewScrub(env *Env) *Scrub {
	return &Scrub{call: call{env: env}, waiting: map[uint64]*pb.ReplicaScrub{}, out: &pb.ScrubResponse{}}
}

// Step implements Session.
func (s *Scrub) Step(now int64, ev *Event, eff *Effects) {
	switch {
	case ev.Message != nil:
		if err := s.askAll(now, ev.Message.(*pb.ScrubRequest), eff); err != nil {
			eff.fail(err)
			return
		}
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

func (s *Scrub) askAll(now int64, in *pb.ScrubRequest, eff *Effects) *partition.Error {
	v, me := s.env.Dir.View(), s.env.Dir.NodeID()
	start := int64(0)
	if in.GetStart() {
		start = 1
	}
	add := func(name string, number int32, p *cluster.Partition) {
		if r, ok := v.Local(p, me); ok {
			state := &pb.ReplicaScrub{Topic: name, Partition: number, Node: me, ReplicaId: r.ID}
			s.out.Replicas = append(s.out.Replicas, state)
			s.waiting[s.ask(eff, partition.Request{Group: p.Group, Op: partition.OpScrub, Offset: start, Deadline: now + timeoutDefaultNs})] = state
		}
	}
	if in.GetTopic() == "" {
		add("", 0, &v.Metadata)
	} else if _, ok := v.TopicByName(in.GetTopic()); !ok {
		return topicNotFound(in.GetTopic())
	}
	for _, t := range v.Topics() {
		if in.GetTopic() != "" && t.Name != in.GetTopic() {
			continue
		}
		for i := range t.Partitions {
			add(t.Name, t.Partitions[i].Number, &t.Partitions[i])
		}
	}
	return nil
}

func (s *Scrub) fill(r *partition.Reply) {
	state, ok := s.waiting[r.Token]
	if !ok {
		return
	}
	delete(s.waiting, r.Token)
	if r.Err != nil {
		state.Problem = r.Err.Error()
		return
	}
	c := r.Scrub
	state.Pass, state.Running, state.Bytes, state.TotalBytes, state.Found, state.Problem = c.Pass, c.Running, c.Bytes, c.Total, c.Found, c.Problem
	state.RepairedEntries = r.Describe.Repaired
	for _, f := range r.Describe.Faulty {
		state.Faulty = append(state.Faulty, &pb.FaultyRange{FromIndex: f.From, ToIndex: f.To, Segment: f.Segment, Position: f.Position, Reason: f.Reason})
	}
	for _, f := range c.Segments {
		state.Segments = append(state.Segments, &pb.SealedSegment{BaseIndex: f.Base, LastIndex: f.Last, Bytes: f.Bytes, Hash: append([]byte(nil), f.Hash[:]...)})
	}
}

// Scrub implements lograft.v1.
func (s *Server) Scrub(ctx context.Context, in *pb.ScrubRequest) (*pb.ScrubResponse, error) {
	return unary[*pb.ScrubResponse](ctx, s, NewScrub(s.envOf(ctx)), in)
}
