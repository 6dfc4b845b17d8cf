package rpc

import (
	pb "lograft/api/lograft/v1"
	"lograft/broker/cluster"
)

// watchEveryNs is how soon a change is told: changes that come together are told once.
const watchEveryNs = int64(100e6)

// WatchMetadata is the stream: the metadata as this broker has applied it, at once and after each change of it or of a leader.
type WatchMetadata struct {
	call
	source  *GetMetadata
	view    *cluster.View
	changes uint64
}

// NewWatchMetadata begins a stream; its one message is a *pb.WatchMetadataRequest.
func NewWatchMetadata(env *Env) *WatchMetadata { return &WatchMetadata{call: call{env: env}} }

// Step implements Session.
func (s *WatchMetadata) Step(now int64, ev *Event, eff *Effects) {
	switch {
	case ev.Message != nil:
		m := ev.Message.(*pb.WatchMetadataRequest)
		s.source = NewGetMetadata(s.env)
		s.source.request = &pb.GetMetadataRequest{Topics: m.GetTopics(), AllTopics: m.GetAllTopics()}
	case !ev.Timer:
		return
	}
	eff.Timer = now + watchEveryNs
	// The counter is read first: a change in between is told again.
	changes, view := s.env.Dir.Changes(), s.env.Dir.View()
	if view == s.view && changes == s.changes {
		return
	}
	s.view, s.changes = view, changes
	out, err := s.source.metadata(true)
	if err != nil {
		eff.fail(err)
		return
	}
	eff.Send = append(eff.Send, &pb.WatchMetadataResponse{Metadata: out.(*pb.GetMetadataResponse)})
}
