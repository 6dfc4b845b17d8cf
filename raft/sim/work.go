package sim

import (
	"encoding/binary"
	"errors"
	"fmt"

	"lograft/raft"
)

// work is one request of a client or operator; it schedules the next.
func (c *cluster) work() {
	if c.healing {
		return
	}
	c.after(1+c.below(2*c.plan.workEvery), rankOther, "work", 0, c.work)
	n := c.running()
	if n == nil {
		return
	}
	if c.chance(c.plan.confChance) {
		c.changeConf(n)
		return
	}
	switch r := c.below(100); {
	case r < 45:
		c.propose(n)
	case r < 80:
		c.read(n)
	case r < 83:
		c.trace.note(c.now, n.id, "transfer", 0, 0)
		n.raw.TransferLeader(1 + c.below(uint64(c.plan.nodes)))
	case r < 91:
		n.takeSnapshot()
		n.compact()
	default:
		c.rare(n)
	}
	c.check.observe(n)
	n.drain()
}

// rare are the calls that seldom come.
func (c *cluster) rare(n *node) {
	c.trace.note(c.now, n.id, "rare", 0, 0)
	switch c.below(9) {
	case 0:
		n.raw.Ping()
	case 1:
		n.expectReason("RequestSnapshot", n.raw.RequestSnapshot(), raft.ErrRequestSnapshotDropped)
	case 2:
		n.expectReason("ForgetLeader", n.raw.ForgetLeader(), nil)
	case 3:
		if !c.plan.lease { // a campaign by hand breaks the promise leases rest on
			n.expectReason("Campaign", n.raw.Campaign(), raft.ErrNotPromotable)
		}
	case 4:
		n.raw.SetElectable(c.chance(0.5))
	case 5:
		if c.plan.priorities {
			n.raw.SetPriority(int64(c.below(3)))
		}
	case 6:
		n.raw.AdjustMaxInflightMsgs(1+c.below(uint64(c.plan.nodes)), 1+int(c.below(8)))
		n.raw.SetBatchAppend(c.chance(0.5))
		n.raw.SetSkipBcastCommit(c.chance(0.2))
	case 7:
		n.raw.SetMaxCommittedSizePerReady(c.below(500))
		n.raw.SetMaxApplyUnpersistedLogLimit(c.below(4))
	case 8:
		if c.plan.groupCommit {
			c.groupCommit(n)
		}
	}
}

func (c *cluster) groupCommit(n *node) {
	n.raw.EnableGroupCommit(c.chance(0.7))
	var groups []raft.CommitGroup
	for id := uint64(1); id <= uint64(c.plan.nodes); id++ {
		groups = append(groups, raft.CommitGroup{PeerID: id, GroupID: 1 + c.below(3)})
	}
	n.raw.AssignCommitGroups(groups)
	n.raw.CheckGroupCommitConsistent()
}

func (n *node) expectReason(what string, err error, allowed error) {
	if allowed != nil {
		n.expect(what, err, allowed)
		return
	}
	var fatal *raft.FatalError
	if errors.As(err, &fatal) {
		n.expect(what, err)
	}
}

var dropReasons = []error{
	raft.ErrNoLeader, raft.ErrNotLeader, raft.ErrForwardingDisabled, raft.ErrTransferring,
	raft.ErrUncommittedLimit, raft.ErrRemoved, raft.ErrConfChangePending, raft.ErrInvalidConfChange,
}

// refused checks that a proposal's error matches ErrProposalDropped and one reason.
func (n *node) refused(err error) bool {
	if err == nil {
		n.c.stats.Proposed++
		return false
	}
	n.c.stats.Refused++
	reasons := 0
	for _, r := range dropReasons {
		if errors.Is(err, r) {
			reasons++
		}
	}
	if !errors.Is(err, raft.ErrProposalDropped) || reasons != 1 {
		n.c.fail("a refused proposal says why", fmt.Errorf("node %d: %d reasons in %w", n.id, reasons, err))
	}
	return true
}

func (c *cluster) propose(n *node) {
	for range 1 + c.below(4) {
		c.proposed++
		data := binary.BigEndian.AppendUint64(nil, c.proposed)
		data = append(data, make([]byte, c.below(60))...)
		if n.refused(n.raw.Propose([]byte{byte(n.id)}, data)) {
			c.check.refused[string(data)] = true
		}
		c.check.observe(n)
	}
}

func (c *cluster) read(n *node) {
	for range 1 + c.below(3) {
		if !c.chance(c.plan.reuseCtx) || c.asked == 0 {
			c.asked++
		}
		ctx := binary.BigEndian.AppendUint64(nil, c.asked)
		n.reads.ask(n, ctx)
		n.expect("ReadIndex", n.raw.ReadIndex(ctx))
		c.check.observe(n)
	}
}

// changeConf proposes a random change of the configuration, leaving a joint
// one by hand included.
func (c *cluster) changeConf(n *node) {
	var cc raft.ConfChanger
	var v2 raft.ConfChangeV2
	switch r := c.below(10); {
	case r < 2:
		cc = v2 // leave
	case r < 6:
		s := c.singleChange()
		cc = raft.ConfChange{ID: c.proposed, Type: s.Type, NodeID: s.NodeID}
	default:
		v2.Transition = raft.ConfChangeTransition(c.below(3))
		for range 1 + c.below(3) {
			v2.Changes = append(v2.Changes, c.singleChange())
		}
		cc = v2
	}
	c.trace.printf(c.now, "n%d proposes %+v", n.id, cc)
	err := n.raw.ProposeConfChange(binary.BigEndian.AppendUint64(nil, c.proposed), cc)
	n.refused(err)
	c.check.observe(n)
	if err == nil {
		for _, s := range cc.AsV2().Changes {
			if s.NodeID <= uint64(c.plan.nodes) && !c.nodes[s.NodeID].started {
				c.nodes[s.NodeID].start()
			}
		}
	}
	n.drain()
}

func (c *cluster) singleChange() raft.ConfChangeSingle {
	types := [...]raft.ConfChangeType{raft.ConfChangeAddNode, raft.ConfChangeAddNode, raft.ConfChangeRemoveNode, raft.ConfChangeAddLearnerNode}
	return raft.ConfChangeSingle{Type: types[c.below(4)], NodeID: 1 + c.below(uint64(c.plan.nodes))}
}
