// Package journal keeps a broker's promises: which groups were born here, what term and vote each of them gave, up to where its log was
// once synced, which snapshot was installed. For each group and kind the latest record wins (storage.md "Journal").
//
// A journal is three append-only logs of records:
//
//	a, b    births, hard states, snapshot marks, retirements: written and synced to a, then to b; one damaged copy heals from the other
//	marks   persist marks
//
// A record carries its own CRC, a sequence number, and the number up to which its log was known to be synced when it was written. So an
// invalid record can be judged: above the highest such number it is a torn write and was never acted on; at or below, it is damage.
//
// Two makes share the interface and one conformance test: OpenWAL on tidwall/wal over real files, OpenTwin on segment/vfs for the
// simulator.
//
// Limitations: OpenWAL never runs under the simulator. A whole log that is rolled back to an older state together with its copy can't be
// told from the truth; the boot number of the data directory catches the older of two such copies.
package journal

import (
	"errors"
	"fmt"
	"slices"
)

// FormatVersion is the version of the records that this package writes; every rewritten log says it first. A journal of a higher one is
// refused, never guessed at.
const FormatVersion = 3

// GroupID is the uuid of a Raft group.
type GroupID = [16]byte

// Birth is how a group began in this data directory. Settings are the caller's.
type Birth struct {
	Group     GroupID
	ReplicaID uint64
	Settings  []byte
}

// HardState is Raft's: what a replica promised.
type HardState struct {
	Term, Vote, Commit uint64
}

// Mark is a persist mark: everything up to Index was once on stable storage (storage.md "Writing 2").
type Mark struct {
	Index, Term uint64
	Position    int64
	SegmentBase uint64
}

// SnapshotMark says that a snapshot's files were complete and synced and are to be swapped in. It voids the persist marks that the group
// had before: they speak of the log that it replaces.
type SnapshotMark struct {
	Index, Term uint64
	Hash        [32]byte
	LogStart    int64
}

// GroupState is the latest of everything about one group.
type GroupState struct {
	Birth                           Birth
	HardState                       HardState
	Mark                            Mark
	Snapshot                        SnapshotMark
	HasBirth, HasHardState, HasMark bool
	HasSnapshot, Retired            bool
	HardStateLost                   bool // no copy of term and vote can be trusted: this replica may never vote again
	// MarksLost: persist marks of the group may be missing, as some opening of the journal found; it lasts until MarksSound.
	MarksLost                               bool
	birthSeq, hardSeq, markSeq, snapshotSeq uint64
	retiredSeq, marksLostSeq                uint64
	lifeSeq                                 uint64 // of the birth: what is older is of a replica that was retired before it
	voidSeq                                 uint64 // persist marks up to here are of a log that a snapshot replaced
}

// Loaded is what a journal held when it was opened.
type Loaded struct {
	Groups []GroupState // sorted by group id
	// HardDamage names the copies of the hard states in which something that had been synced is bad or missing; MarksDamage says so of
	// the persist marks: then no bad frame in a segment may be taken for a torn write.
	HardDamage  []string
	MarksDamage bool
	Torn        int // records that were cut off as torn writes
}

// Damaged reports whether persist marks may be missing.
func (l *Loaded) Damaged() bool { return l.MarksDamage || len(l.HardDamage) == 2 }

// Scope is what a Task makes stable.
type Scope uint8

// Hard: births, hard states, snapshot marks and retirements. Marks: persist marks.
const (
	Hard Scope = iota
	Marks
)

// Journal is one broker's journal. Put*, Retire, BeginSync and EndSync are called by one goroutine, Task.Do by any; one task per scope
// may be under way. Nothing is on stable storage before the Do of a task that was begun after it was put returned nil.
type Journal interface {
	// Load returns what was there when the journal was opened.
	Load() (Loaded, error)
	// The Put methods keep the newest value of a group until a task takes it; no I/O.
	PutBirth(Birth)
	PutHardState(GroupID, HardState)
	PutMark(GroupID, Mark)
	PutSnapshotMark(GroupID, SnapshotMark)
	// Retire forgets a group's replica for good. PutBirth begins another one of the group, once the retirement is on stable storage.
	Retire(GroupID)
	// BeginSync captures everything put since the last task of the scope; nil if that is nothing.
	BeginSync(Scope) *Task
	EndSync(*Task, error)
	// MarksSound ends MarksLost of a group: the mark that was put and synced before covers all that its log holds.
	MarksSound(GroupID)
	// Owes reports whether the hard states should be synced although no promise waits: a file of the marks was begun that only that makes
	// known.
	Owes() bool
	Close() error
}

// kind of a record.
type kind uint8

const (
	kindBirth kind = iota + 1
	kindHard
	kindMark
	kindSnapshot
	kindRetired
	kindCheckpoint // begins a rewritten log; body: format version u16
	kindLost       // no copy of the group's hard state could be read once
	kindMarksFloor // of no group, in a and b: the marks were synced up to this sequence
	kindMarksLost  // marks of the group may be missing; body: 1, or 0 if that is over

	kindMax = kindMarksLost
)

// appender is an append-only log of opaque records. An error of any method is final: the log must not be used any more.
type appender interface {
	// load visits every record in order, and nil for a place where bytes are no record although one follows. torn says that the log
	// ended with bytes that are no record.
	load(visit func(rec []byte)) (torn bool, err error)
	// append writes records, unsynced.
	append(recs [][]byte) error
	sync() error
	// rewrite replaces everything by records and syncs them: after a crash either all of the old or all of the new is there.
	rewrite(recs [][]byte) error
	size() int64
	// newest names the file that is written; it changes when another one is begun.
	newest() string
	close() error
}

// core is the journal over three logs.
type core struct {
	a, b, marks appender
	table       map[GroupID]*GroupState
	loaded      Loaded

	seq     uint64
	syncedA uint64 // sequence up to which a is synced, likewise b and marks
	syncedB uint64
	syncedM uint64

	// marksFloor is what a and b know of the marks: up to which sequence they were synced. A newest file that vanished shows by it. floorFile
	// is the file that was written then, marksFile the one that was written last, owed says that they differ.
	marksFloor           uint64
	floorFile, marksFile string
	owed                 bool

	pendingHard, pendingMarks []pending
	base                      [2]int64 // size after the last rewrite, by scope
}

type pending struct {
	kind  kind
	group GroupID
}

// Task is one write and sync of a scope.
type Task struct {
	scope   Scope
	logs    []appender
	recs    [][][]byte // by log: the records differ in their synced-up-to number
	last    uint64     // highest sequence of the task
	rewrite bool
}

// Do writes and syncs, a before b. Its error is fatal for the data directory and never retried.
func (t *Task) Do() error {
	for i, l := range t.logs {
		if t.rewrite {
			if err := l.rewrite(t.recs[i]); err != nil {
				return err
			}
			continue
		}
		if err := l.append(t.recs[i]); err != nil {
			return err
		}
		if err := l.sync(); err != nil {
			return err
		}
	}
	return nil
}

func open(a, b, marks appender) (*core, error) {
	c := &core{a: a, b: b, marks: marks, table: map[GroupID]*GroupState{}}
	if err := c.load(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// load reads all three logs, judges what is bad, and heals a damaged copy from the other.
func (c *core) load() error {
	la, err := c.read(c.a)
	if err != nil {
		return fmt.Errorf("journal a: %w", err)
	}
	lb, err := c.read(c.b)
	if err != nil {
		return fmt.Errorf("journal b: %w", err)
	}
	lm, err := c.read(c.marks)
	if err != nil {
		return fmt.Errorf("journal marks: %w", err)
	}
	// b is written after a is synced: what b has, a has, if both are whole. A copy that is behind lost something.
	la.damaged = la.damaged || la.last < lb.synced
	lb.damaged = lb.damaged || lb.last < la.synced
	if la.damaged {
		c.loaded.HardDamage = append(c.loaded.HardDamage, "a")
	}
	if lb.damaged {
		c.loaded.HardDamage = append(c.loaded.HardDamage, "b")
	}
	c.loaded.MarksDamage = lm.damaged || len(c.table) > 0 && lm.records == 0 || lm.last < c.marksFloor
	c.loaded.Torn = la.torn + lb.torn + lm.torn
	both := la.damaged && lb.damaged
	for _, g := range c.sorted() {
		if g.HasBirth && !g.HasHardState && !g.HardStateLost && !la.damaged && !lb.damaged {
			delete(c.table, g.Birth.Group) // half of a birth that was being written: nothing was promised with it
			continue
		}
		g.HardStateLost = g.HardStateLost || both || g.HasBirth && !g.HasHardState
		g.MarksLost = !g.Retired && (g.MarksLost || c.loaded.MarksDamage || both)
		c.loaded.Groups = append(c.loaded.Groups, *g)
	}
	c.syncedA, c.syncedB, c.syncedM = la.last, lb.last, lm.last
	if la.records+lb.records+lm.records+c.loaded.Torn == 0 {
		// A newborn journal: the marks begin first, so that from the first promise on their loss is seen.
		c.seq++
		c.syncedM = c.seq
		return c.marks.rewrite(c.snapshot(Marks, c.seq))
	}
	if c.loaded.Torn > 0 || la.damaged || lb.damaged || la.last != lb.last || c.loaded.MarksDamage || la.older || lb.older || lm.older {
		return c.heal()
	}
	return nil
}

// heal rewrites the logs from the table. Where both copies of the hard states were damaged, every group's record says so from then on:
// what is left of a promise is none. Likewise where marks may be missing: the rewritten ones look whole.
func (c *core) heal() error {
	for _, l := range []appender{c.a, c.b} {
		c.seq++
		if err := l.rewrite(c.snapshot(Hard, c.seq)); err != nil {
			return err
		}
	}
	c.syncedA, c.syncedB = c.seq, c.seq
	c.seq++
	if err := c.marks.rewrite(c.snapshot(Marks, c.seq)); err != nil {
		return err
	}
	c.syncedM = c.seq
	return nil
}

// logState is what reading one log told.
type logState struct {
	last, synced  uint64 // highest valid sequence; highest "synced up to" in a valid record
	records, torn int
	damaged       bool
	older         bool // a version before FormatVersion wrote it
}

// read takes every valid record of a log into the table.
func (c *core) read(l appender) (s logState, err error) {
	var invalidAfter []uint64 // last valid sequence before each invalid record
	first, newest := true, uint16(0)
	torn, err := l.load(func(rec []byte) {
		s.records++
		r, ok := decodeRecord(rec)
		if !ok {
			invalidAfter = append(invalidAfter, s.last)
			return
		}
		if first && r.kind != kindCheckpoint {
			s.damaged = true // every log begins with its checkpoint record: the front is missing
		}
		first = false
		if r.kind == kindCheckpoint {
			newest = max(newest, le.Uint16(r.body))
		}
		s.last, s.synced = max(s.last, r.seq), max(s.synced, r.synced)
		c.seq = max(c.seq, r.seq)
		c.take(r)
	})
	if err != nil {
		return s, err
	}
	s.older = s.records > 0 && newest < FormatVersion
	if newest > FormatVersion {
		return s, fmt.Errorf("format version %d is newer than this program's %d: start the version that wrote it, or a later one", newest, FormatVersion)
	}
	if torn {
		s.torn++
	}
	for _, before := range invalidAfter {
		if before < s.synced {
			s.damaged = true
		} else {
			s.torn++
		}
	}
	if s.last < s.synced {
		s.damaged = true
	}
	return s, nil
}

func (c *core) group(id GroupID) *GroupState {
	g := c.table[id]
	if g == nil {
		g = &GroupState{}
		g.Birth.Group = id
		c.table[id] = g
	}
	return g
}

// take puts a record into the table if it is the latest of its kind.
func (c *core) take(r rec) {
	switch r.kind {
	case kindCheckpoint:
		return
	case kindMarksFloor:
		c.marksFloor = max(c.marksFloor, le.Uint64(r.body))
		return
	}
	g := c.group(r.group)
	switch r.kind {
	case kindBirth:
		if r.seq > g.birthSeq {
			if g.Retired && r.seq > g.retiredSeq {
				g.reborn()
			}
			if !g.HasBirth {
				g.lifeSeq = r.seq
			}
			g.Birth, g.HasBirth, g.birthSeq = decodeBirth(r.group, r.body), true, r.seq
		}
	case kindHard:
		if r.seq > g.hardSeq && r.seq >= g.lifeSeq {
			g.HardState, g.HasHardState, g.hardSeq = decodeHard(r.body), true, r.seq
		}
	case kindMark:
		if r.seq > g.markSeq && r.seq > g.voidSeq {
			g.Mark, g.HasMark, g.markSeq = decodeMark(r.body), true, r.seq
		}
	case kindSnapshot:
		if r.seq > g.snapshotSeq && r.seq >= g.lifeSeq {
			g.HasSnapshot, g.snapshotSeq = true, r.seq
			g.Snapshot, g.voidSeq = decodeSnapshot(r.body)
			if g.markSeq <= g.voidSeq {
				g.Mark, g.HasMark = Mark{}, false
			}
			if r.seq > g.marksLostSeq {
				g.MarksLost = false // those of the log before
			}
		}
	case kindMarksLost:
		if r.seq > g.marksLostSeq && r.seq >= g.lifeSeq {
			g.MarksLost, g.marksLostSeq = r.body[0] == 1, r.seq
		}
	case kindLost:
		g.HardStateLost = g.HardStateLost || r.seq >= g.lifeSeq
	case kindRetired:
		if r.seq > g.retiredSeq {
			g.retiredSeq = r.seq
			if r.seq > g.birthSeq {
				g.Retired = true
			}
			if !g.HasBirth && len(r.body) > 0 {
				g.Birth.ReplicaID = le.Uint64(r.body)
			}
		}
	}
}

// reborn forgets everything of a replica that was retired: another one of the group begins in its place.
func (g *GroupState) reborn() {
	*g = GroupState{Birth: Birth{Group: g.Birth.Group}, birthSeq: g.birthSeq, hardSeq: g.hardSeq, markSeq: g.markSeq, snapshotSeq: g.snapshotSeq,
		retiredSeq: g.retiredSeq, marksLostSeq: g.marksLostSeq, voidSeq: g.voidSeq}
}

func (c *core) sorted() []*GroupState {
	all := make([]*GroupState, 0, len(c.table))
	for _, g := range c.table {
		all = append(all, g)
	}
	slices.SortFunc(all, func(x, y *GroupState) int { return slices.Compare(x.Birth.Group[:], y.Birth.Group[:]) })
	return all
}

// Load implements Journal.
func (c *core) Load() (Loaded, error) { return c.loaded, nil }

func (c *core) put(p *[]pending, k kind, g GroupID) {
	for _, q := range *p {
		if q.kind == k && q.group == g {
			return // the table has the newest value already
		}
	}
	*p = append(*p, pending{k, g})
}

// PutBirth implements Journal.
func (c *core) PutBirth(b Birth) {
	g := c.group(b.Group)
	again := g.Retired
	if again {
		g.reborn()
	}
	g.Birth, g.HasBirth = b, true
	c.put(&c.pendingHard, kindBirth, b.Group)
	if again {
		c.PutSnapshotMark(b.Group, SnapshotMark{}) // of no snapshot: it voids the persist marks of the replica before
	}
}

// PutHardState implements Journal.
func (c *core) PutHardState(id GroupID, h HardState) {
	g := c.group(id)
	g.HardState, g.HasHardState = h, true
	c.put(&c.pendingHard, kindHard, id)
}

// PutMark implements Journal.
func (c *core) PutMark(id GroupID, m Mark) {
	g := c.group(id)
	g.Mark, g.HasMark = m, true
	c.put(&c.pendingMarks, kindMark, id)
}

// PutSnapshotMark implements Journal.
func (c *core) PutSnapshotMark(id GroupID, m SnapshotMark) {
	g := c.group(id)
	g.Snapshot, g.HasSnapshot, g.voidSeq = m, true, c.seq
	g.Mark, g.HasMark, g.MarksLost = Mark{}, false, false
	c.pendingMarks = slices.DeleteFunc(c.pendingMarks, func(p pending) bool { return p.group == id })
	c.put(&c.pendingHard, kindSnapshot, id)
}

// MarksSound implements Journal.
func (c *core) MarksSound(id GroupID) {
	if g := c.group(id); g.MarksLost {
		g.MarksLost = false
		c.put(&c.pendingHard, kindMarksLost, id)
	}
}

// Owes implements Journal.
func (c *core) Owes() bool { return c.owed }

// Retire implements Journal.
func (c *core) Retire(id GroupID) {
	c.group(id).Retired = true
	c.put(&c.pendingHard, kindRetired, id)
}

// compactBytes is how much a log grows before it is rewritten from the table.
const compactBytes = 4 << 20

// BeginSync implements Journal.
func (c *core) BeginSync(s Scope) *Task {
	list := &c.pendingHard
	if s == Marks {
		list = &c.pendingMarks
	} else if c.owed || len(*list) > 0 && c.syncedM > c.marksFloor {
		c.put(list, kindMarksFloor, GroupID{})
		c.marksFloor, c.floorFile, c.owed = c.syncedM, c.marksFile, false
	}
	if len(*list) == 0 {
		return nil
	}
	t := &Task{scope: s, logs: []appender{c.a, c.b}}
	synced := []uint64{c.syncedA, c.syncedB}
	if s == Marks {
		t.logs, synced = []appender{c.marks}, []uint64{c.syncedM}
	}
	if t.rewrite = t.logs[0].size() == 0 || t.logs[0].size() > c.base[s]+compactBytes; t.rewrite {
		c.seq++
		for range t.logs {
			t.recs = append(t.recs, c.snapshot(s, c.seq))
		}
	} else {
		first := c.seq
		for i := range t.logs {
			var recs [][]byte
			for k, p := range *list {
				recs = append(recs, encodeRecord(rec{seq: first + 1 + uint64(k), synced: synced[i], kind: p.kind, group: p.group, body: c.body(p)}))
			}
			t.recs = append(t.recs, recs)
		}
		c.seq += uint64(len(*list))
	}
	t.last = c.seq
	*list = nil
	return t
}

// EndSync implements Journal.
func (c *core) EndSync(t *Task, err error) {
	if err != nil {
		return
	}
	if t.scope == Marks {
		c.syncedM = t.last
		c.marksFile = c.marks.newest()
		c.owed = c.marksFile != c.floorFile
	} else {
		c.syncedA, c.syncedB = t.last, t.last
	}
	if t.rewrite {
		c.base[t.scope] = t.logs[0].size()
	}
}

// snapshot is the table as records of a scope, all with one sequence number, led by the checkpoint record.
func (c *core) snapshot(s Scope, seq uint64) [][]byte {
	recs := [][]byte{encodeRecord(rec{seq: seq, kind: kindCheckpoint, body: le.AppendUint16(nil, FormatVersion)})}
	add := func(k kind, g *GroupState) {
		recs = append(recs, encodeRecord(rec{seq: seq, kind: k, group: g.Birth.Group, body: c.body(pending{k, g.Birth.Group})}))
	}
	if s == Hard && c.marksFloor > 0 {
		recs = append(recs, encodeRecord(rec{seq: seq, kind: kindMarksFloor, body: c.body(pending{kind: kindMarksFloor})}))
	}
	for _, g := range c.sorted() {
		switch {
		case g.Retired && s == Hard:
			add(kindRetired, g)
		case g.Retired:
		case s == Marks:
			if g.HasMark {
				add(kindMark, g)
			}
		default:
			if g.HasBirth {
				add(kindBirth, g)
			}
			if g.HasHardState {
				add(kindHard, g)
			}
			if g.HasSnapshot {
				add(kindSnapshot, g)
			}
			if g.HardStateLost {
				add(kindLost, g)
			}
			if g.MarksLost {
				add(kindMarksLost, g)
			}
		}
	}
	return recs
}

func (c *core) body(p pending) []byte {
	g := c.table[p.group]
	switch p.kind {
	case kindMarksFloor:
		return le.AppendUint64(nil, c.marksFloor)
	case kindMarksLost:
		return flag(g.MarksLost)
	case kindBirth:
		return encodeBirth(&g.Birth)
	case kindHard:
		return encodeHard(g.HardState)
	case kindMark:
		return encodeMark(g.Mark)
	case kindSnapshot:
		return encodeSnapshot(g.Snapshot, g.voidSeq)
	case kindRetired:
		return le.AppendUint64(nil, g.Birth.ReplicaID)
	}
	return nil
}

func flag(b bool) []byte {
	if b {
		return []byte{1}
	}
	return []byte{0}
}

// Close implements Journal.
func (c *core) Close() error {
	return errors.Join(c.a.close(), c.b.close(), c.marks.close())
}
