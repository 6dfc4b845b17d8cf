package engine

import (
	"sync"

	"lograft/broker/partition"
)

// Stats is what an engine did since it was built. All but AtNs only grow.
type Stats struct {
	partition.Stats // of all workers together

	Steps      uint64 // of workers
	Rounds     uint64 // sync rounds that ended
	DataRounds uint64 // those of them that made appended entries stable
	Synced     uint64 // captures of replicas that the rounds made stable
	RoundTook  partition.Histogram

	// AtNs is the monotonic time at which the worker that stepped longest ago began its last step. Ticks reach every worker, so a
	// time that stands still is a loop that does.
	AtNs int64
	// RoundBeganNs is the monotonic time at which the sync round under way began, 0 if none is.
	RoundBeganNs int64
}

// workerStats is what a worker's driver leaves for readers after each step.
type workerStats struct {
	mu    sync.Mutex
	stats partition.Stats
	steps uint64
	at    int64
}

func (s *workerStats) put(w *Worker, at int64) {
	s.mu.Lock()
	s.stats = w.env.Stats
	s.steps++
	s.at = at
	s.mu.Unlock()
}

// syncStats is what the syncer's driver leaves.
type syncStats struct {
	mu                   sync.Mutex
	rounds, data, synced uint64
	took                 partition.Histogram
	began                int64 // of the round under way, monotonic ns; 0: none is
}

func (s *syncStats) put(r *Round, tookNs int64, rounds, synced uint64) {
	s.mu.Lock()
	s.rounds, s.synced = rounds, synced
	s.took.Observe(tookNs)
	s.began = 0
	for i := range r.items {
		if r.items[i].Log != nil {
			s.data++
			break
		}
	}
	s.mu.Unlock()
}

func (s *syncStats) begin(at int64) {
	s.mu.Lock()
	s.began = at
	s.mu.Unlock()
}

// Stats gives the counters as they stand. It may be called at any time from anywhere.
func (e *Engine) Stats() Stats {
	var out Stats
	for i := range e.stats {
		s := &e.stats[i]
		s.mu.Lock()
		out.Stats.Add(&s.stats)
		out.Steps += s.steps
		if i == 0 || s.at < out.AtNs {
			out.AtNs = s.at
		}
		s.mu.Unlock()
	}
	y := &e.syncStats
	y.mu.Lock()
	out.Rounds, out.DataRounds, out.Synced, out.RoundTook, out.RoundBeganNs = y.rounds, y.data, y.synced, y.took, y.began
	y.mu.Unlock()
	return out
}
