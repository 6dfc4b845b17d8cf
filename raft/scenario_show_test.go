package raft_test

import (
	"fmt"
	"strings"

	"lograft/raft"
)

// How scenario scripts show state and messages.

var messageNames = []string{
	"Hup", "Beat", "Propose", "Append", "AppendResp", "Vote", "VoteResp", "Snapshot", "Heartbeat", "HeartbeatResp",
	"Unreachable", "SnapStatus", "CheckQuorum", "TransferLeader", "TimeoutNow", "ReadIndex", "ReadIndexResp", "PreVote", "PreVoteResp",
}

func messageName(t raft.MessageType) string { return messageNames[t] }

func roleName(r raft.StateRole) string {
	return [...]string{"follower", "candidate", "leader", "pre-candidate"}[r]
}

func showConf(cs raft.ConfState) string {
	out := fmt.Sprintf("voters=%v", cs.Voters)
	if len(cs.VotersOutgoing) > 0 {
		out += fmt.Sprintf(" outgoing=%v", cs.VotersOutgoing)
	}
	if len(cs.Learners) > 0 {
		out += fmt.Sprintf(" learners=%v", cs.Learners)
	}
	if len(cs.LearnersNext) > 0 {
		out += fmt.Sprintf(" learners-next=%v", cs.LearnersNext)
	}
	if cs.AutoLeave {
		out += " auto-leave"
	}
	return out
}

func showProgress(pr *raft.Progress) string {
	out := fmt.Sprintf("%s match=%d next=%d", [...]string{"probe", "replicate", "snapshot"}[pr.State], pr.Match, pr.Next)
	if pr.InflightCount > 0 {
		out += fmt.Sprintf(" inflight=%d", pr.InflightCount)
	}
	if pr.PendingSnapshot > 0 {
		out += fmt.Sprintf(" pending-snapshot=%d", pr.PendingSnapshot)
	}
	if pr.PendingRequestSnapshot > 0 {
		out += fmt.Sprintf(" wants-snapshot=%d", pr.PendingRequestSnapshot)
	}
	for _, f := range []struct {
		on   bool
		name string
	}{{pr.Paused, "paused"}, {pr.IsLearner, "learner"}, {!pr.RecentActive, "inactive"}} {
		if f.on {
			out += " " + f.name
		}
	}
	return out
}

func showEntries(ents []raft.Entry) string {
	var b strings.Builder
	for _, e := range ents {
		fmt.Fprintf(&b, " %d/%d", e.Term, e.Index)
		switch e.Type {
		case raft.EntryConfChange:
			b.WriteString("!v1")
		case raft.EntryConfChangeV2:
			b.WriteString("!v2")
		default:
			if len(e.Data) > 0 {
				fmt.Fprintf(&b, ":%s", shorten(e.Data))
			}
		}
	}
	return b.String()
}

func shorten(data []byte) string {
	for _, c := range data {
		if c < ' ' || c > '~' {
			return fmt.Sprintf("%x", data)
		}
	}
	if len(data) > 12 {
		return fmt.Sprintf("%s~%d", data[:8], len(data))
	}
	return string(data)
}

// showMessage: terms before indexes, zero fields left out.
func showMessage(m raft.Message) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d->%d %s", m.From, m.To, messageName(m.Type))
	if m.Term != 0 {
		fmt.Fprintf(&b, " term=%d", m.Term)
	}
	if m.LogTerm != 0 || m.Index != 0 {
		fmt.Fprintf(&b, " log=%d/%d", m.LogTerm, m.Index)
	}
	if m.Reject {
		fmt.Fprintf(&b, " reject hint=%d", m.RejectHint)
	}
	if m.NoAnswer {
		b.WriteString(" no answer")
	}
	if m.Commit != 0 {
		fmt.Fprintf(&b, " commit=%d", m.Commit)
		if m.CommitTerm != 0 {
			fmt.Fprintf(&b, "(term %d)", m.CommitTerm)
		}
	}
	if m.RequestSnapshot != 0 {
		fmt.Fprintf(&b, " wants-snapshot=%d", m.RequestSnapshot)
	}
	if m.Priority != 0 {
		fmt.Fprintf(&b, " priority=%d", m.Priority)
	}
	if len(m.Context) > 0 {
		fmt.Fprintf(&b, " ctx=%s", shorten(m.Context))
	}
	if m.Snapshot != nil {
		fmt.Fprintf(&b, " snapshot=%d/%d %s", m.Snapshot.Metadata.Term, m.Snapshot.Metadata.Index, showConf(m.Snapshot.Metadata.ConfState))
	}
	if len(m.Entries) > 0 {
		fmt.Fprintf(&b, " entries:%s", showEntries(m.Entries))
	}
	return b.String()
}

func (s *scenario) showReady(n *scenarioNode, rd *raft.Ready) {
	line := fmt.Sprintf("n%d Ready %d:", n.id, rd.Number)
	if rd.SoftState != nil {
		line += fmt.Sprintf(" %s leader=%d", roleName(rd.SoftState.RaftState), rd.SoftState.LeaderID)
	}
	if rd.HasHardState {
		line += fmt.Sprintf(" term=%d vote=%d commit=%d", rd.HardState.Term, rd.HardState.Vote, rd.HardState.Commit)
	}
	if rd.MustSync {
		line += " sync"
	}
	s.printf("%s", line)
	if rd.Snapshot != nil {
		s.printf("  install %d/%d %s", rd.Snapshot.Metadata.Term, rd.Snapshot.Metadata.Index, showConf(rd.Snapshot.Metadata.ConfState))
	}
	s.showPart("append", rd.Entries)
	s.showPart("apply", rd.CommittedEntries)
	for _, r := range rd.ReadStates {
		s.printf("  read %s at %d", shorten(r.RequestCtx), r.Index)
	}
	for _, r := range rd.DroppedReads {
		s.printf("  read %s dropped: %s", shorten(r.RequestCtx), errorNames(r.Reason))
	}
	s.showMessages("send", rd.Messages)
	s.showMessages("after sync", rd.PersistedMessages)
}

func (s *scenario) showLight(n *scenarioNode, lr *raft.LightReady) {
	if !lr.HasCommitIndex && len(lr.CommittedEntries) == 0 && len(lr.Messages) == 0 {
		return
	}
	line := fmt.Sprintf("n%d LightReady:", n.id)
	if lr.HasCommitIndex {
		line += fmt.Sprintf(" commit=%d", lr.CommitIndex)
	}
	s.printf("%s", line)
	s.showPart("apply", lr.CommittedEntries)
	s.showMessages("send", lr.Messages)
}

func (s *scenario) showPart(name string, ents []raft.Entry) {
	if len(ents) > 0 {
		s.printf("  %s%s", name, showEntries(ents))
	}
}

func (s *scenario) showMessages(name string, ms []raft.Message) {
	for _, m := range ms {
		s.printf("  %s %s", name, showMessage(m))
	}
}
