package raft_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"lograft/raft"
)

// Commands of the scenario scripts that call a node, move messages and show.

func (s *scenario) campaign(a args) error {
	n, err := s.node(a)
	if err == nil {
		s.refused(n, n.raw.Campaign())
	}
	return err
}

func (s *scenario) propose(a args) error {
	n, err := s.node(a)
	if err != nil {
		return err
	}
	if len(a.words) < 2 {
		return errors.New("no data")
	}
	data := []byte(a.words[1])
	if size := int(a.number("size", 0)); size > len(data) {
		data = append(data, bytes.Repeat([]byte{'.'}, size-len(data))...)
	}
	s.refused(n, n.raw.Propose(nil, data))
	return nil
}

func (s *scenario) proposeConf(a args) error {
	n, err := s.node(a)
	if err != nil {
		return err
	}
	if len(a.words) < 2 {
		return errors.New("no kind of change")
	}
	var v2 raft.ConfChangeV2
	for _, w := range a.words[2:] {
		at := strings.IndexAny(w, "0123456789")
		id, err := strconv.ParseUint(w[max(at, 0):], 10, 64)
		if err != nil {
			return err
		}
		kinds := map[string]raft.ConfChangeType{"add": raft.ConfChangeAddNode, "rm": raft.ConfChangeRemoveNode, "learn": raft.ConfChangeAddLearnerNode, "update": 2}
		kind, ok := kinds[w[:at]]
		if !ok {
			return fmt.Errorf("no change %q", w)
		}
		v2.Changes = append(v2.Changes, raft.ConfChangeSingle{Type: kind, NodeID: id})
	}
	var cc raft.ConfChanger
	switch a.words[1] {
	case "v1":
		cc = raft.ConfChange{Type: v2.Changes[0].Type, NodeID: v2.Changes[0].NodeID}
	case "auto", "leave":
		cc = v2
	case "implicit":
		v2.Transition = raft.ConfChangeTransitionImplicit
		cc = v2
	case "explicit":
		v2.Transition = raft.ConfChangeTransitionExplicit
		cc = v2
	default:
		return fmt.Errorf("no kind of change %q", a.words[1])
	}
	s.refused(n, n.raw.ProposeConfChange(nil, cc))
	return nil
}

func (s *scenario) read(a args) error {
	n, err := s.node(a)
	if err == nil {
		s.refused(n, n.raw.ReadIndex([]byte(a.words[1])))
	}
	return err
}

func (s *scenario) transfer(a args) error {
	n, err := s.node(a)
	if err != nil {
		return err
	}
	to, err := a.id(1)
	if err == nil {
		n.raw.TransferLeader(to)
	}
	return err
}

func (s *scenario) forget(a args) error {
	n, err := s.node(a)
	if err == nil {
		s.refused(n, n.raw.ForgetLeader())
	}
	return err
}

func (s *scenario) ping(a args) error {
	n, err := s.node(a)
	if err == nil {
		n.raw.Ping()
	}
	return err
}

func (s *scenario) wantSnapshot(a args) error {
	n, err := s.node(a)
	if err == nil {
		s.refused(n, n.raw.RequestSnapshot())
	}
	return err
}

func (s *scenario) report(a args) error {
	n, err := s.node(a)
	if err != nil {
		return err
	}
	peer, err := a.id(1)
	if err != nil {
		return err
	}
	switch {
	case a.has("unreachable"):
		n.raw.ReportUnreachable(peer)
	case a.has("finish"):
		n.raw.ReportSnapshot(peer, raft.SnapshotFinish)
	case a.has("failure"):
		n.raw.ReportSnapshot(peer, raft.SnapshotFailure)
	case a.has("progress"):
		n.raw.ReportSnapshot(peer, raft.SnapshotProgress)
	default:
		return errors.New("report what?")
	}
	return nil
}

func (s *scenario) groups(a args) error {
	n, err := s.node(a)
	if err != nil {
		return err
	}
	n.raw.EnableGroupCommit(true)
	var groups []raft.CommitGroup
	for _, id := range s.ids {
		if g := a.number(strconv.FormatUint(id, 10), 0); g != 0 {
			groups = append(groups, raft.CommitGroup{PeerID: id, GroupID: g})
		}
	}
	n.raw.AssignCommitGroups(groups)
	ok, known := n.raw.CheckGroupCommitConsistent()
	s.printf("n%d: group commit consistent=%t known=%t", n.id, ok, known)
	return nil
}

func (s *scenario) send(ms []raft.Message) {
	for _, m := range ms {
		s.wire = append(s.wire, copyMessage(m))
	}
}

func copyMessage(m raft.Message) raft.Message {
	m.Entries = slices.Clone(m.Entries)
	m.Context = slices.Clone(m.Context)
	if m.Snapshot != nil {
		snap := *m.Snapshot
		m.Snapshot = &snap
	}
	return m
}

// pick takes the messages that fit off the wire, in order.
func (s *scenario) pick(a args, to uint64) (picked []raft.Message) {
	from, count := a.number("from", 0), a.number("count", 1<<30)
	if t := a.number("to", 0); t != 0 {
		to = t
	}
	kept := s.wire[:0:0]
	for _, m := range s.wire {
		fits := (to == 0 || m.To == to) && (from == 0 || m.From == from) &&
			(a.named["type"] == "" || a.named["type"] == messageName(m.Type))
		if fits && uint64(len(picked)) < count {
			picked = append(picked, m)
		} else {
			kept = append(kept, m)
		}
	}
	s.wire = kept
	return picked
}

func (s *scenario) deliver(a args) error {
	n, err := s.node(a)
	if err != nil {
		return err
	}
	for _, m := range s.pick(a, n.id) {
		s.stepInto(n, m)
	}
	return nil
}

func (s *scenario) stepInto(n *scenarioNode, m raft.Message) {
	s.printf("n%d gets %s", n.id, showMessage(m))
	s.refused(n, n.raw.Step(m))
}

func (s *scenario) drop(a args) error {
	for _, m := range s.pick(a, 0) {
		s.printf("lost %s", showMessage(m))
	}
	return nil
}

func (s *scenario) dup(a args) error {
	for _, m := range s.pick(a, 0) {
		s.wire = append(s.wire, m, copyMessage(m))
		s.printf("twice %s", showMessage(m))
	}
	return nil
}

// step: step n Type from=2 term=3 index=.. logterm=.. commit=.. hint=.. reject ctx=.. entries=term/index,..
func (s *scenario) step(a args) error {
	n, err := s.node(a)
	if err != nil {
		return err
	}
	m := raft.Message{
		To: n.id, From: a.number("from", 0), Term: a.number("term", 0), Index: a.number("index", 0),
		LogTerm: a.number("logterm", 0), Commit: a.number("commit", 0), CommitTerm: a.number("committerm", 0),
		RejectHint: a.number("hint", 0), RequestSnapshot: a.number("want", 0),
		Reject: a.has("reject"), Context: []byte(a.named["ctx"]),
	}
	at := slices.Index(messageNames, a.words[1])
	if at < 0 {
		return fmt.Errorf("no message %q", a.words[1])
	}
	m.Type = raft.MessageType(at)
	for _, e := range strings.FieldsFunc(a.named["entries"], func(r rune) bool { return r == ',' }) {
		var ent raft.Entry
		if _, err := fmt.Sscanf(e, "%d/%d", &ent.Term, &ent.Index); err != nil {
			return err
		}
		m.Entries = append(m.Entries, ent)
	}
	if v := ids(a.named["snapshot"]); len(v) == 2 { // term,index with the voters in conf=
		m.Snapshot = &raft.Snapshot{}
		m.Snapshot.Metadata = raft.SnapshotMetadata{Term: v[0], Index: v[1], ConfState: raft.ConfState{
			Voters: ids(a.named["voters"]), Learners: ids(a.named["learners"]),
			VotersOutgoing: ids(a.named["outgoing"]), LearnersNext: ids(a.named["next"]),
		}}
	}
	s.stepInto(n, m)
	return nil
}

func (s *scenario) stabilize(a args) error {
	which := s.ids
	if len(a.words) > 0 {
		which = nil
		for i := range a.words {
			id, err := a.id(i)
			if err != nil {
				return err
			}
			which = append(which, id)
		}
	}
	for rounds := 0; ; rounds++ {
		if rounds > 200 {
			return errors.New("it does not stabilize")
		}
		moved := false
		for _, id := range which {
			n := s.nodes[id]
			for n.raw != nil && n.raw.HasReady() {
				moved = true
				if err := s.readyOnce(n); err != nil {
					return err
				}
			}
		}
		for _, id := range which {
			n := s.nodes[id]
			if n.raw == nil {
				continue
			}
			for _, m := range s.pick(args{}, id) {
				moved = true
				s.stepInto(n, m)
			}
		}
		if !moved {
			return nil
		}
	}
}

func (s *scenario) quiet(a args) error {
	before := s.out.String()
	s.out.Reset()
	err := s.run(strings.Join(a.words, " "))
	shown := s.out.String()
	s.out.Reset()
	s.out.WriteString(before)
	for line := range strings.Lines(shown) {
		if strings.Contains(line, "refuses") {
			s.out.WriteString(line)
		}
	}
	return err
}

func (s *scenario) showWire(args) error {
	for _, m := range s.wire {
		s.printf("%s", showMessage(m))
	}
	return nil
}

func (s *scenario) status(a args) error {
	which := s.ids
	if len(a.words) > 0 {
		id, err := a.id(0)
		if err != nil {
			return err
		}
		which = []uint64{id}
	}
	for _, id := range which {
		n := s.nodes[id]
		if n.raw == nil {
			s.printf("n%d: down", id)
			continue
		}
		st := n.raw.Status()
		line := fmt.Sprintf("n%d: %s leader=%d term=%d vote=%d commit=%d applied=%d persisted=%d last=%d", id, roleName(st.SoftState.RaftState),
			st.SoftState.LeaderID, st.HardState.Term, st.HardState.Vote, st.HardState.Commit, st.Applied, st.Persisted, st.LastIndex)
		if st.LeadTransferee != 0 {
			line += fmt.Sprintf(" transferee=%d", st.LeadTransferee)
		}
		if len(a.words) > 0 {
			line += " " + showConf(st.Conf)
		}
		if err := n.raw.Err(); err != nil {
			line += " poisoned: " + errorNames(err)
		}
		s.printf("%s", line)
		if len(a.words) > 0 && st.SoftState.RaftState == raft.StateLeader {
			n.raw.VisitProgress(func(id uint64, pr *raft.Progress) { s.printf("  peer %d: %s", id, showProgress(pr)) })
		}
	}
	return nil
}

func (s *scenario) showLog(a args) error {
	n, err := s.node(a)
	if err != nil {
		return err
	}
	first, err := n.store.FirstIndex()
	if err != nil {
		return err
	}
	last, err := n.store.LastIndex()
	if err != nil {
		return err
	}
	boundary, err := n.store.Term(first - 1)
	if err != nil {
		return err
	}
	line := fmt.Sprintf("n%d: [%d/%d]", n.id, boundary, first-1)
	if first <= last {
		ents, err := n.store.MemoryStorage.Entries(nil, first, last+1, 1<<40, raft.EntriesContext{})
		if err != nil {
			return err
		}
		line += showEntries(ents)
	}
	s.printf("%s", line)
	return nil
}
