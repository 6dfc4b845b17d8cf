package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"

	"lograft/raft"
)

// inboxMax bounds what a paused node keeps; more is lost, as in a full queue.
const inboxMax = 64

// node is the simulated application around one RawNode.
type node struct {
	id   uint64
	c    *cluster
	rng  *rand.Rand // Config.Rand; goes on over restarts
	disk disk

	raw     *raft.RawNode // nil: down
	life    int           // raised by start and by crash, so that old events die
	driver  driver
	period  uint64 // units per tick
	paused  bool
	owed    int // ticks due while paused
	inbox   []raft.Message
	started bool // ever

	sm       checkpoint // the state machine; conf as returned by the core
	smLate   bool       // checkpoint only with snapshots, so a restart applies again
	view     view       // what the checkers saw last
	reads    readBook
	ticksRun uint64
}

func newNode(c *cluster, id uint64) *node {
	n := &node{id: id, c: c, rng: rand.New(rand.NewPCG(c.plan.seed, id))}
	n.disk.n = n
	return n
}

func (n *node) up() bool { return n.raw != nil }

// start builds the RawNode from what the disk kept.
func (n *node) start() {
	c := n.c
	n.life++
	n.sm = n.disk.check
	n.sm.conf = cloneConf(n.disk.check.conf)
	n.driver = driver{n: n, mode: c.plan.drawMode(c)}
	n.paused, n.owed, n.inbox = false, 0, nil
	n.period = c.plan.drawPeriod(c)
	n.disk.slowReads, n.disk.snapBusy = c.plan.slowReads, c.plan.snapBusy
	cfg := c.plan.config(c, n)
	raw, err := raft.NewRawNode(cfg, &n.disk)
	if err != nil {
		c.fail("start", fmt.Errorf("node %d: NewRawNode: %w", n.id, err))
		return
	}
	n.raw = raw
	n.started = true
	n.view = view{}
	c.check.started(n)
	c.trace.note(c.now, n.id, "started", n.sm.index, n.disk.seen.last())
	n.tickLater(1 + c.below(n.period))
	n.drain()
}

// crash takes the power away: only what was synced is certain.
func (n *node) crash() {
	c := n.c
	n.raw = nil
	n.life++
	if lost := n.disk.crash(c.rng); lost > 0 {
		c.stats.LostWrites++
	}
	c.stats.Crashes++
	c.stats.ReadsLostInCrash += n.reads.forget()
	c.trace.note(c.now, n.id, "crashed", n.disk.seen.last(), n.disk.seen.hs.Term)
}

func (n *node) tickLater(delay uint64) {
	life := n.life
	n.c.after(delay, rankTick, "tick", n.id, func() {
		if n.life != life {
			return
		}
		if n.paused {
			n.owed++
		} else {
			n.tick()
		}
		if n.life == life {
			n.tickLater(n.period)
		}
	})
}

func (n *node) tick() {
	if !n.up() {
		return
	}
	n.raw.Tick()
	n.ticksRun++
	n.c.stats.Ticks++
	n.c.check.observe(n)
	n.drain()
	n.c.check.readsOverdue(n)
}

// resume delivers every tick that fell due before anything else.
func (n *node) resume() {
	if !n.paused || !n.up() {
		return
	}
	n.paused = false
	for ; n.owed > 0 && n.c.err == nil; n.owed-- {
		n.raw.Tick()
		n.ticksRun++
		n.c.check.observe(n)
	}
	inbox := n.inbox
	n.inbox = nil
	for i := range inbox {
		if n.up() && n.c.err == nil {
			n.receive(inbox[i])
		}
	}
	if n.up() {
		n.drain()
	}
}

// receive steps a message, or keeps it while paused; false when nothing took it.
func (n *node) receive(m raft.Message) bool {
	c := n.c
	if !n.up() {
		return false
	}
	if n.paused {
		if len(n.inbox) < inboxMax {
			n.inbox = append(n.inbox, m)
		}
		return true
	}
	if m.Type == raft.MsgSnapshot {
		n.driver.finishApplies()
	}
	if !n.up() || c.err != nil {
		return false
	}
	c.trace.message(c.now, "step", &m)
	err := n.raw.Step(m)
	spoil(&m)
	n.expect("step "+messageNames[m.Type], err, raft.ErrStepPeerNotFound, raft.ErrProposalDropped)
	c.check.observe(n)
	n.drain()
	return err == nil
}

// expect fails the run on any error but the named ones.
func (n *node) expect(what string, err error, allowed ...error) {
	if err == nil {
		return
	}
	for _, a := range allowed {
		if errors.Is(err, a) {
			return
		}
	}
	n.c.fail("contract", fmt.Errorf("node %d: %s: %w", n.id, what, err))
}

func (n *node) reportUnreachable(life int, to uint64) {
	if n.life == life && !n.paused {
		n.raw.ReportUnreachable(to)
		n.c.check.observe(n)
		n.drain()
	}
}

func (n *node) reportSnapshot(life int, to uint64, s raft.SnapshotStatus) {
	if n.life == life && !n.paused {
		n.raw.ReportSnapshot(to, s)
		n.c.check.observe(n)
		n.drain()
	}
}

func (n *node) fetchLater(ctx raft.EntriesContext) {
	life := n.life
	n.c.after(1+n.c.below(2*tickUnits), rankOther, "fetched", n.id, func() {
		if n.life != life || n.paused {
			return
		}
		n.raw.OnEntriesFetched(ctx)
		n.c.check.observe(n)
		n.drain()
	})
}

// drain hands Readys to the driver, at once or a little later.
func (n *node) drain() {
	c := n.c
	if c.err != nil || n.paused || !n.up() {
		return
	}
	if err := n.raw.Err(); err != nil {
		c.fail("fatal", fmt.Errorf("node %d: %w", n.id, err))
		return
	}
	if n.raw.HasReady() && c.chance(c.plan.lazyReady) {
		life := n.life
		c.after(1+c.below(tickUnits/4), rankOther, "ready", n.id, func() {
			if n.life == life && !n.paused {
				n.driver.run()
			}
		})
		return
	}
	n.driver.run()
}

// takeSnapshot keeps a snapshot as of the applied index when the log up to
// there is on the platter.
func (n *node) takeSnapshot() {
	d := &n.disk
	i := n.sm.index
	if i <= d.seen.snap.Metadata.Index || i <= d.check.index && i <= d.seen.base {
		return
	}
	seen, ok := d.seen.term(i)
	safe, kept := d.safe.term(i)
	if !ok || !kept || seen != safe || d.faulty(i, i+1) {
		return
	}
	s := raft.Snapshot{Data: n.sm.snapshotData()}
	s.Metadata = raft.SnapshotMetadata{ConfState: cloneConf(n.sm.conf), Index: i, Term: seen}
	if _, err := d.write(unit{local: &s}); err != nil {
		n.c.fail("disk", err)
		return
	}
	n.saveCheckpoint()
}

// saveCheckpoint makes the state machine's state certain; never ahead of the
// certain log.
func (n *node) saveCheckpoint() {
	d := &n.disk
	seen, ok := d.seen.term(n.sm.index)
	safe, kept := d.safe.term(n.sm.index)
	if ok && kept && seen == safe && n.sm.index > d.check.index {
		d.check = n.sm
		d.check.conf = cloneConf(n.sm.conf)
	}
}

// compact drops a random part of what a snapshot covers.
func (n *node) compact() {
	d := &n.disk
	upTo := min(d.seen.snap.Metadata.Index, d.check.index)
	if upTo <= d.seen.base {
		return
	}
	upTo -= min(n.c.below(12), upTo-d.seen.base)
	if upTo <= d.seen.base {
		return
	}
	if _, err := d.write(unit{compact: upTo}); err != nil {
		n.c.fail("disk", err)
	}
	n.c.stats.Compactions++
}
