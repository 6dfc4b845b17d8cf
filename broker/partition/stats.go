package partition

// Stats counts what the replicas of one worker did since it was made. They are plain numbers that the worker owns; its driver copies
// them out after a step. Nothing reads them to decide anything.
type Stats struct {
	// Appends that replicas here took as leaders.
	ProduceBatches, ProduceRecords, ProduceBytes uint64
	// What replicas here handed to their logs, as leaders or followers: batches of records, and the bytes of all payloads.
	LogBatches, LogPayloadBytes uint64
	// Appends that leaders here refused, and messages with records that followers here dropped, because a disk is at its reserve.
	DiskRefused, DiskWithheld uint64
	// ReadIndex rounds that replicas here asked for and got an answer to, and the reads that these rounds served.
	ReadRounds, ReadsConfirmed uint64
	// Elections won here, and leaderships that ended.
	LeadershipsWon, LeadershipsLost uint64
	// Times of a batch that this broker leads, in the order in which a batch passes them (docs/metrics.md): until its step began,
	// until it was handed to the file and the peers, until this broker's disk had it, until it was committed and applied.
	Queue, Append, Sync, Replicate Histogram
}

// Histogram counts durations.
type Histogram struct {
	Count, SumNs uint64
	// Buckets count the durations up to the same element of BoundsNs, and above the one before. Longer ones are in Count only.
	Buckets [len(BoundsNs)]uint64
}

// BoundsNs are the upper bounds of a Histogram's buckets.
var BoundsNs = [...]int64{50e3, 100e3, 250e3, 500e3, 1e6, 2500e3, 5e6, 10e6, 25e6, 50e6, 100e6, 250e6, 500e6, 1e9, 2500e6}

// Observe adds a duration; one that went backwards counts as 0.
func (h *Histogram) Observe(ns int64) {
	ns = max(ns, 0)
	h.Count++
	h.SumNs += uint64(ns)
	for i := range BoundsNs {
		if ns <= BoundsNs[i] {
			h.Buckets[i]++
			return
		}
	}
}

// Add adds the counts of another histogram.
func (h *Histogram) Add(o *Histogram) {
	h.Count += o.Count
	h.SumNs += o.SumNs
	for i := range o.Buckets {
		h.Buckets[i] += o.Buckets[i]
	}
}

// Add adds the counts of other replicas.
func (s *Stats) Add(o *Stats) {
	s.ProduceBatches += o.ProduceBatches
	s.ProduceRecords += o.ProduceRecords
	s.ProduceBytes += o.ProduceBytes
	s.LogBatches += o.LogBatches
	s.LogPayloadBytes += o.LogPayloadBytes
	s.DiskRefused += o.DiskRefused
	s.DiskWithheld += o.DiskWithheld
	s.ReadRounds += o.ReadRounds
	s.ReadsConfirmed += o.ReadsConfirmed
	s.LeadershipsWon += o.LeadershipsWon
	s.LeadershipsLost += o.LeadershipsLost
	s.Queue.Add(&o.Queue)
	s.Append.Add(&o.Append)
	s.Sync.Add(&o.Sync)
	s.Replicate.Add(&o.Replicate)
}

// times are when a batch in flight passed its stages, monotonic ns; 0: not yet.
type times struct {
	began, appended, synced int64
}

// took begins the record of a batch that was just proposed.
func (env *Env) took(q *Request) times {
	env.Stats.ProduceBatches++
	env.Stats.ProduceRecords += uint64(q.Batch.RecordsCount())
	env.Stats.ProduceBytes += uint64(len(q.Batch))
	if q.ArrivedAt != 0 {
		env.Stats.Queue.Observe(env.Now - q.ArrivedAt)
	}
	return times{began: env.Now}
}

// noteAppended notes the time at which the newest batches in flight were handed to the file.
func (l *leadership) noteAppended(env *Env) {
	if env.Clock == nil {
		return
	}
	now := env.Clock()
	for i := len(l.inflight) - 1; i >= 0 && l.inflight[i].times.appended == 0; i-- {
		t := &l.inflight[i].times
		t.appended = now
		env.Stats.Append.Observe(now - t.began)
	}
}

// noteSynced notes that the batches in flight up to an index are on this broker's disk.
func (l *leadership) noteSynced(env *Env, durable uint64) {
	for l.synced < len(l.inflight) && l.inflight[l.synced].index <= durable {
		if t := &l.inflight[l.synced].times; t.appended != 0 {
			t.synced = env.Now
			env.Stats.Sync.Observe(env.Now - t.appended)
		}
		l.synced++
	}
}

// noteApplied notes the end of the first batch in flight. One that a majority of others had on disk before this broker waited for
// nobody after its own sync: what it waited for was the disk, as far as can be told from here.
func (l *leadership) noteApplied(env *Env) {
	t := &l.inflight[0].times
	switch {
	case t.synced != 0:
		env.Stats.Replicate.Observe(env.Now - t.synced)
	case t.appended != 0:
		env.Stats.Sync.Observe(env.Now - t.appended)
		env.Stats.Replicate.Observe(0)
	}
	l.synced = max(0, l.synced-1)
}
