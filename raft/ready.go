package raft

import "errors"

// Ready is what the app has to do now, as one unit. The *Ready may be reused by the next call of RawNode.Ready; doc.go says how long
// each slice lives.
type Ready struct {
	Number                 uint64
	SoftState              *SoftState // nil: unchanged
	HardState              HardState
	HasHardState, MustSync bool // MustSync: term, vote, entries or snapshot; a commit-only HardState is written lazily
	ReadStates             []ReadState
	DroppedReads           []DroppedRead
	Entries                []Entry   // to be appended, overwriting from Entries[0].Index on
	Snapshot               *Snapshot // to be installed; there are no CommittedEntries beside it
	CommittedEntries       []Entry   // to be applied
	Messages               []Message // send now
	PersistedMessages      []Message // send only when this Ready and all before it are synced
}

// LightReady is what a synchronous advance brings up without a new round of persisting.
type LightReady struct {
	CommitIndex      uint64
	HasCommitIndex   bool
	CommittedEntries []Entry
	Messages         []Message
}

// record is a Ready that was handed out and is not known to be stable.
type record struct {
	number   uint64
	last     entryID // of its entries; index 0: none
	snapshot uint64  // index; 0: none
	handed   uint64  // with a snapshot: what had been handed out to be applied before it
	hard     bool    // it changed term or vote
	persist  bool    // it had something to persist
	advanced bool
	msgs     []Message // its PersistedMessages, returned to the pool when stable
}

// buffers are the slices that Readys hand out, reused when their time is over.
type buffers struct {
	spareMsgs     []Message
	spareEntries  []Entry // arenas behind messages
	spareContexts []byte
	persisted     [][]Message
	lent          []lentMessages
	committed     []committedBuffer
	states        []ReadState
	dropped       []DroppedRead
}

// lentMessages are the PersistedMessages of a Ready that is stable. The app may not have sent them: they are its own until it reports that
// Ready's number or a higher one.
type lentMessages struct {
	number uint64
	msgs   []Message
}

// Bounds of the pools of message buffers; beyond them the garbage collector has them.
const (
	pooledMax = 8
	lentMax   = 64
)

// takeBack returns to the pool the messages that the app has reported synced.
func (n *RawNode) takeBack() {
	kept := n.buf.lent[:0]
	for _, l := range n.buf.lent {
		switch {
		case l.number > n.persisted && len(kept) < lentMax:
			kept = append(kept, l)
		case l.number <= n.persisted && len(n.buf.persisted) < pooledMax:
			clear(l.msgs)
			n.buf.persisted = append(n.buf.persisted, trim(l.msgs))
		}
	}
	clear(n.buf.lent[len(kept):])
	n.buf.lent = kept
}

// committedBuffer is a slice of committed entries handed out; free again when last is applied.
type committedBuffer struct {
	entries []Entry
	last    uint64 // 0: free
}

// bufferMax bounds what a buffer keeps after a burst, in elements.
const bufferMax = 1024

func (n *RawNode) hardChanged() bool {
	h := n.r.hardState()
	return h.Term != n.prevHard.Term || h.Vote != n.prevHard.Vote
}

// HasReady reports whether Ready has something to do.
func (n *RawNode) HasReady() bool {
	r := &n.r
	if r.fatal != nil {
		return false
	}
	return len(r.msgs) > 0 || len(r.persisted) > 0 || len(r.log.unstable) > 0 || r.log.snapshot != nil ||
		r.softState() != n.prevSoft || r.hardState() != n.prevHard ||
		len(r.reads.answered) > 0 || len(r.reads.dropped) > 0 || r.reads.due || n.canApply()
}

func (n *RawNode) canApply() bool {
	l := &n.r.log
	return l.committed > l.handed && !n.applyStalled && l.snapshot == nil && n.applicable() > l.handed
}

func (n *RawNode) applicable() uint64 {
	limit := uint64(0)
	if n.r.state == StateLeader {
		limit = n.r.cfg.MaxApplyUnpersistedLogLimit
	}
	return n.r.log.applicable(limit)
}

// Ready hands out what there is to do. It must be ended by Advance, AdvanceAppend or AdvanceAppendAsync before the next one.
func (n *RawNode) Ready() *Ready {
	r := &n.r
	if r.fatal != nil {
		n.rd = Ready{}
		return &n.rd
	}
	if n.outstanding {
		return &n.rd
	}
	r.calm = false
	r.sendRound()
	n.forgetCut()
	n.number++
	n.rd = Ready{Number: n.number}
	rec := record{number: n.number}
	n.takeStates(&rec)
	if s := r.log.snapshot; s != nil {
		n.rd.Snapshot, n.rd.MustSync = s, true
		rec.snapshot, rec.handed = s.Metadata.Index, r.log.handed
		r.log.handed = max(r.log.handed, s.Metadata.Index)
	}
	if u := r.log.unstable; len(u) > 0 {
		n.rd.Entries, n.rd.MustSync = u[:len(u):len(u)], true
		rec.last = entryID{u[len(u)-1].Term, u[len(u)-1].Index}
	}
	if n.rd.Snapshot == nil {
		n.rd.CommittedEntries = n.takeCommitted()
	}
	n.takeReads()
	rec.persist = n.rd.MustSync
	n.takeMessages(&rec)
	n.records = append(n.records, rec)
	n.outstanding = true
	if r.fatal != nil { // storage failed while we read from it
		n.rd = Ready{}
	}
	return &n.rd
}

// forgetCut takes from the records of earlier Readys what was overwritten since: that they are synced says nothing of what stands there
// now, not even if an entry came back that had been overwritten.
func (n *RawNode) forgetCut() {
	l := &n.r.log
	if l.cut == noLimit {
		return
	}
	for i := range n.records {
		rec := &n.records[i]
		if rec.last.index < l.cut {
			continue
		}
		rec.last = entryID{index: l.cut - 1}
		var err error
		if rec.last.term, err = l.term(rec.last.index); err != nil {
			rec.last = entryID{}
		}
	}
	l.cut = noLimit
}

func (n *RawNode) takeStates(rec *record) {
	r := &n.r
	if s := r.softState(); s != n.prevSoft {
		n.soft = s
		n.rd.SoftState = &n.soft
		n.prevSoft = s
	}
	h := r.hardState()
	rec.hard = n.hardChanged()
	n.rd.HardState = h
	n.rd.HasHardState = h != n.prevHard || r.log.snapshot != nil
	for i := range r.log.unstable {
		if r.log.unstable[i].Type != EntryNormal {
			n.rd.HasHardState = true
		}
	}
	n.rd.MustSync = rec.hard
	n.prevHard = h
}

func (n *RawNode) takeReads() {
	s := &n.r.reads
	n.buf.states, n.buf.dropped = append(n.buf.states[:0], s.answered...), append(n.buf.dropped[:0], s.dropped...)
	n.rd.ReadStates, n.rd.DroppedReads = n.buf.states, n.buf.dropped
	clear(s.answered)
	clear(s.dropped)
	s.answered, s.dropped = s.answered[:0], s.dropped[:0]
}

// takeMessages sorts the queued messages into those that may go now and those that wait for the disk (rules 2 and 3).
func (n *RawNode) takeMessages(rec *record) {
	r := &n.r
	waits := n.termUnsynced() || rec.hard
	held := n.pooledMessages()
	held = append(held, r.persisted...)
	clear(r.persisted)
	r.persisted = r.persisted[:0]
	if waits {
		now := r.msgs[:0]
		for _, m := range r.msgs {
			if !leaderMessage(m.Type) {
				now = append(now, m)
				continue
			}
			m.Entries = append([]Entry(nil), m.Entries...) // they outlive the arenas
			m.Context = append([]byte(nil), m.Context...)
			held = append(held, m)
		}
		clear(r.msgs[len(now):])
		r.msgs = now
	}
	if len(held) > 0 {
		rec.msgs, n.rd.PersistedMessages = held, held
	} else if held != nil {
		n.buf.persisted = append(n.buf.persisted, held)
	}
	n.rd.Messages = n.swapMessages()
}

// swapMessages hands out the queued messages with the arena of their entries and gives the core the other pair of buffers.
func (n *RawNode) swapMessages() []Message {
	r := &n.r
	out := r.msgs
	clear(n.buf.spareMsgs)
	clear(n.buf.spareEntries)
	r.msgs, n.buf.spareMsgs = trim(n.buf.spareMsgs), r.msgs
	r.entries, n.buf.spareEntries = trim(n.buf.spareEntries), r.entries
	r.contexts, n.buf.spareContexts = trim(n.buf.spareContexts), r.contexts
	return out
}

func trim[T any](s []T) []T {
	if cap(s) > bufferMax {
		return nil
	}
	return s[:0]
}

func leaderMessage(t MessageType) bool {
	switch t {
	case MsgAppend, MsgHeartbeat, MsgSnapshot, MsgTimeoutNow, MsgReadIndexResp:
		return true
	}
	return false
}

// termUnsynced reports whether a Ready that changed term or vote is not known to be stable.
func (n *RawNode) termUnsynced() bool {
	for i := range n.records {
		if n.records[i].hard {
			return true
		}
	}
	return false
}

func (n *RawNode) pooledMessages() []Message {
	if k := len(n.buf.persisted); k > 0 {
		m := n.buf.persisted[k-1]
		n.buf.persisted = n.buf.persisted[:k-1]
		return m[:0]
	}
	return nil
}

// takeCommitted reads the next page of committed entries. A damaged entry stalls it until the next tick.
func (n *RawNode) takeCommitted() []Entry {
	r := &n.r
	if !n.canApply() {
		return nil
	}
	to := n.applicable()
	limit := r.cfg.MaxCommittedSizePerReady
	if limit == 0 {
		limit = noLimit
	}
	b := n.committedBuffer()
	from := r.log.handed + 1
	var err error
	b.entries, err = r.log.slice(b.entries[:0], from, to+1, limit, EntriesContext{reason: fetchApply})
	if err != nil {
		n.applyStalled = true
		if !errors.Is(err, ErrEntryFaulty) {
			r.fail("committed entries", from, r.term, err)
		}
		return nil
	}
	b.last = b.entries[len(b.entries)-1].Index
	r.log.handed = b.last
	n.countHanded(b.entries)
	return b.entries[:len(b.entries):len(b.entries)]
}

func (n *RawNode) committedBuffer() *committedBuffer {
	for i := range n.buf.committed {
		if b := &n.buf.committed[i]; b.last == 0 {
			return b
		}
	}
	n.buf.committed = append(n.buf.committed, committedBuffer{})
	return &n.buf.committed[len(n.buf.committed)-1]
}

// countHanded takes handed-out entries off the uncommitted size and remembers the configuration changes among them.
func (n *RawNode) countHanded(entries []Entry) {
	r := &n.r
	for i := range entries {
		e := &entries[i]
		if e.Type != EntryNormal {
			r.confHanded = append(r.confHanded, e.Index)
		}
		if e.Index > r.uncommittedFrom {
			r.uncommitted -= min(r.uncommitted, e.size())
		}
	}
}

// freeCommitted takes back the buffers of entries that are applied.
func (n *RawNode) freeCommitted(applied uint64) {
	for i := range n.buf.committed {
		b := &n.buf.committed[i]
		if b.last == 0 || b.last > applied {
			continue
		}
		clear(b.entries)
		b.entries, b.last = trim(b.entries), 0
	}
	if k := len(n.buf.committed); k > 4 && n.buf.committed[k-1].last == 0 {
		n.buf.committed = n.buf.committed[:k-1]
	}
}
