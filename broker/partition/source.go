package partition

import (
	"errors"
	"slices"

	"lograft/raft"
	"lograft/segment"
)

// Bounds of what a replica gives to those that are filled from it.
const (
	CatchUpBytesDefault = 64 << 20    // a peer that lacks more sealed bytes is sent files instead of entries
	sourceIdleNs        = int64(60e9) // many times as long as a receiver that waits for its turn keeps silent
	sourcesMax          = 4
	pullServingMax      = 4 // reads for peers at a time; what is asked beyond is not answered
)

// sources are the snapshots that this replica can give: manifests of sealed segments, which are pinned until they are idle for
// sourceIdleNs (architecture D12).
type sources struct {
	all    []*source // the newest last
	making bool
	want   wish
	// A roll was proposed as this entry: the segment that it ends is sealed soon.
	roll    entryRef
	serving int
	// A file that is only kept for fills is being checked.
	checking bool
}

// wish is what the core last asked for in vain. to 0: nothing.
type wish struct{ request, to uint64 }

// source is one snapshot. Invariant: its files are pinned.
type source struct {
	manifest segment.Manifest
	data     []byte // encoded; nil: only single files of it are served
	conf     raft.ConfState
	pin      *segment.Pin
	used     int64 // monotonic ns
}

// fits reports whether a snapshot may be sent to a replica: it reaches the log's start and what was asked for, and its configuration
// names the receiver.
func (m *source) fits(first uint64, w wish) bool {
	index := m.manifest.Last.Index
	return m.data != nil && index+1 >= first && index >= w.request &&
		(slices.Contains(m.conf.Voters, w.to) || slices.Contains(m.conf.Learners, w.to) || slices.Contains(m.conf.VotersOutgoing, w.to))
}

func (s *sources) newest() *source {
	for i := len(s.all) - 1; i >= 0; i-- {
		if s.all[i].data != nil {
			return s.all[i]
		}
	}
	return nil
}

// sealedBytes is the size of the sealed segments that hold entries at or after from.
func sealedBytes(l *segment.Log, from uint64) (n int64) {
	for _, s := range l.Sealed(from) {
		n += s.Bytes
	}
	return n
}

// starving is what a leader knows, as of its last tick, of peers whose brokers are at their reserve: a trim that would make room there
// may stand behind records that they have no room for. Entries would never reach it; a snapshot says at once what may go (makeRoom).
type starving struct {
	peers []uint64 // replica ids
	trim  uint64   // index of the last trim applied here; 0: none
}

// at reports whether a peer that needs entries from lo on waits so.
func (s *starving) at(lo, peer uint64) bool { return lo <= s.trim && slices.Contains(s.peers, peer) }

// sourceFor is the newest snapshot if it is valid for w, else nil.
func (s *store) sourceFor(w wish) *source {
	m, first := s.sources.newest(), s.log.FirstIndex()
	if m == nil || !m.fits(first, w) || s.starving.at(w.request, w.to) && m.manifest.Start.Index+1 < first {
		return nil
	}
	return m
}

// Snapshot implements raft.Storage: the newest manifest that is valid for `to`. If there is none, one is made, if need be after a roll.
func (s *store) Snapshot(request, to uint64) (raft.Snapshot, error) {
	w := wish{request, to}
	if s.starving.at(request, to) {
		w.request = s.starving.trim
	}
	m := s.sourceFor(w)
	if m == nil || sealedBytes(s.log, m.manifest.Last.Index+1) > s.catchUpBytes {
		s.sources.want = w
		return raft.Snapshot{}, raft.ErrSnapshotTemporarilyUnavailable
	}
	last := m.manifest.Last
	return raft.Snapshot{Data: m.data, Metadata: raft.SnapshotMetadata{ConfState: m.conf, Index: last.Index, Term: last.Term}}, nil
}

// tooFar reports whether a peer that needs entries from lo on is better sent files: more than catchUpBytes of them are sealed, or it
// starves; and a snapshot at or above lo is ready (or it would be sent entries and files in a circle).
func (s *store) tooFar(lo, to uint64) bool {
	w := wish{request: lo, to: to}
	switch {
	case to == 0:
		return false
	case s.starving.at(lo, to):
		w.request = s.starving.trim
	case sealedBytes(s.log, lo) <= s.catchUpBytes:
		return false
	}
	if s.sourceFor(w) != nil {
		return true
	}
	s.sources.want = w
	return false
}

// makeSource makes the snapshot that the core asked for. It reads the checkpoint off the worker.
func (r *Replica) makeSource(env *Env) {
	s := &r.st.sources
	w := s.want
	if w.to == 0 || s.making {
		return
	}
	s.want = wish{}
	if r.role != raft.StateLeader {
		return
	}
	t := r.log.BeginManifest()
	if t == nil {
		r.rollSegment(env)
		return
	}
	s.making = true
	r.job(env, t.Do, func(env *Env) {
		s.making = false
		if r.log.EndManifest(t) != nil {
			return // an older checkpoint is tried when the core asks again
		}
		m, err := r.newSource(env, t)
		if err != nil {
			r.log.Unpin(t.Pin)
			return
		}
		r.addSource(m)
		if !m.fits(r.log.FirstIndex(), w) {
			r.rollSegment(env)
		}
	})
}

// newSource is the snapshot of a finished manifest. A state machine's is its state alone: no segment is needed, or kept, to serve from it.
func (r *Replica) newSource(env *Env, t *segment.ManifestTask) (*source, error) {
	m := t.Manifest
	if r.opts.Machine != nil {
		m.Start, m.Segments = m.Last, nil
		r.log.Unpin(t.Pin)
	}
	c, err := decodeCheckpoint(m.Checkpoint)
	if err != nil {
		return nil, err
	}
	return &source{manifest: m, data: m.Encode(), conf: c.conf, pin: t.Pin, used: env.Now}, nil
}

// addSource keeps m and drops the oldest beyond the bound.
func (r *Replica) addSource(m *source) {
	s := &r.st.sources
	s.all = append(s.all, m)
	if len(s.all) > sourcesMax {
		r.log.Unpin(s.all[0].pin)
		s.all = slices.Delete(s.all, 0, 1)
	}
}

// expireSources gives up what nobody has asked for lately.
func (r *Replica) expireSources(env *Env) {
	r.st.sources.all = slices.DeleteFunc(r.st.sources.all, func(m *source) bool {
		idle := env.Now-m.used > sourceIdleNs
		if idle {
			r.log.Unpin(m.pin)
		}
		return idle
	})
}

// rollSegment ends the active segment, so that it is sealed with a checkpoint of now. One roll at a time.
func (r *Replica) rollSegment(env *Env) {
	s := &r.st.sources
	if r.role != raft.StateLeader || !r.lead.ready || r.growthBlocked() || s.roll.term == r.hard.Term && r.unsealed(s.roll.index) {
		return
	}
	e := envelope{kind: segment.KindRoll, appendTime: r.appendTimeNow(env)}
	if r.node.Propose(e.encode(make([]byte, 0, envelopeBytes)), nil) == nil {
		s.roll = entryRef{r.node.BasicStatus().LastIndex, r.hard.Term}
		r.lead.tail.appendTime = e.appendTime
	}
}

// unsealed reports whether entry i is in no sealed segment yet.
func (r *Replica) unsealed(i uint64) bool {
	return i >= r.log.FirstIndex() && len(r.log.Sealed(i)) == 0
}

// servePull answers a replica that fetches files: from a snapshot's pin, or, after a restart, from whatever is sealed here with the same
// bytes.
func (r *Replica) servePull(env *Env, m *raft.Message) {
	ask, ok := decodePullAsk(m.Context)
	if !ok {
		return
	}
	if r.role == raft.StateLeader {
		r.node.ReportSnapshot(m.From, raft.SnapshotProgress)
	}
	if ask.bytes == 0 { // it is still wanted, by one that waits for its turn; which one is not said
		for _, m := range r.st.sources.all {
			m.used = env.Now
		}
		return
	}
	if r.st.sources.serving >= pullServingMax {
		return
	}
	to := m.From
	src := r.sourceOf(env, &ask.file)
	if src == nil {
		r.sendPull(env, to, &ask, nil, true)
		return
	}
	src.used = env.Now
	t, err := src.pin.Range(ask.file.Base, ask.off, int(ask.bytes))
	if err != nil {
		r.sendPull(env, to, &ask, nil, true)
		return
	}
	r.st.sources.serving++
	r.job(env, t.Do, func(env *Env) {
		r.st.sources.serving--
		if t.Damaged() {
			r.doubtFile(env, &ask.file)
		}
		r.sendPull(env, to, &ask, t.Data, t.Err != nil)
	})
}

func (r *Replica) sourceOf(env *Env, file *segment.SegmentSummary) *source {
	for _, m := range r.st.sources.all {
		if slices.Contains(m.manifest.Segments, *file) {
			return m
		}
	}
	one := segment.Manifest{Segments: []segment.SegmentSummary{*file}}
	pin, err := r.log.Pin(&one)
	if err != nil {
		return nil
	}
	m := &source{manifest: one, pin: pin, used: env.Now}
	r.addSource(m)
	return m
}

func (r *Replica) sendPull(env *Env, to uint64, ask *pullAsk, data []byte, gone bool) {
	entries := []raft.Entry{{Data: data}}
	a := pullAnswer{token: ask.token, gone: gone, sum: sumOfEntries(entries)}
	r.send(env, &raft.Message{Type: MsgPullAnswer, From: r.opts.ReplicaID, To: to, Context: a.encode(), Entries: entries})
}

// errNoSource is why a fill ends when its source has dropped a file.
var errNoSource = errors.New("the sender does not hold a segment of it any more")
