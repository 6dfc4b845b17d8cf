package partition

import (
	"errors"
	"fmt"

	"lograft/raft"
	"lograft/segment"
)

// store is the raft.Storage of one replica: its segment log, the hard state and the configuration that its owner was opened with.
// All calls come from the replica's worker.
type store struct {
	log  *segment.Log
	hard raft.HardState
	conf raft.ConfState // as of Config.Applied

	frames []segment.Frame // scratch

	// A cold read answers raft.ErrLogTemporarilyUnavailable once, is done off the worker, and its frames wait here for the second
	// asking. At most one per follower is under way; fetched is dropped when it was asked for or replaced.
	cold    []*ColdRead
	fetched []fetchedRange

	sources      sources
	catchUpBytes int64
	starving     starving

	met   error  // damage that a read of the core met, for the replica to look into
	doubt uint64 // entry that is being looked into: damaged until that is known; 0: none
}

type fetchedRange struct {
	context raft.EntriesContext
	frames  []segment.Frame
}

// ColdRead is a read of the log that would block a worker: the driver runs Do anywhere and hands the read back to
// Replica.ReadDone of the same replica.
type ColdRead struct {
	Group GroupID
	Task  *segment.ReadTask

	owner *Replica // that asked: another replica of the group may have come in its place meanwhile

	context raft.EntriesContext // why the core asked; meaningful if nothing below is set
	fetch   *Request

	highConfirmed bool // a round had paid for fetch's claim about the end

	repair *repairAsk // what peer, a replica id, asked for
	peer   uint64

	verify *segment.VerifyTask // in place of Task: a segment to check

	skipped bool // it was not done: nobody could be given what it reads

	work func() // in place of Task: any other file operation; then goes on with it in the replica's step
	then func(*Env)
}

// Do reads. It runs on any goroutine, once.
func (c *ColdRead) Do() {
	switch {
	case c.work != nil:
		c.work()
	case c.verify != nil:
		c.verify.Do(nil)
	default:
		c.Task.Do()
	}
}

// Owner is the replica that asked: it alone takes the read back.
func (c *ColdRead) Owner() *Replica { return c.owner }

// offWorker hands a read to the driver.
func (r *Replica) offWorker(env *Env, c *ColdRead) {
	c.Group, c.owner = r.opts.Group, r
	r.reading++
	env.Cold = append(env.Cold, c)
}

// Reading is how many reads are with the driver and not back: until then the log must not be closed.
func (r *Replica) Reading() int { return r.reading }

// Session is whose request the read is for, 0 if nobody waits for its bytes.
func (c *ColdRead) Session() uint64 {
	if c.fetch == nil || c.fetch.Op != OpFetch {
		return 0
	}
	return c.fetch.From
}

// Skip stands in for Do where Session can't be given anything: the request is refused, to be tried again.
func (c *ColdRead) Skip() { c.skipped = true }

func (s *store) InitialState() (raft.HardState, raft.ConfState, error) { return s.hard, s.conf, nil }

func (s *store) FirstIndex() (uint64, error) { return s.log.FirstIndex(), nil }

func (s *store) LastIndex() (uint64, error) { return s.log.LastIndex(), nil }

func (s *store) Term(i uint64) (uint64, error) {
	term, err := s.log.Term(i)
	return term, raftError(err)
}

// Entries implements raft.Storage. Entries share their bytes with the log's frames.
func (s *store) Entries(dst []raft.Entry, lo, hi, maxBytes uint64, c raft.EntriesContext) ([]raft.Entry, error) {
	if frames, ok := s.takeFetched(c, lo, hi); ok {
		return appendLimited(dst, frames, hi, maxBytes), nil
	}
	if lo < hi && lo == s.doubt {
		return dst, raft.ErrEntryFaulty
	}
	if s.starving.at(lo, c.To()) && s.tooFar(lo, c.To()) {
		return dst, raft.ErrCompacted
	}
	var err error
	s.frames, err = s.log.Entries(s.frames[:0], lo, hi, maxBytes)
	if errors.Is(err, segment.ErrCold) {
		if s.tooFar(lo, c.To()) {
			return dst, raft.ErrCompacted
		}
		task := s.log.ColdEntries(lo, hi, maxBytes)
		if c.CanAsync() {
			s.cold = append(s.cold, &ColdRead{Task: task, context: c})
			return dst, raft.ErrLogTemporarilyUnavailable
		}
		task.Do()
		s.frames, err = task.Frames, task.Err
	}
	if err != nil {
		s.met = err
		return dst, raftError(err)
	}
	return entriesOf(dst, s.frames), nil
}

// takeFetched gives the frames of a finished cold read for c if they begin at lo.
func (s *store) takeFetched(c raft.EntriesContext, lo, hi uint64) ([]segment.Frame, bool) {
	for i := range s.fetched {
		if s.fetched[i].context.To() != c.To() {
			continue
		}
		frames := s.fetched[i].frames
		s.fetched = append(s.fetched[:i], s.fetched[i+1:]...)
		ok := len(frames) > 0 && frames[0].Index == lo && frames[0].Index < hi && s.unchanged(frames)
		return frames, ok
	}
	return nil, false
}

// unchanged reports whether the log still holds these frames: a truncation may have come between the read and its use.
func (s *store) unchanged(frames []segment.Frame) bool {
	last := frames[len(frames)-1]
	term, err := s.log.Term(last.Index)
	return err == nil && term == last.Term
}

func appendLimited(dst []raft.Entry, frames []segment.Frame, hi, maxBytes uint64) []raft.Entry {
	n, size := 0, uint64(0)
	for n < len(frames) && frames[n].Index < hi {
		size += uint64(len(frames[n].Payload))
		if n > 0 && size > maxBytes {
			break
		}
		n++
	}
	return entriesOf(dst, frames[:n])
}

// raftError names a log's error in the core's words.
func raftError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, segment.ErrCompacted):
		return raft.ErrCompacted
	case errors.Is(err, segment.ErrUnavailable):
		return raft.ErrUnavailable
	case errors.Is(err, segment.ErrFaulty):
		return raft.ErrEntryFaulty
	}
	return fmt.Errorf("log: %w", err)
}
