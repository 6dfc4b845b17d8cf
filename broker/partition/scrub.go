package partition

import (
	"fmt"

	"lograft/segment"
)

// Pace of the background check. Ticks are those of the core.
const (
	ScrubBytesPerTickDefault = 800 << 10 // of one worker, of all its replicas together
	scrubFirstTicks          = 100       // from a replica's start to its first pass, which looks at what recovery did not read
	scrubEveryNs             = int64(24 * 3600e9)
)

// scrub reads every byte of the log on file now and then, one segment at a time, and holds it against the checksums and hashes: rot is
// found while the other replicas still hold good copies (storage.md "Proof", issue "segment/" 6). What is found is repaired like
// damage that a read met.
type scrub struct {
	pass    uint64 // passes begun
	on      bool   // a pass is under way
	working bool   // a segment is being read off the worker
	next    uint64 // the pass goes on with the segment that holds this entry
	urgent  bool   // somebody asked for this pass: it does not wait for the pace
	due     int64  // monotonic ns of the next pass; 0: not set yet
	ticks   int

	bytes, total int64  // of this pass, or the last one
	found        uint64 // damaged ranges, since the start
	failed       error  // of this pass: a file could not be read, or contradicts itself
}

// ScrubState is how far the check of a replica has come.
type ScrubState struct {
	Pass         uint64 // passes begun since the broker's start
	Running      bool
	Bytes, Total int64  // of this pass, or the last one
	Found        uint64 // damaged ranges that passes found since the start
	Problem      string // a file could not be read, or contradicts itself
	Segments     []segment.SegmentSummary
}

// startScrub begins a pass now, or lets the one under way go on without waiting for the pace.
func (r *Replica) startScrub() {
	r.scrub.urgent = true
	if !r.scrub.on {
		r.beginPass()
	}
}

func (r *Replica) beginPass() {
	s := &r.scrub
	s.pass++
	s.on, s.next, s.bytes, s.total, s.failed = true, r.log.FirstIndex(), 0, r.log.SizeBytes(), nil
}

func (r *Replica) scrubState() *ScrubState {
	s := &r.scrub
	st := &ScrubState{Pass: s.pass, Running: s.on, Bytes: min(s.bytes, s.total), Total: s.total, Found: s.found, Segments: r.log.Sealed(0)}
	if s.failed != nil {
		st.Problem = s.failed.Error()
	}
	return st
}

// Scrubbing reports whether a segment of this replica is being read for a check.
func (r *Replica) Scrubbing() bool { return r.fatal == nil && r.scrub.working }

// Scrubs is how many passes have begun since the start.
func (r *Replica) Scrubs() uint64 { return r.scrub.pass }

// scrubTick begins a pass when it is due and reads the next segment when it is this replica's turn.
func (r *Replica) scrubTick(env *Env) {
	s := &r.scrub
	s.ticks++
	switch {
	case s.due == 0 && !s.on && s.ticks < scrubFirstTicks:
		return
	case s.due == 0:
		s.due = env.Now
	}
	if !s.on && env.Now >= s.due {
		r.beginPass()
	}
	if s.on {
		r.scrubNext(env)
	}
}

// scrubNext has the next segment of the pass read, one at a time on a worker.
func (r *Replica) scrubNext(env *Env) {
	s := &r.scrub
	if s.working || r.fill.installing() || env.Scrubs > 0 || env.ScrubBytes <= 0 && !s.urgent {
		return
	}
	t := r.log.BeginVerify(max(s.next, r.log.FirstIndex()))
	if t == nil {
		s.on, s.urgent, s.due = false, false, env.Now+scrubEveryNs
		return
	}
	s.working = true
	env.Scrubs++
	r.job(env, func() { t.Do(nil) }, func(env *Env) {
		s.working = false
		env.Scrubs--
		env.ScrubBytes -= t.Bytes
		s.next = t.Last + 1
		s.bytes += t.Bytes
		found, err := r.log.EndVerify(t)
		if err != nil {
			r.halt(env, fmt.Errorf("check of the log: %w", err))
			return
		}
		s.found += uint64(len(found))
		if t.Err != nil {
			s.failed = t.Err
		}
		r.lookForDamage(env)
		if s.urgent {
			r.scrubNext(env)
		}
	})
}
