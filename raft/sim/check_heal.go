package sim

import (
	"encoding/binary"
	"fmt"
	"slices"

	"lograft/raft"
)

// healTicks bounds how long a healed cluster may take, in election timeouts:
// a few to elect, one per abandoned transfer or joint configuration to leave,
// the rest to fill followers through one-entry windows.
const healTicks = 60

// healEntriesPerTick is the pace at which a backlog must shrink besides: with one
// entry per message, on a network that reorders all of them, nearly each message
// is refused, and about 8 entries arrive per tick.
const healEntriesPerTick = 4

// slowSyncTicks is how long a sync that began before the healing may still take.
const slowSyncTicks = 24

// heal ends the faults and waits, in bounded ticks, for one leader, equal logs
// and no open read; then a new proposal must commit everywhere.
func (c *cluster) heal() {
	c.healing = true
	c.net.heal()
	c.net.loss, c.net.dup, c.net.slow, c.net.latency = 0, 0, 0, 200
	c.plan.lazyReady, c.plan.crashInside, c.plan.slowReads, c.plan.snapBusy = 0, 0, 0, 0
	c.plan.syncUnits, c.plan.applyUnits = 200, 200
	for _, n := range c.nodes[1:] {
		n.disk.faultLo, n.disk.faultHi = 0, 0
		n.disk.slowReads, n.disk.snapBusy = 0, 0
		n.resume()
		if n.up() && c.err == nil {
			n.raw.SetElectable(true)
			n.raw.SetPriority(0) // or the one that priority favours may be the one that must hand over
			n.raw.EnableGroupCommit(false)
			n.raw.SetMaxCommittedSizePerReady(0)
			c.check.observe(n)
			n.period = c.plan.drawPeriod(c)
		}
	}
	began := c.now
	bound := uint64(healTicks*c.plan.electionTick) + c.backlog()/healEntriesPerTick
	if !c.until(began+bound*tickUnits, "one leader and equal logs") {
		return
	}
	if lead := c.leader(); lead != nil {
		c.proposed++
		before := c.check.top()
		if err := lead.raw.Propose(nil, binary.BigEndian.AppendUint64(nil, c.proposed)); err != nil {
			c.fail("liveness", fmt.Errorf("leader %d of a healed cluster: %w", lead.id, err))
			return
		}
		c.check.observe(lead)
		lead.drain()
		// A snapshot that was lost before the healing keeps its peer, whose log may be equal by then, waiting for its timeout (rule 9).
		ticks := 2*c.plan.electionTick + slowSyncTicks + c.plan.snapshotTimeout
		c.until(c.now+uint64(ticks)*tickUnits, "a new proposal")
		if c.err == nil && c.check.top() <= before {
			c.fail("liveness", fmt.Errorf("nothing committed after index %d", before))
		}
	}
	c.stats.HealTicksMax = max(c.stats.HealTicksMax, (c.now-began)/tickUnits)
}

// backlog is how many entries the longest log has beyond what is committed.
func (c *cluster) backlog() (entries uint64) {
	for _, n := range c.nodes[1:] {
		if last := n.disk.seen.last(); last > c.check.top() {
			entries = max(entries, last-c.check.top())
		}
	}
	return entries
}

func (c *cluster) until(end uint64, what string) bool {
	next := c.now
	for c.now < end && c.step() {
		if c.now < next {
			continue
		}
		next = c.now + tickUnits
		c.tend()
		if c.err == nil && c.settled() == nil {
			return true
		}
	}
	if c.err == nil {
		c.fail("liveness", fmt.Errorf("%s: %w", what, c.settled()))
	}
	return false
}

// tend starts everyone needed, stops everyone else, widens windows,
// has a leader that is no voter hand over and has the leader leave a joint
// configuration that nobody else will leave.
func (c *cluster) tend() {
	for _, n := range c.nodes[1:] {
		needed := c.needed(n.id)
		if needed && !n.up() {
			n.start()
		}
		if !needed && n.up() && n.view.role != raft.StateLeader {
			n.crash()
		}
	}
	lead := c.leader()
	if lead == nil || c.err != nil {
		return
	}
	for _, n := range c.nodes[1:] {
		lead.raw.AdjustMaxInflightMsgs(n.id, 16)
	}
	if conf := lead.raw.Status().Conf; !slices.Contains(conf.Voters, lead.id) {
		for _, id := range conf.Voters { // a leader that was removed and may stay hands over
			if c.nodes[id].up() {
				lead.raw.TransferLeader(id)
				c.check.observe(lead)
				lead.drain()
				return
			}
		}
	}
	if len(c.conf.VotersOutgoing) > 0 && !c.conf.AutoLeave {
		lead.refused(lead.raw.ProposeConfChange(nil, raft.ConfChangeV2{}))
		c.check.observe(lead)
		lead.drain()
	}
}

func (c *cluster) member(id uint64) bool { return memberOf(&c.conf, id) }

// needed says that id is a member of the newest configuration, or of one that a
// member still goes by: that one may need its vote to learn of the newest.
func (c *cluster) needed(id uint64) bool {
	if c.member(id) {
		return true
	}
	for _, n := range c.nodes[1:] {
		if c.member(n.id) && memberOf(&n.sm.conf, id) {
			return true
		}
	}
	return false
}

func memberOf(cs *raft.ConfState, id uint64) bool {
	return slices.Contains(cs.Voters, id) || slices.Contains(cs.Learners, id) ||
		slices.Contains(cs.VotersOutgoing, id) || slices.Contains(cs.LearnersNext, id)
}

// settled is nil when the cluster is at rest and equal; else what is missing.
func (c *cluster) settled() error {
	lead := c.leader()
	if lead == nil {
		return fmt.Errorf("no leader")
	}
	if !slices.Contains(c.conf.Voters, lead.id) {
		return fmt.Errorf("leader %d is not a voter of %v", lead.id, c.conf)
	}
	if len(c.conf.VotersOutgoing) > 0 {
		return fmt.Errorf("still joint: %v", c.conf)
	}
	want := lead.raw.BasicStatus()
	if want.HardState.Commit != want.LastIndex || want.LeadTransferee != 0 {
		return fmt.Errorf("leader %d: commit %d of %d, transferee %d", lead.id, want.HardState.Commit, want.LastIndex, want.LeadTransferee)
	}
	wantTerm, _ := lead.disk.seen.term(want.LastIndex)
	for _, n := range c.nodes[1:] {
		if !c.member(n.id) {
			continue
		}
		if !n.up() {
			return fmt.Errorf("member %d is down", n.id)
		}
		got := n.raw.BasicStatus()
		term, _ := n.disk.seen.term(got.LastIndex)
		switch {
		case n != lead && got.SoftState.RaftState != raft.StateFollower:
			return fmt.Errorf("node %d is in state %v beside leader %d", n.id, got.SoftState.RaftState, lead.id)
		case got.HardState.Term != want.HardState.Term, got.SoftState.LeaderID != lead.id:
			return fmt.Errorf("node %d follows %d in term %d, leader %d is in %d", n.id, got.SoftState.LeaderID, got.HardState.Term, lead.id, want.HardState.Term)
		case got.LastIndex != want.LastIndex || term != wantTerm || got.HardState.Commit != want.HardState.Commit:
			return fmt.Errorf("node %d: last %d/%d commit %d, leader %d: %d/%d, %d", n.id, term, got.LastIndex, got.HardState.Commit,
				lead.id, wantTerm, want.LastIndex, want.HardState.Commit)
		case n.sm.index != want.HardState.Commit || got.Applied != n.sm.index:
			return fmt.Errorf("node %d: applied %d (core %d) of %d, persisted %d, mode %d", n.id, n.sm.index, got.Applied, want.HardState.Commit, got.Persisted, n.driver.mode)
		case len(n.reads.open) > 0:
			return fmt.Errorf("node %d: %d reads open", n.id, len(n.reads.open))
		case confString(n.raw.Status().Conf) != confString(c.conf):
			return fmt.Errorf("node %d: configuration %v, newest is %v", n.id, n.raw.Status().Conf, c.conf)
		}
	}
	return nil
}
