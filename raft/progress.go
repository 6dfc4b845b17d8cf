package raft

// ProgressState is how a leader sends to a peer.
type ProgressState uint8

// Probe: one message, then wait. Replicate: a window of messages. Snapshot: wait until a snapshot has arrived.
const (
	ProgressProbe ProgressState = iota
	ProgressReplicate
	ProgressSnapshot
)

func (s ProgressState) String() string {
	return [...]string{"probe", "replicate", "snapshot", "unknown"}[min(s, 3)]
}

// Progress is what a leader knows of a peer: a copy for status calls.
type Progress struct {
	Match, Next, PendingSnapshot, PendingRequestSnapshot, CommittedIndex, CommitGroupID uint64
	State                                                                               ProgressState
	RecentActive, Paused, IsLearner                                                     bool
	InflightCount                                                                       int
	InflightBytes                                                                       uint64
}

// peer is a member of the configuration and, on a leader, its progress.
type peer struct {
	id                                       uint64
	incoming, outgoing, learner, learnerNext bool // the configuration

	vote voteState // of the election under way

	// Invariant: match < next.
	match, next            uint64
	state                  ProgressState
	paused                 bool // probe: one message is out; replicate: the window was full when last sent to
	recentActive           bool
	fetching               bool // Storage is fetching entries for it
	pendingSnapshot        uint64
	pendingRequestSnapshot uint64
	snapshotTicks          int
	committed              uint64 // its commit index as far as it said
	sentCommit             uint64
	group                  uint64
	ackRound               uint64 // newest read round that it acknowledged
	ackTick                uint64 // tick in which that round was sent (lease)
	window                 inflights
}

type voteState uint8

const (
	voteNone voteState = iota
	voteGranted
	voteRejected
)

func (p *peer) voter() bool { return p.incoming || p.outgoing }

func (p *peer) progress(pr *Progress) {
	*pr = Progress{Match: p.match, Next: p.next, PendingSnapshot: p.pendingSnapshot, PendingRequestSnapshot: p.pendingRequestSnapshot,
		CommittedIndex: p.committed, CommitGroupID: p.group, State: p.state, RecentActive: p.recentActive, Paused: p.isPaused(),
		IsLearner: p.learner, InflightCount: p.window.count, InflightBytes: p.window.bytes}
}

// reset begins a new leadership (or a new membership): nothing is known but the end of our log.
func (p *peer) reset(last uint64) {
	p.match, p.next = 0, last+1
	p.become(ProgressProbe)
	p.pendingRequestSnapshot, p.committed, p.sentCommit = 0, 0, 0
	p.recentActive = false
	p.ackRound, p.ackTick = 0, 0
}

// forget drops what the peer acknowledged: it lost it.
func (p *peer) forget(last uint64) {
	p.match, p.next = 0, last+1
	p.become(ProgressProbe)
	p.pendingRequestSnapshot, p.committed, p.sentCommit = 0, 0, 0
}

func (p *peer) become(s ProgressState) {
	p.state, p.paused, p.fetching = s, false, false
	p.pendingSnapshot, p.snapshotTicks = 0, 0
	p.window.reset()
}

func (p *peer) becomeProbe() {
	next := p.match + 1
	if p.state == ProgressSnapshot {
		next = max(next, p.pendingSnapshot+1)
	}
	p.become(ProgressProbe)
	p.next = next
	p.sentCommit = min(p.sentCommit, next-1)
}

func (p *peer) becomeReplicate() {
	p.become(ProgressReplicate)
	p.next = p.match + 1
}

func (p *peer) becomeSnapshot(index uint64) {
	p.become(ProgressSnapshot)
	p.pendingSnapshot = index
	p.next = index + 1
	p.sentCommit = index
}

func (p *peer) isPaused() bool { return p.state == ProgressSnapshot || p.paused }

// acked moves match to index; false if that is old news.
func (p *peer) acked(index uint64) bool {
	if index <= p.match {
		return false
	}
	p.match = index
	p.next = max(p.next, index+1)
	p.paused = false
	return true
}

// rejected takes the rejection of an append after entry index, with the peer's hint where to try next, or its request for a snapshot.
// False: the rejection is stale.
func (p *peer) rejected(index, hint, requestSnapshot uint64) bool {
	if requestSnapshot != 0 {
		if min(hint, requestSnapshot) < p.match {
			return false // it has acknowledged more since: a snapshot below match would have it forget that
		}
		p.pendingRequestSnapshot = requestSnapshot
		p.paused = false
		return true
	}
	if p.state == ProgressReplicate {
		return index > p.match // the caller then probes behind match
	}
	if p.next-1 != index || index <= p.match {
		return false // stale, or of a peer that lost what it acknowledged: asking again at once would go on for ever
	}
	p.next = max(min(index, hint+1), p.match+1)
	p.sentCommit = min(p.sentCommit, p.next-1)
	p.paused = false
	return true
}

// sent notes an append with n entries of so many bytes.
func (p *peer) sent(n int, bytes uint64) {
	switch p.state {
	case ProgressReplicate:
		if n > 0 {
			p.next += uint64(n)
			p.window.add(p.next-1, bytes)
		}
		p.paused = p.window.full()
	case ProgressProbe:
		if n > 0 {
			p.paused = true
		}
	}
}

// canBumpCommit reports whether an empty append would tell the peer a higher commit index than it was told.
func (p *peer) canBumpCommit(committed uint64) bool {
	return committed > p.sentCommit && p.sentCommit < p.next-1
}

// inflights is the window of appends that were sent and not acknowledged: a ring that grows on demand up to its limits.
type inflights struct {
	start, count int
	bytes        uint64
	ring         []inflight
	countMax     int    // 0: the peer is stopped
	bytesMax     uint64 // 0: no limit; may be exceeded by the last message
}

type inflight struct {
	index, bytes uint64
}

func (w *inflights) full() bool {
	return w.count >= w.countMax || w.bytesMax != 0 && w.bytes >= w.bytesMax
}

func (w *inflights) at(i int) *inflight {
	if i += w.start; i >= len(w.ring) {
		i -= len(w.ring)
	}
	return &w.ring[i]
}

func (w *inflights) add(index, bytes uint64) {
	if w.count == len(w.ring) {
		grown := make([]inflight, max(8, 2*len(w.ring)))
		for i := range w.count {
			grown[i] = *w.at(i)
		}
		w.ring, w.start = grown, 0
	}
	w.count++
	*w.at(w.count - 1) = inflight{index, bytes}
	w.bytes += bytes
}

// freeTo drops every append whose last index is <= index.
func (w *inflights) freeTo(index uint64) {
	for w.count > 0 && w.at(0).index <= index {
		w.bytes -= w.at(0).bytes
		if w.start++; w.start == len(w.ring) {
			w.start = 0
		}
		w.count--
	}
	if w.count == 0 {
		w.start = 0
		if len(w.ring) > 64 {
			w.ring = nil
		}
	}
}

func (w *inflights) reset() {
	w.start, w.count, w.bytes = 0, 0, 0
	if len(w.ring) > 64 {
		w.ring = nil
	}
}
