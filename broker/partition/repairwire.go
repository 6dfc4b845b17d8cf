package partition

import (
	"encoding/binary"
	"hash/crc32"

	"lograft/raft"
)

// Types of messages between replicas of one group that are not Raft's. They travel as Raft messages do, in the bulk class: what is
// asked stands in Context, entries in Entries; the core never sees them.
const (
	MsgRepairAsk    raft.MessageType = 128 // Context: repairAsk
	MsgRepairAnswer raft.MessageType = 129 // Context: repairAnswer; Entries: what the sender holds from the first one asked for on
)

// entryRef is the pair that names an entry for good.
type entryRef struct{ index, term uint64 }

// repairAsk asks a peer for entries that are damaged here.
//
//	version u8=1 | token u64 | from, to u64 | proof index, term u64   (little-endian)
type repairAsk struct {
	token    uint64
	from, to uint64 // inclusive
	// proof is an entry at or behind the end of the range that we hold, or a persist mark holds, for sure: a peer that holds it too has
	// the same entries before it (Raft paper §5.3, log matching).
	proof entryRef
}

const (
	repairVersion     = 1
	repairAskBytes    = 1 + 5*8
	repairAnswerBytes = 1 + 8 + 1 + 4
)

func (a *repairAsk) encode() []byte {
	b := []byte{repairVersion}
	for _, v := range [...]uint64{a.token, a.from, a.to, a.proof.index, a.proof.term} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

func decodeRepairAsk(b []byte) (a repairAsk, ok bool) {
	if len(b) != repairAskBytes || b[0] != repairVersion {
		return a, false
	}
	for i, p := range [...]*uint64{&a.token, &a.from, &a.to, &a.proof.index, &a.proof.term} {
		*p = binary.LittleEndian.Uint64(b[1+8*i:])
	}
	return a, a.from > 0 && a.from <= a.to && a.proof.index >= a.to
}

// repairVerdict is what a peer says to a repairAsk.
type repairVerdict uint8

const (
	repairHeld    repairVerdict = iota // the entries, or the first of them, follow
	repairMissing                      // damaged there too
	repairUnknown                      // the proof is not held there
	repairGone                         // given up there: the log begins behind the first of them
)

// repairAnswer heads the entries of an answer.
//
//	version u8=1 | token u64 | verdict u8 | crc-32c of contexts and data u32   (little-endian)
type repairAnswer struct {
	token   uint64
	verdict repairVerdict
	sum     uint32
}

func (a *repairAnswer) encode() []byte {
	b := binary.LittleEndian.AppendUint64([]byte{repairVersion}, a.token)
	return binary.LittleEndian.AppendUint32(append(b, byte(a.verdict)), a.sum)
}

func decodeRepairAnswer(b []byte) (a repairAnswer, ok bool) {
	if len(b) != repairAnswerBytes || b[0] != repairVersion || b[9] > byte(repairGone) {
		return a, false
	}
	return repairAnswer{binary.LittleEndian.Uint64(b[1:]), repairVerdict(b[9]), binary.LittleEndian.Uint32(b[10:])}, true
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sumOfEntries guards what a batch's own checksum does not: offsets and epochs, envelopes, commands.
func sumOfEntries(entries []raft.Entry) uint32 {
	sum := uint32(0)
	for i := range entries {
		sum = crc32.Update(crc32.Update(sum, castagnoli, entries[i].Context), castagnoli, entries[i].Data)
	}
	return sum
}
