package sim

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"lograft/raft"
)

// unit is one atomic write: what one Ready wants persisted, a local snapshot,
// or a compaction. Units reach the platter in order.
type unit struct {
	hs      raft.HardState
	hasHS   bool
	ents    []raft.Entry
	snap    *raft.Snapshot // received: replaces the log
	local   *raft.Snapshot // taken here: the log stays
	compact uint64         // 0: none; drop entries up to and including it
}

// image is the content of a disk: entries follow base without a gap.
type image struct {
	hs       raft.HardState
	snap     raft.Snapshot
	base     uint64 // Invariant: FirstIndex-1; base <= snap index
	baseTerm uint64
	ents     []raft.Entry // Invariant: ents[i].Index == base+1+i
}

func (im *image) last() uint64 { return im.base + uint64(len(im.ents)) }

func (im *image) term(i uint64) (uint64, bool) {
	if i == im.base {
		return im.baseTerm, true
	}
	if i < im.base || i > im.last() {
		return 0, false
	}
	return im.ents[i-im.base-1].Term, true
}

// write applies one unit and returns how many entries it cut off first.
func (im *image) write(u *unit) (cut int, err error) {
	if u.hasHS {
		im.hs = u.hs
	}
	if u.snap != nil {
		im.snap = *u.snap
		im.base, im.baseTerm = u.snap.Metadata.Index, u.snap.Metadata.Term
		im.ents = nil
	}
	if len(u.ents) > 0 {
		first := u.ents[0].Index
		if first <= im.base || first > im.last()+1 {
			return 0, fmt.Errorf("append at %d does not fit a log of (%d, %d]", first, im.base, im.last())
		}
		keep := int(first - im.base - 1)
		if cut = len(im.ents) - keep; cut > 0 {
			im.ents = im.ents[:keep:keep]
		}
		im.ents = append(im.ents, u.ents...)
	}
	if u.local != nil && u.local.Metadata.Index > im.snap.Metadata.Index {
		im.snap = *u.local
	}
	if u.compact > im.base {
		if t, ok := im.term(u.compact); ok {
			im.ents = append([]raft.Entry(nil), im.ents[u.compact-im.base:]...)
			im.base, im.baseTerm = u.compact, t
		}
	}
	return cut, nil
}

func (im *image) clone() image {
	c := *im
	c.ents = append([]raft.Entry(nil), im.ents...)
	return c
}

// disk is one node's storage. seen is what reads return, safe is what a crash
// keeps for certain, pending lies between the two in order.
type disk struct {
	n       *node
	seen    image
	safe    image
	pending []unit
	written uint64 // units ever written
	synced  uint64 // units certain; Invariant: written-synced == len(pending)

	check     checkpoint // of the state machine, always certain
	faultLo   uint64     // entries of [faultLo, faultHi) answer ErrEntryFaulty; hi 0: none
	faultHi   uint64
	slowReads float64 // chance that a fetch for a follower is answered later
	snapBusy  float64 // chance that Snapshot is temporarily unavailable
}

// checkpoint is a state machine as of index: the chain of hashes of all it
// applied and its configuration.
type checkpoint struct {
	index uint64
	chain uint64
	conf  raft.ConfState
}

func (d *disk) write(u unit) (cut int, err error) {
	if len(u.ents) > 0 {
		u.ents = append([]raft.Entry(nil), u.ents...)
	}
	cut, err = d.seen.write(&u)
	if err != nil {
		return 0, err
	}
	if d.faultHi > 0 && d.faultHi > d.seen.last() || d.faultLo <= d.seen.base {
		d.faultLo, d.faultHi = 0, 0
	}
	d.pending = append(d.pending, u)
	d.written++
	return cut, nil
}

// sync makes every unit up to number upTo certain.
func (d *disk) sync(upTo uint64) {
	for d.synced < upTo && len(d.pending) > 0 {
		if _, err := d.safe.write(&d.pending[0]); err != nil {
			d.n.c.fail("disk", fmt.Errorf("node %d: sync: %w", d.n.id, err))
			return
		}
		if s := d.pending[0].snap; s != nil {
			d.check = checkpointOf(s)
		}
		d.n.c.check.durable(d.n, d.pending[0].ents)
		d.pending = d.pending[1:]
		d.synced++
	}
}

// crash keeps a random prefix of what was not synced and returns the number of
// units lost that held a term, a vote, entries or a snapshot.
func (d *disk) crash(rng *rand.Rand) (lost int) {
	keep := 0
	if len(d.pending) > 0 {
		keep = rng.IntN(len(d.pending) + 1)
	}
	d.sync(d.synced + uint64(keep))
	if len(d.pending) > 0 && len(d.pending[0].ents) > 1 && d.pending[0].snap == nil && rng.IntN(2) == 0 {
		torn := d.pending[0]
		torn.ents = torn.ents[:1+rng.IntN(len(torn.ents)-1)]
		if torn.hasHS {
			torn.hs.Commit = min(torn.hs.Commit, torn.ents[len(torn.ents)-1].Index)
		}
		d.pending[0] = torn
		d.sync(d.synced + 1)
		lost++
	}
	for i := range d.pending {
		if u := &d.pending[i]; u.hasHS || len(u.ents) > 0 || u.snap != nil {
			lost++
		}
	}
	d.pending = nil
	d.written = d.synced
	d.seen = d.safe.clone()
	d.faultLo, d.faultHi = 0, 0
	return lost
}

func (d *disk) faulty(lo, hi uint64) bool {
	return d.faultHi > 0 && lo < d.faultHi && hi > d.faultLo
}

// InitialState answers with the configuration at the state machine's
// checkpoint, which is where the node restarts.
func (d *disk) InitialState() (raft.HardState, raft.ConfState, error) {
	return d.seen.hs, cloneConf(d.check.conf), nil
}

func (d *disk) FirstIndex() (uint64, error) { return d.seen.base + 1, nil }
func (d *disk) LastIndex() (uint64, error)  { return d.seen.last(), nil }

func (d *disk) Term(i uint64) (uint64, error) {
	switch {
	case i < d.seen.base:
		return 0, raft.ErrCompacted
	case i > d.seen.last():
		return 0, raft.ErrUnavailable
	case i > d.seen.base && d.faulty(i, i+1):
		return 0, raft.ErrEntryFaulty
	}
	t, _ := d.seen.term(i)
	return t, nil
}

func (d *disk) Entries(dst []raft.Entry, lo, hi, maxBytes uint64, c raft.EntriesContext) ([]raft.Entry, error) {
	switch {
	case lo > hi:
		return dst, fmt.Errorf("entries [%d, %d)", lo, hi)
	case lo <= d.seen.base:
		return dst, raft.ErrCompacted
	case hi > d.seen.last()+1:
		return dst, raft.ErrUnavailable
	case d.faulty(lo, hi):
		return dst, raft.ErrEntryFaulty
	}
	if c.CanAsync() && d.n.c.chance(d.slowReads) {
		d.n.c.stats.SlowFetches++
		d.n.fetchLater(c)
		return dst, raft.ErrLogTemporarilyUnavailable
	}
	var size uint64
	for i := lo; i < hi; i++ {
		e := d.seen.ents[i-d.seen.base-1]
		size += uint64(len(e.Data) + len(e.Context))
		if i > lo && size > maxBytes {
			break
		}
		dst = append(dst, e)
	}
	return dst, nil
}

// Snapshot takes a new one of the state machine as of its applied index when
// that is on the platter, else gives the newest kept.
func (d *disk) Snapshot(requestIndex, _ uint64) (raft.Snapshot, error) {
	if d.n.c.chance(d.snapBusy) {
		return raft.Snapshot{}, raft.ErrSnapshotTemporarilyUnavailable
	}
	d.n.takeSnapshot()
	if s := d.seen.snap; s.Metadata.Index >= requestIndex && s.Metadata.Index >= d.seen.base {
		s.Metadata.ConfState = cloneConf(s.Metadata.ConfState)
		return s, nil
	}
	return raft.Snapshot{}, raft.ErrSnapshotTemporarilyUnavailable
}

// snapshotData draws 16 bytes: index and chain, little-endian.
func (cp checkpoint) snapshotData() []byte {
	b := binary.LittleEndian.AppendUint64(nil, cp.index)
	return binary.LittleEndian.AppendUint64(b, cp.chain)
}

func checkpointOf(s *raft.Snapshot) checkpoint {
	return checkpoint{
		index: s.Metadata.Index,
		chain: binary.LittleEndian.Uint64(s.Data[8:]),
		conf:  cloneConf(s.Metadata.ConfState),
	}
}

func cloneConf(cs raft.ConfState) raft.ConfState {
	cp := func(s []uint64) []uint64 { return append([]uint64(nil), s...) }
	return raft.ConfState{
		Voters: cp(cs.Voters), Learners: cp(cs.Learners),
		VotersOutgoing: cp(cs.VotersOutgoing), LearnersNext: cp(cs.LearnersNext),
		AutoLeave: cs.AutoLeave,
	}
}
