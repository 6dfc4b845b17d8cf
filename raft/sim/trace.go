package sim

import (
	"fmt"
	"io"

	"lograft/raft"
)

// tickUnits is one nominal tick of simulated time.
const tickUnits = 1000

// trace folds everything that happened into one number, so that two runs of a
// seed can be compared, and prints it when asked.
type trace struct {
	hash uint64
	out  io.Writer // nil: hash only
}

func mix(h, v uint64) uint64 {
	h ^= v + 0x9e3779b97f4a7c15 + (h << 6) + (h >> 2)
	h *= 0xff51afd7ed558ccd
	return h ^ h>>32
}

func hashBytes(h uint64, b []byte) uint64 {
	h = mix(h, uint64(len(b)))
	for _, c := range b {
		h = (h ^ uint64(c)) * 0x100000001b3
	}
	return h
}

func hashString(h uint64, s string) uint64 {
	for i := 0; i < len(s); i++ {
		h = (h ^ uint64(s[i])) * 0x100000001b3
	}
	return h
}

func (t *trace) note(now, node uint64, what string, a, b uint64) {
	t.hash = mix(mix(mix(mix(hashString(t.hash, what), now), node), a), b)
	if t.out != nil {
		fmt.Fprintf(t.out, "%9.3f n%d %s %d %d\n", float64(now)/tickUnits, node, what, a, b)
	}
}

func (t *trace) message(now uint64, what string, m *raft.Message) {
	t.hash = mix(mix(hashString(t.hash, what), now), hashMessage(m))
	if t.out != nil {
		fmt.Fprintf(t.out, "%9.3f n%d %s %s\n", float64(now)/tickUnits, m.From, what, describe(m))
	}
}

func (t *trace) printf(now uint64, format string, args ...any) {
	if t.out != nil {
		fmt.Fprintf(t.out, "%9.3f ", float64(now)/tickUnits)
		fmt.Fprintf(t.out, format+"\n", args...)
	}
}

// Trace takes the core's own events into the trace.
func (t *nodeTracer) Trace(e raft.Event) {
	t.n.c.trace.hash = mix(mix(hashString(t.n.c.trace.hash, e.Kind), e.Term), mix(e.Index, e.Peer))
	t.n.c.trace.printf(t.n.c.now, "n%d core %s term=%d index=%d peer=%d %s", e.Node, e.Kind, e.Term, e.Index, e.Peer, e.Detail)
}

type nodeTracer struct{ n *node }

func hashEntry(e *raft.Entry) uint64 {
	return hashBytes(hashBytes(mix(mix(uint64(e.Type), e.Term), e.Index), e.Data), e.Context)
}

func hashEntries(ents []raft.Entry) uint64 {
	h := uint64(len(ents))
	for i := range ents {
		h = mix(h, hashEntry(&ents[i]))
	}
	return h
}

func hashMessage(m *raft.Message) uint64 {
	h := mix(uint64(m.Type), m.Term)
	for _, v := range [...]uint64{
		m.To, m.From, m.LogTerm, m.Index, m.Commit, m.CommitTerm,
		m.RejectHint, m.RequestSnapshot, uint64(m.Priority),
	} {
		h = mix(h, v)
	}
	if m.Reject {
		h = mix(h, 1)
	}
	if m.NoAnswer {
		h = mix(h, 2)
	}
	if m.Snapshot != nil {
		h = mix(h, m.Snapshot.Metadata.Index)
	}
	return mix(hashBytes(h, m.Context), hashEntries(m.Entries))
}

func hashMessages(ms []raft.Message) uint64 {
	h := uint64(len(ms))
	for i := range ms {
		h = mix(h, hashMessage(&ms[i]))
	}
	return h
}

var messageNames = [...]string{
	"Hup", "Beat", "Propose", "Append", "AppendResp", "Vote", "VoteResp", "Snapshot", "Heartbeat", "HeartbeatResp",
	"Unreachable", "SnapStatus", "CheckQuorum", "TransferLeader", "TimeoutNow", "ReadIndex", "ReadIndexResp", "PreVote", "PreVoteResp",
}

func describe(m *raft.Message) string {
	s := fmt.Sprintf("%s %d->%d term=%d log=%d/%d commit=%d/%d", messageNames[m.Type], m.From, m.To, m.Term, m.LogTerm, m.Index, m.Commit, m.CommitTerm)
	if m.Reject {
		s += fmt.Sprintf(" reject hint=%d", m.RejectHint)
	}
	if m.NoAnswer {
		s += " no answer"
	}
	if m.RequestSnapshot != 0 {
		s += fmt.Sprintf(" wants-snapshot=%d", m.RequestSnapshot)
	}
	if m.Snapshot != nil {
		s += fmt.Sprintf(" snap=%d/%d %v", m.Snapshot.Metadata.Term, m.Snapshot.Metadata.Index, m.Snapshot.Metadata.ConfState)
	}
	if len(m.Context) > 0 {
		s += fmt.Sprintf(" ctx=%x", m.Context)
	}
	if m.Type == raft.MsgReadIndex || m.Type == raft.MsgReadIndexResp {
		return s + fmt.Sprintf(" %x", m.Entries[0].Data)
	}
	for i := range m.Entries {
		s += fmt.Sprintf(" %d/%d:%d", m.Entries[i].Term, m.Entries[i].Index, len(m.Entries[i].Data))
	}
	return s
}
