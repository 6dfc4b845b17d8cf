package raft

import "errors"

// valid checks a message once, where it enters; everything behind it may trust it (rule 6). The work is linear in the message.
func (r *raft) valid(m *Message) error {
	switch m.Type {
	case MsgHup, MsgBeat, MsgUnreachable, MsgSnapStatus, MsgCheckQuorum:
		return ErrStepLocalMsg
	}
	err := r.validHead(m)
	stranger := isResponse(m.Type) && r.peer(m.From) == nil
	switch {
	case stranger && err != nil:
		return errors.Join(ErrStepPeerNotFound, err)
	case stranger:
		return ErrStepPeerNotFound
	case err != nil:
		return err
	}
	return r.validBody(m)
}

func isResponse(t MessageType) bool {
	switch t {
	case MsgAppendResponse, MsgHeartbeatResponse, MsgRequestVoteResponse, MsgRequestPreVoteResponse:
		return true
	}
	return false
}

// validHead checks what every message has: a type, a way and a term.
func (r *raft) validHead(m *Message) error {
	switch {
	case m.Type > MsgRequestPreVoteResponse:
		return invalid("unknown type %d", m.Type)
	case m.To != 0 && m.To != r.id:
		return invalid("%v is for %d, this is %d", m.Type, m.To, r.id)
	case m.Term >= termMax:
		return invalid("term %d does not fit 31 bits", m.Term)
	case m.Type != MsgPropose && reservedID(m.From):
		return invalid("%v from reserved id %d", m.Type, m.From)
	}
	switch m.Type {
	case MsgPropose, MsgReadIndex:
		if m.Term != 0 {
			return invalid("%v with term %d, want none: it is for whoever leads", m.Type, m.Term)
		}
	case MsgTransferLeader:
	default:
		if m.From == r.id {
			return invalid("%v from ourselves", m.Type)
		}
		if m.Term == 0 {
			return invalid("%v without a term", m.Type)
		}
	}
	return nil
}

func (r *raft) validBody(m *Message) error {
	switch m.Type {
	case MsgHeartbeat, MsgHeartbeatResponse:
		return validRound(m.Context)
	case MsgAppend:
		return validAppend(m)
	case MsgSnapshot:
		if m.Snapshot == nil {
			return invalid("MsgSnapshot without a snapshot")
		}
		if meta := &m.Snapshot.Metadata; meta.Index == 0 || meta.Index >= indexMax || meta.Term == 0 || meta.Term > m.Term {
			return invalid("snapshot at index %d, term %d in a message of term %d", meta.Index, meta.Term, m.Term)
		}
	case MsgPropose:
		return validPropose(m)
	case MsgReadIndex, MsgReadIndexResp:
		if len(m.Entries) != 1 {
			return invalid("%v with %d entries, want 1", m.Type, len(m.Entries))
		}
	case MsgRequestVote, MsgRequestPreVote:
		if len(m.Context) != 0 && string(m.Context) != CampaignTransfer {
			return invalid("%v with an unknown context", m.Type)
		}
		if m.LogTerm > m.Term {
			return invalid("%v of term %d claims an entry of term %d", m.Type, m.Term, m.LogTerm)
		}
	}
	return nil
}

func validRound(context []byte) error {
	if n := len(context); n != 0 && n != 8 {
		return invalid("heartbeat context of %d bytes, want 0 or 8", n)
	}
	return nil
}

// validAppend checks that entries continue (Index, LogTerm), without gaps and with terms that never fall or pass the message's.
func validAppend(m *Message) error {
	if m.LogTerm > m.Term || m.Index == 0 && m.LogTerm != 0 || m.Index >= indexMax-uint64(len(m.Entries)) {
		return invalid("append after index %d, term %d in term %d", m.Index, m.LogTerm, m.Term)
	}
	term := m.LogTerm
	for i := range m.Entries {
		e := &m.Entries[i]
		if e.Index != m.Index+1+uint64(i) || e.Term < term || e.Term == 0 || e.Term > m.Term || e.Type > EntryConfChangeV2 {
			return invalid("entry %d of an append after index %d, term %d: index %d, term %d, type %d", i, m.Index, m.LogTerm, e.Index, e.Term, e.Type)
		}
		term = e.Term
	}
	return nil
}

func validPropose(m *Message) error {
	if len(m.Entries) == 0 {
		return invalid("a proposal without entries")
	}
	for i := range m.Entries {
		if m.Entries[i].Type > EntryConfChangeV2 {
			return invalid("a proposal of type %d", m.Entries[i].Type)
		}
	}
	return nil
}
