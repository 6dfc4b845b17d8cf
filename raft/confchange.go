package raft

import (
	"errors"
	"fmt"
	"slices"
)

// configuration is the set of members that a change is computed on. The rules are those of raft-rs and etcd (dissertation §4.3): a
// simple change alters at most one voter; a joint one keeps the old voters as outgoing until it is left; a voter that becomes a learner
// while it is outgoing waits in learnersNext. Lists are sets, kept sorted.
type configuration struct {
	voters, outgoing, learners, learnersNext []uint64
	autoLeave                                bool
}

func (c *configuration) joint() bool { return len(c.outgoing) > 0 }

func contains(set []uint64, id uint64) bool {
	_, ok := slices.BinarySearch(set, id)
	return ok
}

func insert(set []uint64, id uint64) []uint64 {
	at, ok := slices.BinarySearch(set, id)
	if ok {
		return set
	}
	return slices.Insert(set, at, id)
}

func remove(set []uint64, id uint64) []uint64 {
	at, ok := slices.BinarySearch(set, id)
	if !ok {
		return set
	}
	return slices.Delete(set, at, at+1)
}

func (c *configuration) state() ConfState {
	return ConfState{Voters: slices.Clone(c.voters), Learners: slices.Clone(c.learners), VotersOutgoing: slices.Clone(c.outgoing),
		LearnersNext: slices.Clone(c.learnersNext), AutoLeave: c.autoLeave}
}

var errConf = errors.New("raft: invalid configuration")

// configurationOf checks a ConfState that came from Storage or a peer.
func configurationOf(cs ConfState) (configuration, error) {
	c := configuration{voters: slices.Clone(cs.Voters), outgoing: slices.Clone(cs.VotersOutgoing), learners: slices.Clone(cs.Learners),
		learnersNext: slices.Clone(cs.LearnersNext), autoLeave: cs.AutoLeave}
	for _, list := range [][]uint64{c.voters, c.outgoing, c.learners, c.learnersNext} {
		slices.Sort(list)
		for i, id := range list {
			if reservedID(id) || i > 0 && list[i-1] == id {
				return c, fmt.Errorf("%w: id %d is reserved or stands twice", errConf, id)
			}
		}
	}
	return c, c.check()
}

// check holds a configuration to its invariants.
func (c *configuration) check() error {
	for _, id := range c.learners {
		if contains(c.voters, id) || contains(c.outgoing, id) {
			return fmt.Errorf("%w: %d is both learner and voter", errConf, id)
		}
	}
	for _, id := range c.learnersNext {
		if !contains(c.outgoing, id) || contains(c.voters, id) {
			return fmt.Errorf("%w: %d shall become a learner and is not only an outgoing voter", errConf, id)
		}
	}
	switch {
	case !c.joint() && c.autoLeave:
		return fmt.Errorf("%w: not joint, but to be left automatically", errConf)
	case len(c.voters) == 0 && (len(c.outgoing) > 0 || len(c.learners) > 0):
		return fmt.Errorf("%w: no voters", errConf)
	}
	return nil
}

// apply computes the configuration after a change; c itself is not altered.
func (c *configuration) apply(cc *ConfChangeV2) (configuration, error) {
	n := configuration{voters: slices.Clone(c.voters), outgoing: slices.Clone(c.outgoing), learners: slices.Clone(c.learners),
		learnersNext: slices.Clone(c.learnersNext), autoLeave: c.autoLeave}
	joint, autoLeave := cc.entersJoint()
	var err error
	switch {
	case cc.leavesJoint():
		err = n.leaveJoint()
	case joint:
		err = n.enterJoint(autoLeave, cc.Changes)
	default:
		err = n.simple(cc.Changes)
	}
	if err == nil {
		err = n.check()
	}
	return n, err
}

// simple alters at most one voter: more than one change enters a joint configuration (entersJoint).
func (c *configuration) simple(changes []ConfChangeSingle) error {
	if c.joint() {
		return fmt.Errorf("%w: a simple change in a joint configuration", errConf)
	}
	return c.alter(changes)
}

func (c *configuration) enterJoint(autoLeave bool, changes []ConfChangeSingle) error {
	if c.joint() {
		return fmt.Errorf("%w: already joint", errConf)
	}
	if len(c.voters) == 0 {
		return fmt.Errorf("%w: a configuration without voters can't become joint", errConf)
	}
	c.outgoing = slices.Clone(c.voters)
	if err := c.alter(changes); err != nil {
		return err
	}
	c.autoLeave = autoLeave
	return nil
}

func (c *configuration) leaveJoint() error {
	if !c.joint() {
		return fmt.Errorf("%w: not joint, nothing to leave", errConf)
	}
	for _, id := range c.learnersNext {
		c.learners = insert(c.learners, id)
	}
	c.outgoing, c.learnersNext, c.autoLeave = nil, nil, false
	return nil
}

func (c *configuration) alter(changes []ConfChangeSingle) error {
	for _, s := range changes {
		if s.NodeID == 0 || s.Type == confChangeReserved {
			continue // a change that was struck out
		}
		if reservedID(s.NodeID) {
			return fmt.Errorf("%w: id %d is reserved", errConf, s.NodeID)
		}
		switch s.Type {
		case ConfChangeAddNode:
			c.learners, c.learnersNext = remove(c.learners, s.NodeID), remove(c.learnersNext, s.NodeID)
			c.voters = insert(c.voters, s.NodeID)
		case ConfChangeRemoveNode:
			c.voters, c.learners, c.learnersNext = remove(c.voters, s.NodeID), remove(c.learners, s.NodeID), remove(c.learnersNext, s.NodeID)
		case ConfChangeAddLearnerNode:
			c.voters = remove(c.voters, s.NodeID)
			if contains(c.outgoing, s.NodeID) {
				c.learnersNext = insert(c.learnersNext, s.NodeID)
			} else {
				c.learners = insert(c.learners, s.NodeID)
			}
		default:
			return fmt.Errorf("%w: unknown change type %d", errConf, s.Type)
		}
	}
	if len(c.voters) == 0 {
		return fmt.Errorf("%w: no voter would be left", errConf)
	}
	return nil
}

// After is the configuration that an applied change makes of cs. An error means an invalid change: the entry is an applied no-op.
func (cs ConfState) After(cc ConfChanger) (ConfState, error) {
	c, err := configurationOf(cs)
	if err != nil {
		return cs, err
	}
	v2 := cc.AsV2()
	next, err := c.apply(&v2)
	if err != nil {
		return cs, err
	}
	return next.state(), nil
}

// switchTo makes a configuration the current one. Members that stay keep their progress; new ones are probed from our last entry on and
// count as active, so that check-quorum gives them time.
func (r *raft) switchTo(c configuration) {
	old := r.peers
	r.conf = c
	var ids []uint64
	for _, set := range [][]uint64{c.voters, c.outgoing, c.learners, c.learnersNext} {
		for _, id := range set {
			ids = insert(ids, id)
		}
	}
	r.peers = make([]peer, len(ids))
	for i, id := range ids {
		p := &r.peers[i]
		if at, ok := slices.BinarySearchFunc(old, id, comparePeer); ok {
			*p = old[at]
		} else {
			*p = peer{id: id, window: inflights{countMax: r.cfg.MaxInflightMsgs, bytesMax: r.cfg.MaxInflightBytes}}
			p.reset(max(r.log.last(), 1) - 1) // so that the first probe carries an entry and goes at once
			p.recentActive = true
		}
		p.incoming, p.outgoing = contains(c.voters, id), contains(c.outgoing, id)
		p.learner, p.learnerNext = contains(c.learners, id), contains(c.learnersNext, id)
	}
	r.voters = r.voters[:0]
	for range r.peers {
		r.voters = append(r.voters, 0)
	}
}

func comparePeer(p peer, id uint64) int {
	switch {
	case p.id < id:
		return -1
	case p.id > id:
		return 1
	}
	return 0
}

// applyConfChange puts a committed change into effect (dissertation §4.1: at apply, as raft-rs and etcd do).
func (r *raft) applyConfChange(cc ConfChangeV2) (ConfState, error) {
	next, err := r.conf.apply(&cc)
	if err != nil {
		return r.conf.state(), err
	}
	r.switchTo(next)
	r.trace("conf_change", r.log.applied, 0, "")
	r.confSwitched()
	return r.conf.state(), nil
}

// confSwitched draws the conclusions of a new configuration.
func (r *raft) confSwitched() {
	if r.state != StateLeader {
		return
	}
	self := r.self()
	if r.leavingAt = 0; (self == nil || !self.voter()) && r.cfg.StepDownOnRemoval {
		r.leavingAt = r.log.last()
		if r.leave() {
			return
		}
	}
	if r.maybeCommit() {
		if !r.commitTold() {
			return
		}
	} else {
		for i := range r.peers {
			if r.peers[i].id != r.id {
				r.maybeSendAppend(&r.peers[i], false /* evenEmpty */)
			}
		}
	}
	if p := r.peer(r.transferee); r.transferee != 0 && (p == nil || !p.voter()) {
		r.abortTransfer()
	}
	r.releaseReads()
}

// leave steps down once the tail that a leader had when it was removed is committed (rule 8). Until then it leads, counting only the
// others; if they are silent, check-quorum deposes it.
func (r *raft) leave() bool {
	if r.leavingAt == 0 || r.log.committed < r.leavingAt {
		return false
	}
	r.bcastAppend() // the others learn of the commit
	r.becomeFollower(r.term, 0)
	return true
}

// confChangePending reports whether a configuration change is in the log and not applied.
func (r *raft) confChangePending() bool { return r.pendingConf > r.log.applied }

// checkConfProposal says why a configuration change can't be proposed now, nil if it can.
func (r *raft) checkConfProposal(cc *ConfChangeV2) error {
	switch {
	case r.confChangePending():
		return dropConfPending
	case r.conf.joint() && !cc.leavesJoint(), !r.conf.joint() && cc.leavesJoint():
		return dropInvalidChange
	}
	return nil
}

// maybeAutoLeave proposes to leave a joint configuration that is to be left automatically. It is asked again at each tick until done.
func (r *raft) maybeAutoLeave() {
	if r.state != StateLeader || !r.conf.autoLeave || r.confChangePending() || r.transferee != 0 || r.self() == nil {
		return
	}
	r.appendEntry(EntryConfChangeV2, nil, nil)
	r.pendingConf = r.log.last()
	r.bcastAppend()
}
