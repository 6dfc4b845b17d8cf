package sim

import (
	"errors"
	"fmt"

	"lograft/raft"
)

// driveMode is how an application answers a Ready.
type driveMode uint8

const (
	driveSync      driveMode = iota // write, sync, send, apply, Advance
	driveLateApply                  // write, sync, send, AdvanceAppend; apply later
	driveAsync                      // write, AdvanceAppendAsync; sync and apply later
)

// driver owns the order of effects for one life of a node.
type driver struct {
	n    *node
	mode driveMode

	unsynced []record // in order of number
	syncing  bool
	number   uint64 // highest synced and reported
	applies  []apply
	applying bool
}

// record is a Ready that was written but not reported synced.
type record struct {
	number   uint64
	written  uint64 // the disk's unit count when it was written
	messages []raft.Message
	hash     uint64
	empty    bool // held nothing to persist
}

// apply is work for the state machine: a snapshot, or committed entries.
type apply struct {
	number uint64 // the Ready a snapshot came in
	snap   *raft.Snapshot
	ents   []raft.Entry // borrowed from the core until AdvanceApplyTo
	hash   uint64
}

// run takes Readys until there is none, or the node crashes on the way.
func (d *driver) run() {
	n := d.n
	life := n.life
	idle := 0
	for n.life == life && n.c.err == nil && n.raw.HasReady() {
		rd := n.raw.Ready()
		if idle++; !emptyReady(rd) {
			idle = 0
		}
		if idle > 2 {
			n.c.fail("contract", fmt.Errorf("node %d: HasReady stays true, Ready is empty", n.id))
			return
		}
		n.c.stats.Readys++
		if !d.ready(rd) {
			return
		}
		n.c.check.observe(n)
	}
}

func emptyReady(rd *raft.Ready) bool {
	return rd.SoftState == nil && !rd.HasHardState && rd.Snapshot == nil && len(rd.ReadStates)+len(rd.DroppedReads)+
		len(rd.Entries)+len(rd.CommittedEntries)+len(rd.Messages)+len(rd.PersistedMessages) == 0
}

// ready performs one Ready; false when the node crashed inside it.
func (d *driver) ready(rd *raft.Ready) bool {
	n, c := d.n, d.n.c
	c.check.ready(n, rd)
	n.reads.finish(n, rd.ReadStates, rd.DroppedReads)
	nothing := !rd.HasHardState && len(rd.Entries) == 0 && rd.Snapshot == nil
	if !nothing {
		u := unit{hs: rd.HardState, hasHS: rd.HasHardState, ents: rd.Entries}
		if rd.Snapshot != nil {
			s := *rd.Snapshot
			s.Metadata.ConfState = cloneConf(s.Metadata.ConfState)
			u.snap = &s
			c.stats.SnapshotsInstalled++
		}
		cut, err := n.disk.write(u)
		if err != nil {
			c.fail("contract", fmt.Errorf("node %d: %w", n.id, err))
			return false
		}
		if cut > 0 && rd.Snapshot == nil {
			c.stats.Truncations++
		}
	}
	for i := range rd.Messages {
		c.net.send(n, &rd.Messages[i])
	}
	if c.err != nil || d.crashHere() {
		return false
	}
	if d.mode == driveAsync {
		return d.async(rd, nothing)
	}
	n.disk.sync(n.disk.written)
	c.check.afterSync(n)
	if d.crashHere() {
		return false
	}
	for i := range rd.PersistedMessages {
		c.net.send(n, &rd.PersistedMessages[i])
	}
	if d.mode == driveLateApply {
		d.later(rd.Number, rd.Snapshot, rd.CommittedEntries)
		lr := n.raw.AdvanceAppend(rd)
		d.number = rd.Number
		c.check.observe(n)
		d.light(lr)
		return c.err == nil
	}
	if rd.Snapshot != nil {
		d.install(rd.Snapshot)
	}
	d.applyEntries(rd.CommittedEntries)
	if c.err != nil || d.crashHere() {
		return false
	}
	lr := n.raw.Advance(rd)
	d.number = rd.Number
	c.check.observe(n)
	d.light(lr)
	if len(lr.CommittedEntries) > 0 && d.mode == driveSync {
		n.raw.AdvanceApply()
		c.check.observe(n)
	}
	return c.err == nil
}

// light performs a LightReady; in sync mode its entries are applied at once.
func (d *driver) light(lr *raft.LightReady) {
	n := d.n
	n.c.check.light(n, lr)
	for i := range lr.Messages {
		n.c.net.send(n, &lr.Messages[i])
	}
	if d.mode == driveSync {
		d.applyEntries(lr.CommittedEntries)
		return
	}
	d.later(0, nil, lr.CommittedEntries)
}

func (d *driver) async(rd *raft.Ready, nothing bool) bool {
	n := d.n
	rec := record{number: rd.Number, written: n.disk.written, messages: rd.PersistedMessages, empty: nothing}
	rec.hash = hashMessages(rec.messages)
	d.later(rd.Number, rd.Snapshot, rd.CommittedEntries)
	if n.c.chance(0.1) {
		d.syncedUpTo(n.disk.synced)
	}
	n.raw.AdvanceAppendAsync(rd)
	n.c.check.observe(n)
	d.unsynced = append(d.unsynced, rec)
	if n.disk.synced >= n.disk.written {
		d.syncedUpTo(n.disk.synced)
	} else {
		d.syncLater()
	}
	return n.c.err == nil
}

// syncLater keeps one sync in flight; it covers what was written before it began.
func (d *driver) syncLater() {
	n := d.n
	if d.syncing {
		return
	}
	d.syncing = true
	upTo, life := n.disk.written, n.life
	delay := 1 + n.c.below(n.c.plan.syncUnits)
	if n.c.chance(0.05) {
		delay *= 8
	}
	n.c.after(delay, rankOther, "synced", n.id, func() {
		if n.life != life {
			return
		}
		n.disk.sync(upTo)
		d.syncing = false
		if n.paused { // the answer waits in the inbox, so to speak
			n.c.after(tickUnits, rankOther, "synced-late", n.id, func() { d.reportLate(life, upTo) })
			return
		}
		d.syncedUpTo(upTo)
		d.again(life)
	})
}

func (d *driver) reportLate(life int, upTo uint64) {
	if d.n.life != life {
		return
	}
	if d.n.paused {
		d.n.c.after(tickUnits, rankOther, "synced-late", d.n.id, func() { d.reportLate(life, upTo) })
		return
	}
	d.syncedUpTo(upTo)
	d.again(life)
}

func (d *driver) again(life int) {
	n := d.n
	if n.life == life && n.c.err == nil {
		n.drain()
	}
	if n.life == life && n.c.err == nil && n.disk.synced < n.disk.written {
		d.syncLater()
	}
}

// syncedUpTo reports every Ready covered by upTo written units and lets its
// PersistedMessages go; only the highest number is told.
func (d *driver) syncedUpTo(upTo uint64) {
	n, c := d.n, d.n.c
	done := 0
	for done < len(d.unsynced) && d.unsynced[done].written <= upTo {
		done++
	}
	if done == 0 {
		return
	}
	var out []raft.Message
	for _, rec := range d.unsynced[:done] {
		if hashMessages(rec.messages) != rec.hash {
			c.fail("contract", fmt.Errorf("node %d: PersistedMessages of Ready %d changed before OnPersistReady", n.id, rec.number))
			return
		}
		for i := range rec.messages {
			out = append(out, cloneMessage(&rec.messages[i]))
		}
	}
	last := d.unsynced[done-1]
	skip := done == 1 && last.empty && c.chance(0.3) // counts as synced with the one before it
	d.unsynced = append(d.unsynced[:0:0], d.unsynced[done:]...)
	c.check.afterSync(n)
	if !skip {
		n.raw.OnPersistReady(last.number)
		c.check.observe(n)
	}
	d.number = last.number
	for i := range out {
		c.net.send(n, &out[i])
	}
	d.applyLater()
}

func (d *driver) crashHere() bool {
	if !d.n.c.chance(d.n.c.plan.crashInside) {
		return false
	}
	d.n.crash()
	return true
}

// later queues applies.
func (d *driver) later(number uint64, snap *raft.Snapshot, ents []raft.Entry) {
	if snap != nil {
		s := *snap
		s.Metadata.ConfState = cloneConf(s.Metadata.ConfState)
		d.applies = append(d.applies, apply{number: number, snap: &s})
	}
	if len(ents) > 0 {
		d.applies = append(d.applies, apply{ents: ents, hash: hashEntries(ents)})
	}
	d.applyLater()
}

func (d *driver) applyLater() {
	n := d.n
	if d.applying || len(d.applies) == 0 || d.blocked() {
		return
	}
	d.applying = true
	life := n.life
	n.c.after(1+n.c.below(n.c.plan.applyUnits), rankOther, "apply", n.id, func() {
		if n.life != life {
			return
		}
		d.applying = false
		if n.paused || len(d.applies) == 0 || d.blocked() {
			d.applyLater()
			return
		}
		if n.c.healing { // what is left over must not decide how long healing takes
			d.finishApplies()
		} else {
			d.applyOne(n.c.chance(0.3))
		}
		if n.life == life && n.c.err == nil {
			d.applyLater()
			n.drain()
		}
	})
}

// blocked says that the next apply is a snapshot that is not synced yet.
func (d *driver) blocked() bool {
	return d.applies[0].snap != nil && d.applies[0].number > d.number
}

// applyOne performs the first apply, or a part of its entries.
func (d *driver) applyOne(part bool) {
	n, c := d.n, d.n.c
	a := &d.applies[0]
	if a.snap != nil {
		d.install(a.snap)
		n.raw.AdvanceApplyTo(a.snap.Metadata.Index)
		d.applies = d.applies[1:]
		c.check.observe(n)
		return
	}
	if hashEntries(a.ents) != a.hash {
		c.fail("contract", fmt.Errorf("node %d: CommittedEntries changed before they were applied", n.id))
		return
	}
	take := len(a.ents)
	if part && take > 1 {
		take = 1 + int(c.below(uint64(take-1)))
	}
	ents := a.ents[:take]
	last := ents[take-1].Index
	d.applyEntries(ents)
	if take == len(a.ents) {
		d.applies = d.applies[1:]
	} else {
		a.ents = a.ents[take:]
		a.hash = hashEntries(a.ents)
	}
	if c.err == nil {
		n.raw.AdvanceApplyTo(last)
		c.check.observe(n)
	}
}

// finishApplies empties the queue: the app owes it before MsgSnapshot.
func (d *driver) finishApplies() {
	n := d.n
	for len(d.applies) > 0 && n.c.err == nil {
		if d.blocked() {
			n.disk.sync(n.disk.written)
			d.syncedUpTo(n.disk.written)
			if d.blocked() {
				n.c.fail("contract", fmt.Errorf("node %d: a snapshot waits for Ready %d, synced %d", n.id, d.applies[0].number, d.number))
				return
			}
		}
		d.applyOne(false)
	}
}

func (d *driver) install(s *raft.Snapshot) {
	n := d.n
	n.sm = checkpointOf(s)
	n.c.trace.note(n.c.now, n.id, "install", s.Metadata.Index, s.Metadata.Term)
	n.c.check.installed(n, s)
}

func (d *driver) applyEntries(ents []raft.Entry) {
	for i := range ents {
		if d.n.c.err != nil {
			return
		}
		d.applyEntry(&ents[i])
	}
	if len(ents) > 0 && !d.n.smLate && d.n.c.chance(0.3) {
		d.n.saveCheckpoint()
	}
}

func (d *driver) applyEntry(e *raft.Entry) {
	n, c := d.n, d.n.c
	before := n.sm
	n.sm.index = e.Index
	n.sm.chain = mix(n.sm.chain, hashEntry(e))
	c.stats.Applied++
	c.trace.note(c.now, n.id, "applied", e.Index, e.Term)
	c.check.applied(n, e)
	if e.Type == raft.EntryNormal || c.err != nil {
		return
	}
	cc, err := decodeConfChange(e)
	if err != nil {
		c.fail("contract", fmt.Errorf("node %d: index %d: %w", n.id, e.Index, err))
		return
	}
	after := n.sm
	n.sm = before // the core may ask for a snapshot, and of this entry there is none before its configuration is known
	cs, err := n.raw.ApplyConfChange(cc)
	n.sm = after
	var fatal *raft.FatalError
	if errors.As(err, &fatal) {
		c.fail("fatal", fmt.Errorf("node %d: %w", n.id, err))
		return
	}
	if err == nil {
		n.sm.conf = cloneConf(cs)
	}
	c.check.confApplied(n, e.Index, cs, err)
	c.check.observe(n)
}

func decodeConfChange(e *raft.Entry) (raft.ConfChanger, error) {
	if e.Type == raft.EntryConfChange {
		return raft.UnmarshalConfChange(e.Data)
	}
	return raft.UnmarshalConfChangeV2(e.Data)
}
