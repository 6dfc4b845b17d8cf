package rpc

import (
	pb "lograft/api/lograft/v1"
	"lograft/broker/partition"
)

// ListOffsets is the unary call that tells where a partition begins and ends, and where it was at a time.
type ListOffsets struct {
	call
	group         partition.GroupID
	out           *pb.ListOffsetsResponse
	end, at       uint64 // tokens; at 0: not asked
	haveEnd, have bool
}

// NewListOffsets begins a call; its one message is a *pb.ListOffsetsRequest.
func NewListOffsets(env *Env) *ListOffsets { return &ListOffsets{call: call{env: env}} }

// Step implements Session.
func (s *ListOffsets) Step(now int64, ev *Event, eff *Effects) {
	switch {
	case ev.Message != nil:
		if err := s.begin(now, ev.Message.(*pb.ListOffsetsRequest), eff); err != nil {
			eff.fail(err)
		}
	case ev.Reply != nil && ev.Reply.Err != nil:
		eff.fail(ev.Reply.Err)
	case ev.Reply != nil:
		s.take(ev.Reply)
		if s.haveEnd && (s.at == 0 || s.have) {
			s.out.Offset = min(s.out.Offset, s.out.HighWatermark)
			eff.Send = append(eff.Send, s.out)
			eff.Done = true
		}
	}
}

func (s *ListOffsets) begin(now int64, m *pb.ListOffsetsRequest, eff *Effects) *partition.Error {
	_, p, err := locate(s.env.Dir, m.GetPartition())
	if err != nil {
		return err
	}
	s.group, s.out = p.Group, &pb.ListOffsetsResponse{ServedBy: s.env.Dir.NodeID()}
	q := partition.Request{Group: p.Group, Op: partition.OpListOffset, Which: partition.LatestOffset,
		Consistency: consistency(m.GetConsistency()), Deadline: deadline(now, m.GetTimeoutMs(), readTimeoutDefaultNs)}
	if len(m.GetSession()) > 0 {
		applied, err := parseSession(p.Group, m.GetSession())
		if err != nil {
			return err
		}
		q.Consistency, q.Session = partition.Session, applied
	}
	s.end = s.ask(eff, q)
	if m.AtTime != nil {
		q.Which, q.Offset = partition.OffsetAtTime, m.GetAtTime()
		s.at = s.ask(eff, q)
	}
	return nil
}

func (s *ListOffsets) take(r *partition.Reply) {
	if r.Token == s.at {
		s.have, s.out.Offset = true, r.BaseOffset
		return
	}
	s.haveEnd = true
	s.out.LogStart, s.out.HighWatermark, s.out.HighConfirmed, s.out.LeaderEpoch = r.LogStart, r.BaseOffset, r.HighConfirmed, r.LeaderEpoch
	s.out.Session = sessionToken(s.group, r.Applied)
}

// OffsetForLeaderEpoch is the unary call.
type OffsetForLeaderEpoch struct{ call }

// NewOffsetForLeaderEpoch begins a call; its one message is a *pb.OffsetForLeaderEpochRequest.
func NewOffsetForLeaderEpoch(env *Env) *OffsetForLeaderEpoch {
	return &OffsetForLeaderEpoch{call{env: env}}
}

// Step implements Session.
func (s *OffsetForLeaderEpoch) Step(now int64, ev *Event, eff *Effects) {
	switch {
	case ev.Message != nil:
		m := ev.Message.(*pb.OffsetForLeaderEpochRequest)
		_, p, err := locate(s.env.Dir, m.GetPartition())
		if err == nil && m.GetLeaderEpoch() < 0 {
			err = invalid("leader epoch %d: must be >= 0", m.GetLeaderEpoch())
		}
		if err != nil {
			eff.fail(err)
			return
		}
		s.ask(eff, partition.Request{Group: p.Group, Op: partition.OpEpochEnd, Offset: int64(m.GetLeaderEpoch()),
			Consistency: consistency(m.GetConsistency()), Deadline: deadline(now, m.GetTimeoutMs(), readTimeoutDefaultNs)})
	case ev.Reply != nil && ev.Reply.Err != nil:
		eff.fail(ev.Reply.Err)
	case ev.Reply != nil:
		r := ev.Reply
		eff.Send = append(eff.Send, &pb.OffsetForLeaderEpochResponse{LeaderEpoch: r.Epoch, EndOffset: r.BaseOffset, HighWatermark: r.HighWatermark, HighConfirmed: r.HighConfirmed})
		eff.Done = true
	}
}

// ReleaseProducer is the unary call.
type ReleaseProducer struct{ call }

// NewReleaseProducer begins a call; its one message is a *pb.ReleaseProducerRequest.
func NewReleaseProducer(env *Env) *ReleaseProducer { return &ReleaseProducer{call{env: env}} }

// Step implements Session.
func (s *ReleaseProducer) Step(now int64, ev *Event, eff *Effects) {
	switch {
	case ev.Message != nil:
		m := ev.Message.(*pb.ReleaseProducerRequest)
		_, p, err := locate(s.env.Dir, m.GetPartition())
		if err == nil && (m.GetProducerId() < 0 || m.GetProducerEpoch() < 0 || m.GetProducerEpoch() > 1<<15-1) {
			err = invalid("producer id %d, epoch %d: want an id from 0 on and an epoch of 15 bits", m.GetProducerId(), m.GetProducerEpoch())
		}
		if err != nil {
			eff.fail(err)
			return
		}
		s.ask(eff, partition.Request{Group: p.Group, Op: partition.OpRelease, ProducerID: m.GetProducerId(), ProducerEpoch: int16(m.GetProducerEpoch()),
			Deadline: deadline(now, m.GetTimeoutMs(), timeoutDefaultNs)})
	case ev.Reply != nil && ev.Reply.Err != nil:
		eff.fail(ev.Reply.Err)
	case ev.Reply != nil:
		eff.Send = append(eff.Send, &pb.ReleaseProducerResponse{})
		eff.Done = true
	}
}
