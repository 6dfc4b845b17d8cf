package rpc

import (
	"maps"
	"sync"

	"google.golang.org/protobuf/proto"

	pb "lograft/api/lograft/v1"
	"lograft/broker/partition"
)

// Stats is what the services of a broker did since they were made.
type Stats struct {
	Refused map[partition.Reason]uint64 // answers that were errors, by reason
	Respond partition.Histogram         // from a batch being applied until its answer was handed to the stream
}

// counts is Stats while it grows. Sessions' drivers write it.
type counts struct {
	mu    sync.Mutex
	stats Stats
}

func (c *counts) refuse(reason partition.Reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stats.Refused == nil {
		c.stats.Refused = map[partition.Reason]uint64{}
	}
	c.stats.Refused[reason]++
}

// Malformed counts a message that could not be decoded, or not within its bounds: its call ends before any of ours begins.
func (s *Server) Malformed(error) { s.counts.refuse(partition.ReasonInvalid) }

func (c *counts) respond(ns int64) {
	c.mu.Lock()
	c.stats.Respond.Observe(ns)
	c.mu.Unlock()
}

// answers counts what a session sends if it says no.
func (c *counts) answers(m proto.Message) {
	if a, ok := m.(interface{ GetError() *pb.Error }); ok && a.GetError() != nil {
		c.refuse(partition.Reason(a.GetError().GetReason()))
	}
}

// Stats gives the counters as they stand. It may be called at any time from anywhere.
func (s *Server) Stats() Stats {
	s.counts.mu.Lock()
	defer s.counts.mu.Unlock()
	return Stats{Refused: maps.Clone(s.counts.stats.Refused), Respond: s.counts.stats.Respond}
}
