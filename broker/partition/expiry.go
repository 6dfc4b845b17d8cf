package partition

// expire forgets producers that were idle since cutoff, and released ones that were since released. A producer with a batch behind
// entry index stays: it is not idle.
func (t producers) expire(index uint64, cutoff, released int64) {
	for id, p := range t {
		if last := p.last(); last.index < index && (last.appendTime <= cutoff || p.released && last.appendTime <= released) {
			delete(t, id)
		}
	}
}

// release marks a producer as closed by its client. It is forgotten a little later: a copy of one of its batches may still be on its
// way, and must be known for what it is.
func (t producers) release(index uint64, id int64, epoch int16) {
	if p := t[id]; p != nil && p.epoch <= epoch && p.last().index < index {
		p.released = true
	}
}

// cutoffs are the append times up to which producers of a table of this size are forgotten now.
func (t producers) cutoffs(now int64) (idle, released int64) {
	idle = now - producerIdleMs
	if len(t) > producersMax/2 {
		idle = now - producerCrowdedMs
	}
	return idle, now - producerReleaseMs
}

// expireProducers proposes to forget the producers that are due, if there are any.
func (r *Replica) expireProducers(now int64) bool {
	h := &r.lead.house
	h.crowded = false
	if h.expiry > r.applied {
		return false
	}
	idle, released := r.producers.cutoffs(now)
	due := false
	for _, p := range r.producers {
		if last := p.last().appendTime; last <= idle || p.released && last <= released {
			due = true
			break
		}
	}
	if !due {
		return false
	}
	index, err := r.proposeOwn(kindCommand, command{commandExpire, uint64(idle), uint64(released)}.encode())
	h.expiry = index
	return err == nil
}

// releaseProducer carries out OpRelease. A producer that is not known, or lives on under a newer epoch, needs nothing.
func (r *Replica) releaseProducer(env *Env, q *Request) {
	if r.opts.Machine != nil {
		env.fail(q, &Error{Reason: ReasonInvalid, Message: "an internal topic takes no records: name a topic of yours"})
		return
	}
	if !r.mayPropose(env, q) {
		return
	}
	if p := r.lead.known[q.ProducerID]; p == nil || p.epoch > q.ProducerEpoch || p.released {
		env.reply(Reply{From: q.From, Token: q.Token, LeaderEpoch: int32(r.hard.Term), Applied: r.applied})
		return
	}
	r.command(env, q, command{commandRelease, uint64(q.ProducerID), uint64(q.ProducerEpoch)})
}
