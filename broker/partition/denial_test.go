package partition

import (
	"bytes"
	"testing"

	"lograft/raft"
	"lograft/segment/vfs"
)

// peer is the other voter of a group of two: it answers as a follower that has and grants everything, when it is heard.
type peer struct{ sent []raft.Message }

// Send implements Sender.
func (p *peer) Send(_ uint64, _ GroupID, m *raft.Message) {
	c := *m
	c.Context = bytes.Clone(m.Context)
	p.sent = append(p.sent, c)
}

func (p *peer) answer(s *solo) {
	for len(p.sent) > 0 {
		m := p.sent[0]
		p.sent = p.sent[1:]
		a := raft.Message{From: 2, To: 1, Term: m.Term, Context: m.Context}
		switch m.Type {
		case raft.MsgRequestPreVote:
			a.Type = raft.MsgRequestPreVoteResponse
		case raft.MsgRequestVote:
			a.Type = raft.MsgRequestVoteResponse
		case raft.MsgHeartbeat:
			a.Type = raft.MsgHeartbeatResponse
		case raft.MsgAppend:
			a.Type, a.Index = raft.MsgAppendResponse, m.Index+uint64(len(m.Entries))
		default:
			continue
		}
		s.r.Step(&s.env, 2, a)
		s.settle()
	}
}

// An append is denied with the log's end only when a majority has confirmed, after it was judged, that this replica leads: one that was
// cut off does not know what another leader has appended.
func TestDenialIsConfirmed(t *testing.T) {
	s := &solo{t: t, fs: vfs.NewMem(), replies: map[uint64]Reply{}, limit: 4096}
	other := &peer{}
	s.env = Env{Now: 1, Wall: soloStart, Out: other, Clocks: func([]uint64) (int64, int64, int) { return soloStart, soloStart, 2 }}
	s.openFollower()
	s.until(func() bool { other.answer(s); return s.r.IsLeader() && s.r.lead.ready })
	deny := func(token uint64) {
		s.r.Do(&s.env, &Request{Token: token, Op: OpProduce, Batch: sized(t, -1, -1, -1, 10), ExpectedOffset: 5, Deadline: s.env.Now + 60e9})
		s.settle()
	}
	deny(1)
	if a, ok := s.replies[1]; ok {
		t.Fatalf("denied without a round: %v", a.Err)
	}
	other.answer(s)
	if a, ok := s.replies[1]; !ok || a.Err == nil || a.Err.Reason != ReasonExpectedOffset || a.Err.HighWatermark != 0 {
		t.Fatalf("answer %+v (%t), want EXPECTED_OFFSET with the end 0", a, ok)
	}
	deny(2)
	s.r.Step(&s.env, 2, raft.Message{Type: raft.MsgHeartbeat, From: 2, To: 1, Term: s.r.hard.Term + 1})
	s.settle()
	if a, ok := s.replies[2]; !ok || a.Err == nil || a.Err.Reason != ReasonNotLeader || a.Err.Outcome != OutcomeFailed {
		t.Errorf("answer %+v (%t) of a leader that was replaced, want NOT_LEADER", a, ok)
	}
}
