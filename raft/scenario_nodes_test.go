package raft_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"lograft/raft"
)

// Commands of the scenario scripts that build, break and drive nodes.

func (s *scenario) addNodes(a args) error {
	var cs raft.ConfState
	for i := range a.words {
		id, err := a.id(i)
		if err != nil {
			return err
		}
		cs.Voters = append(cs.Voters, id)
	}
	cs.Learners = ids(a.named["learners"])
	members := append(slices.Clone(cs.Voters), cs.Learners...)
	slices.Sort(members)
	for _, id := range members {
		snap := raft.Snapshot{Metadata: raft.SnapshotMetadata{ConfState: cs, Index: 1, Term: 1}}
		n := &scenarioNode{id: id, applied: 1, confs: []scenarioConf{{1, cs}}}
		n.units = []scenarioUnit{{hs: &raft.HardState{Term: 1, Commit: 1}, snap: &snap}}
		if terms := ids(a.named["log"]); len(terms) > 0 { // entries from index 2 on, in these terms
			u := scenarioUnit{hs: &raft.HardState{Term: terms[len(terms)-1], Commit: 1}}
			for i, t := range terms {
				u.ents = append(u.ents, raft.Entry{Term: t, Index: uint64(i + 2), Data: []byte(fmt.Sprintf("t%d", t))})
			}
			n.units = append(n.units, u)
		}
		if err := s.add(n, a); err != nil {
			return err
		}
	}
	return nil
}

func (s *scenario) join(a args) error {
	id, err := a.id(0)
	if err != nil {
		return err
	}
	return s.add(&scenarioNode{id: id}, a)
}

func (s *scenario) add(n *scenarioNode, a args) error {
	n.synced = len(n.units)
	n.cfg = raft.DefaultConfig(n.id)
	n.cfg.ElectionTick, n.cfg.HeartbeatTick = 3, 1
	n.cfg.PreVote, n.cfg.CheckQuorum, n.cfg.StepDownOnRemoval = false, false, false
	s.nodes[n.id] = n
	s.ids = append(s.ids, n.id)
	slices.Sort(s.ids)
	return s.start(n, a)
}

// configure takes options: flags by name, numbers as key=value.
func (n *scenarioNode) configure(a args) {
	c := &n.cfg
	c.ElectionTick = int(a.number("election", uint64(c.ElectionTick)))
	c.HeartbeatTick = int(a.number("heartbeat", uint64(c.HeartbeatTick)))
	c.MaxSizePerMsg = a.number("max-size", c.MaxSizePerMsg)
	c.MaxInflightMsgs = int(a.number("inflight", uint64(c.MaxInflightMsgs)))
	c.MaxInflightBytes = a.number("inflight-bytes", c.MaxInflightBytes)
	c.MaxUncommittedSize = a.number("uncommitted", c.MaxUncommittedSize)
	c.MaxCommittedSizePerReady = a.number("committed-size", c.MaxCommittedSizePerReady)
	c.MaxApplyUnpersistedLogLimit = a.number("unpersisted", c.MaxApplyUnpersistedLogLimit)
	c.SnapshotTimeoutTick = int(a.number("snapshot-timeout", uint64(c.SnapshotTimeoutTick)))
	c.LeaseMarginTick = int(a.number("margin", uint64(c.LeaseMarginTick)))
	c.Priority = int64(a.number("priority", uint64(c.Priority)))
	for _, f := range ids(a.named["timeouts"]) {
		n.timeouts = append(n.timeouts, int(f))
	}
	for _, w := range strings.Split(a.named["with"], ",") {
		switch w {
		case "prevote":
			c.PreVote = true
		case "checkquorum":
			c.CheckQuorum = true
		case "stepdown":
			c.StepDownOnRemoval = true
		case "lease":
			c.ReadOnlyOption, c.CheckQuorum = raft.ReadOnlyLeaseBased, true
		case "batch":
			c.BatchAppend = true
		case "skip-commit":
			c.SkipBcastCommit = true
		case "no-forwarding":
			c.DisableProposalForwarding = true
		case "async":
			n.async = true
		case "late":
			n.lateApply = true
		case "":
		default:
			panic("no option " + w)
		}
	}
}

// start builds the RawNode from the units that are certain.
func (s *scenario) start(n *scenarioNode, a args) error {
	n.configure(a)
	n.units = n.units[:n.synced]
	n.store = &scenarioStore{MemoryStorage: raft.NewMemoryStorage()}
	for _, u := range n.units {
		if err := n.write(u); err != nil {
			return err
		}
	}
	last, err := n.store.LastIndex()
	if err != nil {
		return err
	}
	n.applied = min(n.applied, last)
	for len(n.confs) > 0 && n.confs[len(n.confs)-1].index > n.applied {
		n.confs = n.confs[:len(n.confs)-1]
	}
	if len(n.confs) > 0 {
		n.store.SetConfState(n.confs[len(n.confs)-1].conf)
	}
	n.unsynced, n.toApply = nil, nil
	n.cfg.Applied = n.applied
	n.cfg.Rand = func(max int) int {
		if len(n.timeouts) == 0 {
			return 0
		}
		t := n.timeouts[0]
		n.timeouts = n.timeouts[1:]
		return t % max
	}
	n.raw, err = raft.NewRawNode(n.cfg, n.store)
	return err
}

func (n *scenarioNode) write(u scenarioUnit) error {
	if u.snap != nil {
		if err := n.store.ApplySnapshot(*u.snap); err != nil {
			return err
		}
	}
	if len(u.ents) > 0 {
		if err := n.store.Append(u.ents); err != nil {
			return err
		}
	}
	if u.hs != nil {
		n.store.SetHardState(*u.hs)
	}
	return nil
}

func (s *scenario) restart(a args) error {
	id, err := a.id(0)
	if err != nil {
		return err
	}
	n := s.nodes[id]
	if n == nil || n.raw != nil {
		return fmt.Errorf("node %d is up or unknown", id)
	}
	return s.start(n, a)
}

func (s *scenario) crash(a args) error {
	n, err := s.node(a)
	if err != nil {
		return err
	}
	n.raw = nil
	return nil
}

func (s *scenario) tick(a args) error {
	n, err := s.node(a)
	if err != nil {
		return err
	}
	times := uint64(1)
	if len(a.words) > 1 {
		if times, err = a.id(1); err != nil {
			return err
		}
	}
	for range times {
		n.raw.Tick()
	}
	return nil
}

func (s *scenario) set(a args) error {
	n, err := s.node(a)
	if err != nil {
		return err
	}
	for _, w := range a.words[1:] {
		switch w {
		case "async":
			n.async, n.lateApply = true, false
		case "late":
			n.async, n.lateApply = false, true
		case "sync":
			n.async, n.lateApply = false, false
		case "slow", "fast":
			n.store.slow = w == "slow"
		case "busy", "free":
			n.store.busy = w == "busy"
		case "checkquorum":
			n.raw.SetCheckQuorum(true)
		case "no-checkquorum":
			n.raw.SetCheckQuorum(false)
		case "electable", "not-electable":
			n.raw.SetElectable(w == "electable")
		case "batch", "no-batch":
			n.raw.SetBatchAppend(w == "batch")
		case "skip-commit", "no-skip-commit":
			n.raw.SetSkipBcastCommit(w == "skip-commit")
		default:
			return fmt.Errorf("no setting %q", w)
		}
	}
	if v, ok := a.named["fault"]; ok {
		lohi := ids(v)
		n.store.faultLo, n.store.faultHi = lohi[0], lohi[1]
	}
	if _, ok := a.named["priority"]; ok {
		n.raw.SetPriority(int64(a.number("priority", 0)))
	}
	if _, ok := a.named["committed-size"]; ok {
		n.raw.SetMaxCommittedSizePerReady(a.number("committed-size", 0))
	}
	if _, ok := a.named["unpersisted"]; ok {
		n.raw.SetMaxApplyUnpersistedLogLimit(a.number("unpersisted", 0))
	}
	if v, ok := a.named["inflight"]; ok { // peer,count
		pc := ids(v)
		n.raw.AdjustMaxInflightMsgs(pc[0], int(pc[1]))
	}
	return nil
}

// ready takes Readys the way the node is set to.
func (s *scenario) ready(a args) error {
	n, err := s.node(a)
	if err != nil {
		return err
	}
	times := uint64(1)
	if len(a.words) > 1 {
		if times, err = a.id(1); err != nil {
			return err
		}
	}
	for range times {
		if !n.raw.HasReady() {
			s.printf("n%d: no Ready", n.id)
			return nil
		}
		if err := s.readyOnce(n); err != nil {
			return err
		}
	}
	return nil
}

func (s *scenario) readyOnce(n *scenarioNode) error {
	rd := n.raw.Ready()
	s.showReady(n, rd)
	u := scenarioUnit{number: rd.Number, ents: slices.Clone(rd.Entries), snap: rd.Snapshot}
	if rd.HasHardState {
		hs := rd.HardState
		u.hs = &hs
	}
	if u.hs != nil || len(u.ents) > 0 || u.snap != nil {
		if err := n.write(u); err != nil {
			return err
		}
		n.units = append(n.units, u)
	}
	s.send(rd.Messages)
	if n.async {
		rec := scenarioRecord{number: rd.Number, units: len(n.units), messages: rd.PersistedMessages}
		n.toApply = append(n.toApply, rd.CommittedEntries...)
		n.unsynced = append(n.unsynced, rec)
		n.raw.AdvanceAppendAsync(rd)
		return nil
	}
	n.synced = len(n.units)
	s.send(rd.PersistedMessages)
	if rd.Snapshot != nil {
		n.install(rd.Snapshot)
	}
	if n.lateApply {
		n.toApply = append(n.toApply, rd.CommittedEntries...)
		snap := rd.Snapshot
		lr := n.raw.AdvanceAppend(rd)
		s.showLight(n, lr)
		s.send(lr.Messages)
		n.toApply = append(n.toApply, lr.CommittedEntries...)
		if snap != nil {
			n.raw.AdvanceApplyTo(snap.Metadata.Index)
		}
		return nil
	}
	if err := s.applyAll(n, rd.CommittedEntries); err != nil {
		return err
	}
	lr := n.raw.Advance(rd)
	s.showLight(n, lr)
	s.send(lr.Messages)
	if len(lr.CommittedEntries) > 0 {
		if err := s.applyAll(n, lr.CommittedEntries); err != nil {
			return err
		}
		n.raw.AdvanceApply()
	}
	return nil
}

func (n *scenarioNode) install(snap *raft.Snapshot) {
	n.applied = snap.Metadata.Index
	n.confs = append(n.confs, scenarioConf{snap.Metadata.Index, snap.Metadata.ConfState})
}

func (s *scenario) applyAll(n *scenarioNode, ents []raft.Entry) error {
	for _, e := range ents {
		if e.Index != n.applied+1 {
			return fmt.Errorf("n%d applies %d after %d", n.id, e.Index, n.applied)
		}
		n.applied = e.Index
		if e.Type == raft.EntryNormal {
			continue
		}
		var cc raft.ConfChanger
		var err error
		if e.Type == raft.EntryConfChange {
			cc, err = raft.UnmarshalConfChange(e.Data)
		} else {
			cc, err = raft.UnmarshalConfChangeV2(e.Data)
		}
		if err != nil {
			return err
		}
		cs, err := n.raw.ApplyConfChange(cc)
		if err != nil {
			s.printf("n%d: change at %d is void: %s", n.id, e.Index, errorNames(err))
			continue
		}
		n.confs = append(n.confs, scenarioConf{e.Index, cs})
		s.printf("n%d: configuration at %d: %s", n.id, e.Index, showConf(cs))
	}
	return nil
}

func (s *scenario) sync(a args) error {
	n, err := s.node(a)
	if err != nil {
		return err
	}
	if len(n.unsynced) == 0 {
		return fmt.Errorf("node %d has nothing unsynced", n.id)
	}
	number := n.unsynced[len(n.unsynced)-1].number
	if len(a.words) > 1 {
		if number, err = a.id(1); err != nil {
			return err
		}
	}
	var out []raft.Message
	for len(n.unsynced) > 0 && n.unsynced[0].number <= number {
		n.synced = n.unsynced[0].units
		for _, m := range n.unsynced[0].messages {
			out = append(out, copyMessage(m))
		}
		n.unsynced = n.unsynced[1:]
	}
	n.raw.OnPersistReady(number)
	for _, u := range n.units[:n.synced] {
		if u.snap != nil && u.snap.Metadata.Index > n.applied {
			n.install(u.snap)
			n.raw.AdvanceApplyTo(n.applied)
		}
	}
	s.send(out)
	for _, m := range out {
		s.printf("n%d sends %s", n.id, showMessage(m))
	}
	return nil
}

func (s *scenario) apply(a args) error {
	n, err := s.node(a)
	if err != nil {
		return err
	}
	count := uint64(len(n.toApply))
	if len(a.words) > 1 {
		if count, err = a.id(1); err != nil {
			return err
		}
	}
	if count == 0 {
		return fmt.Errorf("node %d has nothing to apply", n.id)
	}
	ents := n.toApply[:count]
	n.toApply = n.toApply[count:]
	if err := s.applyAll(n, ents); err != nil {
		return err
	}
	n.raw.AdvanceApplyTo(n.applied)
	return nil
}

func (s *scenario) fetched(a args) error {
	n, err := s.node(a)
	if err != nil {
		return err
	}
	fetches := n.store.fetches
	n.store.fetches = nil
	for _, c := range fetches {
		s.printf("n%d: fetched for %d", n.id, c.To())
		n.raw.OnEntriesFetched(c)
	}
	return nil
}

func (s *scenario) snapshot(a args) error {
	n, err := s.node(a)
	if err != nil {
		return err
	}
	index, err := a.id(1)
	if err != nil {
		return err
	}
	conf := n.confs[0].conf
	for _, c := range n.confs {
		if c.index <= index {
			conf = c.conf
		}
	}
	_, err = n.store.CreateSnapshot(index, &conf, []byte(strconv.FormatUint(index, 10)))
	return err
}

func (s *scenario) compact(a args) error {
	n, err := s.node(a)
	if err != nil {
		return err
	}
	index, err := a.id(1)
	if err != nil {
		return err
	}
	return n.store.Compact(index)
}
