package partition

import "sort"

// answerOffset ends a search for an offset that read the log: the first one at or after a time, or the end of a leader epoch. What
// lies beyond the applied entries is not there yet.
func (r *Replica) answerOffset(env *Env, c *ColdRead) {
	q := c.fetch
	if c.Task.Err != nil {
		env.fail(q, r.readError(q, c.Task.Err))
		return
	}
	a := r.endReply(q, c.highConfirmed)
	switch {
	case q.Op == OpListOffset && c.Task.Offset < 0:
		a.BaseOffset = r.high
	case q.Op == OpListOffset:
		a.BaseOffset = min(max(c.Task.Offset, r.logStart), r.high)
	case len(c.Task.Frames) == 0:
		env.fail(q, &Error{Reason: ReasonOverloaded, Message: "the log changed while it was read: retry", RetryAfterMs: 10})
		return
	default: // the first entry of a later epoch
		a.BaseOffset, a.Epoch = min(c.Task.Frames[0].Offset, r.high), q.epochFound
	}
	env.reply(a)
}

// answerEpoch finds where a leader epoch ended: terms never fall along the log, so the first applied entry of a later one is searched.
func (r *Replica) answerEpoch(env *Env, q *Request, highConfirmed bool) {
	a := r.endReply(q, highConfirmed)
	first, wanted := r.log.FirstIndex(), uint64(max(q.Offset, 0))
	var failed error
	term := func(index uint64) uint64 {
		t, err := r.log.Term(index)
		if err != nil {
			failed = err
		}
		return t
	}
	n := sort.Search(int(r.applied+1-first), func(i int) bool { return term(first+uint64(i)) > wanted })
	later := first + uint64(n)
	switch {
	case failed != nil:
		env.fail(q, r.readError(q, failed))
		return
	case n == 0: // it ended where the log does not reach any more, or never was
		a.Epoch, a.BaseOffset = -1, -1
	case later > r.applied:
		a.Epoch, a.BaseOffset = int32(term(r.applied)), r.high
	default:
		asked := *q
		asked.epochFound = int32(term(later - 1))
		r.readCold(env, &asked, r.log.ColdEntries(later, later+1, 1), highConfirmed)
		return
	}
	env.reply(a)
}
