package partition

import (
	"encoding/binary"
	"fmt"

	"lograft/raft"
	"lograft/record"
	"lograft/segment"
)

// The envelope is Entry.Context of every entry that a partition proposes (architecture D3). Entries that the Raft core makes
// itself (no-ops, configuration changes) have an empty Context and inherit the append time of the entry before them.
//
//	0     1      2                10
//	+-----+------+----------------+
//	|kind |flags | append time ms |   little-endian
//	+-----+------+----------------+
const envelopeBytes = 10

type envelope struct {
	kind       segment.Kind
	flags      uint8
	appendTime int64 // ms
}

func (e envelope) encode(dst []byte) []byte {
	dst = append(dst, byte(e.kind), e.flags)
	return binary.LittleEndian.AppendUint64(dst, uint64(e.appendTime))
}

// decodeEnvelope reads an entry's Context; ok is false for an entry that the core made.
func decodeEnvelope(context []byte) (e envelope, ok bool, err error) {
	if len(context) == 0 {
		return envelope{kind: segment.KindRaft}, false, nil
	}
	if len(context) != envelopeBytes || segment.Kind(context[0]) == segment.KindRaft {
		return envelope{}, false, fmt.Errorf("envelope of %d bytes, kind %d: want %d bytes and a kind other than %d", len(context), context[0], envelopeBytes, segment.KindRaft)
	}
	return envelope{kind: segment.Kind(context[0]), flags: context[1], appendTime: int64(binary.LittleEndian.Uint64(context[2:]))}, true, nil
}

// tail is what the next frame continues: the pair that decides a data frame's base offset and a core-made frame's time.
type tail struct {
	offset     int64 // next offset
	appendTime int64 // ms
}

// frameOf makes the frame of an entry that follows t, and the tail after it. Data and context bytes are shared with the entry.
// A data entry whose stamped offset or epoch does not continue the log is an error: the replica must halt (architecture D2).
func frameOf(e *raft.Entry, t tail) (segment.Frame, tail, error) {
	env, ok, err := decodeEnvelope(e.Context)
	if err != nil {
		return segment.Frame{}, t, fmt.Errorf("entry %d term %d: %w", e.Index, e.Term, err)
	}
	if !ok {
		env.appendTime = t.appendTime
	}
	f := segment.Frame{EntryType: uint8(e.Type), Kind: env.kind, Flags: env.flags, Index: e.Index, Term: e.Term, Offset: t.offset, AppendTime: env.appendTime, Payload: e.Data}
	if env.appendTime < t.appendTime {
		return f, t, fmt.Errorf("entry %d term %d: append time %d goes back behind %d", e.Index, e.Term, env.appendTime, t.appendTime)
	}
	if env.kind == segment.KindData {
		b, err := record.Parse(e.Data)
		if err != nil {
			return f, t, fmt.Errorf("entry %d term %d: %w", e.Index, e.Term, err)
		}
		if b.BaseOffset() != t.offset || b.LeaderEpoch() != int32(e.Term) {
			return f, t, fmt.Errorf("entry %d term %d: batch stamped (offset %d, epoch %d), the log continues at (offset %d, epoch %d)",
				e.Index, e.Term, b.BaseOffset(), b.LeaderEpoch(), t.offset, e.Term)
		}
		f.Count = uint32(b.RecordsCount())
	}
	return f, tail{offset: f.NextOffset(), appendTime: env.appendTime}, nil
}

// entriesOf appends the entries of frames to dst. Contexts are rebuilt in one allocation; data is shared with the frames.
func entriesOf(dst []raft.Entry, frames []segment.Frame) []raft.Entry {
	contexts := make([]byte, 0, len(frames)*envelopeBytes)
	for i := range frames {
		f := &frames[i]
		e := raft.Entry{Type: raft.EntryType(f.EntryType), Term: f.Term, Index: f.Index, Data: f.Payload}
		if f.Kind != segment.KindRaft {
			start := len(contexts)
			contexts = envelope{kind: f.Kind, flags: f.Flags, appendTime: f.AppendTime}.encode(contexts)
			e.Context = contexts[start:len(contexts):len(contexts)]
		}
		dst = append(dst, e)
	}
	return dst
}
