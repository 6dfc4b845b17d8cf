package partition

import (
	"encoding/binary"

	"lograft/raft"
	"lograft/segment"
)

// Types of messages by which a replica fetches the segment files of a snapshot (see MsgRepairAsk).
const (
	MsgPullAsk    raft.MessageType = 130 // Context: pullAsk
	MsgPullAnswer raft.MessageType = 131 // Context: pullAnswer; Entries: one, whose Data are the bytes
	MsgPullFailed raft.MessageType = 132 // Index: of the snapshot that was not installed
)

// pullAsk asks for a part of a sealed segment's file. bytes 0 only says that the snapshot is still wanted.
//
//	version u8=1 | token u64 | base, last u64, file bytes i64, hash 32 | offset i64 | bytes u32   (little-endian)
type pullAsk struct {
	token uint64
	file  segment.SegmentSummary
	off   int64
	bytes uint32
}

const (
	pullVersion     = 1
	pullAskBytes    = 1 + 8 + 3*8 + 32 + 8 + 4
	pullAnswerBytes = 1 + 8 + 1 + 4
)

func (a *pullAsk) encode() []byte {
	le := binary.LittleEndian
	b := []byte{pullVersion}
	for _, v := range [...]uint64{a.token, a.file.Base, a.file.Last, uint64(a.file.Bytes)} {
		b = le.AppendUint64(b, v)
	}
	b = append(b, a.file.Hash[:]...)
	return le.AppendUint32(le.AppendUint64(b, uint64(a.off)), a.bytes)
}

func decodePullAsk(b []byte) (a pullAsk, ok bool) {
	if len(b) != pullAskBytes || b[0] != pullVersion {
		return a, false
	}
	le := binary.LittleEndian
	a.token, a.file.Base, a.file.Last, a.file.Bytes = le.Uint64(b[1:]), le.Uint64(b[9:]), le.Uint64(b[17:]), int64(le.Uint64(b[25:]))
	copy(a.file.Hash[:], b[33:])
	a.off, a.bytes = int64(le.Uint64(b[65:])), le.Uint32(b[73:])
	return a, a.off >= 0 && a.bytes <= segment.RangeBytesMax
}

// pullAnswer heads the bytes of an answer. gone: the sender does not hold that file, or not any more.
//
//	version u8=1 | token u64 | gone u8 | crc-32c of the bytes u32   (little-endian)
type pullAnswer struct {
	token uint64
	gone  bool
	sum   uint32
}

func (a *pullAnswer) encode() []byte {
	gone := byte(0)
	if a.gone {
		gone = 1
	}
	b := append(binary.LittleEndian.AppendUint64([]byte{pullVersion}, a.token), gone)
	return binary.LittleEndian.AppendUint32(b, a.sum)
}

func decodePullAnswer(b []byte) (a pullAnswer, ok bool) {
	if len(b) != pullAnswerBytes || b[0] != pullVersion {
		return a, false
	}
	return pullAnswer{binary.LittleEndian.Uint64(b[1:]), b[9] == 1, binary.LittleEndian.Uint32(b[10:])}, true
}
